-- Foreign keys that lack the partition key are extended by it.
\set ECHO none
\getenv dir PG_ABS_SRCDIR
\set common :dir '/sql/common.psql'
\i :common
/* What the referencing tables are made of. */
CREATE FUNCTION probe.children() RETURNS SETOF text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT concat_ws(' ', 'column', a.attrelid::regclass, a.attname, format_type(a.atttypid, a.atttypmod))
	FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
	WHERE c.relname ~ '^(media|alias|piece|visit|pair)' AND c.relkind IN ('r', 'p')
		AND a.attnum > 0 AND NOT a.attisdropped
	UNION ALL
	SELECT concat_ws(' ', 'key', conrelid::regclass, conname, pg_get_constraintdef(oid), convalidated)
	FROM pg_constraint WHERE contype = 'f' AND conparentid = 0
		AND conrelid::regclass::text ~ 'net.(media|alias|piece|visit|pair)'
	UNION ALL
	SELECT concat_ws(' ', 'trigger', tgrelid::regclass, tgname, tgenabled) FROM pg_trigger
	WHERE NOT tgisinternal AND tgrelid::regclass::text ~ 'net.(media|alias|piece|visit|pair|records$)'
		AND tgname !~ '^partshift_reverse'
	UNION ALL
	SELECT regexp_replace(concat_ws(' ', 'index', indexrelid::regclass), '_\d+$', '_N')
	FROM pg_index WHERE indrelid::regclass::text ~ 'net.(media|alias|piece|visit|pair)'
$$;
SET check_function_bodies = off;
/* Rows that refer to a record and do not have its partition key. */
CREATE FUNCTION probe.astray() RETURNS TABLE (child text, n bigint)
LANGUAGE sql AS $$
	SELECT 'media', count(*) FROM net.media c LEFT JOIN net.records r ON r.id = c.record
	WHERE c.user_id IS DISTINCT FROM r.user_id
	UNION ALL
	SELECT 'aliases', count(*) FROM net.aliases c LEFT JOIN net.records r ON r.id = c.record
	WHERE c.owner_id IS DISTINCT FROM r.user_id
	UNION ALL
	SELECT 'pieces', count(*) FROM net.pieces c LEFT JOIN net.records r ON r.id = c.record
	WHERE c.user_id IS DISTINCT FROM r.user_id
	UNION ALL
	SELECT 'visits', count(*) FROM net.visits c
		LEFT JOIN net.records a ON a.id = c.from_record LEFT JOIN net.records b ON b.id = c.to_record
	WHERE (c.from_record_user_id, c.to_record_user_id) IS DISTINCT FROM (a.user_id, b.user_id)
	UNION ALL
	SELECT 'pairs', count(*) FROM net.pairs c LEFT JOIN net.records r USING (code, region)
	WHERE c.user_id IS DISTINCT FROM r.user_id
$$;
RESET check_function_bodies;
\set ECHO all
CREATE ROLE partshift_owner NOLOGIN;
CREATE ROLE partshift_other NOLOGIN;
CREATE SCHEMA net AUTHORIZATION partshift_owner;
GRANT CREATE, USAGE ON SCHEMA net TO partshift_other;
SET search_path = net, public;
SET ROLE partshift_owner;
CREATE TABLE records (
	id bigint PRIMARY KEY, user_id integer NOT NULL,
	code text, region integer, body text, UNIQUE (code, region));
INSERT INTO records SELECT g, g % 17, 'c' || g, g % 3, 'body' FROM generate_series(1, 400) g;
GRANT SELECT, REFERENCES (id, code, region) ON records TO partshift_other;
CREATE TABLE pieces (id integer, day date, record integer REFERENCES records,
	PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE pieces_1 PARTITION OF pieces FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
CREATE TABLE pieces_2 (record integer, gone text, day date NOT NULL, id integer NOT NULL);
ALTER TABLE pieces_2 DROP COLUMN gone;
ALTER TABLE pieces ATTACH PARTITION pieces_2 FOR VALUES FROM ('2024-02-01') TO ('2024-03-01');
CREATE TABLE visits (from_record bigint REFERENCES records, to_record bigint REFERENCES records);
CREATE TABLE seen (what text);
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO net.seen VALUES (TG_OP);
	RETURN NEW;
END
$$;
GRANT INSERT ON seen TO PUBLIC;
SET ROLE partshift_other;
CREATE TABLE media (id serial PRIMARY KEY, record bigint, n integer,
	CONSTRAINT of_record FOREIGN KEY (record) REFERENCES records ON DELETE CASCADE);
CREATE TRIGGER seen AFTER INSERT OR UPDATE ON media FOR EACH ROW EXECUTE FUNCTION see();
CREATE TABLE aliases (id serial PRIMARY KEY, record bigint,
	CONSTRAINT of_alias FOREIGN KEY (record) REFERENCES records (id)
		ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED);
CREATE INDEX aliases_record ON aliases (record);
CREATE TABLE pairs (code text, region integer,
	FOREIGN KEY (code, region) REFERENCES records (code, region) ON UPDATE CASCADE ON DELETE SET NULL (code));
RESET ROLE;
INSERT INTO media (record, n) SELECT nullif(g % 401, 0), g FROM generate_series(1, 3000) g;
INSERT INTO aliases (record) SELECT nullif(g % 300, 0) FROM generate_series(1, 600) g;
INSERT INTO pieces SELECT g, date '2024-01-01' + g % 60, nullif(g % 200, 0) FROM generate_series(1, 500) g;
INSERT INTO visits SELECT g, nullif(g % 9, 0) FROM generate_series(1, 100) g;
INSERT INTO pairs SELECT code, region FROM records WHERE id < 50 UNION ALL VALUES ('x', NULL), (NULL, 1);
DELETE FROM seen;
CREATE TABLE was AS SELECT * FROM probe.children();

-- What stands in the way is named.
\set extend 'partshift.convert(''records'', ''hash'', ''user_id'', partitions => 3, unique_keys => ''extend'', foreign_keys => ''extend'', swap => ''manual'''
SELECT probe.refusal('SELECT partshift.convert(''records'', ''hash'', ''user_id'', partitions => 3, unique_keys => ''extend'')');
SELECT probe.refusal('SELECT ' || :'extend' || ')');
GRANT REFERENCES (user_id) ON records TO partshift_other;
BEGIN;
ALTER TABLE media ADD user_id integer;
SELECT probe.refusal('SELECT ' || :'extend' || ')');
ALTER TABLE media ALTER user_id TYPE text;
SELECT probe.refusal('SELECT ' || :'extend' || $$, extend_columns => '{"of_record": {"user_id": "user_id"}}')$$);
ROLLBACK;
SELECT probe.refusal($$SELECT partshift.convert('records', 'hash', 'user_id', partitions => 3, unique_keys => 'per_partition', foreign_keys => 'extend')$$);
SELECT count(*) FROM (SELECT * FROM probe.children() EXCEPT ALL TABLE was) AS new;

