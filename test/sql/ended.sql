-- What ends a conversion after its swap, when the old table does not follow or a look at it fails.
\set ECHO none
\getenv dir PG_ABS_SRCDIR
\set common :dir '/sql/common.psql'
\i :common
\pset format unaligned
\pset tuples_only on
CREATE TABLE t (id integer PRIMARY KEY, v text);
INSERT INTO t SELECT g, 'v' FROM generate_series(1, 299) g;
\set convert 'SELECT partshift.convert(\'t\', \'range\', \'id\', bounds => \'[0, 100, 200, 300]\', default_partition => \'drop\', legacy_name => \'t_old\''
-- A comparison that cannot be made fails the job, and nothing depends on it.
:convert) AS job \gset
CALL probe.finish(:job);
ALTER TABLE t ADD COLUMN z integer;
SELECT partshift.verify(:job);
CALL probe.await(format('status = ''failed'' FROM partshift.job WHERE job_id = %s', :job));
SELECT error_sqlstate, request FROM partshift.jobs WHERE job_id = :job;
SELECT regexp_replace(mend, '\d+', 'N', 'g') FROM partshift.health() WHERE topic = 'failed job';
-- A partition that was detached is free of triggers then.
ALTER TABLE t DETACH PARTITION t_p0;
SELECT partshift.finalize(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT tgrelid::regclass FROM pg_trigger WHERE tgname ~ '^partshift_' AND tgrelid IN ('t_p0'::regclass, 't'::regclass, 't_old'::regclass);
SELECT count(*) > 0 FROM partshift.carried(:job);
DROP TABLE t, t_p0, t_old;
-- The old table is gone.
CREATE TABLE t (id integer PRIMARY KEY, v text);
:convert) AS job \gset
CALL probe.finish(:job);
DROP TABLE t_old;
SELECT rollback_possible FROM partshift.jobs WHERE job_id = :job;
SELECT probe.refusal(format('SELECT partshift.verify(%s)', :job));
SELECT probe.refusal(format('SELECT FROM partshift.compare(%s, ''SELECT FROM t'')', :job));
SELECT partshift.finalize(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
DROP TABLE t;
-- It never followed.
CREATE TABLE t (id integer PRIMARY KEY, v text);
:convert, reverse_sync => false) AS job \gset
CALL probe.finish(:job);
INSERT INTO t VALUES (1, 'after');
SELECT probe.refusal(format('SELECT partshift.verify(%s)', :job));
SELECT probe.refusal(format('SELECT FROM partshift.compare(%s, ''SELECT FROM t'')', :job));
SELECT partshift.finalize(:job);
CALL probe.finish(:job);
SELECT verified_by FROM partshift.backups WHERE backup = 'public.t_old' ORDER BY kept_at DESC LIMIT 1;
DROP TABLE t, t_old;
-- What was carried is reported also when somebody was in the way of it.
CREATE TABLE t (id integer PRIMARY KEY, v text);
:convert, swap => 'manual', verify => 'none') AS job \gset
CALL probe.finish(:job);
BEGIN;
LOCK TABLE partshift.carried_object IN SHARE ROW EXCLUSIVE MODE;
PREPARE TRANSACTION 'in the way of the report';
SELECT partshift.swap(:job);
CALL probe.await(format('phase = ''done'' FROM partshift.job WHERE job_id = %s', :job));
SELECT partshift.finalize(:job);
CALL probe.await(format('lock_tries > 1 OR status = ''finalized'' FROM partshift.job WHERE job_id = %s', :job));
COMMIT PREPARED 'in the way of the report';
CALL probe.finish(:job);
SELECT probe.state(:job), (SELECT count(*) > 0 FROM partshift.carried(:job));
DROP TABLE t, t_old;
-- A count that a rollback made is no comparison.
CREATE TABLE t (id integer PRIMARY KEY, v text);
:convert, verify => 'none') AS job \gset
CALL probe.finish(:job);
CREATE INDEX t_v ON t (v);
SELECT partshift.rollback(:job);
CALL probe.await(format('status = ''failed'' FROM partshift.job WHERE job_id = %s', :job));
SELECT partshift.abort(:job);
CALL probe.finish(:job);
SELECT probe.state(:job), (SELECT min(mode) FROM partshift.verification WHERE job_id = :job);
SELECT partshift.finalize(:job);
CALL probe.finish(:job);
SELECT verified_by IS NULL FROM partshift.backups WHERE backup = 'public.t_old' ORDER BY kept_at DESC LIMIT 1;
DROP TABLE t, t_old;
-- A comparison that is ordered when the keeper of the table is lost does not hinder that it is copied again.
CREATE TABLE t (id integer PRIMARY KEY, v text);
INSERT INTO t SELECT g, 'v' FROM generate_series(1, 299) g;
:convert, lock_writes => true, swap => 'manual') AS job \gset
CALL probe.finish(:job);
SELECT shadow FROM partshift.job WHERE job_id = :job \gset
BEGIN;
SELECT partshift.verify(:job);
SELECT pg_terminate_backend(keeper_pid) FROM partshift.job WHERE job_id = :job;
COMMIT;
CALL probe.await(format('status = ''failed'' OR phase = ''ready'' AND request IS NULL AND shadow <> %s FROM partshift.job WHERE job_id = %s', :shadow, :job));
SELECT probe.state(:job);
SELECT partshift.abort(:job);
CALL probe.finish(:job);
DROP TABLE t;
