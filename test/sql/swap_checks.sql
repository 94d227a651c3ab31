-- What the swap looks at once more; what is not right by then stops it.
\set ECHO none
\getenv dir PG_ABS_SRCDIR
\set common :dir '/sql/common.psql'
\i :common
\pset format unaligned
\pset tuples_only on
CREATE TABLE t (id integer PRIMARY KEY, v text);
INSERT INTO t SELECT g, 'v' || g FROM generate_series(1, 100) g;
\set ends 'status = ''failed'' OR phase = ''done'' FROM partshift.job WHERE job_id = '

-- The mirror was switched off, if only for a while; as a replica, since the guard would refuse it.
SELECT partshift.convert('t', 'hash', 'id', partitions => 2, swap => 'manual') AS job \gset
CALL probe.finish(:job);
SELECT probe.state(:job);
SET session_replication_role = replica;
ALTER TABLE t DISABLE TRIGGER ALL;
ALTER TABLE t ENABLE TRIGGER ALL;
RESET session_replication_role;
SELECT partshift.swap(:job);
CALL probe.await(:'ends' || :job);
SELECT probe.state(:job);
SELECT relkind FROM pg_class WHERE oid = 't'::regclass;
SELECT partshift.abort(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);

-- A row is still to be reconciled, it seems.
SELECT partshift.convert('t', 'hash', 'id', partitions => 2, swap => 'manual') AS job \gset
CALL probe.finish(:job);
SELECT postponed::regclass AS postponed FROM partshift.job WHERE job_id = :job \gset
INSERT INTO :postponed VALUES (1);
SELECT partshift.swap(:job);
CALL probe.await(:'ends' || :job);
SELECT probe.state(:job);
SELECT relkind FROM pg_class WHERE oid = 't'::regclass;
DELETE FROM :postponed;

-- The definition is another one.
SET session_replication_role = replica;
ALTER TABLE t ALTER v SET STATISTICS 7;
RESET session_replication_role;
SELECT partshift.resume(:job);
CALL probe.await(:'ends' || :job);
SELECT probe.state(:job);
SELECT relkind FROM pg_class WHERE oid = 't'::regclass;
SET session_replication_role = replica;
ALTER TABLE t ALTER v SET STATISTICS -1;
RESET session_replication_role;

-- With all in order again, it goes on.
SELECT partshift.resume(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT relkind FROM pg_class WHERE oid = 't'::regclass;
SELECT legacy FROM partshift.jobs WHERE job_id = :job \gset
SELECT partshift.finalize(:job);
CALL probe.finish(:job);
DROP TABLE t, :legacy;
