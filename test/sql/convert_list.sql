-- A table with rows becomes one that is partitioned by list.
\set ECHO none
\getenv dir PG_ABS_SRCDIR
\set common :dir '/sql/common.psql'
\i :common

CREATE TYPE status AS ENUM ('new', 'paid', 'sent', 'void');
CREATE TABLE invoices (id integer PRIMARY KEY, status status NOT NULL,
	amount numeric);
INSERT INTO invoices
SELECT g, (enum_range(NULL::status))[g % 4 + 1], g
FROM generate_series(1, 2000) g;
CREATE TABLE before AS TABLE invoices;

-- Lists by name; values of no list stay in the default partition.
SELECT partshift.convert('invoices', 'list', 'status',
	lists => '{"open": ["new", "sent"], "closed": ["paid"]}',
	keep_legacy => false) AS job \gset
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT pg_get_partkeydef('invoices'::regclass);
SELECT leaf, bound,
	(SELECT count(*) FROM invoices WHERE tableoid = leaf) AS rows
FROM probe.leaves('invoices');
SELECT * FROM probe.differences('before', 'invoices');
SELECT * FROM probe.damages('invoices');
UPDATE invoices SET status = 'paid' WHERE id = 3 RETURNING tableoid::regclass;
SELECT partshift.finalize(:job);
CALL probe.finish(:job);
DROP TABLE invoices, before;
DROP TYPE status;

-- partitions => N: the numbers below N have one each.
CREATE TABLE shards (shard smallint, id integer, v text, PRIMARY KEY (id, shard));
INSERT INTO shards SELECT g % 3, g, 'v' FROM generate_series(1, 900) g;
CREATE TABLE before AS TABLE shards;
SELECT partshift.convert('shards', 'list', 'shard', partitions => 4,
	default_partition => 'drop', keep_legacy => false) AS job \gset
CALL probe.finish(:job);
SELECT leaf, bound,
	(SELECT count(*) FROM shards WHERE tableoid = leaf) AS rows
FROM probe.leaves('shards');
SELECT * FROM probe.differences('before', 'shards');
SELECT * FROM probe.damages('shards');
SELECT partshift.finalize(:job);
CALL probe.finish(:job);
DROP TABLE shards, before;

-- Neither: one partition for each value in the table, in its words.
CREATE TABLE parcels (id integer PRIMARY KEY, land text NOT NULL, "It's" jsonb);
INSERT INTO parcels
SELECT g, (ARRAY['Österreich', 'O''Neill "X"', 'nl', ' '])[g % 4 + 1],
	jsonb_build_object('g', g)
FROM generate_series(1, 400) g;
CREATE TABLE before AS TABLE parcels;
SELECT partshift.convert('parcels', 'list', 'land', keep_legacy => false) AS job \gset
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT leaf, bound,
	(SELECT count(*) FROM parcels WHERE tableoid = leaf) AS rows
FROM probe.leaves('parcels') ORDER BY bound COLLATE "C";
SELECT * FROM probe.differences('before', 'parcels');
SELECT * FROM probe.damages('parcels');
SELECT partshift.finalize(:job);
CALL probe.finish(:job);
DROP TABLE parcels, before;

-- Booleans, dates, numbers with fractions.
CREATE TABLE flags (id integer PRIMARY KEY, on_sale boolean NOT NULL);
INSERT INTO flags SELECT g, g % 3 = 0 FROM generate_series(1, 300) g;
SELECT partshift.convert('flags', 'list', 'on_sale',
	lists => '{"yes": [true], "no": ["false"]}', keep_legacy => false) AS job \gset
CALL probe.finish(:job);
SELECT tableoid::regclass, on_sale, count(*) FROM flags GROUP BY 1, 2 ORDER BY 2;
SELECT * FROM probe.damages('flags');
SELECT partshift.finalize(:job);
CALL probe.finish(:job);
DROP TABLE flags;

CREATE TABLE rates (id integer PRIMARY KEY, rate numeric(4, 2) NOT NULL);
INSERT INTO rates SELECT g, (g % 2) * 1.5 FROM generate_series(1, 300) g;
SELECT partshift.convert('rates', 'list', 'rate',
	lists => '{"zero": [0], "reduced": ["1.50"]}', keep_legacy => false) AS job \gset
CALL probe.finish(:job);
SELECT tableoid::regclass, rate, count(*) FROM rates GROUP BY 1, 2 ORDER BY 2;
SELECT * FROM probe.leaves('rates');
SELECT partshift.finalize(:job);
CALL probe.finish(:job);
DROP TABLE rates;
