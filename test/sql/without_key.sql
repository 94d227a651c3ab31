-- Tables that are locked against writing, because they have no key or because
-- their owner wants it so.
\set ECHO none
\getenv dir PG_ABS_SRCDIR
\set common :dir '/sql/common.psql'
\i :common
CREATE TABLE vehicles (id integer PRIMARY KEY);
INSERT INTO vehicles SELECT generate_series(1, 9);
CREATE TABLE fixes (vehicle integer REFERENCES vehicles ON DELETE CASCADE, at timestamp NOT NULL,
	code integer, spot point, note text DEFAULT 'n', UNIQUE (code) DEFERRABLE);
CREATE UNIQUE INDEX fixes_partial ON fixes (vehicle, at) WHERE note = 'only';
CREATE INDEX fixes_lower ON fixes (lower(note));
CREATE INDEX fixes_spot ON fixes USING gist (spot);
INSERT INTO fixes
SELECT g % 9 + 1, timestamp '2026-01-01' + g % 300 * interval '1 hour', nullif(g % 2000, 0) + g, point(g % 7, 1),
	CASE WHEN g % 100 = 0 THEN repeat('wide ', 3000) ELSE 'n' END
FROM generate_series(1, 1500) g;
-- Rows that are equal are as many as before.
INSERT INTO fixes SELECT 1, '2026-01-03', NULL, NULL, 'twin' FROM generate_series(1, 5);
DELETE FROM fixes WHERE at < '2026-01-01 03:00';
ALTER TABLE fixes DROP COLUMN spot;
ALTER TABLE fixes ADD COLUMN speed real DEFAULT 7;
INSERT INTO fixes SELECT 2, '2026-01-04', NULL, 'later', 8;
CREATE TABLE before AS SELECT *, note || speed AS extra FROM fixes;
ALTER TABLE before DROP COLUMN extra;
SET client_min_messages = notice;
\set ECHO all

-- What the plan says, and what it refuses.
SELECT probe.refusal($$SELECT partshift.convert('fixes', 'range', 'at', every => '1 day')$$);
SELECT severity, topic, probe.mask(detail) AS detail, hint
FROM partshift.plan('fixes', 'range', 'at', every => '1 day', premake => 0, lock_writes => true,
	unique_keys => 'per_partition', swap => 'manual')
WHERE severity <> 'info' AND topic IN ('writers', 'key', 'unique');
SELECT severity, detail FROM partshift.plan('vehicles', 'hash', 'id', partitions => 2, lock_writes => true)
WHERE topic IN ('writers', 'key');
SELECT probe.refusal($$SELECT partshift.convert('fixes', 'range', 'at', every => '1 day', lock_writes => true)$$);
SELECT probe.refusal($$SELECT partshift.convert('fixes', 'range', 'at', every => '1 day', lock_writes => true,
	unique_keys => 'extend', reverse_sync => true)$$);
SELECT probe.refusal($$SELECT partshift.convert('vehicles', 'hash', 'id', partitions => 2, lock_writes => true,
	foreign_keys => 'extend')$$);
SELECT probe.refusal($$SELECT partshift.convert('fixes', 'hash', 'vehicle', partitions => 2, lock_writes => true,
	unique_keys => 'extend')$$);
SELECT probe.refusal($$SELECT partshift.create_job('fixes', 'range', 'at', '{"every": "1 day", "lock_writes": "yes"}')$$);