SELECT partshift.convert('records', 'hash', 'user_id', partitions => 3, unique_keys => 'extend',
	foreign_keys => 'extend', swap => 'manual',
	extend_columns => '{"of_alias": {"user_id": "owner_id"}}') AS job \gset
CALL probe.finish(:job);
SELECT probe.state(:job);
-- Rows there were are filled, and no trigger of the user's fired.
SELECT * FROM probe.astray();
SELECT * FROM seen;
-- So are new ones, and those whose reference changes.
SET ROLE partshift_other;
INSERT INTO media (record, n) VALUES (5, -1), (NULL, -2) RETURNING record, user_id;
UPDATE media SET record = 6 WHERE n = -1 RETURNING record, user_id;
UPDATE media SET record = NULL WHERE n = 1 RETURNING record, user_id;
INSERT INTO media (record, n, user_id) VALUES (7, -3, 7) RETURNING record, user_id;
INSERT INTO pairs VALUES ('c9', 0), ('c9', NULL) RETURNING *;
RESET ROLE;
INSERT INTO pieces VALUES (9000, '2024-01-05', 8), (9000, '2024-02-05', 8) RETURNING record, user_id;
INSERT INTO visits VALUES (1, 2) RETURNING *;
BEGIN;
INSERT INTO aliases (record) VALUES (1000) RETURNING record, owner_id;
INSERT INTO records VALUES (1000, 16, 'late');
COMMIT;
SELECT record, owner_id FROM aliases WHERE record = 1000;
-- A record that goes to another partition takes them along.
UPDATE records SET user_id = 99 WHERE id IN (5, 6, 7, 8, 9);
SELECT * FROM probe.astray();
DELETE FROM records WHERE id = 1000;
SELECT count(*) FROM aliases WHERE record IS NULL AND owner_id IS NOT NULL;

SELECT partshift.swap(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT * FROM (SELECT * FROM probe.children() EXCEPT ALL TABLE was) AS new (object)
ORDER BY object COLLATE "C";
SELECT * FROM probe.astray();
-- The same on the partitioned table.
SET ROLE partshift_other;
INSERT INTO media (record, n) VALUES (5, -4) RETURNING record, user_id;
INSERT INTO media (record, n) VALUES (77777, -5);
INSERT INTO media (record, n, user_id) VALUES (5, -6, 3);
UPDATE media SET record = 10 WHERE n = -4 RETURNING record, user_id;
RESET ROLE;
UPDATE records SET user_id = 3 WHERE id IN (5, 6, 7, 8, 9, 10);
BEGIN;
INSERT INTO aliases (record) VALUES (1001);
INSERT INTO records VALUES (1001, 4, 'late');
COMMIT;
DELETE FROM visits WHERE 12 IN (from_record, to_record);
DELETE FROM pieces WHERE record = 12;
DELETE FROM records WHERE id = 12;
SELECT count(*) FROM media WHERE record = 12;
SELECT count(*) FROM aliases WHERE record IS NULL AND owner_id IS NOT NULL;
SELECT * FROM probe.astray();
SELECT conname, convalidated FROM pg_constraint WHERE confrelid = 'records'::regclass
	AND conparentid = 0 AND contype = 'f' ORDER BY 1;

-- Back, and nothing is left.
SELECT partshift.rollback(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
(TABLE was EXCEPT ALL SELECT * FROM probe.children())
UNION ALL (SELECT * FROM probe.children() EXCEPT ALL TABLE was);
INSERT INTO media (record, n) VALUES (77777, -5);

-- Nor by an abort.
SELECT :extend) AS job \gset
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT partshift.abort(:job);
CALL probe.finish(:job);
(TABLE was EXCEPT ALL SELECT * FROM probe.children())
UNION ALL (SELECT * FROM probe.children() EXCEPT ALL TABLE was);

SET client_min_messages = error;
DROP SCHEMA net CASCADE;
RESET search_path;
SET client_min_messages = warning;
DROP ROLE partshift_owner, partshift_other;
