-- What cannot be converted is refused before anything is made, by convert and plan alike.
\set ECHO none
\getenv dir PG_ABS_SRCDIR
\set common :dir '/sql/common.psql'
\i :common
\pset format unaligned
\pset tuples_only on
CREATE FUNCTION refused(args text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text := probe.refusal(format('SELECT partshift.convert(%s)', args));
	planned text;
BEGIN
	BEGIN
		EXECUTE format('SELECT detail FROM partshift.plan(%s)
			WHERE severity = ''error'' LIMIT 1', args) INTO planned;
	EXCEPTION WHEN OTHERS THEN
		planned := SQLERRM;
	END;
	IF strpos(answer, ': ' || probe.mask(split_part(planned, E'\n', 1))) = 0 IS NOT FALSE THEN
		RETURN answer || E'\nbut plan says: ' || coalesce(planned, 'nothing');
	END IF;
	RETURN answer;
END
$$;
CREATE SCHEMA sample;
SET search_path = sample, public;
CREATE TABLE t (
	id integer PRIMARY KEY,
	at timestamptz NOT NULL DEFAULT '2024-01-01',
	day date NOT NULL DEFAULT '2024-01-01',
	tiny smallint NOT NULL DEFAULT 1,
	exact numeric(4, 1) NOT NULL DEFAULT 1,
	word text NOT NULL DEFAULT 'a',
	u uuid NOT NULL DEFAULT '018d0000-0000-7000-8000-000000000000',
	p point NOT NULL DEFAULT '(1,2)',
	cash money NOT NULL DEFAULT 1,
	list integer[] NOT NULL DEFAULT '{}',
	maybe integer DEFAULT 1,
	"Mixed" integer NOT NULL DEFAULT 1,
	twice integer GENERATED ALWAYS AS (id * 2) STORED);
INSERT INTO t (id) SELECT generate_series(1, 100);
CREATE TABLE catalog_before AS SELECT oid FROM pg_class;

-- The strategy and the options
SELECT refused($$'t', 'modulo', 'id'$$);
SELECT refused($$'t', 'hash', 'id', every => '1 day'$$);
SELECT probe.refusal($$SELECT partshift.create_job('t', 'hash', 'id', '{"partition": 4}')$$);
SELECT probe.refusal($$SELECT partshift.create_job('t', 'hash', 'id', '{"partitions": "4"}')$$);
SELECT probe.refusal($$SELECT partshift.create_job('t', 'range', 'id', '{"bounds": "4"}')$$);
SELECT refused($$'t', 'hash', 'id', partitions => 4, swap => 'now'$$);
SELECT refused($$'t', 'hash', 'id', partitions => 4, workers => 65$$);
SELECT refused($$'t', 'hash', 'id', partitions => 4, cost_limit => 0$$);
SELECT refused($$'t', 'range', 'id', every => '10', bounds => '[1, 2]'$$);
SELECT refused($$'t', 'list', 'id', partitions => 2, lists => '{"a": [1]}'$$);
SELECT refused($$'t', 'range', 'at', every => '1 day', timezone => 'Mars/Olympus'$$);
SELECT refused($$'t', 'hash', 'id', partitions => 4, name_format => '{table}'$$);
SELECT refused($$'t', 'hash', 'id', partitions => 4, legacy_name => ''$$);
SELECT refused($$'t', 'hash', 'id', partitions => 4, swap => 'now', verify => 'so'$$);

-- The key
SELECT refused($$'t', 'hash', 'lower(word)', partitions => 4$$);
SELECT refused($$'t', 'hash', '', partitions => 4$$);
SELECT refused($$'t', 'hash', 'nothing', partitions => 4$$);
SELECT refused($$'t', 'hash', 'id, mixed', partitions => 4$$);
SELECT refused($$'t', 'hash', 'ctid', partitions => 4$$);
SELECT refused($$'t', 'hash', 'twice', partitions => 4$$);
SELECT refused($$'t', 'hash', 'id, id', partitions => 4$$);
SELECT refused($$'t', 'range', 'id, at', every => '1 day'$$);
SELECT refused($$'t', 'range', 'word', every => '1'$$);
SELECT refused($$'t', 'hash', 'cash', partitions => 4$$);
SELECT refused($$'t', 'list', 'p'$$);
SELECT refused($$'t', 'hash', 'list', partitions => 4$$);
CREATE DOMAIN short AS text;
ALTER TABLE t ADD domained short NOT NULL DEFAULT 'd';
SELECT refused($$'t', 'list', 'domained'$$);
ALTER TABLE t DROP domained;
DROP DOMAIN short;
DO $$ BEGIN EXECUTE (SELECT 'CREATE TABLE wide (id integer PRIMARY KEY, '
	|| string_agg('c' || g || ' integer NOT NULL', ', ') || ')' FROM generate_series(1, 33) g); END $$;
SELECT refused(format($$'wide', 'hash', %L, partitions => 2$$, string_agg('c' || g, ', ')))
FROM generate_series(1, 33) g;
SELECT refused(format($$'wide', 'hash', %L, partitions => 2$$, string_agg('c' || g, ', ')))
FROM generate_series(1, 32) g;
DROP TABLE wide;
SELECT refused($$'t', 'hash', 'maybe', partitions => 4$$);
UPDATE t SET maybe = NULL WHERE id = 1;
SELECT refused($$'t', 'hash', 'maybe', partitions => 4$$);
UPDATE t SET maybe = NULL WHERE id = 2;
SELECT refused($$'t', 'hash', 'maybe', partitions => 4$$);
ALTER TABLE t DROP CONSTRAINT t_pkey;
SELECT refused($$'t', 'hash', 'id', partitions => 4$$);
CREATE UNIQUE INDEX partial_key ON t (id) WHERE id > 0;
CREATE UNIQUE INDEX expression_key ON t (abs(id));
CREATE UNIQUE INDEX null_key ON t (id, maybe);
ALTER TABLE t ADD CONSTRAINT late_key UNIQUE (id) DEFERRABLE;
SELECT refused($$'t', 'hash', 'id', partitions => 4$$);
DROP INDEX partial_key, expression_key, null_key;
ALTER TABLE t DROP CONSTRAINT late_key, ADD PRIMARY KEY (id);

-- Bounds: hash,
SELECT refused($$'t', 'hash', 'id'$$);
SELECT refused($$'t', 'hash', 'id', partitions => 1$$);
SELECT refused($$'t', 'hash', 'id', partitions => 10001$$);
-- range by an interval,
SELECT refused($$'t', 'range', 'at'$$);
SELECT refused($$'t', 'range', 'at', every => 'often'$$);
SELECT refused($$'t', 'range', 'at', every => '7'$$);
SELECT refused($$'t', 'range', 'at', every => '1 month 1 day'$$);
SELECT refused($$'t', 'range', 'at', every => '0 days'$$);
SELECT refused($$'t', 'range', 'at', every => '-1 day'$$);
SELECT refused($$'t', 'range', 'at', every => '1.5 seconds'$$);
SELECT refused($$'t', 'range', 'day', every => '6 hours'$$);
SELECT refused($$'t', 'range', 'at', every => '1 minute'$$)
	~ '^53400: cannot make \d+ partitions\nDETAIL: .*\nHINT: .*$';
SELECT refused($$'t', 'range', 'id', every => '1 day'$$);
SELECT refused($$'t', 'range', 'id', every => '0'$$);
UPDATE t SET u = '11111111-1111-4111-8111-111111111111' WHERE id = 3;
SELECT refused($$'t', 'range', 'u', every => '1 month'$$);
-- by boundaries,
SELECT refused($$'t', 'range', 'id', bounds => '[1]'$$);
SELECT refused($$'t', 'range', 'id', bounds => '[1, 10, 10]'$$);
SELECT refused($$'t', 'range', 'id', bounds => '[1, [2]]'$$);
SELECT refused($$'t', 'range', 'id', bounds => '[1, "two"]'$$);
SELECT refused($$'t', 'range', 'tiny', bounds => '[1, 40000]'$$);
SELECT refused($$'t', 'range', 'exact', bounds => '[1, 2.25]'$$);
SELECT refused($$'t', 'range', 'at', bounds => '["2024-01-01", "infinity"]'$$);
SELECT refused($$'t', 'range', 'id', bounds => '{}'$$);
SELECT refused($$'t', 'range', 'id', bounds => '{"a": [1]}'$$);
SELECT refused($$'t', 'range', 'id', bounds => '{"a": [10, 1]}'$$);
SELECT refused($$'t', 'range', 'id', bounds => '{"a": [1, 10], "b": [5, 20]}'$$);
SELECT refused($$'t', 'range', 'id', bounds => '[1, 50]', default_partition => 'drop'$$);
-- list
SELECT refused($$'t', 'list', 'id', lists => '{}'$$);
SELECT refused($$'t', 'list', 'id', lists => '{"a": 1}'$$);
SELECT refused($$'t', 'list', 'id', lists => '{"a": [null]}'$$);
SELECT refused($$'t', 'list', 'id', lists => '{"a": [[1]]}'$$);
SELECT refused($$'t', 'list', 'exact', lists => '{"a": [1, "1.0"]}'$$);
SELECT refused($$'t', 'list', 'exact', lists => '{"a": [1], "b": ["01"]}'$$);
SELECT refused($$'t', 'list', 'word', partitions => 3$$);
SELECT refused($$'t', 'list', 'id', partitions => 0$$);
SELECT refused($$'t', 'list', 'id', lists => '{"a": [1]}', default_partition => 'drop'$$);
INSERT INTO t (id) SELECT generate_series(101, 501);
SELECT refused($$'t', 'list', 'id'$$);
DELETE FROM t;
SELECT refused($$'t', 'list', 'id'$$);
INSERT INTO t (id) SELECT generate_series(1, 100);

-- Names
CREATE TABLE t_p1 ();
SELECT refused($$'t', 'hash', 'id', partitions => 2$$);
DROP TABLE t_p1;
CREATE TYPE gone AS ENUM ('a');
SELECT refused($$'t', 'hash', 'id', partitions => 2, legacy_name => 'gone'$$);
DROP TYPE gone;
SELECT refused($$'t', 'hash', 'id', partitions => 2, legacy_name => 't_p1'$$);
SELECT refused($$'t', 'hash', 'id', partitions => 2, legacy_name => repeat('ü', 32)$$);
SELECT refused($$'t', 'hash', 'id', partitions => 2, name_format => repeat('x', 63) || '{bound}'$$);
SELECT refused($$'t', 'list', 'id', lists => '{"default": [1], "b": [2]}'$$);

-- Locks
SELECT regexp_replace(refused($$'t', 'hash', 'id', partitions => 4000$$), 'room for \d+', 'room for N');

-- What kind of table it is
SELECT probe.refusal('SELECT partshift.convert(0, ''hash'', ''id'', partitions => 2)');
CREATE VIEW v AS SELECT 1 AS id;
CREATE MATERIALIZED VIEW mv AS SELECT 1 AS id;
CREATE SEQUENCE s;
CREATE TABLE parted (id integer PRIMARY KEY) PARTITION BY HASH (id);
CREATE TABLE parted_0 PARTITION OF parted FOR VALUES WITH (MODULUS 1, REMAINDER 0);
CREATE TEMP TABLE fleeting (id integer PRIMARY KEY);
CREATE TABLE mother (id integer PRIMARY KEY);
CREATE TABLE child (PRIMARY KEY (id)) INHERITS (mother);
CREATE TYPE row_type AS (id integer);
CREATE TABLE typed OF row_type (PRIMARY KEY (id));
CREATE ACCESS METHOD heap2 TYPE TABLE HANDLER heap_tableam_handler;
CREATE TABLE elsewhere (id integer PRIMARY KEY) USING heap2;
CREATE TABLE decoded (id integer PRIMARY KEY) WITH (user_catalog_table = true);
CREATE TABLE ruled (id integer PRIMARY KEY);
CREATE RULE "no more" AS ON DELETE TO ruled DO INSTEAD NOTHING;
SELECT refused($$'v', 'hash', 'id', partitions => 2$$);
SELECT refused($$'mv', 'hash', 'id', partitions => 2$$);
SELECT refused($$'s', 'hash', 'id', partitions => 2$$);
SELECT refused($$'t_pkey', 'hash', 'id', partitions => 2$$);
SELECT refused($$'parted_0', 'hash', 'id', partitions => 2$$);
SELECT refused($$'fleeting', 'hash', 'id', partitions => 2$$);
SELECT refused($$'pg_class', 'hash', 'oid', partitions => 2$$);
SELECT refused($$'partshift.task', 'hash', 'job_id', partitions => 2$$);
SELECT refused($$'child', 'hash', 'id', partitions => 2$$);
SELECT refused($$'mother', 'hash', 'id', partitions => 2$$);
SELECT refused($$'typed', 'hash', 'id', partitions => 2$$);
SELECT refused($$'elsewhere', 'hash', 'id', partitions => 2$$);
SELECT refused($$'decoded', 'hash', 'id', partitions => 2$$);
SELECT refused($$'ruled', 'hash', 'id', partitions => 2$$);
DROP TABLE parted, fleeting, child, mother, typed, elsewhere, decoded, ruled;
DROP ACCESS METHOD heap2;
DROP TYPE row_type;
DROP VIEW v;
DROP MATERIALIZED VIEW mv;
DROP SEQUENCE s;

-- Indexes
CREATE TABLE k (id integer PRIMARY KEY, part integer NOT NULL, code text, span int4range);
CREATE UNIQUE INDEX k_code ON k (code);
SELECT refused($$'k', 'hash', 'part', partitions => 2$$);
ALTER TABLE k ALTER code SET NOT NULL;
ALTER TABLE k REPLICA IDENTITY USING INDEX k_code;
SELECT refused($$'k', 'hash', 'part', partitions => 2, unique_keys => 'per_partition'$$);
ALTER TABLE k REPLICA IDENTITY DEFAULT;
DROP INDEX k_code;
ALTER TABLE k ADD CONSTRAINT apart EXCLUDE USING gist (span WITH &&);
SELECT refused($$'k', 'hash', 'id', partitions => 2$$);
ALTER TABLE k DROP CONSTRAINT apart;
CREATE FUNCTION whole(k) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE INDEX k_whole ON k (whole(k));
SELECT refused($$'k', 'hash', 'id', partitions => 2$$);
DROP FUNCTION whole CASCADE;

-- Constraints
ALTER TABLE k ADD CONSTRAINT own CHECK (id > 0) NO INHERIT;
SELECT refused($$'k', 'hash', 'id', partitions => 2$$);
ALTER TABLE k DROP CONSTRAINT own, ADD CONSTRAINT entire CHECK (k IS NOT NULL);
SELECT refused($$'k', 'hash', 'id', partitions => 2$$);
ALTER TABLE k DROP CONSTRAINT entire;
CREATE TABLE c (id integer PRIMARY KEY, k integer, CONSTRAINT to_k FOREIGN KEY (k) REFERENCES k);
SELECT refused($$'k', 'hash', 'part', partitions => 2$$);
ALTER TABLE c DROP CONSTRAINT to_k, ADD CONSTRAINT to_k FOREIGN KEY (k) REFERENCES k NOT VALID;
SELECT refused($$'k', 'hash', 'id', partitions => 2$$);
SELECT refused($$'c', 'hash', 'id', partitions => 2$$);
ALTER TABLE c VALIDATE CONSTRAINT to_k;
SELECT partshift.convert('c', 'hash', 'id', partitions => 2, swap => 'manual') AS job \gset
SELECT refused($$'k', 'hash', 'id', partitions => 2$$);
SELECT refused($$'c', 'hash', 'id', partitions => 2$$) ~ '^55006: table "c" is being converted by job N\nDETAIL: Job N is active in phase \w+\.\nHINT: Wait for it, or end it with partshift.abort\(N\)\.$';
CALL probe.finish(:job);
SELECT partshift.abort(:job);
CALL probe.finish(:job);
SELECT partshift.convert('k', 'hash', 'id', partitions => 2, swap => 'manual') AS job \gset
SELECT refused($$'c', 'hash', 'id', partitions => 2$$);
CALL probe.finish(:job);
SELECT partshift.abort(:job);
CALL probe.finish(:job);
DROP TABLE c;

-- Triggers
CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.part := 2; RETURN NEW; END $$;
CREATE TRIGGER rows AFTER UPDATE ON k REFERENCING OLD TABLE AS o FOR EACH ROW EXECUTE FUNCTION f();
SELECT refused($$'k', 'hash', 'id', partitions => 2$$);
DROP TRIGGER rows ON k;
CREATE CONSTRAINT TRIGGER other AFTER UPDATE ON k FROM t FOR EACH ROW EXECUTE FUNCTION f();
SELECT refused($$'k', 'hash', 'id', partitions => 2$$);
DROP TRIGGER other ON k;
CREATE TRIGGER mover BEFORE INSERT ON k FOR EACH ROW EXECUTE FUNCTION f();
SELECT refused($$'k', 'hash', 'part', partitions => 2$$);
DROP TRIGGER mover ON k;
DROP FUNCTION f;

-- What its owner may not do
CREATE ROLE partshift_poor NOLOGIN;
ALTER TABLE k OWNER TO partshift_poor;
SELECT refused($$'k', 'hash', 'id', partitions => 2$$);
GRANT USAGE ON SCHEMA sample TO partshift_poor;
CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
REVOKE EXECUTE ON FUNCTION f FROM PUBLIC;
CREATE TRIGGER closed AFTER INSERT ON k FOR EACH ROW WHEN (NEW.id > 0) EXECUTE FUNCTION f();
SELECT refused($$'k', 'hash', 'id', partitions => 2$$);
DROP TRIGGER closed ON k;
DROP FUNCTION f;
ALTER TABLE k OWNER TO CURRENT_USER;
REVOKE USAGE ON SCHEMA sample FROM partshift_poor;
DROP ROLE partshift_poor;

-- What depends on the table: each kind by name
CREATE FUNCTION takes(k) RETURNS integer LANGUAGE sql AS 'SELECT 1';
SELECT refused($$'k', 'hash', 'id', partitions => 2$$);
DROP FUNCTION takes;
CREATE FUNCTION gives() RETURNS SETOF k LANGUAGE sql AS 'SELECT * FROM k';
SELECT refused($$'k', 'hash', 'id', partitions => 2$$);
DROP FUNCTION gives;
CREATE TABLE holds (ks k[]);
SELECT refused($$'k', 'hash', 'id', partitions => 2$$);
DROP TABLE holds;
SET client_min_messages = error;
CREATE PUBLICATION pub FOR TABLE k;
SELECT refused($$'k', 'hash', 'id', partitions => 2$$);
DROP PUBLICATION pub;
CREATE PUBLICATION pub FOR TABLES IN SCHEMA sample;
SELECT refused($$'k', 'hash', 'id', partitions => 2$$);
DROP PUBLICATION pub;
CREATE PUBLICATION pub FOR ALL TABLES;
SELECT refused($$'k', 'hash', 'id', partitions => 2$$);
DROP PUBLICATION pub;
SET client_min_messages = warning;
ALTER INDEX k_pkey DEPENDS ON EXTENSION amcheck;
SELECT refused($$'k', 'hash', 'id', partitions => 2$$);
ALTER INDEX k_pkey NO DEPENDS ON EXTENSION amcheck;
ALTER EXTENSION amcheck ADD TABLE k;
SELECT refused($$'k', 'hash', 'id', partitions => 2$$) ~ '^0A000: .*sample.k(\[\])? belongs to extension "amcheck"';
ALTER EXTENSION amcheck DROP TABLE k;

-- With several reasons the first is the error, the others are its detail.
CREATE FUNCTION takes(k) RETURNS integer LANGUAGE sql AS 'SELECT 1';
CREATE VIEW v AS SELECT id FROM ONLY k;
SELECT refused($$'k', 'hash', 'id', partitions => 2$$);
DROP FUNCTION takes;
DROP VIEW v;
-- All is well again, and nothing was made.
SELECT count(*) FILTER (WHERE severity = 'error') AS errors, count(*) > 3 AS more
FROM partshift.plan('k', 'hash', 'id', partitions => 2);
DROP TABLE k;
SELECT oid::regclass FROM pg_class
WHERE oid NOT IN (SELECT oid FROM catalog_before)
	AND relname NOT IN ('catalog_before', 't_pkey')
	AND relnamespace <> 'pg_toast'::regnamespace;
DROP TABLE t, catalog_before;
DROP SCHEMA sample;
RESET search_path;
DROP FUNCTION refused;
