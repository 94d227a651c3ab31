-- What hand_over() refuses, and the grids that pg_partman goes on with.
SET client_min_messages = warning;
SET timezone = 'UTC';
\set QUIET on
CREATE SCHEMA h;
SET search_path = h, public;

SELECT plan(38);

CREATE FUNCTION divide(name regclass, key text, width text, format text DEFAULT NULL) RETURNS integer LANGUAGE sql AS $$
	SELECT partshift.convert(name, 'range', key, every => width, name_format => format, legacy_name => replace(name::text, '"', '') || '_old')
$$;
CREATE TABLE days (id int NOT NULL, at timestamp NOT NULL, v text, PRIMARY KEY (id, at));
INSERT INTO days SELECT n, date_trunc('day', now()) - n * interval '1 day' FROM generate_series(0, 9) n;
CREATE TABLE months (id int, at date NOT NULL);
ALTER TABLE months ADD PRIMARY KEY (id, at);
INSERT INTO months SELECT n, (date_trunc('month', now()) - n * interval '1 month')::date FROM generate_series(0, 9) n;
CREATE TABLE hours (id int, at timestamptz NOT NULL, PRIMARY KEY (id, at));
INSERT INTO hours SELECT n, date_trunc('hour', now()) - n * interval '1 hour' FROM generate_series(0, 9) n;
CREATE TABLE numbers (id bigint PRIMARY KEY, code int UNIQUE) WITH (fillfactor = 70);
INSERT INTO numbers SELECT n, n FROM generate_series(1, 35) n;
CREATE TABLE negative (id int PRIMARY KEY);
INSERT INTO negative VALUES (-15), (15);
CREATE TABLE named (id int PRIMARY KEY);
INSERT INTO named VALUES (15);
CREATE TABLE "do.t" (id int PRIMARY KEY);
INSERT INTO "do.t" VALUES (15);
CREATE TABLE versions (id uuid PRIMARY KEY);
INSERT INTO versions VALUES ('01890000-0000-7000-8000-000000000000');
CREATE TABLE hashed (id int PRIMARY KEY);
CREATE TABLE plain (id int PRIMARY KEY);

SELECT divide('days', 'at', '1 day') AS days \gset
CALL partshift.wait(:days);
SELECT divide('months', 'at', '1 month') AS months \gset
CALL partshift.wait(:months);
SELECT divide('hours', 'at', '6 hours') AS hours \gset
CALL partshift.wait(:hours);
SELECT partshift.convert('numbers', 'range', 'id', every => '10', unique_keys => 'per_partition', legacy_name => 'numbers_old') AS numbers \gset
CALL partshift.wait(:numbers);
SELECT divide('negative', 'id', '10') AS negative \gset
CALL partshift.wait(:negative);
SELECT divide('named', 'id', '10', '{table}_part_{bound}') AS named \gset
CALL partshift.wait(:named);
SELECT divide('"do.t"', 'id', '10') AS dots \gset
CALL partshift.wait(:dots);
SELECT partshift.convert('versions', 'range', 'id', bounds => '["2020-01-01", "2030-01-01"]', legacy_name => 'versions_old') AS versions \gset
CALL partshift.wait(:versions);
SELECT partshift.convert('hashed', 'hash', 'id', partitions => 2, legacy_name => 'hashed_old') AS hashed \gset
CALL partshift.wait(:hashed);

SELECT throws_ok($$ SELECT partshift.hand_over('days', 'cron') $$, '22023', 'unrecognized tool: "cron"', 'another tool');
SELECT throws_ok($$ SELECT partshift.hand_over('days', NULL) $$, '22023', NULL, 'no tool');
SELECT throws_ok($$ SELECT partshift.hand_over(NULL, 'partman') $$, '22004', 'relation must not be null', 'no table');
SELECT throws_ok($$ SELECT partshift.hand_over('plain', 'partman') $$, '55000',
	'table "plain" was not divided into ranges of equal size', 'a plain table');
SELECT throws_ok($$ SELECT partshift.hand_over('hashed', 'partman') $$, '55000',
	'table "hashed" was not divided into ranges of equal size', 'hash');
SELECT throws_ok($$ SELECT partshift.hand_over('versions', 'partman') $$, '55000',
	'table "versions" was not divided into ranges of equal size', 'bounds of its own');
