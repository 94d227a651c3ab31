-- What plan() estimates: sizes, room, time, locks.  Figures that depend on the machine are not shown.
\set ECHO none
\getenv dir PG_ABS_SRCDIR
\set common :dir '/sql/common.psql'
\i :common
\pset format unaligned
\pset tuples_only on
CREATE ROLE page_owner;
GRANT CREATE ON SCHEMA public TO page_owner;
SET ROLE page_owner;
CREATE TYPE colour AS ENUM ('red', 'green', 'it''s "blue"');
CREATE DOMAIN number AS bigint;
CREATE TABLE t (id bigint PRIMARY KEY, a integer NOT NULL, b text NOT NULL, c colour NOT NULL,
	at timestamptz NOT NULL, u uuid NOT NULL, n numeric NOT NULL, d number NOT NULL);
INSERT INTO t SELECT g, (g % 100)^2, 'b' || g % 7, (enum_range(NULL::colour))[1 + g % 3],
	'2024-01-01'::timestamptz + g * interval '1 hour', ('00000000-0000-4000-8000-' || lpad(to_hex(g * 7919 % 65536), 12, '0'))::uuid,
	g % 50 - 10, g
FROM generate_series(1, 6000) g;
ANALYZE t;
-- The estimate against the partitions that the server makes of the same rows, all of which are in the sample.
CREATE FUNCTION differs(strategy text, key text, options jsonb, by text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	plan jsonb := partshift.plan_job('t', strategy, key, options);
	leaf jsonb;
BEGIN
	IF plan->'estimate'->'leaves' IS NULL OR (plan->'estimate'->>'sampled_rows')::integer <> 6000 THEN
		RETURN NEXT 'no estimate: ' || (plan->'findings')::text;
		RETURN;
	END IF;
	EXECUTE format('CREATE TABLE p (LIKE t) PARTITION BY %s', by);
	FOR leaf IN SELECT * FROM jsonb_array_elements(plan->'leaves') LOOP
		EXECUTE format('CREATE TABLE %I PARTITION OF p %s', leaf->>'name', leaf->>'bound');
	END LOOP;
	INSERT INTO p SELECT * FROM t;
	RETURN QUERY
		SELECT format('%s: %s, and there are %s', e->>'name', e->>'rows', count(p.id))
		FROM jsonb_array_elements(plan->'estimate'->'leaves') e
			LEFT JOIN p ON p.tableoid::regclass::text = quote_ident(e->>'name')
		GROUP BY e HAVING (e->>'rows')::numeric <> count(p.id);
	RETURN NEXT CASE strategy WHEN 'hash' THEN 'the same' ELSE format('%s used', plan->'estimate'->>'used') END;
	DROP TABLE p;
END
$$;
SELECT differs('hash', 'id', '{"partitions": 7}', 'HASH (id)');
SELECT differs('hash', 'b, a', '{"partitions": 5, "unique_keys": "extend"}', 'HASH (b, a)');
SELECT differs('hash', 'c', '{"partitions": 3}', 'HASH (c)');
SELECT differs('hash', 'd, u, at, n', '{"partitions": 6}', 'HASH (d, u, at, n)');
SELECT differs('range', 'at', '{"every": "1 month"}', 'RANGE (at)');
SELECT differs('range', 'a', '{"every": "1000"}', 'RANGE (a)');
SELECT differs('range', 'n', '{"bounds": ["MINVALUE", -3, 10, 30]}', 'RANGE (n)');
SELECT differs('range', 'n', '{"bounds": {"low": ["MINVALUE", 0], "gap": [5.5, 7], "high": [20, "MAXVALUE"]}}', 'RANGE (n)');
SELECT differs('range', 'u', '{"bounds": ["00000000-0000-4000-8000-000000001000", "00000000-0000-4000-8000-00000000a000"]}', 'RANGE (u)');
SELECT differs('range', 'n', '{"bounds": ["MINVALUE", "MAXVALUE"]}', 'RANGE (n)');
SELECT differs('list', 'c', '{}', 'LIST (c)');
SELECT differs('list', 'b', '{"lists": {"few": ["b1", "b3"], "o''ther": ["it''s", "b\\6"]}}', 'LIST (b)');
SELECT differs('list', 'a', '{"partitions": 30}', 'LIST (a)');

-- In words; an owner who is no monitor is told whether there is room, not how much.
CREATE FUNCTION said(strategy text, key text, partitions integer DEFAULT NULL, lists jsonb DEFAULT NULL) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT regexp_replace(regexp_replace(concat_ws(' | ', severity, topic, object, replace(detail, E'\n', ' / '), hint),
		'\d+( kB| bytes|(:\d+)+|GB)|less than a second', 'N', 'g'), 'room for \d+', 'room for N')
	FROM partshift.plan('t', strategy, key, partitions => partitions, lists => lists)
	WHERE topic IN ('distribution', 'partition', 'disk', 'wal', 'time', 'lock table', 'replication', 'statement', 'estimate')
$$;
SELECT said('hash', 'd', 4);
SELECT partshift.plan_job('t', 'hash', 'd', '{"partitions": 4}')->'estimate'->'room' ?| ARRAY['free', 'wal_free'];
RESET ROLE;
SELECT partshift.plan_job('t', 'hash', 'd', '{"partitions": 4}')->'estimate'->'room' ?& ARRAY['free', 'wal_free', 'needed'];
SELECT detail ~ 'Free are .*B, and .*B for WAL' FROM partshift.plan('t', 'hash', 'd', partitions => 4) WHERE topic = 'disk';
-- A skewed key; more partitions than are listed; what must not be said.
UPDATE t SET a = 1 WHERE id <= 5500;
ANALYZE t;
SELECT said('hash', 'a', 12) LIMIT 1;
SELECT count(*), max(detail) FILTER (WHERE object IS NULL) FROM partshift.plan('t', 'hash', 'id', partitions => 64) WHERE topic = 'partition';
SELECT severity FROM partshift.plan('t', 'hash', 'id', partitions => 2000) WHERE topic = 'lock table';
SELECT said('hash', 'nothing', 4);

-- It changes nothing, and does without what it cannot do.
BEGIN READ ONLY;
SELECT DISTINCT topic FROM partshift.plan('t', 'hash', 'id', partitions => 4) WHERE severity = 'info' ORDER BY 1;
COMMIT;
CREATE FUNCTION ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'a statement was run: %', tg_tag; END $$;
CREATE EVENT TRIGGER ddl ON ddl_command_start EXECUTE FUNCTION ddl();
SELECT count(*) FROM partshift.plan('t', 'hash', 'id', partitions => 4) WHERE topic IN ('time', 'distribution');
DROP EVENT TRIGGER ddl;
DROP FUNCTION ddl;
CREATE TABLE e (id bigint PRIMARY KEY, big text);
SELECT topic, detail FROM partshift.plan('e', 'hash', 'id', partitions => 2) WHERE topic IN ('time', 'distribution', 'partition', 'estimate');
ALTER TABLE e ALTER big SET STORAGE EXTERNAL;
INSERT INTO e SELECT g, repeat('long', 2000) FROM generate_series(1, 300) g;
SELECT count(*) FROM partshift.plan('e', 'hash', 'id', partitions => 2) WHERE topic IN ('time', 'distribution');
SELECT relname FROM pg_class WHERE relname ~ '^pg_temp_' OR relname ~ '^pg_toast_' AND NOT EXISTS (SELECT FROM pg_class p WHERE p.reltoastrelid = pg_class.oid) AND relkind = 't';
DROP TABLE e;
-- A source that is partitioned already
CREATE TABLE s (LIKE t, PRIMARY KEY (id)) PARTITION BY HASH (id);
CREATE TABLE s_0 PARTITION OF s FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE s_1 PARTITION OF s FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO s SELECT * FROM t;
ANALYZE s;
SELECT e->>'sampled_rows', e->>'used', (e->'time'->>'sampled_blocks')::integer > 0, (e->'room'->>'needed')::bigint > 500000,
	(SELECT sum((l->>'rows')::integer) BETWEEN 5990 AND 6010 FROM jsonb_array_elements(e->'leaves') l), e->'leaves'->0->>'name'
FROM CAST(partshift.plan_job('s', 'range', 'id', '{"every": "2000", "premake": 0}')->'estimate' AS jsonb) e;
DROP TABLE s;
-- Workers compare together, except where one alone can.
SELECT partshift.comparing_workers('{}', '{}'), partshift.comparing_workers('{"workers": 4}', '{"computed": null}'),
	partshift.comparing_workers('{"workers": 4, "lock_writes": true}', '{}'),
	partshift.comparing_workers('{"workers": 4}', '{"computed": {"column": "at"}}');
DROP TABLE t;
DROP FUNCTION differs, said;
DROP TYPE colour;
DROP DOMAIN number;
REVOKE CREATE ON SCHEMA public FROM page_owner;
DROP ROLE page_owner;
