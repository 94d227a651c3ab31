-- Tables that go away, or change, while they are being converted, in spite of the guard.
\set ECHO none
\getenv dir PG_ABS_SRCDIR
\set common :dir '/sql/common.psql'
\i :common
\pset format unaligned
\pset tuples_only on
CREATE PROCEDURE fill() LANGUAGE plpgsql AS $$
BEGIN
	CREATE TABLE t (id integer PRIMARY KEY, v text);
	INSERT INTO t SELECT g, 'v' || g FROM generate_series(1, 300) g;
END
$$;
CREATE FUNCTION leftovers() RETURNS SETOF text LANGUAGE sql AS $$
	SELECT c.oid::regclass::text FROM pg_class c
	WHERE c.relnamespace IN ('public'::regnamespace, 'partshift'::regnamespace)
		AND c.relname ~ '_ps\d|^(log|postponed)_\d|^t(_|$)'
	UNION ALL
	SELECT tgname::text FROM pg_trigger WHERE tgname ~ 'partshift'
$$;

-- Dropped before the worker begins
CALL fill();
BEGIN;
SELECT partshift.convert('t', 'hash', 'id', partitions => 2) AS job \gset
SET LOCAL session_replication_role = replica;
DROP TABLE t;
COMMIT;
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT partshift.abort(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT leftovers();

-- Changed before the worker begins
CALL fill();
BEGIN;
SELECT partshift.convert('t', 'hash', 'id', partitions => 2) AS job \gset
SET LOCAL session_replication_role = replica;
ALTER TABLE t ADD w integer;
COMMIT;
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT partshift.abort(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
DROP TABLE t;
SELECT leftovers();

-- Dropped when ready
CALL fill();
SELECT partshift.convert('t', 'hash', 'id', partitions => 2, swap => 'manual') AS job \gset
CALL probe.finish(:job);
SET session_replication_role = replica;
DROP TABLE t;
RESET session_replication_role;
SELECT partshift.swap(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT partshift.abort(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT leftovers();

-- The shadow dropped when ready: abort mends it
CALL fill();
SELECT partshift.convert('t', 'hash', 'id', partitions => 2, swap => 'manual') AS job \gset
CALL probe.finish(:job);
SET session_replication_role = replica;
DO $$ BEGIN EXECUTE (SELECT 'DROP TABLE ' || shadow::regclass FROM partshift.job WHERE status = 'active'); END $$;
RESET session_replication_role;
SELECT partshift.abort(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
DELETE FROM t WHERE id = 1;
DROP TABLE t;
SELECT leftovers();

-- Renamed when ready, and named as before again
CALL fill();
SELECT partshift.convert('t', 'hash', 'id', partitions => 2, swap => 'manual') AS job \gset
CALL probe.finish(:job);
SET session_replication_role = replica;
ALTER TABLE t RENAME TO other;
RESET session_replication_role;
SELECT partshift.swap(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
SET session_replication_role = replica;
ALTER TABLE other RENAME TO t;
RESET session_replication_role;
SELECT partshift.resume(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
-- The new table dropped
DROP TABLE t;
SELECT partshift.finalize(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT legacy FROM partshift.jobs WHERE job_id = :job \gset
DROP TABLE :legacy;
SELECT leftovers();

-- The legacy table dropped, then a rollback
CALL fill();
SELECT partshift.convert('t', 'hash', 'id', partitions => 2, legacy_name => 't_old') AS job \gset
CALL probe.finish(:job);
DROP TABLE t_old;
SELECT probe.refusal(format('SELECT partshift.rollback(%s)', :job));
SELECT probe.state(:job);
SELECT relkind FROM pg_class WHERE relname = 't';
SELECT count(*) FROM t;
INSERT INTO t VALUES (301, 'still');
SELECT partshift.finalize(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
DROP TABLE t;
SELECT leftovers();

-- Emptied, and rewritten, when ready: the shadow follows, or is copied again
CALL fill();
SELECT partshift.convert('t', 'hash', 'id', partitions => 2, swap => 'manual') AS job \gset
CALL probe.finish(:job);
VACUUM FULL t;
CLUSTER t USING t_pkey;
UPDATE t SET v = 'after' WHERE id < 100;
SELECT partshift.verify(:job);
CALL probe.finish(:job);
SELECT bool_and(equal) FROM partshift.verification WHERE job_id = :job;
SELECT partshift.abort(:job);
CALL probe.finish(:job);

-- Rewritten, and emptied, while it is being copied: copied again
ALTER TABLE t SET WITHOUT CLUSTER;
BEGIN;
LOCK TABLE t IN ROW EXCLUSIVE MODE;
PREPARE TRANSACTION 'a writer';
SELECT partshift.convert('t', 'hash', 'id', partitions => 2, swap => 'manual') AS job \gset
CALL probe.await(format('lock_tries > 0 FROM partshift.job WHERE job_id = %s', :job));
BEGIN;
LOCK TABLE t_p1 IN SHARE MODE;
PREPARE TRANSACTION 'on a leaf';
COMMIT PREPARED 'a writer';
CALL probe.await(format('phase = ''copy'' AND lock_tries > 0 FROM partshift.job WHERE job_id = %s', :job));
VACUUM FULL t;
COMMIT PREPARED 'on a leaf';
UPDATE t SET v = 'rewritten' WHERE id > 200;
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT shadow::regclass AS shadow FROM partshift.job WHERE job_id = :job \gset
SELECT * FROM probe.differences('t', :'shadow');
SELECT partshift.abort(:job);
CALL probe.finish(:job);
BEGIN;
LOCK TABLE t IN ROW EXCLUSIVE MODE;
PREPARE TRANSACTION 'a writer';
SELECT partshift.convert('t', 'hash', 'id', partitions => 2, swap => 'manual') AS job \gset
CALL probe.await(format('lock_tries > 0 FROM partshift.job WHERE job_id = %s', :job));
BEGIN;
LOCK TABLE t_p1 IN SHARE MODE;
PREPARE TRANSACTION 'on a leaf';
COMMIT PREPARED 'a writer';
CALL probe.await(format('phase = ''copy'' AND lock_tries > 0 FROM partshift.job WHERE job_id = %s', :job));
BEGIN;
TRUNCATE t;
INSERT INTO t SELECT g, 'once more' FROM generate_series(200, 250) g;
COMMIT;
COMMIT PREPARED 'on a leaf';
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT shadow::regclass AS shadow FROM partshift.job WHERE job_id = :job \gset
SELECT * FROM probe.differences('t', :'shadow');
SELECT count(*) FROM t;
SELECT partshift.abort(:job);
CALL probe.finish(:job);
DROP TABLE t;
SELECT leftovers();
DROP PROCEDURE fill;
DROP FUNCTION leftovers;