SELECT throws_ok($$ SELECT partshift.hand_over('days', 'partman') $$, '55000',
	'conversion of table "days" is not finalized', 'not finalized');
SELECT partshift.finalize(j) FROM unnest(ARRAY[:days, :months, :hours, :numbers, :negative, :named, :dots, :versions, :hashed]) j \g /dev/null
CALL partshift.wait(:days);
CALL partshift.wait(:months);
CALL partshift.wait(:hours);
CALL partshift.wait(:numbers);
CALL partshift.wait(:negative);
CALL partshift.wait(:named);
CALL partshift.wait(:dots);
CALL partshift.wait(:versions);
CALL partshift.wait(:hashed);
SELECT throws_ok($$ SELECT partshift.hand_over('days', 'partman') $$, '55000',
	'extension "pg_partman" is not installed', 'no pg_partman');

CREATE SCHEMA "part man";
CREATE EXTENSION pg_partman SCHEMA "part man";
CREATE ROLE somebody;
GRANT USAGE ON SCHEMA h TO somebody;
SET ROLE somebody;
SELECT throws_ok($$ SELECT partshift.hand_over('h.days', 'partman') $$, '42501', 'must be owner of table days', 'not the owner');
RESET ROLE;
UPDATE pg_extension SET extversion = '3.2.1' WHERE extname = 'pg_partman';
SELECT throws_ok($$ SELECT partshift.hand_over('days', 'partman') $$, '0A000',
	'version 3.2.1 of extension "pg_partman" is not supported', 'an old pg_partman');
UPDATE pg_extension SET extversion = a.default_version FROM pg_available_extensions a WHERE a.name = extname AND extname = 'pg_partman';

SELECT throws_ok($$ SELECT partshift.hand_over('"do.t"', 'partman') $$, '0A000', NULL, 'a dot in the name');
SELECT throws_ok($$ SELECT partshift.hand_over('named', 'partman') $$, '0A000',
	'names of the partitions of table h.named do not fit pg_partman''s', 'other names');
SELECT is_empty($$ SELECT * FROM "part man".part_config $$, 'nothing is registered');
SELECT is((SELECT count(*) FROM pg_class WHERE relname LIKE 'template%')::int, 0, 'and nothing left behind');

SELECT partshift.manage('numbers', premake => 7, retention => '20');
SELECT lives_ok($$ SELECT partshift.manage('days') $$, 'a table beside pg_partman');
SELECT throws_ok($$ SELECT partshift.hand_over('named', 'partman') $$, '0A000', NULL, 'other names, again');
SELECT lives_ok($$ SELECT partshift.hand_over('days', 'partman') $$, 'days');
SELECT throws_ok($$ SELECT partshift.manage('days') $$, '42710',
	'table "days" is maintained by pg_partman already', 'not managed beside pg_partman');
CREATE TABLE theirs (id int PRIMARY KEY) PARTITION BY RANGE (id);
ALTER TABLE theirs OWNER TO somebody;
INSERT INTO "part man".part_config (parent_table, control, partition_type, partition_interval, automatic_maintenance)
SELECT 'h.theirs', 'id', partition_type, '10', 'off' FROM "part man".part_config;
SET ROLE somebody;
SELECT throws_ok($$ SELECT partshift.manage('h.theirs', every => '10') $$, '42710',
	'table "theirs" is maintained by pg_partman already', 'nor by an owner who cannot read its configuration');
RESET ROLE;
DELETE FROM "part man".part_config WHERE parent_table = 'h.theirs';
SELECT lives_ok($$ SELECT partshift.manage('theirs', every => '10') $$, 'managed when it is not registered any more');
INSERT INTO "part man".part_config (parent_table, control, partition_type, partition_interval, automatic_maintenance)
SELECT 'h.theirs', 'id', partition_type, '10', 'off' FROM "part man".part_config;
SELECT is((SELECT string_agg(detail || ' ' || mend, '') FROM partshift.health('theirs') WHERE detail LIKE '%partman%'),
	'pg_partman maintains it as well. SELECT partshift.unmanage(''h.theirs'')', 'health sees both');
