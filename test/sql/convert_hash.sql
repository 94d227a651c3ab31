-- A table with rows becomes one that is partitioned by hash.
\set ECHO none
\getenv dir PG_ABS_SRCDIR
\set common :dir '/sql/common.psql'
\i :common

CREATE TABLE orders (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	customer integer NOT NULL,
	note text DEFAULT 'none',
	amount numeric(10, 2));
CREATE INDEX orders_customer_idx ON orders (customer, id);
INSERT INTO orders (customer, note, amount)
SELECT g % 97, nullif('note ' || g % 50, 'note 7'), g / 3.0
FROM generate_series(1, 5000) g;
DELETE FROM orders WHERE id % 10 = 3;
UPDATE orders SET note = 'changed' WHERE id % 10 = 4;
CREATE TABLE before AS TABLE orders;

-- By a column that the key lacks, with three workers.
SELECT partshift.convert('orders', 'hash', 'customer', partitions => 4,
	workers => 3) AS job \gset
CALL partshift.wait(:job);
SELECT probe.state(:job);

SELECT c.relkind, pg_get_partkeydef(c.oid) FROM pg_class c
WHERE c.oid = 'orders'::regclass;
SELECT * FROM probe.leaves('orders');
SELECT * FROM probe.differences('before', 'orders');
SELECT * FROM probe.damages('orders');
SELECT count(*), count(DISTINCT tableoid) FROM orders;

-- The key has the partition key now, and everything has its old name.
SELECT replace(pg_get_indexdef(indexrelid), ' ON ONLY ', ' ON ')
FROM pg_index WHERE indrelid = 'orders'::regclass ORDER BY 1;
SELECT conname, contype, pg_get_constraintdef(oid) FROM pg_constraint
WHERE conrelid = 'orders'::regclass AND contype <> 'n';

-- The sequence goes on where it was.
INSERT INTO orders (customer) VALUES (1) RETURNING id;

-- Every phase is in the log, in order, and took its time once.
SELECT string_agg(phase, ', ' ORDER BY ended_at) FROM partshift.phase_log
WHERE job_id = :job;

-- The comparison is on record: one line for each partition, all equal.
SELECT leaf, source_rows = shadow_rows AND source_sum = shadow_sum AS same,
	equal, identities
FROM partshift.verification WHERE job_id = :job ORDER BY leaf;
SELECT sum(source_rows) FROM partshift.verification WHERE job_id = :job;

SELECT partshift.finalize(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT relation, strategy, key, phase, status, owner = current_user AS mine,
	regexp_replace(legacy, '\d{8}', 'YYYYMMDD') AS legacy,
	rollback_possible
FROM partshift.jobs WHERE job_id = :job;
SELECT legacy FROM partshift.jobs WHERE job_id = :job \gset
DROP TABLE :legacy;
DROP TABLE orders, before;

-- Several columns, of them one that the key has; an empty table.
CREATE TABLE "Two Keys" (a integer, "B b" text, c date,
	PRIMARY KEY (a, "B b"));
SELECT partshift.convert('"Two Keys"', 'hash', 'a, "B b"', partitions => 3,
	keep_legacy => false) AS job \gset
CALL partshift.wait(:job);
SELECT pg_get_partkeydef('"Two Keys"'::regclass);
INSERT INTO "Two Keys" SELECT g, g::text, 'today' FROM generate_series(1, 100) g;
SELECT * FROM probe.damages('"Two Keys"');
SELECT pg_get_constraintdef(oid) FROM pg_constraint
WHERE conrelid = '"Two Keys"'::regclass AND contype = 'p';
SELECT partshift.finalize(:job);
CALL probe.finish(:job);

-- keep_legacy => false: only the new table is left.
SELECT relname, relkind FROM pg_class
WHERE relname LIKE '%Two Keys%' AND relkind IN ('r', 'p') ORDER BY 1;
DROP TABLE "Two Keys";

-- A unique constraint serves when there is no primary key.
CREATE TABLE tickets (number integer NOT NULL, holder text,
	CONSTRAINT one_number UNIQUE (number));
INSERT INTO tickets SELECT g, 'h' || g FROM generate_series(1, 1000) g;
CREATE TABLE before AS TABLE tickets;
SELECT partshift.convert('tickets', 'hash', 'number', partitions => 2,
	keep_legacy => false) AS job \gset
CALL partshift.wait(:job);
SELECT * FROM probe.differences('before', 'tickets');
SELECT * FROM probe.damages('tickets');
SELECT conname, contype, pg_get_constraintdef(oid) FROM pg_constraint
WHERE conrelid = 'tickets'::regclass AND contype <> 'n';
SELECT partshift.finalize(:job);
CALL probe.finish(:job);
DROP TABLE tickets, before;

-- An unlogged table stays one.
CREATE UNLOGGED TABLE scratch (id integer PRIMARY KEY, v text);
INSERT INTO scratch SELECT g, 'v' FROM generate_series(1, 500) g;
SELECT partshift.convert('scratch', 'hash', 'id', partitions => 2,
	keep_legacy => false) AS job \gset
CALL partshift.wait(:job);
SELECT count(*), string_agg(DISTINCT relpersistence::text, '')
FROM scratch s JOIN pg_class c ON c.oid = s.tableoid;
SELECT partshift.finalize(:job);
CALL probe.finish(:job);
DROP TABLE scratch;

-- No other relation is left behind, and no trigger.
SELECT relname FROM pg_class
WHERE relnamespace IN ('public'::regnamespace, 'partshift'::regnamespace)
	AND relname ~ '_ps\d|^log_|^postponed_|legacy';
SELECT tgname FROM pg_trigger WHERE tgname ~ 'partshift';
SELECT nspname FROM pg_namespace WHERE nspname ~ 'partshift_build';
