-- Each type a key can have, and how its partitions are laid and named.
\set ECHO none
\getenv dir PG_ABS_SRCDIR
\set common :dir '/sql/common.psql'
\i :common
\set ECHO none
\pset format unaligned
\pset tuples_only on
-- Plan, convert, compare, drop: one line for each case.
CREATE PROCEDURE laid(definition text, rows text, args text, show boolean DEFAULT true)
LANGUAGE plpgsql AS $$
DECLARE
	job integer;
	line text;
BEGIN
	EXECUTE format('CREATE TABLE k (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, %s)', definition);
	EXECUTE format('INSERT INTO k (v) %s', rows);
	CREATE TABLE before AS TABLE k;
	COMMIT;
	EXECUTE format('SELECT partshift.convert(''k'', %s, legacy_name => ''k_old'')', args) INTO job;
	COMMIT;
	CALL probe.finish(job);
	RAISE WARNING '% %: %', split_part(definition, ' NOT', 1), args, probe.state(job);
	FOR line IN
		SELECT format('  %s %s', l.leaf, l.bound) FROM probe.leaves('k') l LIMIT 7
	LOOP
		RAISE WARNING '%', line;
	END LOOP;
	FOR line IN
		SELECT format('  %s: %s', r.leaf, string_agg(r.v, ' ' ORDER BY r.v COLLATE "C"))
		FROM (SELECT k.tableoid::regclass::text AS leaf, (to_jsonb(k) ->> 'v') AS v FROM k WHERE show ORDER BY k.id LIMIT 12) r
		GROUP BY r.leaf ORDER BY r.leaf COLLATE "C"
	LOOP
		RAISE WARNING '%', line;
	END LOOP;
	FOR line IN SELECT * FROM probe.differences('before', 'k')
		UNION ALL SELECT * FROM probe.differences('k_old', 'k')
		UNION ALL SELECT * FROM probe.damages('k')
	LOOP
		RAISE WARNING '  %', line;
	END LOOP;
	PERFORM partshift.finalize(job);
	COMMIT;
	CALL probe.finish(job);
	DROP TABLE k, k_old, before;
	COMMIT;
END
$$;
\set VERBOSITY terse
\set ECHO all

-- Numbers
CALL laid('v smallint NOT NULL', 'VALUES (-32768), (32767), (0), (-1)', $$'range', 'v', every => '30000'$$);
CALL laid('v integer NOT NULL', 'VALUES (5), (2147483647)', $$'range', 'v', every => '1000000000', premake => 5$$);
CALL laid('v bigint NOT NULL', 'VALUES (9223372036854775807), (1)', $$'range', 'v', every => '4000000000000000000', default_partition => 'drop'$$);
CALL laid('v numeric NOT NULL', 'VALUES (1.5), (-0.5), (''NaN''), (''Infinity''), (99.99)', $$'range', 'v', every => '50', premake => 0$$);
CALL laid('v numeric(3, 1) NOT NULL', 'VALUES (99.9), (-99.9), (0)', $$'range', 'v', every => '60', premake => 2, default_partition => 'drop'$$);
CALL laid('v numeric(6, 2) NOT NULL', 'VALUES (0.5), (1.25)', $$'range', 'v', bounds => '["minvalue", 0.75, 1.5]'$$);

-- Dates and times
CALL laid('v date NOT NULL', 'VALUES (''2024-02-29''), (''-infinity''), (''infinity''), (''0044-03-15 BC'')', $$'range', 'v', bounds => '["0044-01-01 BC", "2024-02-29", "2024-03-01"]'$$);
CALL laid('v date NOT NULL', 'VALUES (''2024-06-01''), (''2499-12-31'')', $$'range', 'v', bounds => '["2024-01-01", "2500-01-01"]', name_format => 'y{bound}'$$);
CALL laid('v timestamp NOT NULL', 'VALUES (''2024-01-31 23:59:59.999999''), (''2024-02-01'')', $$'range', 'v', bounds => '{"jan": ["2024-01-01", "2024-02-01"], "feb": ["2024-02-01", "2024-03-01"]}'$$);
-- A day of 23 hours and one of 25: the bounds are midnight over there.
CALL laid('v timestamptz NOT NULL', 'VALUES (''2024-03-30 23:00+00''), (''2024-03-31 21:59+00''), (''2024-03-31 22:00+00'')', $$'range', 'v', timezone => 'Europe/Vienna', bounds => '["2024-03-31", "2024-04-01", "2024-04-02"]'$$);
CALL laid('v timestamptz NOT NULL', 'VALUES (''2024-10-26 22:00+00''), (''2024-10-27 22:59+00''), (''2024-10-27 23:00+00'')', $$'range', 'v', timezone => 'Europe/Vienna', bounds => '["2024-10-27", "2024-10-28", "2024-10-29"]'$$);
-- The session's time zone has no part in it.
SET timezone = 'Asia/Tokyo';
CALL laid('v timestamptz NOT NULL', 'VALUES (''2024-01-01 00:00+00''), (''2023-12-31 23:59+00'')', $$'range', 'v', bounds => '["2023-12-01", "2024-01-01", "2024-02-01"]'$$);
SET datestyle = 'German, DMY';
CALL laid('v timestamptz NOT NULL', 'VALUES (''2024-01-02 00:00+00'')', $$'range', 'v', bounds => '["2024-01-02", "2024-02-01"]'$$);
RESET timezone;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';

