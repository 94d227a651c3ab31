-- Large values: stored outside the row, compressed either way, changed or not.
\set ECHO none
\getenv dir PG_ABS_SRCDIR
\set common :dir '/sql/common.psql'
\i :common
\pset format unaligned
\pset tuples_only on
CREATE TABLE t (
	id integer PRIMARY KEY, n integer NOT NULL DEFAULT 0,
	plain text, raw text, main text, bin bytea, doc jsonb, arr text[],
	late text);
ALTER TABLE t ALTER raw SET STORAGE EXTERNAL, ALTER main SET STORAGE MAIN,
	ALTER bin SET COMPRESSION pglz;
CREATE FUNCTION long(n integer, seed integer) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(md5((seed * 1000 + g)::text), '') FROM generate_series(1, n) g
$$;
INSERT INTO t
SELECT g, g, long(g * 3, g), long(g * 2, g), repeat(md5(g::text), g * 5),
	decode(repeat(md5(g::text), g * 4), 'hex'), jsonb_build_object('k', long(g, g), 'e', repeat('e', g * 100)),
	ARRAY[long(g, g), NULL, repeat('a', g * 50)]
FROM generate_series(1, 150) g;
-- Columns added later: old rows do not hold their values.
ALTER TABLE t ADD added integer DEFAULT 42, ADD more text DEFAULT repeat('default ', 500);
ALTER TABLE t DROP late;
INSERT INTO t (id, plain) VALUES (1000, NULL), (1001, ''), (1002, repeat('x', 3000000));
CREATE TABLE before AS TABLE t;

SELECT partshift.convert('t', 'hash', 'id', partitions => 3, swap => 'manual', workers => 4) AS job \gset
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT shadow::regclass AS shadow FROM partshift.job WHERE job_id = :job \gset
SELECT * FROM probe.differences('t', :'shadow');
UPDATE t SET n = n + 1 WHERE id < 50;
UPDATE t SET raw = raw || 'x' WHERE id BETWEEN 40 AND 60;
UPDATE t SET doc = doc || '{"new": 1}', more = NULL WHERE id BETWEEN 60 AND 70;
UPDATE t SET id = id + 2000 WHERE id BETWEEN 70 AND 80;
DELETE FROM t WHERE id BETWEEN 80 AND 90;
INSERT INTO t (id, plain, raw) SELECT 3000 + id, raw, plain FROM t WHERE id BETWEEN 100 AND 120;
BEGIN;
UPDATE t SET plain = repeat('y', 100000) WHERE id = 1;
SAVEPOINT a;
UPDATE t SET plain = repeat('z', 100000) WHERE id = 1;
ROLLBACK TO a;
UPDATE t SET n = -1 WHERE id = 1;
COMMIT;
SELECT * FROM probe.differences('t', :'shadow');

-- Each large value is stored as it was.
CREATE TABLE stored_before AS
	SELECT id, pg_column_size(plain) AS plain, pg_column_size(raw) AS raw, pg_column_compression(bin) AS bin,
		pg_column_compression(raw) AS raw_compression, pg_column_compression(plain) AS plain_compression
	FROM t;
SELECT partshift.swap(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT count(*) FROM stored_before s JOIN t USING (id)
WHERE id > 40 AND (s.plain, s.raw, s.bin, s.raw_compression, s.plain_compression) IS DISTINCT FROM
	(pg_column_size(t.plain), pg_column_size(t.raw), pg_column_compression(t.bin),
	 pg_column_compression(t.raw), pg_column_compression(t.plain));
SELECT attname, attstorage, attcompression FROM pg_attribute
WHERE attrelid = 't_p1'::regclass AND attname IN ('raw', 'main', 'bin') ORDER BY 1;
SELECT * FROM probe.damages('t');

-- The way back holds them too.
SELECT legacy FROM partshift.jobs WHERE job_id = :job \gset
UPDATE t SET n = n + 1 WHERE id > 100;
UPDATE t SET plain = reverse(plain) WHERE id < 20;
DELETE FROM t WHERE id BETWEEN 20 AND 30;
INSERT INTO t (id, plain, raw) SELECT 4000 + id, raw, plain FROM t WHERE id BETWEEN 100 AND 120;
SELECT * FROM probe.differences('t', :'legacy');
-- Values in the old table do not need the new one.
SELECT partshift.finalize(:job);
CALL probe.finish(:job);
CREATE TABLE sums AS SELECT id, md5(t::text) AS sum FROM t;
DROP TABLE t;
SELECT count(*) FROM sums s JOIN :legacy t USING (id) WHERE s.sum IS DISTINCT FROM md5(t::text);
SELECT count(*) > 150 FROM sums;
DROP TABLE :legacy, before, stored_before, sums;
-- Columns added later to a table from which none was dropped: most rows are copied as they are.
CREATE TABLE u (id integer PRIMARY KEY, v text);
INSERT INTO u SELECT g, 'v' || g FROM generate_series(1, 100) g;
ALTER TABLE u ADD added integer DEFAULT 42, ADD more text DEFAULT 'more';
INSERT INTO u SELECT g, 'v' || g FROM generate_series(101, 200) g;
CREATE TABLE before AS TABLE u;
SELECT partshift.convert('u', 'hash', 'id', partitions => 3, keep_legacy => false) AS job \gset
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT * FROM probe.differences('before', 'u');
SELECT partshift.finalize(:job);
CALL probe.finish(:job);
DROP TABLE u, before;
DROP FUNCTION long;