-- Abort leaves nothing behind, at the end and in the middle.
SELECT partshift.convert('fixes', 'range', 'at', every => '1 day', premake => 0, lock_writes => true,
	unique_keys => 'per_partition', swap => 'manual', legacy_name => 'fixes_old') AS job \gset
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT mode, count(*) FROM pg_locks WHERE relation = 'fixes'::regclass GROUP BY mode;
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'fixes'::regclass AND tgname LIKE 'partshift%';
SELECT count(*) FROM pg_class WHERE relnamespace = 'partshift'::regnamespace AND relname ~ '^(log|postponed)_';
-- The phases that have nothing to do took no step.
SELECT string_agg(phase, ' ' ORDER BY ended_at) FROM partshift.phase_log WHERE job_id = :job;
SELECT partshift.abort(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
CALL probe.await($$NOT EXISTS (SELECT FROM pg_locks WHERE relation = 'fixes'::regclass AND pid <> pg_backend_pid())$$);
SELECT relname FROM pg_class WHERE relname ~ '^fixes' AND relkind IN ('r', 'p') ORDER BY 1;

-- Converted, with several workers.
SELECT partshift.convert('fixes', 'range', 'at', every => '1 day', premake => 0, lock_writes => true,
	unique_keys => 'per_partition', workers => 3, legacy_name => 'fixes_old') AS job \gset
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT * FROM probe.differences('before', 'fixes');
SELECT * FROM probe.damages('fixes');
SELECT indexrelid::regclass, indisunique, pg_get_indexdef(indexrelid) FROM pg_index
WHERE indrelid IN ('fixes'::regclass, 'fixes_p20260103'::regclass) ORDER BY 1;
SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE conrelid = 'fixes'::regclass AND contype <> 'n' ORDER BY 1;
SELECT count(*) > 0 AS compared, bool_and(equal) FROM partshift.verification WHERE job_id = :job AND source_sum = shadow_sum;
SELECT state, class, object, reason FROM partshift.carried(:job) WHERE state <> 'same' AND reason IS NULL;
-- Every row is visible to all, whoever copied it.
CREATE EXTENSION IF NOT EXISTS pageinspect;
SELECT count(*) FROM pg_partition_tree('fixes') t, generate_series(0, pg_relation_size(relid) / 8192 - 1) b,
	heap_page_items(get_raw_page(relid::regclass::text, b::integer)) i
WHERE t.isleaf AND lp_flags = 1 AND t_infomask & 768 <> 768;

-- Deletes of referenced rows reach the new table alone; the old one is a backup.
DELETE FROM vehicles WHERE id = 3;
SELECT count(*) FROM fixes WHERE vehicle = 3;
SELECT count(*) > 0 FROM fixes_old WHERE vehicle = 3;
SELECT rollback_possible FROM partshift.jobs WHERE job_id = :job;
SELECT probe.refusal(format('SELECT partshift.rollback(%s)', :job));
SELECT partshift.finalize(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
DROP TABLE fixes, fixes_old, before;

-- A table with a key goes back as usual.
CREATE TABLE orders (id integer PRIMARY KEY, vehicle integer REFERENCES vehicles);
INSERT INTO orders SELECT g, g % 9 + 1 FROM generate_series(1, 300) g WHERE g % 9 <> 2;
CREATE TABLE lines (order_id integer REFERENCES orders);
INSERT INTO lines SELECT id FROM orders;
SELECT partshift.convert('orders', 'hash', 'id', partitions => 3, lock_writes => true,
	legacy_name => 'orders_old') AS job \gset
CALL probe.finish(:job);
SELECT probe.state(:job);
INSERT INTO orders VALUES (1000, 1);
INSERT INTO lines VALUES (1000);
UPDATE orders SET vehicle = 2 WHERE id = 1;
SELECT partshift.verify(:job);
CALL probe.finish(:job);
SELECT bool_and(equal) FROM partshift.verification WHERE job_id = :job;
SELECT partshift.rollback(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT count(*), count(*) FILTER (WHERE vehicle = 2 AND id = 1) FROM orders;
SELECT relkind FROM pg_class WHERE oid = 'orders'::regclass;
DROP TABLE lines, orders;

-- By list and by hash; an empty one; one that is unlogged.
CREATE TABLE words (word text NOT NULL, n integer);
INSERT INTO words SELECT (ARRAY['a', 'b', 'a'])[g % 3 + 1], g % 5 FROM generate_series(1, 60) g;
CREATE TABLE before AS TABLE words;
SELECT partshift.convert('words', 'list', 'word', lock_writes => true, verify => 'none', keep_legacy => false) AS job \gset
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT * FROM probe.differences('before', 'words');
SELECT partshift.finalize(:job);
CALL probe.finish(:job);
DROP TABLE words, before;
CREATE UNLOGGED TABLE words (word text NOT NULL, n integer);
SELECT partshift.convert('words', 'hash', 'word', partitions => 2, lock_writes => true, verify => 'count',
	keep_legacy => false) AS job \gset
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT relpersistence, count(*) FROM pg_partition_tree('words') t JOIN pg_class c ON c.oid = t.relid WHERE isleaf GROUP BY 1;
SELECT partshift.finalize(:job);
CALL probe.finish(:job);
DROP TABLE words, vehicles;
DROP EXTENSION pageinspect;
