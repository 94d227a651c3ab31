-- Orders to a job, in each phase; abort leaves nothing behind.
\set ECHO none
\getenv dir PG_ABS_SRCDIR
\set common :dir '/sql/common.psql'
\i :common
\pset format unaligned
\pset tuples_only on
CREATE TABLE t (id serial PRIMARY KEY, v text DEFAULT 'x', twice int GENERATED ALWAYS AS (1) STORED,
	CHECK (id > 0));
CREATE INDEX ON t (v);
CREATE TABLE child (id integer PRIMARY KEY, t integer CONSTRAINT to_t REFERENCES t,
	self integer CONSTRAINT to_itself REFERENCES child);
INSERT INTO t (v) SELECT 'v' || g FROM generate_series(1, 1000) g;
INSERT INTO child SELECT g, g, g FROM generate_series(1, 1000) g;
GRANT SELECT ON t TO PUBLIC;
ALTER TABLE t ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON t USING (true);
CREATE TRIGGER trig BEFORE UPDATE ON t FOR EACH ROW
	EXECUTE FUNCTION suppress_redundant_updates_trigger();

-- Every object of the database, by name.
CREATE FUNCTION objects() RETURNS SETOF text LANGUAGE sql AS $$
	SELECT i.type || ' ' || regexp_replace(i.identity, '(ConstraintTrigger_\w)_\d+', '\1_N')
	FROM (SELECT 'pg_class'::regclass, oid FROM pg_class
		  UNION ALL SELECT 'pg_type'::regclass, oid FROM pg_type
		  UNION ALL SELECT 'pg_constraint'::regclass, oid FROM pg_constraint
		  UNION ALL SELECT 'pg_trigger'::regclass, oid FROM pg_trigger
		  UNION ALL SELECT 'pg_attrdef'::regclass, oid FROM pg_attrdef
		  UNION ALL SELECT 'pg_policy'::regclass, oid FROM pg_policy
		  UNION ALL SELECT 'pg_namespace'::regclass, oid FROM pg_namespace
			WHERE nspname !~ '^pg_(toast_)?temp') AS o(class, oid),
		pg_identify_object(o.class, o.oid, 0) AS i
	UNION ALL
	SELECT 'dependencies: ' || count(*) FROM pg_depend
	UNION ALL
	SELECT 'shared dependencies: ' || count(*) FROM pg_shdepend
		WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
	UNION ALL
	SELECT 'descriptions: ' || count(*) FROM pg_description
	UNION ALL
	SELECT probe.describe('t')
	UNION ALL
	SELECT probe.describe('child')
$$;
CREATE FUNCTION order_it(job integer, VARIADIC words text[]) RETURNS SETOF text
LANGUAGE plpgsql AS $$
DECLARE
	word text;
BEGIN
	FOREACH word IN ARRAY words LOOP
		RETURN NEXT word || ': ' || probe.refusal(format('SELECT partshift.%s(%s)', word, job));
	END LOOP;
END
$$;
CREATE TABLE was (object text);
INSERT INTO was SELECT objects();
\set left '(SELECT \'lost: \' || o FROM (TABLE was EXCEPT ALL SELECT objects()) x(o)) UNION ALL (SELECT \'left: \' || o FROM (SELECT objects() EXCEPT ALL TABLE was) x(o)) ORDER BY 1;'
\set convert 'SELECT partshift.convert(\'t\', \'hash\', \'id\', partitions => 2, swap => \'manual\') AS job'
-- Rolled back, there is no job and no worker.
BEGIN;
SELECT partshift.convert('t', 'hash', 'id', partitions => 2) AS job \gset
SELECT status FROM partshift.jobs WHERE job_id = :job;
ROLLBACK;
SELECT status FROM partshift.jobs WHERE job_id = :job;
SELECT * FROM order_it(:job, 'pause', 'resume', 'abort', 'swap', 'rollback', 'finalize', 'verify');
SELECT probe.refusal(format('SELECT partshift.alter_job(%s, workers => 3)', :job));
CALL partshift.wait(0);
CALL partshift.wait(NULL);
\echo :SQLSTATE
SELECT partshift.pause(NULL) IS NULL;

