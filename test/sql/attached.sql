-- Rows that come with a partition fire no trigger: the way back counts rows, whatever was asked for.
\set ECHO none
\getenv dir PG_ABS_SRCDIR
\set common :dir '/sql/common.psql'
\i :common
\pset format unaligned
\pset tuples_only on
CREATE TABLE items (id integer PRIMARY KEY, grp integer NOT NULL, name text);
INSERT INTO items SELECT g, g % 3, 'n' FROM generate_series(1, 30) g;
CREATE TABLE more (id integer NOT NULL, grp integer NOT NULL, name text);
INSERT INTO more VALUES (101, 7, 'attached'), (102, 7, 'attached');

SELECT partshift.convert('items', 'list', 'grp', partitions => 3,
	legacy_name => 'items_old', verify => 'none') AS job \gset
CALL probe.finish(:job);
SELECT probe.state(:job);
ALTER TABLE items ATTACH PARTITION more FOR VALUES IN (7);
SELECT * FROM probe.differences('items', 'items_old');
SELECT rollback_possible FROM partshift.jobs WHERE job_id = :job;
SELECT partshift.rollback(:job);
CALL probe.await(format('status <> ''active'' FROM partshift.job WHERE job_id = %s', :job));
SELECT probe.state(:job);
SELECT leaf, mode, source_rows, shadow_rows, equal FROM partshift.verification
WHERE job_id = :job AND NOT equal;
SELECT count(*) FROM items;

-- Without the partition, there is a way back.
ALTER TABLE items DETACH PARTITION more;
SELECT partshift.resume(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT count(*) FROM items;
SELECT relkind FROM pg_class WHERE oid = 'items'::regclass;
DROP TABLE items, more;
