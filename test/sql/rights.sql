-- Who may do what, and as whom the code of others runs.
\set ECHO none
\getenv dir PG_ABS_SRCDIR
\set common :dir '/sql/common.psql'
\i :common
\pset format unaligned
\pset tuples_only on
CREATE ROLE partshift_owner NOLOGIN;
CREATE ROLE partshift_member NOLOGIN IN ROLE partshift_owner;
CREATE ROLE partshift_writer NOLOGIN;
CREATE ROLE partshift_stranger NOLOGIN;
CREATE ROLE partshift_monitor NOLOGIN IN ROLE pg_monitor;
CREATE SCHEMA own AUTHORIZATION partshift_owner;
GRANT USAGE ON SCHEMA own TO partshift_writer;
SET search_path = own, public;

-- Expressions of the owner that refuse to be evaluated as a superuser
SET ROLE partshift_owner;
CREATE FUNCTION safe(n integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
		RAISE 'evaluated as %', current_user;
	END IF;
	RETURN n;
END
$$;
CREATE TABLE t (
	id integer PRIMARY KEY,
	n integer DEFAULT own.safe(5),
	twice integer GENERATED ALWAYS AS (own.safe(n) * 2) STORED,
	CHECK (own.safe(n) < 100000));
CREATE INDEX t_safe ON t (own.safe(n)) WHERE own.safe(n) > 0 AND own.safe(7) = 7;
CREATE INDEX t_include ON t (own.safe(1 + id));
CREATE TABLE c (id integer PRIMARY KEY, t integer REFERENCES t ON UPDATE CASCADE ON DELETE SET NULL);
GRANT INSERT, UPDATE, DELETE ON t TO partshift_writer;
GRANT SELECT (id) ON t TO partshift_writer;
ALTER TABLE t ENABLE ROW LEVEL SECURITY;
CREATE POLICY everybody ON t USING (own.safe(id) <> 13);
INSERT INTO t (id) SELECT generate_series(1, 500);
INSERT INTO c SELECT g, g FROM generate_series(1, 500) g;
RESET ROLE;

CREATE FUNCTION as_owner(a regclass, b regclass) RETURNS SETOF text LANGUAGE plpgsql
SET role = partshift_owner AS $$ BEGIN RETURN QUERY SELECT * FROM probe.differences(a, b); END $$;

-- A stranger: no conversion, no plan, no order, no sight.
SET ROLE partshift_stranger;
SELECT probe.refusal('SELECT partshift.convert(''own.t'', ''hash'', ''id'', partitions => 2)');
RESET ROLE;
GRANT USAGE ON SCHEMA own TO partshift_stranger;
SET ROLE partshift_stranger;
SELECT probe.refusal('SELECT partshift.convert(''own.t'', ''hash'', ''id'', partitions => 2)');
SELECT probe.refusal('SELECT partshift.plan(''own.t'', ''hash'', ''id'', partitions => 2)');
SELECT probe.refusal('SELECT * FROM partshift.job');
SELECT probe.refusal('SELECT * FROM partshift.task');
SELECT probe.refusal('DELETE FROM partshift.dropout');
SELECT probe.refusal('SELECT partshift.query_as(10, ''SELECT 1'')') ~ '^42501: permission denied for function';
SELECT probe.refusal('SELECT partshift.change_job(1, ''abort'')') ~ '^42501: permission denied for function';
SELECT probe.refusal('SELECT partshift.new_job(1, '''', '''', ''{}'')') ~ '^42501: permission denied for function';
RESET ROLE;

-- Every function is closed but those of the interface.
SELECT DISTINCT proname FROM pg_proc
WHERE pronamespace = 'partshift'::regnamespace AND has_function_privilege('partshift_stranger', oid, 'EXECUTE')
ORDER BY 1;
SELECT relname FROM pg_class
WHERE relnamespace = 'partshift'::regnamespace AND relkind IN ('r', 'v', 'S')
	AND has_table_privilege('partshift_stranger', oid, 'SELECT') ORDER BY 1;

-- A member of the owner converts. A writer is stopped at the triggers meanwhile.
BEGIN;
LOCK TABLE t IN ROW EXCLUSIVE MODE;
PREPARE TRANSACTION 'a writer';
SET ROLE partshift_member;
SELECT count(*) > 5 FROM partshift.plan('own.t', 'hash', 'id', partitions => 2);
SELECT partshift.convert('own.t', 'hash', 'id', partitions => 2, swap => 'manual') AS job \gset
RESET ROLE;
CALL probe.await(format('lock_tries > 0 FROM partshift.job WHERE job_id = %s', :job));
BEGIN;
LOCK TABLE t_p1 IN ROW EXCLUSIVE MODE;
PREPARE TRANSACTION 'on a leaf';
COMMIT PREPARED 'a writer';
CALL probe.await(format('phase = ''index'' AND lock_tries > 0 FROM partshift.job WHERE job_id = %s', :job));

-- Who sees it
SET ROLE partshift_stranger;
SELECT count(*) FROM partshift.jobs;
SELECT count(*) FROM partshift.progress;
SELECT count(*) FROM partshift.phase_log;
SELECT probe.refusal(format('SELECT partshift.abort(%s)', :job));
SELECT probe.refusal(format('SELECT partshift.alter_job(%s, workers => 2)', :job));
SET ROLE partshift_monitor;
SELECT phase FROM partshift.jobs WHERE job_id = :job;
SELECT probe.refusal(format('SELECT partshift.pause(%s)', :job));
SELECT count(*) FROM partshift.phase_log WHERE job_id = :job;
SET ROLE partshift_member;
SELECT phase FROM partshift.progress WHERE job_id = :job;
SET ROLE partshift_owner;
SELECT phase FROM partshift.jobs WHERE job_id = :job;

-- A writer writes in every phase: while changes are noted,
SET ROLE partshift_writer;
INSERT INTO t (id, n) VALUES (501, 1), (502, 2);
UPDATE t SET n = 3 WHERE id BETWEEN 1 AND 20;
DELETE FROM t WHERE id = 30;
UPDATE t SET id = 1031 WHERE id = 31;
RESET ROLE;
COMMIT PREPARED 'on a leaf';
CALL probe.finish(:job);
SELECT probe.state(:job);
SET ROLE partshift_stranger;
\set VERBOSITY sqlstate
CALL partshift.wait(:job);
SELECT probe.mask(:'LAST_ERROR_MESSAGE');
\set VERBOSITY default
RESET ROLE;
SELECT shadow::regclass AS shadow FROM partshift.job WHERE job_id = :job \gset
SELECT * FROM as_owner('t', :'shadow');
-- while they are written to both tables,
SET ROLE partshift_writer;
INSERT INTO t (id, n) VALUES (503, 1), (504, 2);
UPDATE t SET n = 4 WHERE id BETWEEN 1 AND 20;
DELETE FROM t WHERE id = 40;
UPDATE t SET id = 1041 WHERE id = 41;
RESET ROLE;
SELECT * FROM as_owner('t', :'shadow');
SET ROLE partshift_owner;
INSERT INTO t (id, n) VALUES (600, DEFAULT), (601, own.safe(4));
TRUNCATE t, c;
INSERT INTO t (id) SELECT generate_series(1, 100);
INSERT INTO c SELECT g, g FROM generate_series(1, 100) g;
RESET ROLE;
SELECT * FROM as_owner('t', :'shadow');
SET ROLE partshift_member;
SELECT partshift.swap(:job);
RESET ROLE;
CALL probe.finish(:job);
SELECT probe.state(:job);
-- and after the swap.
SELECT legacy FROM partshift.jobs WHERE job_id = :job \gset
SET ROLE partshift_writer;
INSERT INTO t (id, n) VALUES (505, 1), (506, 2);
UPDATE t SET n = 5 WHERE id BETWEEN 1 AND 20;
DELETE FROM t WHERE id = 50;
UPDATE t SET id = 1051 WHERE id = 51;
SELECT probe.refusal('SELECT * FROM own.t_p1');
SELECT probe.refusal(format('SELECT * FROM %s', :'legacy')) ~ '^42501';
RESET ROLE;
SELECT * FROM as_owner('t', :'legacy');
SELECT count(*) FROM partshift.dropout WHERE job_id = :job;
SELECT count(*), count(t) FROM c;

-- A role of the owner's may finish what he began.
SET ROLE partshift_member;
SELECT partshift.verify(:job);
RESET ROLE;
CALL probe.finish(:job);
SET ROLE partshift_stranger;
SELECT count(*) FROM partshift.verification;
SET ROLE partshift_member;
SELECT bool_and(equal) FROM partshift.verification WHERE job_id = :job;
SELECT partshift.rollback(:job);
RESET ROLE;
CALL probe.finish(:job);
SELECT probe.state(:job);

-- The triggers' functions are of no use elsewhere.
CREATE TABLE other (id integer);
CREATE TRIGGER a BEFORE INSERT ON other FOR EACH ROW EXECUTE FUNCTION partshift.capture_row();
SELECT probe.refusal('INSERT INTO other VALUES (1)');
DROP TRIGGER a ON other;
CREATE TRIGGER a AFTER INSERT ON other FOR EACH STATEMENT EXECUTE FUNCTION partshift.mirror_row();
SELECT probe.refusal('INSERT INTO other VALUES (1)');
DROP TRIGGER a ON other;
CREATE TRIGGER a BEFORE TRUNCATE ON other FOR EACH STATEMENT EXECUTE FUNCTION partshift.mirror_truncate();
SELECT probe.refusal('TRUNCATE other');
DROP TABLE other;
SET client_min_messages = error;
DROP SCHEMA own CASCADE;
RESET search_path;
DROP ROLE partshift_owner, partshift_member, partshift_writer, partshift_stranger, partshift_monitor;
