-- A growing table of events by month: doc/recipes/months.md.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION IF NOT EXISTS partshift;
CREATE SCHEMA memories;
SET search_path = memories, public;
\set QUIET on

CREATE TABLE memory_records (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	user_id integer NOT NULL,
	content text,
	created_at timestamptz NOT NULL DEFAULT now());
CREATE INDEX memory_records_user ON memory_records (user_id, created_at);
INSERT INTO memory_records (user_id, content, created_at)
SELECT n % 100, 'memory ' || n, date_trunc('month', now()) - interval '11 months' + n * interval '1 hour'
FROM generate_series(0, 8000) n
WHERE date_trunc('month', now()) - interval '11 months' + n * interval '1 hour' <= now();
CREATE VIEW latest AS SELECT DISTINCT ON (user_id) * FROM memory_records ORDER BY user_id, created_at DESC;
ANALYZE;
\! touch load

SELECT plan(13);
SELECT partshift.convert('memory_records', 'range', 'created_at', every => '1 month', premake => 2,
	legacy_name => 'memory_records_old') AS job \gset
CALL partshift.wait(:job);
SELECT is(phase || ', ' || status, 'done, active', 'it is converted') FROM partshift.jobs WHERE job_id = :job;
SELECT is_partitioned('memories', 'memory_records', 'memory_records is partitioned');
SELECT is((SELECT count(*) FROM pg_inherits WHERE inhparent = 'memory_records'::regclass)::int, 15,
	'twelve months, two to come and the default');
SELECT has_table('memories', to_char(now() AT TIME ZONE 'UTC' + interval '2 months', '"memory_records_p"YYYYMM')::name,
	'the month after the next is there');
SELECT is_empty('SELECT FROM memory_records_default', 'nothing is in the default partition');
SELECT is_empty(format($$ SELECT * FROM partshift.carried(%s) WHERE state <> 'same' AND reason IS NULL $$, :job),
	'what differs was meant to');
SELECT lives_ok('INSERT INTO memory_records (user_id, content) VALUES (-1, ''new'')', 'numbers go on');
SELECT is((SELECT content FROM latest WHERE user_id = -1), 'new', 'the view means the new table');
SELECT partshift.verify(:job);
CALL partshift.wait(:job);
SELECT is_empty(format('SELECT * FROM partshift.verification WHERE job_id = %s AND NOT equal', :job),
	'both tables are equal under load');
SELECT partshift.rollback(:job);
CALL partshift.wait(:job);
SELECT is(phase || ', ' || status, 'done, rolled_back', 'it is rolled back') FROM partshift.jobs WHERE job_id = :job;
SELECT isnt_partitioned('memories', 'memory_records', 'memory_records is a plain table again');
SELECT is((SELECT content FROM latest WHERE user_id = -1), 'new', 'with what was written since');
SELECT lives_ok('INSERT INTO memory_records (user_id, content) VALUES (-1, ''newer'')', 'numbers still go on');
SELECT * FROM finish();
