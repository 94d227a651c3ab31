-- Positions that vehicles send, by day, then maintained by pg_partman:
-- doc/recipes/days.md.
SET client_min_messages = warning;
SET timezone = 'UTC';
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION IF NOT EXISTS partshift;
CREATE SCHEMA partman;
CREATE EXTENSION pg_partman SCHEMA partman;
CREATE SCHEMA fleet;
SET search_path = fleet, public;
\set QUIET on

CREATE TABLE fixes (
	vehicle_id integer NOT NULL,
	received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	latitude double precision NOT NULL,
	longitude double precision NOT NULL) WITH (fillfactor = 90);
CREATE INDEX fixes_vehicle ON fixes (vehicle_id, received_at DESC);
CREATE INDEX fixes_received ON fixes USING brin (received_at);
INSERT INTO fixes
SELECT n % 50 + 1, date_trunc('day', now()) - interval '20 days' + n * interval '2 minutes', 40 + n % 7, -3 - n % 5
FROM generate_series(0, 15000) n
WHERE date_trunc('day', now()) - interval '20 days' + n * interval '2 minutes' <= now();
SELECT count(*) AS before FROM fixes \gset
ANALYZE;
\! touch load

SELECT plan(26);
SELECT results_eq($$ SELECT split_part(detail, E'\n', 1) FROM partshift.plan('fixes', 'range', 'received_at', every => '1 day') WHERE severity = 'error' $$,
	ARRAY['table "fixes" has no key that finds a row'], 'it has no key');
SELECT partshift.convert('fixes', 'range', 'received_at', every => '1 day', premake => 4,
	lock_writes => true, legacy_name => 'fixes_old') AS job \gset
CALL partshift.wait(:job);
SELECT is(phase || ', ' || status, 'done, active', 'it is converted') FROM partshift.jobs WHERE job_id = :job;
SELECT is_partitioned('fleet', 'fixes', 'fixes is partitioned');
SELECT is((SELECT count(*) FROM pg_inherits WHERE inhparent = 'fixes'::regclass)::int, 26,
	'twenty days and today, four to come and the default');
SELECT has_index('fleet', 'fixes', 'fixes_vehicle', 'index by vehicle');
SELECT index_is_type('fleet', 'fixes', 'fixes_received', 'brin', 'index of blocks');
SELECT is_empty('SELECT FROM fixes_default', 'nothing is in the default partition');
SELECT is_empty(format($$ SELECT * FROM partshift.carried(%s) WHERE state <> 'same' AND reason IS NULL $$, :job),
	'what differs was meant to');
SELECT cmp_ok((SELECT count(*) FROM fixes_old), '>=', :before::bigint, 'the old table has what there was');
SELECT is_empty('SELECT * FROM fixes_old EXCEPT ALL SELECT * FROM fixes', 'and all of that is in the new one');
SELECT throws_ok(format('SELECT partshift.rollback(%s)', :job), '55000', NULL, 'there is no way back');
SELECT throws_ok($$ SELECT partshift.hand_over('fixes', 'partman') $$, '55000',
	'conversion of table "fixes" is not finalized', 'first it is finalized');
SELECT partshift.finalize(:job);
CALL partshift.wait(:job);

SELECT partshift.hand_over('fixes', 'partman');
SELECT results_eq($$ SELECT control, partition_interval::interval, premake, datetime_string
	FROM partman.part_config WHERE parent_table = 'fleet.fixes' $$,
	$$ VALUES ('received_at', interval '1 day', 4, 'YYYYMMDD') $$, 'it is registered');
UPDATE partman.part_config SET premake = 7 WHERE parent_table = 'fleet.fixes';
SELECT lives_ok('SELECT partman.run_maintenance()', 'more are wanted');
SELECT has_table('fleet', to_char(now() + n * interval '1 day', '"fixes_p"YYYYMMDD')::name,
	format('day %s is there', n))
FROM generate_series(4, 7) n;
-- pg_partman 4 makes one more in the second half of a day.
SELECT ok((SELECT count(*) FROM pg_inherits WHERE inhparent = 'fixes'::regclass) IN (29, 30), 'and no other');
SELECT is((SELECT reloptions FROM pg_class WHERE oid = to_regclass(to_char(now() + interval '7 days', '"fleet.fixes_p"YYYYMMDD'))),
	'{fillfactor=90}'::text[], 'with the storage parameters');
SELECT is((SELECT count(*) FROM pg_index WHERE indrelid = to_regclass(to_char(now() + interval '7 days', '"fleet.fixes_p"YYYYMMDD')))::int,
	2, 'and the indexes of the others');
SELECT lives_ok($$ INSERT INTO fixes VALUES (1, now() + interval '7 days', 0, 0) $$, 'rows go there');
SELECT is((SELECT tableoid::regclass::text FROM fixes WHERE latitude = 0), to_char(now() + interval '7 days', '"fixes_p"YYYYMMDD'),
	'and are found there');
UPDATE partman.part_config SET retention = '10 days', retention_keep_table = false WHERE parent_table = 'fleet.fixes';
SELECT lives_ok('SELECT partman.run_maintenance()', 'old ones go');
SELECT hasnt_table('fleet', to_char(now() - interval '12 days', '"fixes_p"YYYYMMDD')::name, 'the twelfth day back is gone');
SELECT has_table('fleet', to_char(now() - interval '9 days', '"fixes_p"YYYYMMDD')::name, 'the ninth is not');
SELECT * FROM finish();
