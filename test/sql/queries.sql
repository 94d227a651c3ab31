-- How many partitions a query looks into, and what it costs before and after.
\set ECHO none
\getenv dir PG_ABS_SRCDIR
\set common :dir '/sql/common.psql'
\i :common
\pset format unaligned
\pset tuples_only on
CREATE ROLE queries_owner;
CREATE ROLE queries_reader;
GRANT CREATE ON SCHEMA public TO queries_owner;
CREATE TABLE m (id integer, at timestamptz NOT NULL, v integer) PARTITION BY RANGE (at);
SELECT format('CREATE TABLE m_%s PARTITION OF m FOR VALUES FROM (%L) TO (%L)', to_char(d, 'YYYYMM'), d, d + interval '1 month')
FROM generate_series('2020-01-01'::timestamptz, '2020-12-01', '1 month') d \gexec
CREATE TABLE m_old PARTITION OF m FOR VALUES FROM (MINVALUE) TO ('2020-01-01') PARTITION BY LIST (v);
CREATE TABLE m_old_1 PARTITION OF m_old FOR VALUES IN (1);
CREATE TABLE m_old_2 PARTITION OF m_old DEFAULT;
CREATE TABLE h (id integer PRIMARY KEY) PARTITION BY HASH (id);
SELECT format('CREATE TABLE h_%s PARTITION OF h FOR VALUES WITH (MODULUS 4, REMAINDER %1$s)', g) FROM generate_series(0, 3) g \gexec
CREATE TABLE days (d timestamptz PRIMARY KEY);
INSERT INTO days SELECT generate_series('2020-03-01'::timestamptz, '2020-03-10', '1 day');
INSERT INTO h SELECT generate_series(1, 1000);
ANALYZE days;
ANALYZE h;

