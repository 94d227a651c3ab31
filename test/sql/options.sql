-- The options of convert() that are not about bounds.
\set ECHO none
\getenv dir PG_ABS_SRCDIR
\set common :dir '/sql/common.psql'
\i :common
\pset format unaligned
\pset tuples_only on
CREATE PROCEDURE fill() LANGUAGE plpgsql AS $$
BEGIN
	CREATE TABLE t (id integer PRIMARY KEY, grp integer NOT NULL, code text NOT NULL);
	CREATE UNIQUE INDEX t_code ON t (code);
	ALTER TABLE t ADD CONSTRAINT t_both UNIQUE (code, grp);
	CREATE INDEX t_grp ON t (grp);
	INSERT INTO t SELECT g, g % 3, 'c' || g FROM generate_series(1, 300) g;
END
$$;
-- unique_keys => 'extend', name_format, legacy_name, six workers
CALL fill();
CREATE FUNCTION shape() RETURNS SETOF text LANGUAGE sql AS $$
	(SELECT l.leaf::text FROM probe.leaves('t') l)
	UNION ALL
	(SELECT DISTINCT replace(pg_get_indexdef(i.indexrelid), ' ON ONLY ', ' ON ') AS def
	 FROM pg_index i WHERE i.indrelid = 't'::regclass ORDER BY def)
	UNION ALL
	(SELECT 'only on ' || pg_get_indexdef(i.indexrelid)
	 FROM probe.leaves('t') l JOIN pg_index i ON i.indrelid = l.leaf
	 WHERE NOT EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = i.indexrelid)
	 ORDER BY l.leaf::text)
$$;
SELECT partshift.convert('t', 'list', 'grp', partitions => 3, unique_keys => 'extend',
	name_format => 'my {bound} {of} {table}{{bound}}', legacy_name => 'it was "t"', workers => 6,
	cost_delay => 0.5, cost_limit => 5000) AS job \gset
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT shape();
SELECT * FROM probe.differences('t', '"it was ""t"""');
SELECT workers, cost_delay, cost_limit FROM partshift.job WHERE job_id = :job;
INSERT INTO t VALUES (301, 0, 'c1');
SELECT rollback_possible FROM partshift.jobs WHERE job_id = :job;
SELECT partshift.finalize(:job);
CALL probe.finish(:job);
DROP TABLE t, "it was ""t""";

-- unique_keys => 'per_partition'; rolled back all is as before
CALL fill();
CREATE TABLE was AS SELECT * FROM probe.describe('t');
SELECT partshift.convert('t', 'list', 'grp', partitions => 2, unique_keys => 'per_partition') AS job \gset
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT shape();
SELECT probe.refusal($$INSERT INTO t VALUES (301, 1, 'c1')$$) ~ '^23505';
SELECT partshift.rollback(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
(TABLE was EXCEPT ALL SELECT probe.describe('t')) UNION ALL (SELECT probe.describe('t') EXCEPT ALL TABLE was);
DROP TABLE t, was;

-- foreign_keys => 'drop' leaves off what cannot be kept, and only that; a rollback brings it back
CALL fill();
CREATE TABLE c (id integer PRIMARY KEY, t integer, code text, grp integer,
	CONSTRAINT by_id FOREIGN KEY (t) REFERENCES t ON DELETE CASCADE DEFERRABLE,
	CONSTRAINT by_both FOREIGN KEY (code, grp) REFERENCES t (code, grp));
COMMENT ON CONSTRAINT by_id ON c IS 'will go';
INSERT INTO c SELECT id, id, code, grp FROM t;
CREATE TABLE was AS SELECT * FROM probe.describe('t') UNION ALL SELECT probe.describe('c');
SELECT partshift.convert('t', 'list', 'grp', partitions => 3, unique_keys => 'extend',
	foreign_keys => 'drop') AS job \gset
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE conrelid = 'c'::regclass AND contype = 'f' AND conparentid = 0 ORDER BY 1;
INSERT INTO c VALUES (1000, 1, NULL, NULL), (1001, 2, 'c2', 2);
SELECT partshift.rollback(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
(TABLE was EXCEPT ALL (SELECT probe.describe('t') UNION ALL SELECT probe.describe('c')))
UNION ALL
((SELECT probe.describe('t') UNION ALL SELECT probe.describe('c')) EXCEPT ALL TABLE was);

-- ... unless rows have come that it forbids: then the rollback stops, and goes on without them
SELECT partshift.convert('t', 'list', 'grp', partitions => 3, unique_keys => 'extend',
	foreign_keys => 'drop') AS job \gset
CALL probe.finish(:job);
INSERT INTO c VALUES (2000, 999, NULL, NULL);
SELECT partshift.rollback(:job);
CALL probe.finish(:job);
SELECT split_part(probe.state(:job), E'\n', 1), error_sqlstate FROM partshift.jobs WHERE job_id = :job;
SELECT relkind FROM pg_class WHERE oid = 't'::regclass;
INSERT INTO t VALUES (302, 1, 'meanwhile');
DELETE FROM c WHERE id = 2000;
SELECT partshift.resume(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT count(*) FROM t WHERE id = 302;
(TABLE was EXCEPT ALL (SELECT probe.describe('t') UNION ALL SELECT probe.describe('c')))
UNION ALL
((SELECT probe.describe('t') UNION ALL SELECT probe.describe('c')) EXCEPT ALL TABLE was);
DROP TABLE c, was;

-- default_partition => 'drop': a row that came meanwhile keeps it
DELETE FROM t WHERE id = 302;
SELECT partshift.convert('t', 'list', 'grp', partitions => 3, unique_keys => 'extend',
	default_partition => 'drop', swap => 'manual') AS job \gset
CALL probe.finish(:job);
INSERT INTO t VALUES (303, 9, 'outside');
SELECT partshift.swap(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT leaf FROM probe.leaves('t');
SELECT partshift.rollback(:job);
CALL probe.finish(:job);
DELETE FROM t WHERE id = 303;
-- ... and one that went again does not.
SELECT partshift.convert('t', 'list', 'grp', partitions => 3, unique_keys => 'extend',
	default_partition => 'drop', swap => 'manual') AS job \gset
CALL probe.finish(:job);
INSERT INTO t VALUES (304, 9, 'outside');
UPDATE t SET grp = 1 WHERE id = 304;
SELECT partshift.swap(:job);
CALL probe.finish(:job);
SELECT leaf FROM probe.leaves('t');
SELECT probe.refusal('INSERT INTO t VALUES (305, 9, ''nowhere'')') ~ '^23514';
SELECT partshift.rollback(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);

-- swap => 'manual' waits for swap(), or for alter_job(); one may be given early
SELECT partshift.convert('t', 'hash', 'grp', partitions => 3, unique_keys => 'extend',
	swap => 'manual') AS job \gset
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT partshift.alter_job(:job, swap => 'auto');
CALL probe.await(format('phase = ''done'' FROM partshift.job WHERE job_id = %s', :job));
SELECT partshift.rollback(:job);
CALL probe.finish(:job);
BEGIN;
SELECT partshift.convert('t', 'hash', 'grp', partitions => 3, unique_keys => 'extend',
	swap => 'manual') AS job \gset
SELECT partshift.swap(:job);
COMMIT;
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT partshift.finalize(:job);
CALL probe.finish(:job);
SELECT regexp_replace(legacy, '\d{8}$', 'YYYYMMDD') FROM partshift.jobs WHERE job_id = :job;
SELECT legacy FROM partshift.jobs WHERE job_id = :job \gset
DROP TABLE t, :legacy;
DROP PROCEDURE fill;
DROP FUNCTION shape;