-- Prepare: a writer is in the way of the triggers, and is named.
BEGIN;
LOCK TABLE t IN ROW EXCLUSIVE MODE;
PREPARE TRANSACTION 'a writer';
:convert \gset
CALL probe.await(format('lock_tries > 1 FROM partshift.job WHERE job_id = %s', :job));
SELECT phase, blocker_pid, blocker FROM partshift.progress WHERE job_id = :job;
SELECT * FROM order_it(:job, 'rollback', 'finalize', 'verify');
SELECT partshift.pause(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT * FROM order_it(:job, 'pause', 'swap', 'rollback', 'finalize', 'verify');
SELECT partshift.resume(:job);
CALL probe.await(format('lock_tries > 1 FROM partshift.job WHERE job_id = %s', :job));
COMMIT PREPARED 'a writer';
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT lock_tries, blocker_pid, blocker FROM partshift.progress WHERE job_id = :job;
SELECT partshift.abort(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
:left
SELECT * FROM order_it(:job, 'pause', 'resume', 'abort', 'swap', 'rollback', 'finalize', 'verify');

-- Aborted in prepare, while the writer is there, and paused.
BEGIN;
LOCK TABLE t IN ROW EXCLUSIVE MODE;
PREPARE TRANSACTION 'a writer';
:convert \gset
CALL probe.await(format('lock_tries > 1 FROM partshift.job WHERE job_id = %s', :job));
SELECT partshift.pause(:job);
SELECT partshift.abort(:job);
SELECT * FROM order_it(:job, 'swap', 'verify');
COMMIT PREPARED 'a writer';
CALL probe.finish(:job);
SELECT probe.state(:job);
:left

-- Copy: a lock on a partition keeps rows out; the settings can be changed.
BEGIN;
LOCK TABLE t IN ROW EXCLUSIVE MODE;
PREPARE TRANSACTION 'a writer';
SELECT partshift.convert('t', 'hash', 'id', partitions => 2, swap => 'manual',
	cost_delay => 2, cost_limit => 150, workers => 1) AS job \gset
CALL probe.await(format('lock_tries > 0 FROM partshift.job WHERE job_id = %s', :job));
BEGIN;
LOCK TABLE t_p1 IN SHARE MODE;
PREPARE TRANSACTION 'on a leaf';
COMMIT PREPARED 'a writer';
CALL probe.await(format('phase = ''copy'' AND lock_tries > 0 FROM partshift.job WHERE job_id = %s', :job));
SELECT cost_delay, cost_limit, workers FROM partshift.job WHERE job_id = :job;
SELECT partshift.alter_job(:job, workers => 3, cost_delay => 0, cost_limit => 200, swap => 'auto');
SELECT cost_delay, cost_limit, workers, swap_mode FROM partshift.job WHERE job_id = :job;
SELECT partshift.alter_job(:job, swap => 'manual');
SELECT partshift.pause(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
UPDATE t SET v = 'copied' WHERE id = 9;
SELECT partshift.resume(:job);
COMMIT PREPARED 'on a leaf';
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT probe.refusal(format('SELECT partshift.alter_job(%s, workers => 65)', :job));
SELECT probe.refusal(format('SELECT partshift.alter_job(%s, workers => 0)', :job));
SELECT probe.refusal(format('SELECT partshift.alter_job(%s, cost_delay => 101)', :job));
SELECT probe.refusal(format('SELECT partshift.alter_job(%s, cost_limit => 10001)', :job));
SELECT probe.refusal(format('SELECT partshift.alter_job(%s, swap => ''later'')', :job));
SELECT probe.refusal(format('SELECT partshift.order_job(%s, ''explode'')', :job));

-- Ready: it waits for the swap; there is nothing to roll back yet.
SELECT * FROM order_it(:job, 'rollback', 'finalize');
SELECT partshift.pause(:job);
SELECT * FROM order_it(:job, 'swap', 'verify');
SELECT partshift.resume(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);

-- While it is paused or ready, writes reach both tables.
INSERT INTO t (v) VALUES ('ready');
SELECT shadow::regclass AS shadow FROM partshift.job WHERE job_id = :job \gset
SELECT * FROM probe.differences('t', :'shadow');
DELETE FROM t WHERE v = 'ready';
SELECT partshift.abort(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
:left

-- Index: a lock on a partition holds the build up.
BEGIN;
LOCK TABLE t IN ROW EXCLUSIVE MODE;
PREPARE TRANSACTION 'a writer';
:convert \gset
CALL probe.await(format('lock_tries > 1 FROM partshift.job WHERE job_id = %s', :job));
BEGIN;
LOCK TABLE t_p1 IN ROW EXCLUSIVE MODE;
PREPARE TRANSACTION 'on a leaf';
COMMIT PREPARED 'a writer';
CALL probe.await(format('phase = ''index'' AND lock_tries > 0 FROM partshift.job WHERE job_id = %s', :job));
-- What is touched meanwhile is only noted down.
UPDATE t SET v = 'touched' WHERE id IN (1, 2);
SELECT count(*) FROM t_p0, t_p1 WHERE t_p0.v = 'touched' OR t_p1.v = 'touched';
SELECT partshift.pause(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT partshift.resume(:job);
CALL probe.await(format('phase = ''index'' AND lock_tries > 0 FROM partshift.job WHERE job_id = %s', :job));

-- Mirror: again a writer of the table.
BEGIN;
LOCK TABLE t IN ROW EXCLUSIVE MODE;
PREPARE TRANSACTION 'a writer';
COMMIT PREPARED 'on a leaf';
CALL probe.await(format('phase = ''mirror'' AND lock_tries > 0 FROM partshift.job WHERE job_id = %s', :job));
SELECT partshift.pause(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
UPDATE t SET v = 'touched' WHERE id IN (3, 4);
DELETE FROM child WHERE id IN (5, 6);
DELETE FROM t WHERE id IN (5, 6);
SELECT partshift.resume(:job);
CALL probe.await(format('phase = ''mirror'' AND lock_tries > 0 FROM partshift.job WHERE job_id = %s', :job));

-- Reconcile: somebody has a touched row locked.
BEGIN;
SELECT id FROM t WHERE id = 3 FOR UPDATE;
PREPARE TRANSACTION 'on a row';
COMMIT PREPARED 'a writer';
CALL probe.await(format('phase = ''reconcile'' AND postponed_rows > 0 FROM partshift.job WHERE job_id = %s', :job));
SELECT partshift.pause(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT partshift.resume(:job);
CALL probe.await(format('phase = ''reconcile'' AND postponed_rows > 0 FROM partshift.job WHERE job_id = %s', :job));

-- Rewire: a writer of the referencing table.
BEGIN;
LOCK TABLE child IN ROW EXCLUSIVE MODE;
PREPARE TRANSACTION 'in child';
COMMIT PREPARED 'on a row';
CALL probe.await(format('phase = ''rewire'' AND lock_tries > 0 FROM partshift.job WHERE job_id = %s', :job));
SELECT shadow::regclass AS shadow FROM partshift.job WHERE job_id = :job \gset
SELECT * FROM probe.differences('t', :'shadow');
SELECT partshift.pause(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT partshift.resume(:job);
COMMIT PREPARED 'in child';
CALL probe.finish(:job);
SELECT probe.state(:job);

-- Swap: a reader holds it up; the rest of the world does not wait for long.
BEGIN;
LOCK TABLE t IN ACCESS SHARE MODE;
PREPARE TRANSACTION 'a reader';
SELECT partshift.swap(:job);
CALL probe.await(format('phase = ''swap'' AND lock_tries > 1 FROM partshift.job WHERE job_id = %s', :job));
SELECT blocker FROM partshift.progress WHERE job_id = :job;
SELECT probe.refusal(format('SELECT partshift.alter_job(%s, swap => ''manual'')', :job));
INSERT INTO t (v) VALUES ('while it tries');
SELECT partshift.pause(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
DELETE FROM t WHERE v = 'while it tries';
SELECT partshift.resume(:job);
CALL probe.await(format('phase = ''swap'' AND lock_tries > 1 FROM partshift.job WHERE job_id = %s', :job));
SELECT partshift.abort(:job);
COMMIT PREPARED 'a reader';
CALL probe.finish(:job);
SELECT probe.state(:job);
INSERT INTO child VALUES (5, NULL, NULL), (6, NULL, NULL);
:left

-- Each of these phases once more, left by abort.
BEGIN;
LOCK TABLE t IN ROW EXCLUSIVE MODE;
PREPARE TRANSACTION 'a writer';
:convert \gset
CALL probe.await(format('lock_tries > 0 FROM partshift.job WHERE job_id = %s', :job));
BEGIN;
LOCK TABLE t_p1 IN SHARE MODE;
PREPARE TRANSACTION 'on a leaf';
COMMIT PREPARED 'a writer';
CALL probe.await(format('phase = ''copy'' AND lock_tries > 0 FROM partshift.job WHERE job_id = %s', :job));
SELECT partshift.abort(:job);
COMMIT PREPARED 'on a leaf';
CALL probe.finish(:job);
SELECT probe.state(:job);
:left

BEGIN;
LOCK TABLE t IN ROW EXCLUSIVE MODE;
PREPARE TRANSACTION 'a writer';
:convert \gset
CALL probe.await(format('lock_tries > 1 FROM partshift.job WHERE job_id = %s', :job));
BEGIN;
LOCK TABLE t_p1 IN ROW EXCLUSIVE MODE;
PREPARE TRANSACTION 'on a leaf';
COMMIT PREPARED 'a writer';
CALL probe.await(format('phase = ''index'' AND lock_tries > 0 FROM partshift.job WHERE job_id = %s', :job));
UPDATE t SET v = 'again' WHERE id = 3;
SELECT partshift.abort(:job);
COMMIT PREPARED 'on a leaf';
CALL probe.finish(:job);
SELECT probe.state(:job);
:left

BEGIN;
LOCK TABLE t IN ROW EXCLUSIVE MODE;
PREPARE TRANSACTION 'a writer';
:convert \gset
CALL probe.await(format('lock_tries > 1 FROM partshift.job WHERE job_id = %s', :job));
BEGIN;
LOCK TABLE t_p1 IN ROW EXCLUSIVE MODE;
PREPARE TRANSACTION 'on a leaf';
COMMIT PREPARED 'a writer';
CALL probe.await(format('phase = ''index'' AND lock_tries > 0 FROM partshift.job WHERE job_id = %s', :job));
UPDATE t SET v = 'touched' WHERE id = 3;
BEGIN;
SELECT id FROM t WHERE id = 3 FOR UPDATE;
PREPARE TRANSACTION 'on a row';
COMMIT PREPARED 'on a leaf';
CALL probe.await(format('phase = ''reconcile'' AND postponed_rows > 0 FROM partshift.job WHERE job_id = %s', :job));
SELECT partshift.abort(:job);
COMMIT PREPARED 'on a row';
CALL probe.finish(:job);
SELECT probe.state(:job);
:left

BEGIN;
LOCK TABLE child IN ROW EXCLUSIVE MODE;
PREPARE TRANSACTION 'in child';
:convert \gset
CALL probe.await(format('phase = ''rewire'' AND lock_tries > 0 FROM partshift.job WHERE job_id = %s', :job));
SELECT partshift.abort(:job);
COMMIT PREPARED 'in child';
CALL probe.finish(:job);
SELECT probe.state(:job);
:left

-- A job that has failed goes on when the cause is mended.
:convert \gset
CALL probe.finish(:job);
-- (a replication role in which the guard does not refuse it)
SET session_replication_role = replica;
ALTER TABLE t ALTER v SET STATISTICS 7;
RESET session_replication_role;
SELECT partshift.swap(:job);
CALL probe.await(format('status = ''failed'' FROM partshift.job WHERE job_id = %s', :job));
SELECT probe.state(:job);
SELECT error_sqlstate, error_message, probe.mask(error_hint) FROM partshift.jobs WHERE job_id = :job;
SELECT * FROM order_it(:job, 'pause', 'swap', 'rollback', 'finalize', 'verify');
SET session_replication_role = replica;
ALTER TABLE t ALTER v SET STATISTICS -1;
RESET session_replication_role;
SELECT partshift.resume(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);

-- After the swap.
SELECT * FROM order_it(:job, 'pause', 'abort', 'swap');
-- Rolled back, but for the new table, which follows no more and is to be dropped.
BEGIN;
UPDATE partshift.job SET reverse = true WHERE job_id = :job;
SELECT rollback_possible FROM partshift.jobs WHERE job_id = :job;
SELECT * FROM order_it(:job, 'rollback', 'finalize', 'verify');
SELECT probe.refusal(format('SELECT FROM partshift.compare(%s, ''SELECT FROM t'')', :job));
ROLLBACK;
SELECT rollback_possible FROM partshift.jobs WHERE job_id = :job;
INSERT INTO t (v) VALUES ('after');
SELECT partshift.rollback(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
DELETE FROM t WHERE v = 'after';
:left
SELECT * FROM order_it(:job, 'pause', 'resume', 'abort', 'swap', 'rollback', 'finalize', 'verify');
-- On its way back it passed, without a stop, where it had waited for its operator.
BEGIN;
UPDATE partshift.job SET status = 'active', phase = 'ready' WHERE job_id = :job;
SELECT reverse, is_over FROM partshift.job j, partshift.watch(j.job_id) WHERE j.job_id = :job;
ROLLBACK;

-- The mirror switched off by hand: the swap does not happen.
:convert \gset
CALL probe.finish(:job);
SET session_replication_role = replica;
ALTER TABLE t DISABLE TRIGGER ALL;
RESET session_replication_role;
UPDATE t SET v = 'missed' WHERE id = 7;
SET session_replication_role = replica;
ALTER TABLE t ENABLE TRIGGER ALL;
RESET session_replication_role;
SELECT partshift.swap(:job);
CALL probe.await(format('status = ''failed'' FROM partshift.job WHERE job_id = %s', :job));
SELECT probe.state(:job);
SELECT partshift.abort(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
:left

-- Within a transaction block wait() would hold up what it waits for.
BEGIN;
CALL partshift.wait(:job);
\echo :SQLSTATE
ROLLBACK;
DROP TABLE t, child, was;
DROP FUNCTION objects, order_it;