-- Grids of time, without their many partitions up to today
CREATE FUNCTION grid(type text, first text, every text, zone text) RETURNS SETOF text
LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE TABLE k (id integer PRIMARY KEY, v %s NOT NULL)', type);
	EXECUTE format('INSERT INTO k VALUES (1, %L)', first);
	RETURN QUERY
		SELECT (leaf ->> 'name') || ' ' || (leaf ->> 'bound')
		FROM jsonb_array_elements(partshift.plan_job('k', 'range', 'v',
			jsonb_build_object('every', every, 'timezone', zone)) -> 'leaves') leaf
		LIMIT 3;
	DROP TABLE k;
END
$$;
SELECT grid('timestamptz', '2024-03-30 23:30+01', '1 day', 'Europe/Vienna');
SELECT grid('timestamptz', '2024-11-15 00:00+00', '1 month', 'America/New_York');
SELECT grid('timestamptz', now()::text, '6 hours', 'UTC')
	~ '^k_p\d{8}_(00|06|12|18) FOR VALUES FROM \(''\d{4}-\d\d-\d\d (00|06|12|18):00:00\+00''\) TO' AS hours;
SELECT grid('date', '2024-02-29', '1 year', 'UTC');
SELECT grid('date', '2020-05-05', '3 months', 'UTC');
SELECT grid('date', '2024-02-29', '2 weeks', 'UTC');
SELECT grid('timestamp', '2024-02-29 12:00', '10 days', 'UTC');
SELECT grid('uuid', '018df2c4-5b00-7abc-8def-0123456789ab', '1 month', 'UTC');

-- uuid: by time if they are of version 7, by hash or with bounds if not
CALL laid('v uuid NOT NULL', 'VALUES (''018df2c4-5b00-7abc-8def-0123456789ab''), (''018cc251-f400-7000-8000-000000000000''), (''018cc251-f3ff-7fff-bfff-ffffffffffff'')', $$'range', 'v', bounds => '["2023-12-01", "2024-01-01", "2024-04-01"]'$$);
CALL laid('v uuid NOT NULL', 'VALUES (''11111111-1111-4111-8111-111111111111''), (''99999999-9999-4999-8999-999999999999'')', $$'range', 'v', bounds => '["minvalue", "88888888-8888-8888-8888-888888888888", "maxvalue"]'$$);

-- Hash: of all that has a hash in the server itself
CALL laid('v uuid NOT NULL', 'VALUES (''11111111-1111-4111-8111-111111111111''), (''99999999-9999-4999-8999-999999999999'')', $$'hash', 'v', partitions => 2$$);
CALL laid('v text COLLATE "C" NOT NULL', 'SELECT ''word '' || g FROM generate_series(1, 500) g', $$'hash', 'v', partitions => 2$$);
CALL laid('v bytea NOT NULL', 'SELECT decode(md5(g::text), ''hex'') FROM generate_series(1, 500) g', $$'hash', 'v', partitions => 2$$);
CALL laid('v numeric NOT NULL', 'VALUES (1), (1.0), (1.00), (''NaN''), (-0.0)', $$'hash', 'v', partitions => 2$$);
CALL laid('v float8 NOT NULL', 'VALUES (0.0), (''-0''::float8), (''NaN''), (''-Infinity'')', $$'hash', 'v', partitions => 2$$);
CALL laid('v char(5) NOT NULL', 'VALUES (''a''), (''b  ''), (''''), (''é'')', $$'hash', 'v', partitions => 2$$);
CALL laid('v inet NOT NULL', 'VALUES (''10.0.0.1''), (''::1'')', $$'hash', 'v', partitions => 2$$);
CALL laid('v interval NOT NULL', 'VALUES (''1 day''), (''24 hours''), (''30 days''), (''1 month'')', $$'hash', 'v', partitions => 2$$);
CREATE TYPE color AS ENUM ('red', 'green', 'Mauve''s "own"');
CREATE DOMAIN small AS integer CHECK (VALUE < 1000);
-- An enum's hash is that of its number, which is never the same twice.
CALL laid('v color NOT NULL', 'VALUES (''red''), (''green''), (''Mauve''''s "own"'')', $$'hash', 'id, v', partitions => 2$$, false);
CALL laid('v small NOT NULL', 'VALUES (1), (2), (3), (4)', $$'hash', 'v', partitions => 2$$);

-- List
CALL laid('v color NOT NULL', 'VALUES (''red''), (''green''), (''Mauve''''s "own"'')', $$'list', 'v'$$);
CALL laid('v text NOT NULL', 'VALUES (''null''), (''NULL''), (''a,b''), ('''')', $$'list', 'v', lists => '{"words": ["null", "NULL"], "more": ["a,b", ""]}'$$);
CALL laid('v date NOT NULL', 'VALUES (''2024-01-01''), (''infinity'')', $$'list', 'v', lists => '{"one": ["2024-01-01"], "end": ["infinity"]}'$$);
CALL laid('v bigint NOT NULL', 'VALUES (-1), (9223372036854775807)', $$'list', 'v', lists => '{"a": [-1, 9223372036854775807]}', default_partition => 'drop'$$);
DROP TYPE color;
DROP DOMAIN small;
DROP PROCEDURE laid;
DROP FUNCTION grid;
