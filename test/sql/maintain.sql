-- Maintenance: which partitions are made, and what they are like.
\set ECHO none
\getenv dir PG_ABS_SRCDIR
\set common :dir '/sql/common.psql'
\i :common
\pset format unaligned
\pset tuples_only on
CREATE FUNCTION leaves_of(rel regclass) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT leaf || ' ' || bound FROM probe.leaves(rel)
$$;
CREATE FUNCTION policy_of(rel text) RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws(', ', key_column, every, shift, timezone, premake, name_format)
	FROM partshift.policies WHERE relation = rel
$$;

-- What cannot be managed.
CREATE TABLE plain (at date);
CREATE TABLE hashed (id integer) PARTITION BY HASH (id);
CREATE TABLE two (a integer, b integer) PARTITION BY RANGE (a, b);
CREATE TABLE expr (a integer) PARTITION BY RANGE ((a + 1));
CREATE TABLE words (a text) PARTITION BY RANGE (a);
CREATE TABLE nested (a integer, b integer) PARTITION BY RANGE (a);
CREATE TABLE nested_1 PARTITION OF nested FOR VALUES FROM (0) TO (10) PARTITION BY RANGE (b);
CREATE TABLE uneven (at date) PARTITION BY RANGE (at);
CREATE TABLE uneven_1 PARTITION OF uneven FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE uneven_2 PARTITION OF uneven FOR VALUES FROM ('2026-02-01') TO ('2026-02-11');
CREATE TABLE days (at timestamptz NOT NULL, n integer) PARTITION BY RANGE (at);
CREATE ROLE regress_ps_reader;
CREATE ROLE regress_ps_keeper;
CREATE SCHEMA shut;
SELECT regexp_replace(probe.refusal(format('SELECT partshift.manage(%s)', a)), '\d{8}x', 'YYYYMMDDx') FROM unnest(ARRAY[
	'0', 'NULL', '''plain''', '''hashed''', '''two''', '''expr''', '''words''',
	'''nested''', '''nested_1''', '''uneven''', '''days''', '''pg_class''',
	'''days'', every => ''1 month 1 day''', '''days'', every => ''5''',
	'''uneven'', every => ''5 hours''',
	'''days'', every => ''1 day'', timezone => ''Nowhere''',
	'''days'', every => ''1 day'', name_format => ''x''',
	'''days'', every => ''1 day'', name_format => ''{bound}'' || repeat(''x'', 60)',
	'''days'', every => ''1 day'', premake => -1',
	'''days'', every => ''1 day'', move_rows => -1',
	'''days'', every => ''1 day'', analyze_every => ''-1 day''',
	'''days'', every => ''1 day'', retention => ''1 hour''',
	'''days'', every => ''1 month'', retention => ''30 days''',
	'''days'', every => ''1 day'', retention => ''30''',
	'''days'', every => ''1 day'', retention => ''30 days'', retention_count => 3',
	'''days'', every => ''1 day'', retention_count => 0',
	'''days'', every => ''1 day'', retention => ''30 days'', retention_action => ''burn''',
	'''days'', every => ''1 day'', retention => ''30 days'', retention_action => ''move''',
	'''days'', every => ''1 day'', retention => ''30 days'', retention_schema => ''shut''',
	'''days'', every => ''1 day'', retention => ''30 days'', retention_action => ''move'', retention_schema => ''none'''
	]) AS a;
ALTER TABLE days OWNER TO regress_ps_keeper;
SELECT probe.refusal('SELECT partshift.manage(''days'', every => ''1 day'', retention => ''30 days'', retention_action => ''move'', retention_schema => ''shut'')');
SELECT probe.refusal('SELECT partshift.unmanage(''days'')');
SELECT probe.refusal('SELECT partshift.maintain(''days'')');
SELECT probe.refusal('SELECT partshift.maintain(''days'', now => ''infinity'')');
SET ROLE regress_ps_reader;
SELECT probe.refusal('SELECT partshift.manage(''days'', every => ''1 day'')');
SELECT probe.refusal('SELECT partshift.unmanage(''days'')');
SELECT probe.refusal('SELECT partshift.maintain(''days'')');
SELECT * FROM partshift.maintain();
RESET ROLE;
-- A name that is taken.
CREATE TABLE taken (at timestamptz) PARTITION BY RANGE (at);
DO $$ BEGIN EXECUTE format('CREATE TABLE taken_p%s ()', to_char(now() AT TIME ZONE 'UTC', 'YYYY')); END $$;
SELECT regexp_replace(probe.refusal('SELECT partshift.manage(''taken'', every => ''1 year'')'), '_p\d+', '_pYYYY');
DROP TABLE taken;
DROP TABLE plain, hashed, two, expr, words, nested, uneven;
SELECT * FROM partshift.policies;

-- What is inferred: months, quarters, days, weeks from Sunday, hours, numbers from 1.
CREATE TABLE months (at date) PARTITION BY RANGE (at);
CREATE TABLE months_1 PARTITION OF months FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE months_2 PARTITION OF months FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
CREATE TABLE quarters (at timestamp) PARTITION BY RANGE (at);
CREATE TABLE quarters_1 PARTITION OF quarters FOR VALUES FROM ('2026-02-01') TO ('2026-05-01');
CREATE TABLE weeks (at timestamptz) PARTITION BY RANGE (at);
CREATE TABLE weeks_1 PARTITION OF weeks FOR VALUES FROM ('2026-03-22 00:00+01') TO ('2026-03-29 00:00+01');
CREATE TABLE weeks_2 PARTITION OF weeks FOR VALUES FROM ('2026-03-29 00:00+01') TO ('2026-04-05 00:00+02');
CREATE TABLE hours (at timestamptz) PARTITION BY RANGE (at);
CREATE TABLE hours_1 PARTITION OF hours FOR VALUES FROM ('2026-03-28 00:00+00') TO ('2026-03-28 06:00+00');
CREATE TABLE numbers (n bigint) PARTITION BY RANGE (n);
CREATE TABLE numbers_0 PARTITION OF numbers FOR VALUES FROM (MINVALUE) TO (1);
CREATE TABLE numbers_1 PARTITION OF numbers FOR VALUES FROM (1) TO (1001);
CREATE TABLE numbers_2 PARTITION OF numbers FOR VALUES FROM (1001) TO (2001);
SELECT probe.refusal('SELECT partshift.manage(''weeks'')');
SELECT partshift.manage('months');
SELECT partshift.manage('quarters', premake => 1);
SELECT partshift.manage('weeks', timezone => 'Europe/Berlin', premake => 1);
SELECT partshift.manage('hours', premake => 1);
SELECT partshift.manage('numbers', premake => 2);
SELECT r || ': ' || policy_of('public.' || r)
FROM unnest(ARRAY['months', 'quarters', 'weeks', 'hours', 'numbers']) r;
-- The time is now, not when it was asked, and the session's zone does not count.
SET timezone = 'Asia/Tokyo';
SELECT table_name, action, object, detail
FROM partshift.maintain(now => '2026-03-28 23:30+00', dry_run => true)
WHERE action = 'create';
SET timezone = 'UTC';
INSERT INTO numbers SELECT 1500;
SELECT count(*) FROM partshift.maintain(now => '2026-03-28 23:30+00') WHERE status = 'done';
SELECT leaves_of(r) FROM unnest(ARRAY['months', 'quarters', 'weeks', 'hours', 'numbers']) r;
SELECT * FROM partshift.maintain(now => '2026-03-28 23:30+00');
SELECT partshift.unmanage('quarters');
SELECT count(*) FROM partshift.maintain(now => '2027-03-28 23:30+00', dry_run => true)
WHERE table_name ~ 'quarters';
DROP TABLE months, quarters, weeks, hours, numbers;
SELECT * FROM partshift.maintain(now => '2027-03-28 23:30+00');

-- Clocks: days and hours of Berlin, in the two nights of the year.  Every
-- moment has its partition.
SELECT partshift.manage('days', every => '1 day', timezone => 'Europe/Berlin', premake => 2,
	name_format => 'd{bound}');
CREATE TABLE hours (at timestamptz) PARTITION BY RANGE (at);
SELECT partshift.manage('hours', every => '1 hour', timezone => 'Europe/Berlin', premake => 3);
SELECT count(*) FROM partshift.maintain('days', now => '2026-03-28 12:00+01');
SELECT leaves_of('days');
SELECT count(*) FROM partshift.maintain('hours', now => '2026-03-29 01:30+01');
INSERT INTO hours SELECT t FROM generate_series('2026-03-29 01:30+01'::timestamptz, '2026-03-29 04:50+02', '10 minutes') t;
SELECT b FROM leaves_of('hours') b WHERE b ~ '2026-03-29 0' ORDER BY b;
DROP TABLE hours;
CREATE TABLE hours (at timestamptz) PARTITION BY RANGE (at);
SELECT partshift.manage('hours', every => '1 hour', timezone => 'Europe/Berlin', premake => 3);
SELECT count(*) FROM partshift.maintain('hours', now => '2026-10-25 00:30+02');
SELECT partshift.unmanage('days');
DROP TABLE days;
CREATE TABLE days (at timestamptz) PARTITION BY RANGE (at);
SELECT partshift.manage('days', every => '1 day', timezone => 'Europe/Berlin', premake => 2,
	name_format => 'd{bound}');
SELECT count(*) FROM partshift.maintain('days', now => '2026-10-24 23:30+02');
SELECT count(*) FROM partshift.maintain(now => '2026-10-25 02:30+01');
SELECT leaves_of('days');
SELECT leaves_of('hours');
INSERT INTO hours SELECT t FROM generate_series('2026-10-25 00:10+02'::timestamptz, '2026-10-25 05:50+01', '10 minutes') t;
DROP TABLE hours, days;
DO $$ BEGIN EXECUTE format('DROP TABLE taken_p%s', to_char(now() AT TIME ZONE 'UTC', 'YYYY')); END $$;

-- A week was missed, rows came late, far ahead, and beyond all reason.
CREATE TABLE events (id bigint GENERATED ALWAYS AS IDENTITY, at timestamptz NOT NULL,
	PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE events_default PARTITION OF events DEFAULT;
SELECT partshift.manage('events', every => '1 day', premake => 1, move_rows => 5);
SELECT action, object FROM partshift.maintain(now => '2026-05-01 12:00+00');
INSERT INTO events (at) SELECT '2026-05-01 12:00+00'::timestamptz + g * interval '1 day' FROM generate_series(-3, 10) g;
INSERT INTO events (at) VALUES ('2026-05-12 12:00+00'), ('9999-01-01'), ('infinity'), ('-infinity');
SELECT action, object, rows FROM partshift.maintain(now => '2026-05-08 12:00+00');
SELECT at FROM events_default ORDER BY at;
SELECT tableoid::regclass, count(*) FROM events GROUP BY tableoid ORDER BY tableoid::regclass::text COLLATE "C";
SELECT action, object, rows FROM partshift.maintain(now => '2026-05-08 12:00+00');
-- More of them than may be moved under a lock; the rest is done.
INSERT INTO events (at) SELECT '2026-06-01 12:00+00' FROM generate_series(1, 6);
SELECT action, object, status, rows, detail FROM partshift.maintain(now => '2026-05-09 12:00+00', dry_run => true)
WHERE status = 'failed' OR object ~ '0602';
SELECT probe.refusal('SELECT partshift.maintain(now => ''2026-05-09 12:00+00'')');
SELECT relation, failed_at IS NOT NULL AS failed, error FROM partshift.policies;
SELECT action, object, status FROM partshift.maintenance WHERE run = (SELECT max(run) FROM partshift.maintenance)
	AND status <> 'done' OR object ~ '0602';
SELECT partshift.manage('events', every => '1 day', premake => 1, move_rows => 6);
SELECT action, object, rows FROM partshift.maintain(now => '2026-05-09 12:00+00') WHERE action = 'create';
SELECT relation, failed_at, error FROM partshift.policies;
SELECT count(*) FROM events;
DROP TABLE events;
DROP SCHEMA shut;
DROP ROLE regress_ps_reader, regress_ps_keeper;
