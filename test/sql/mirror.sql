-- From phase mirror on, each write reaches both tables in its own transaction.
\set ECHO none
\getenv dir PG_ABS_SRCDIR
\set common :dir '/sql/common.psql'
\i :common

\set tables :dir '/sql/tables.psql'
\set writes :dir '/sql/writes.psql'
\i :tables

-- First a list by a column that the key lacks: updates move rows.
SELECT partshift.convert('plays', 'list', 'grp', partitions => 4,
	swap => 'manual') AS job \gset
SELECT partshift.convert('tree', 'hash', 'id', partitions => 3,
	swap => 'manual') AS tree_job \gset
CALL probe.finish(:job);
CALL probe.finish(:tree_job);
SELECT probe.state(:job), probe.state(:tree_job);
SELECT shadow::regclass AS plays FROM partshift.job WHERE job_id = :job \gset
SELECT shadow::regclass AS tree FROM partshift.job WHERE job_id = :tree_job \gset
\i :writes
SELECT * FROM probe.damages(:'plays');
SELECT * FROM probe.damages(:'tree');

-- The comparison of the extension finds the same.
SELECT partshift.verify(:job);
CALL probe.finish(:job);
SELECT leaf, source_rows, shadow_rows, equal FROM partshift.verification
WHERE job_id = :job ORDER BY leaf;

-- Begin again from scratch.
SELECT partshift.abort(:job);
SELECT partshift.abort(:tree_job);
CALL probe.finish(:job);
CALL probe.finish(:tree_job);
SELECT probe.state(:job), probe.state(:tree_job);

-- Then hash by the key itself: an update stays where it is unless the key changes.
SELECT partshift.convert('plays', 'hash', 'id', partitions => 3,
	swap => 'manual') AS job \gset
SELECT partshift.convert('tree', 'hash', 'id', partitions => 2,
	swap => 'manual') AS tree_job \gset
CALL probe.finish(:job);
CALL probe.finish(:tree_job);
SELECT probe.state(:job), probe.state(:tree_job);
SELECT shadow::regclass AS plays FROM partshift.job WHERE job_id = :job \gset
SELECT shadow::regclass AS tree FROM partshift.job WHERE job_id = :tree_job \gset
TRUNCATE plays, tree;
\i :writes
SELECT * FROM probe.damages(:'plays');
SELECT * FROM probe.damages(:'tree');

-- The swap finds nothing to complain about.
CREATE TABLE before AS TABLE plays;
SELECT partshift.swap(:job);
SELECT partshift.swap(:tree_job);
CALL probe.finish(:job);
CALL probe.finish(:tree_job);
SELECT probe.state(:job), probe.state(:tree_job);
SELECT * FROM probe.differences('before', 'plays');
SELECT partshift.finalize(:job);
SELECT partshift.finalize(:tree_job);
CALL probe.finish(:job);
CALL probe.finish(:tree_job);
SELECT legacy AS plays FROM partshift.jobs WHERE job_id = :job \gset
SELECT legacy AS tree FROM partshift.jobs WHERE job_id = :tree_job \gset
DROP TABLE plays, tree, before, :plays, :tree;
DROP FUNCTION play;

-- A trigger that fires before ours writes to the table that was emptied.
CREATE TABLE refilled (id integer PRIMARY KEY, v text);
CREATE FUNCTION refill() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO refilled VALUES (1, 'refilled');
	RETURN NULL;
END
$$;
CREATE TRIGGER a AFTER TRUNCATE ON refilled EXECUTE FUNCTION refill();
INSERT INTO refilled SELECT g, 'old' FROM generate_series(1, 100) g;
SELECT partshift.convert('refilled', 'hash', 'id', partitions => 2,
	swap => 'manual', legacy_name => 'refilled_old') AS job \gset
CALL probe.finish(:job);
SELECT shadow::regclass AS shadow FROM partshift.job WHERE job_id = :job \gset
TRUNCATE refilled;
TABLE refilled;
SELECT * FROM probe.differences('refilled', :'shadow');
SELECT partshift.swap(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
-- After the swap the old table does not follow that.
TRUNCATE refilled;
SELECT rollback_possible, rollback_lost_reason FROM partshift.jobs WHERE job_id = :job;
SELECT partshift.finalize(:job);
CALL probe.finish(:job);
DROP TABLE refilled, refilled_old;
DROP FUNCTION refill;
