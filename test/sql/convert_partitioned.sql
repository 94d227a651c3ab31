-- A table that is partitioned already gets other partitions.
\set ECHO none
\getenv dir PG_ABS_SRCDIR
\set common :dir '/sql/common.psql'
\i :common

-- By hash, from 8 partitions to 32: names that the old ones have are exchanged.
CREATE TABLE kinds (kind text PRIMARY KEY);
INSERT INTO kinds VALUES ('a'), ('b'), ('c');
CREATE TABLE orders (
	id bigint GENERATED ALWAYS AS IDENTITY,
	customer integer NOT NULL,
	kind text NOT NULL DEFAULT 'a' CONSTRAINT kind_known REFERENCES kinds ON UPDATE CASCADE,
	gone integer,
	note text CHECK (note <> ''),
	PRIMARY KEY (id, customer),
	CONSTRAINT noted UNIQUE (customer, note)) PARTITION BY HASH (customer);
ALTER TABLE orders DROP COLUMN gone;
DO $$
BEGIN
	FOR r IN 0..7 LOOP
		EXECUTE format('CREATE TABLE orders_p%s PARTITION OF orders
			FOR VALUES WITH (MODULUS 8, REMAINDER %s) WITH (fillfactor = 90)', r, r);
	END LOOP;
END
$$;
CREATE INDEX ON orders (kind, lower(note)) WHERE kind <> 'a';
CREATE STATISTICS orders_stat ON customer, kind FROM orders;
CREATE TABLE lines (
	line integer PRIMARY KEY, id bigint, customer integer,
	CONSTRAINT of_order FOREIGN KEY (id, customer) REFERENCES orders
		ON DELETE CASCADE ON UPDATE CASCADE);
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.note := coalesce(NEW.note, 'note of ' || NEW.id);
	RETURN NEW;
END
$$;
CREATE TRIGGER stamp BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION stamp();
CREATE VIEW big_customers AS SELECT customer, count(*) FROM orders GROUP BY customer;
CREATE ROLE clerk;
GRANT SELECT, INSERT (customer, kind) ON orders TO clerk;
ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
CREATE POLICY all_of_them ON orders USING (kind <> '');
COMMENT ON TABLE orders IS 'what was ordered';
COMMENT ON INDEX noted IS 'one note each';
INSERT INTO orders (customer, kind) SELECT g % 101, (ARRAY['a', 'b', 'c'])[1 + g % 3]
FROM generate_series(1, 5000) g;
INSERT INTO lines SELECT row_number() OVER (), id, customer FROM orders WHERE id % 10 = 0;
DELETE FROM orders WHERE id % 10 = 3;
CREATE TABLE before AS TABLE orders;
CREATE TABLE described AS SELECT * FROM probe.describe('orders') d;

SELECT severity, topic, object, probe.mask(detail) AS detail
FROM partshift.plan('orders', 'hash', 'customer', partitions => 32)
WHERE severity <> 'info' OR topic = 'partitions';
SELECT partshift.convert('orders', 'hash', 'customer', partitions => 32,
	legacy_name => 'orders_old', workers => 3) AS job \gset
CALL partshift.wait(:job);
SELECT probe.state(:job);
SELECT count(*), min(leaf::text COLLATE "C"), max(leaf::text COLLATE "C") FROM probe.leaves('orders');
SELECT regexp_replace(leaf::text, '\d{8}', 'YYYYMMDD') AS leaf, bound FROM probe.leaves('orders_old');
SELECT * FROM probe.leaves('orders') WHERE leaf::text IN ('orders_p0', 'orders_p31');
SELECT indexrelid::regclass FROM pg_index WHERE indrelid = 'orders_p0'::regclass ORDER BY indexrelid::regclass::text COLLATE "C";
SELECT * FROM probe.differences('before', 'orders');
SELECT * FROM probe.damages('orders');
SELECT * FROM probe.storage('orders');

-- Everything is as it was.
SELECT d FROM described EXCEPT SELECT d FROM probe.describe('orders') d;
SELECT d FROM probe.describe('orders') d EXCEPT SELECT d FROM described;
SELECT * FROM partshift.carried(:job) WHERE state <> 'same';
SELECT sum(count) FROM big_customers;

-- What is written reaches the old partitions.
INSERT INTO orders (customer, kind) VALUES (1000, 'b') RETURNING id > 5000 AS next, note LIKE 'note of %' AS stamped;
UPDATE orders SET customer = customer + 1 WHERE customer = 50;
DELETE FROM orders WHERE id = 100;
UPDATE kinds SET kind = 'd' WHERE kind = 'c';
SELECT count(*) FROM lines WHERE id = 100 OR customer = 50;
SELECT * FROM probe.differences('orders', 'orders_old');

-- A rollback gives the names back.
CREATE TABLE later AS TABLE orders;
SELECT partshift.rollback(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT * FROM probe.leaves('orders');
SELECT indexrelid::regclass FROM pg_index WHERE indrelid = 'orders_p0'::regclass ORDER BY indexrelid::regclass::text COLLATE "C";
SELECT * FROM probe.differences('later', 'orders');
SELECT d FROM described EXCEPT SELECT d FROM probe.describe('orders') d;
SELECT d FROM probe.describe('orders') d EXCEPT SELECT d FROM described;
SELECT conname, confrelid::regclass, convalidated FROM pg_constraint
WHERE conrelid = 'lines'::regclass AND contype = 'f' AND conparentid = 0;
INSERT INTO orders (customer) VALUES (3) RETURNING note LIKE 'note of %' AS stamped;
DROP TABLE lines, orders, kinds, before, later, described CASCADE;
DROP FUNCTION stamp;
DROP ROLE clerk;

-- By range, from months to days.
CREATE TABLE events (
	id bigint NOT NULL, at timestamptz NOT NULL, what text, PRIMARY KEY (id, at))
	PARTITION BY RANGE (at);
CREATE TABLE events_p202401 PARTITION OF events FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
CREATE TABLE events_p202402 (what text, at timestamptz NOT NULL, id bigint NOT NULL);
ALTER TABLE events ATTACH PARTITION events_p202402 FOR VALUES FROM ('2024-02-01') TO ('2024-03-01');
CREATE TABLE events_default PARTITION OF events DEFAULT;
INSERT INTO events SELECT g, timestamptz '2024-01-01' + g * interval '7 minutes', 'event ' || g
FROM generate_series(0, 11000) g;
CREATE TABLE before AS TABLE events;
SELECT partshift.convert('events', 'range', 'at',
	bounds => (SELECT jsonb_agg(d) FROM generate_series(timestamp '2024-01-01', '2024-03-01', '1 day') d),
	swap => 'manual', legacy_name => 'events_old') AS job \gset
CALL probe.finish(:job);
SELECT probe.state(:job);

-- A month that is truncated takes its days with it, and no others.
SELECT shadow::regclass AS shadow FROM partshift.job WHERE job_id = :job \gset
TRUNCATE events_p202402;
SELECT * FROM probe.differences('events', :'shadow');
INSERT INTO events SELECT * FROM before WHERE at >= '2024-02-10' AND at < '2024-03-01';
SELECT partshift.swap(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT count(*), min(leaf::text COLLATE "C"), max(leaf::text COLLATE "C") FROM probe.leaves('events');
SELECT regexp_replace(leaf::text, '\d{8}$', 'YYYYMMDD') AS leaf, bound FROM probe.leaves('events_old');
SELECT * FROM probe.damages('events');
SELECT date_trunc('month', at), count(*) FROM events GROUP BY 1 ORDER BY 1;
DELETE FROM before WHERE at >= '2024-02-01' AND at < '2024-02-10';
SELECT * FROM probe.differences('before', 'events');

-- A truncated day makes the old table drop out, all of it does not.
BEGIN;
TRUNCATE events;
INSERT INTO events VALUES (1, '2024-01-05', 'new');
SELECT * FROM probe.differences('events', 'events_old');
SELECT reason FROM partshift.dropout WHERE job_id = :job;
ROLLBACK;
TRUNCATE events_p20240103;
SELECT rollback_possible, rollback_lost_reason FROM partshift.jobs WHERE job_id = :job;
SELECT partshift.finalize(:job);
CALL probe.finish(:job);
DROP TABLE events, events_old, before;

-- From range to hash, without a partition for what comes later: the new table
-- takes it, and the old one drops out.
CREATE TABLE logs (id bigint NOT NULL, day date NOT NULL, v text, PRIMARY KEY (id, day))
	PARTITION BY RANGE (day);
CREATE UNLOGGED TABLE logs_1 PARTITION OF logs FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
CREATE UNLOGGED TABLE logs_2 PARTITION OF logs FOR VALUES FROM ('2024-02-01') TO ('2024-03-01');
INSERT INTO logs SELECT g, date '2024-01-01' + g % 60, 'v' FROM generate_series(1, 1000) g;
CREATE TABLE before AS TABLE logs;
SELECT partshift.convert('logs', 'hash', 'id', partitions => 4, legacy_name => 'logs_old',
	keep_legacy => false) AS job \gset
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT * FROM probe.differences('before', 'logs');
SELECT DISTINCT relpersistence FROM probe.leaves('logs') l JOIN pg_class c ON c.oid = l.leaf;
INSERT INTO logs VALUES (1, '2024-01-20', 'same id, another day');
SELECT count(*) FROM probe.differences('logs', 'logs_old');
INSERT INTO logs VALUES (5000, '2024-03-01', 'no partition in the old table');
SELECT rollback_possible, rollback_lost_reason FROM partshift.jobs WHERE job_id = :job;
SELECT partshift.finalize(:job);
CALL probe.finish(:job);
SELECT relname FROM pg_class WHERE relname ~ '^logs' AND relkind IN ('r', 'p') ORDER BY 1;

-- What was converted once can be converted again.
SELECT partshift.convert('logs', 'range', 'day', bounds => '["2024-01-01", "2024-02-01", "2024-04-01"]',
	default_partition => 'drop', legacy_name => 'logs_old') AS job \gset
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT * FROM probe.leaves('logs');
SELECT * FROM probe.differences('logs', 'logs_old');
SELECT partshift.finalize(:job);
CALL probe.finish(:job);
SELECT relname FROM pg_class WHERE relname ~ '^logs' AND relkind IN ('r', 'p') ORDER BY 1;
SELECT tgrelid::regclass, tgname FROM pg_trigger WHERE tgname ~ '^partshift';
DROP TABLE logs, logs_old, before;
SELECT relname FROM pg_class WHERE relname ~ '^(orders|events|logs|log_|postponed_)' AND oid <> 'partshift.events'::regclass;