SELECT matches(string_agg(severity || ' ' || detail, ''), '^warning pg_partman maintains table "theirs" and will maintain the new one', 'and so does plan()')
FROM partshift.plan('theirs', 'hash', 'id', partitions => 2) WHERE topic = 'maintenance' AND detail LIKE 'pg_partman%';
DELETE FROM "part man".part_config WHERE parent_table = 'h.theirs';
DROP TABLE theirs;
SELECT throws_ok($$ SELECT partshift.hand_over('days', 'partman') $$, '42710',
	'table "days" is maintained by pg_partman already', 'twice');
SELECT lives_ok($$ SELECT partshift.hand_over('months', 'partman') $$, 'months');
SELECT lives_ok($$ SELECT partshift.hand_over('hours', 'partman') $$, 'hours');
SELECT lives_ok($$ SELECT partshift.hand_over('numbers', 'partman') $$, 'numbers');
SELECT is((SELECT array_agg(relation) FROM partshift.policies), NULL, 'our policies have ended');
SELECT is((SELECT premake FROM "part man".part_config WHERE parent_table = 'h.numbers'), 7, 'with what they said');
SELECT is((SELECT array_agg(parent_table || ' ' || partition_interval || ' ' || coalesce(datetime_string, '-') ORDER BY parent_table)
	FROM "part man".part_config),
	ARRAY['h.days 1 day YYYYMMDD', 'h.hours 06:00:00 YYYYMMDD_HH24', 'h.months 1 mon YYYYMM', 'h.numbers 10 -'],
	'what is registered');

CREATE TABLE before_it AS SELECT inhparent, inhrelid FROM pg_inherits;
UPDATE "part man".part_config SET premake = 5;
INSERT INTO numbers SELECT n, n FROM generate_series(36, 62) n;
SELECT lives_ok($$ SELECT "part man".run_maintenance() $$, 'run_maintenance()');
-- 4 makes one more in the second half of a step.
SELECT is((SELECT (array_agg(inhrelid::regclass::text ORDER BY partshift.bound_rank(lower, type)))[:cardinality(made)]
	FROM pg_inherits i, partshift.leaf_bounds(i.inhparent) b
	WHERE b.leaf = i.inhrelid AND inhparent = name::regclass AND NOT EXISTS (SELECT FROM before_it n WHERE n.inhrelid = i.inhrelid)),
	made, format('%s: what was made', name))
FROM (VALUES
	('days', ARRAY[to_char(now() + interval '4 days', '"days_p"YYYYMMDD'), to_char(now() + interval '5 days', '"days_p"YYYYMMDD')]),
	('months', ARRAY[to_char(date_trunc('month', now()) + interval '4 months', '"months_p"YYYYMM'),
		to_char(date_trunc('month', now()) + interval '5 months', '"months_p"YYYYMM')]),
	('numbers', ARRAY['numbers_p70', 'numbers_p80', 'numbers_p90', 'numbers_p100', 'numbers_p110'])) v(name, made);
SELECT ok((SELECT count(*) FROM pg_inherits WHERE inhparent = 'hours'::regclass)
	- (SELECT count(*) FROM before_it WHERE inhparent = 'hours'::regclass) IN (2, 3), 'hours: what was made');
SELECT is((SELECT reloptions FROM pg_class WHERE oid = 'numbers_p100'::regclass), '{fillfactor=70}'::text[], 'storage parameters');
SELECT is((SELECT count(*) FROM pg_index WHERE indrelid = 'numbers_p100'::regclass AND indisunique)::int, 2,
	'also the unique index that each partition has alone');
SELECT is_empty($$ SELECT b.lower FROM partshift.leaf_bounds('days') b
	EXCEPT SELECT (date_trunc('day', now() AT TIME ZONE 'UTC') + n * interval '1 day')::text FROM generate_series(-9, 6) n $$,
	'no gap and no other boundary');

-- 5 reads the bounds, 4 the names.
SELECT CASE WHEN (SELECT extversion LIKE '4%' FROM pg_extension WHERE extname = 'pg_partman')
	THEN throws_ok($$ SELECT partshift.hand_over('negative', 'partman') $$, '0A000', NULL, 'negative numbers')
	ELSE lives_ok($$ SELECT partshift.hand_over('negative', 'partman') $$, 'negative numbers') END;
SELECT * FROM finish();
DROP OWNED BY somebody;
DROP ROLE somebody;
