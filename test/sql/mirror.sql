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
