-- The comparison before the swap finds every kind of difference, and the swap does not happen.
\set ECHO none
\getenv dir PG_ABS_SRCDIR
\set common :dir '/sql/common.psql'
\i :common
\pset format unaligned
\pset tuples_only on
CREATE TABLE root (id integer PRIMARY KEY);
CREATE TABLE t (id integer PRIMARY KEY, grp integer NOT NULL, v text, w text,
	parent integer CONSTRAINT to_root REFERENCES root);
INSERT INTO t SELECT g, g % 3, 'v' || g, repeat(md5(g::text), 200) FROM generate_series(1, 300) g;

-- All differs: a row too few, one too many, another value, another large value.
BEGIN;
LOCK TABLE root IN ROW EXCLUSIVE MODE;
PREPARE TRANSACTION 'gate';
SELECT partshift.convert('t', 'list', 'grp', partitions => 3, swap => 'manual') AS job \gset
CALL probe.await(format('phase = ''rewire'' AND lock_tries > 0 FROM partshift.job WHERE job_id = %s', :job));
DELETE FROM t_0 WHERE id = 3;
INSERT INTO t_1 VALUES (1000, 1, 'new');
UPDATE t_1 SET v = 'V4' WHERE id = 4;
UPDATE t_2 SET w = repeat('x', 10000) WHERE id = 5;
COMMIT PREPARED 'gate';
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT leaf, mode, source_rows, shadow_rows, source_sum = shadow_sum AS sums, equal, identities
FROM partshift.verification WHERE job_id = :job ORDER BY leaf;
SELECT probe.refusal(format('SELECT partshift.swap(%s)', :job));
-- wait() raises the error of the job.
\set VERBOSITY sqlstate
CALL partshift.wait(:job);
SELECT probe.mask(:'LAST_ERROR_MESSAGE');
\set VERBOSITY default

-- It goes on when the cause is mended.
INSERT INTO t_0 SELECT * FROM t WHERE id = 3;
DELETE FROM t_1 WHERE id = 1000;
UPDATE t_1 SET v = 'v4' WHERE id = 4;
UPDATE t_2 SET w = repeat(md5(id::text), 200) WHERE id = 5;
SELECT partshift.resume(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT leaf, equal, identities FROM partshift.verification WHERE job_id = :job ORDER BY leaf;

-- By order, while it is ready.
UPDATE t_0 SET v = NULL WHERE id = 6;
SELECT partshift.verify(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT leaf, equal, identities FROM partshift.verification WHERE job_id = :job ORDER BY leaf;
UPDATE t SET v = 'v6' WHERE id = 6;
SELECT partshift.resume(:job);
CALL probe.finish(:job);
SELECT leaf, equal, identities FROM partshift.verification WHERE job_id = :job ORDER BY leaf;
SELECT partshift.abort(:job);
CALL probe.finish(:job);

-- verify => 'count' sees numbers only;
BEGIN;
LOCK TABLE root IN ROW EXCLUSIVE MODE;
PREPARE TRANSACTION 'gate';
SELECT partshift.convert('t', 'list', 'grp', partitions => 3, swap => 'manual', verify => 'count') AS job \gset
CALL probe.await(format('phase = ''rewire'' AND lock_tries > 0 FROM partshift.job WHERE job_id = %s', :job));
UPDATE t_1 SET v = 'V4' WHERE id = 4;
DELETE FROM t_2 WHERE id = 5;
COMMIT PREPARED 'gate';
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT leaf, mode, source_rows, shadow_rows, source_sum, shadow_sum, equal, identities
FROM partshift.verification WHERE job_id = :job ORDER BY leaf;
SELECT partshift.abort(:job);
CALL probe.finish(:job);

-- verify => 'none' nothing.
BEGIN;
LOCK TABLE root IN ROW EXCLUSIVE MODE;
PREPARE TRANSACTION 'gate';
SELECT partshift.convert('t', 'list', 'grp', partitions => 3, swap => 'manual', verify => 'none') AS job \gset
CALL probe.await(format('phase = ''rewire'' AND lock_tries > 0 FROM partshift.job WHERE job_id = %s', :job));
DELETE FROM t_2 WHERE id = 5;
COMMIT PREPARED 'gate';
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT count(*) FROM partshift.verification WHERE job_id = :job;
SELECT partshift.abort(:job);
CALL probe.finish(:job);

-- Equal values that are written differently are not the same row: 1.0 and 1.00, 0 and -0.
CREATE TABLE n (id integer PRIMARY KEY, a numeric, b float8, c char(3), d text);
INSERT INTO n VALUES (1, 1.0, 0, 'a', 'x'), (2, 1.0, 0, 'a', 'x'), (3, NULL, NULL, NULL, NULL);
SELECT partshift.convert('n', 'hash', 'id', partitions => 2, swap => 'manual') AS job \gset
CALL probe.finish(:job);
UPDATE n_p0 SET a = 1.00 WHERE id = 1;
UPDATE n_p1 SET a = 1.00 WHERE id = 1;
UPDATE n_p0 SET b = '-0' WHERE id = 2;
UPDATE n_p1 SET b = '-0' WHERE id = 2;
UPDATE n_p0 SET d = '' WHERE id = 3;
UPDATE n_p1 SET d = '' WHERE id = 3;
SELECT partshift.verify(:job);
CALL probe.finish(:job);
SELECT string_agg(i, ' ' ORDER BY i) FROM partshift.verification, unnest(identities) i
WHERE job_id = :job;
SELECT partshift.abort(:job);
CALL probe.finish(:job);
DROP TABLE n, t, root;
