-- A table that is partitioned already follows, and is followed, as any other.
\set ECHO none
\getenv dir PG_ABS_SRCDIR
\set common :dir '/sql/common.psql'
\i :common
\set tables :dir '/sql/tables_partitioned.psql'
\set writes :dir '/sql/writes.psql'
\i :tables

-- From a list to hash, and from two parts by hash to three.
SELECT partshift.convert('plays', 'hash', 'grp, id', partitions => 3, name_format => '{table}_h{bound}',
	swap => 'manual', legacy_name => 'plays_old') AS job \gset
SELECT partshift.convert('tree', 'hash', 'id', partitions => 3,
	swap => 'manual', legacy_name => 'tree_old') AS tree_job \gset
CALL probe.finish(:job);
CALL probe.finish(:tree_job);
SELECT probe.state(:job), probe.state(:tree_job);
SELECT shadow::regclass AS plays FROM partshift.job WHERE job_id = :job \gset
SELECT shadow::regclass AS tree FROM partshift.job WHERE job_id = :tree_job \gset
\i :writes
SELECT * FROM probe.damages(:'plays');
SELECT * FROM probe.damages(:'tree');

-- A partition that is written to by its own name.
INSERT INTO plays_12 (id, grp, n) VALUES (7000, 1, 1), (7001, 2, 1);
UPDATE plays_12 SET grp = 3 - grp, n = n + 1 WHERE id IN (7000, 7001);
DELETE FROM plays_12 WHERE id = 7001;
SELECT * FROM probe.differences('plays', :'plays');

-- One that is truncated by itself.
INSERT INTO plays (id, grp, n) SELECT 8000 + g, g % 5, g FROM generate_series(1, 50) g;
TRUNCATE plays_12;
SELECT * FROM probe.differences('plays', :'plays');
SELECT grp, count(*) FROM plays GROUP BY grp ORDER BY grp;
BEGIN;
TRUNCATE plays_0;
INSERT INTO plays (id, grp, n) VALUES (8100, 0, 1);
ROLLBACK;
SELECT * FROM probe.differences('plays', :'plays');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SET CONSTRAINTS late IMMEDIATE;
SELECT count(*) FROM plays WHERE grp = 0;
INSERT INTO plays (id, grp, n) VALUES (8101, 0, 1);
TRUNCATE plays_0;
INSERT INTO plays (id, grp, n) VALUES (8102, 0, 1), (8103, 1, 1);
COMMIT;
SELECT * FROM probe.differences('plays', :'plays');
SELECT count(*) FROM plays WHERE grp = 0;
SELECT * FROM probe.damages(:'plays');

-- The comparison of the extension finds the same, and so does the swap's.
SELECT partshift.verify(:job);
CALL probe.finish(:job);
SELECT leaf, source_rows, shadow_rows, equal FROM partshift.verification
WHERE job_id = :job ORDER BY leaf;
SELECT partshift.swap(:job);
SELECT partshift.swap(:tree_job);
CALL probe.finish(:job);
CALL probe.finish(:tree_job);
SELECT probe.state(:job), probe.state(:tree_job);

-- After the swap the old partitions are written to.
\set plays plays_old
\set tree tree_old
TRUNCATE plays, tree;
\i :writes
SELECT * FROM probe.damages('plays_old');
SELECT * FROM probe.damages('tree_old');
SELECT job_id = :job, reason FROM partshift.dropout WHERE job_id IN (:job, :tree_job);
SELECT rollback_possible FROM partshift.jobs WHERE job_id IN (:job, :tree_job);

-- Back again, with every write since and every name as it was.
CREATE TABLE before AS TABLE plays;
CREATE TABLE tree_before AS TABLE tree;
SELECT partshift.rollback(:job);
SELECT partshift.rollback(:tree_job);
CALL probe.finish(:job);
CALL probe.finish(:tree_job);
SELECT probe.state(:job), probe.state(:tree_job);
SELECT relname, relkind FROM pg_class
WHERE relkind IN ('r', 'p') AND relname ~ '^(plays|tree)' ORDER BY 1;
SELECT * FROM probe.leaves('plays');
SELECT * FROM probe.leaves('tree');
SELECT * FROM probe.differences('before', 'plays');
SELECT * FROM probe.differences('tree_before', 'tree');
SELECT tgrelid::regclass, tgname, tgenabled FROM pg_trigger
WHERE tgrelid IN (SELECT 'plays'::regclass UNION SELECT leaf FROM probe.leaves('plays'))
ORDER BY 1, 2;
SELECT conrelid::regclass, conname, pg_get_constraintdef(oid), convalidated FROM pg_constraint
WHERE contype = 'f' AND conparentid = 0 AND conrelid::regclass::text ~ '^tree';

DROP TABLE plays, tree, before, tree_before;
DROP FUNCTION play;
SELECT relname FROM pg_class WHERE relname ~ '^(plays|tree|log_|postponed_)';

-- A trigger that fires before ours writes to the table that was emptied.
CREATE TABLE refilled (id integer, part integer, v text, PRIMARY KEY (id, part)) PARTITION BY LIST (part);
CREATE TABLE refilled_1 PARTITION OF refilled FOR VALUES IN (1);
CREATE TABLE refilled_2 PARTITION OF refilled FOR VALUES IN (2);
CREATE FUNCTION refill() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO refilled VALUES (1, 1, 'refilled'), (2, 2, 'refilled');
	RETURN NULL;
END
$$;
CREATE TRIGGER a AFTER TRUNCATE ON refilled EXECUTE FUNCTION refill();
INSERT INTO refilled SELECT g, 1 + g % 2, 'old' FROM generate_series(1, 100) g;
SELECT partshift.convert('refilled', 'hash', 'id', partitions => 2, swap => 'manual') AS job \gset
CALL probe.finish(:job);
SELECT shadow::regclass AS shadow FROM partshift.job WHERE job_id = :job \gset
TRUNCATE refilled;
SELECT * FROM refilled ORDER BY id;
SELECT * FROM probe.differences('refilled', :'shadow');
SELECT partshift.abort(:job);
CALL probe.finish(:job);
DROP TABLE refilled;
DROP FUNCTION refill;