-- Left out by the planner, when the executor starts, or only while it runs
SELECT * FROM partshift.pruning('SELECT * FROM m');
SELECT * FROM partshift.pruning('SELECT * FROM m WHERE at >= ''2020-11-15''');
SELECT * FROM partshift.pruning('SELECT * FROM m WHERE at >= ''2020-12-01''::text::timestamptz');
SELECT * FROM partshift.pruning('SELECT * FROM m WHERE at < ''2020-01-01'' AND v = 1');
SELECT * FROM partshift.pruning('SELECT * FROM h WHERE id IN (1, 2, 3)');
SELECT * FROM partshift.pruning('SELECT * FROM h WHERE id = (SELECT max(v) FROM m WHERE at = ''2020-05-05'')') ORDER BY 1;
SELECT * FROM partshift.pruning('SELECT * FROM h WHERE false');
-- Parameters: what depends on them is known later.
SELECT * FROM partshift.pruning('SELECT * FROM m WHERE at >= $1 AND v = $2');
SELECT * FROM partshift.pruning('SELECT * FROM m WHERE v = $1 AND at >= ''2020-12-05''');
-- Writing
SELECT * FROM partshift.pruning('DELETE FROM h WHERE id = 7');
SELECT * FROM partshift.pruning('UPDATE m SET v = 0 WHERE at BETWEEN ''2020-02-01'' AND ''2020-03-31''');
SELECT count(*) FROM partshift.pruning('INSERT INTO h VALUES (7)');
SELECT * FROM partshift.pruning('INSERT INTO h SELECT id FROM m WHERE at > $1');
-- A partition by its own name, no partitioned table, and what is no query
SELECT count(*) FROM partshift.pruning('SELECT * FROM h_1');
SELECT count(*) FROM partshift.pruning('SELECT * FROM days');
SELECT probe.refusal('SELECT partshift.pruning(''SELECT 1; SELECT 2'')');
SELECT probe.refusal('SELECT partshift.pruning('''')');
SELECT probe.refusal('SELECT partshift.pruning(''VACUUM h'')');
SELECT probe.refusal('SELECT partshift.pruning(''SELECT * FROM nothing'')');
SET ROLE queries_reader;
SELECT probe.refusal('SELECT partshift.pruning(''SELECT * FROM h'')');
SELECT probe.refusal('SELECT partshift.pruning(''SELECT * FROM h WHERE id = $1'')');
RESET ROLE;
DROP TABLE m, h, days;

-- Both tables of a job: dropped columns make their columns' numbers differ.
SET ROLE queries_owner;
CREATE TABLE t (gone integer, id integer PRIMARY KEY, "Key k" integer NOT NULL, also_gone text, v text, w text);
ALTER TABLE t DROP COLUMN gone, DROP COLUMN also_gone;
INSERT INTO t SELECT g, g % 10, 'v' || g, repeat('w', 100) FROM generate_series(1, 5000) g;
CREATE VIEW seen AS SELECT id, "Key k" AS k, v FROM t WHERE id > 10;
CREATE FUNCTION writes() RETURNS integer LANGUAGE sql VOLATILE AS 'DELETE FROM public.t; SELECT 1';
RESET ROLE;
SELECT partshift.convert('t', 'list', '"Key k"', partitions => 10, unique_keys => 'extend', swap => 'manual') AS job \gset
CALL probe.finish(:job);
SELECT probe.state(:job);
CREATE FUNCTION compared(query text, runs integer DEFAULT 1) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY SELECT concat_ws(' ', side, probe.mask(relation::text), scanned || ' of ' || partitions, rows || ' rows',
		CASE WHEN plan_ms >= 0 AND run_ms > 0 AND blocks_hit + blocks_read > 0 THEN 'measured' END)
	FROM partshift.compare((SELECT max(job_id) FROM partshift.job), query, runs);
END
$$;
SELECT compared('SELECT * FROM t WHERE "Key k" = 3 AND v LIKE ''v%''');
SELECT compared('SELECT count(*), max(v) FROM t', 3);
SELECT compared('SELECT t, t.*, a.w FROM t JOIN public.t a USING (id) WHERE a."Key k" = 1 AND t."Key k" IN (1, 2)');
SELECT compared('SELECT * FROM seen WHERE k = 4 AND id < 100');
SELECT compared('WITH t AS MATERIALIZED (SELECT * FROM t WHERE "Key k" = 9 LIMIT 5) SELECT (SELECT max(x.w) FROM public.t x WHERE x."Key k" = 9 AND x.id = t.id) FROM t');
SELECT compared('SELECT * FROM ONLY t WHERE "Key k" = (SELECT 5)');
SELECT compared('SELECT FROM t UNION ALL SELECT FROM t WHERE "Key k" < 2');
-- The same snapshot, and nothing is written.
SELECT probe.refusal('SELECT compared(''SELECT writes() FROM t LIMIT 1'')');
SELECT probe.refusal('SELECT compared(''SELECT FROM t FOR UPDATE'')');
SELECT probe.refusal('SELECT compared(''WITH d AS (DELETE FROM t RETURNING 1) SELECT FROM d'')');
SELECT probe.refusal('SELECT compared(''DELETE FROM t'')');
SELECT probe.refusal('SELECT compared(''SELECT v INTO new FROM t'')');
SELECT probe.refusal('SELECT compared(''SELECT FROM t WHERE id = $1'')');
SELECT probe.refusal('SELECT compared(''SELECT 1'')');
SELECT probe.refusal('SELECT compared(''SELECT FROM t'', 0)');
SELECT probe.refusal('SELECT partshift.compare(0, ''SELECT FROM t'')');
SELECT current_setting('transaction_read_only'), count(*) FROM t;
-- The owner may; others may not, even if they can read the table.
SET ROLE queries_reader;
SELECT probe.refusal(format('SELECT partshift.compare(%s, ''SELECT FROM t'')', :job));
SET ROLE queries_owner;
SELECT side, scanned, rows FROM partshift.compare(:job, 'SELECT FROM t WHERE "Key k" = 0');
RESET ROLE;
-- After the swap the name means the other one.
SELECT partshift.swap(:job);
CALL probe.finish(:job);
SELECT compared('SELECT t FROM t WHERE "Key k" = 3 AND id < 100') ~ '_legacy_\d+ 10 rows|new t 1 of 11 10 rows';
SELECT scanned, partitions, fewer_at_run FROM partshift.pruning('SELECT * FROM seen WHERE k = $1');
SELECT partshift.finalize(:job);
CALL probe.finish(:job);
SELECT probe.refusal('SELECT compared(''SELECT FROM t'')');
DROP TABLE t CASCADE;
-- A source that is partitioned already: both sides leave partitions out, and it is mirrored in either direction.
CREATE TABLE s (id integer, k integer, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
CREATE TABLE s_a PARTITION OF s FOR VALUES IN (0, 1, 2);
CREATE TABLE s_b PARTITION OF s FOR VALUES IN (3, 4);
INSERT INTO s SELECT g, g % 5 FROM generate_series(1, 1000) g;
SELECT partshift.convert('s', 'hash', 'id', partitions => 4, swap => 'manual') AS job \gset
CALL probe.finish(:job);
SELECT side, scanned, partitions, rows FROM partshift.compare(:job, 'SELECT FROM s WHERE k = 1 AND id < 100');
SELECT side, scanned, partitions, rows FROM partshift.compare(:job, 'SELECT FROM s WHERE id = 7');
UPDATE s SET id = id + 10000 WHERE id <= 5;
SELECT partshift.swap(:job);
CALL probe.finish(:job);
DELETE FROM s WHERE id > 10000;
SELECT FROM pg_stat_force_next_flush();
SELECT side, scanned, partitions, rows FROM partshift.compare(:job, 'SELECT FROM s WHERE id = 7');
SELECT mirrored, mirror_fallbacks FROM partshift.counters WHERE job_id = :job;
SELECT partshift.finalize(:job);
CALL probe.finish(:job);
DROP TABLE s;
DROP FUNCTION writes, compared;
DO $$ BEGIN EXECUTE 'DROP TABLE ' || (SELECT string_agg(oid::regclass::text, ', ') FROM pg_class WHERE relname ~ '^[st]_legacy_\d+$'); END $$;
REVOKE CREATE ON SCHEMA public FROM queries_owner;
DROP ROLE queries_owner, queries_reader;
