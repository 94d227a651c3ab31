-- null_key: an expression stands for the nulls of the partition key column, in
-- the new table and until the swap.
\set ECHO none
\getenv dir PG_ABS_SRCDIR
\set common :dir '/sql/common.psql'
\i :common
\pset format unaligned
\pset tuples_only on

CREATE FUNCTION fails(n integer) RETURNS timestamptz LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	RETURN timestamptz '2026-03-05 00:00+00' + interval '1 day' / (n - 13);
END
$$;
CREATE TABLE prices (
	id integer PRIMARY KEY,
	"gone" text,
	"createdAt" timestamptz,
	"priceDate" timestamptz,
	n integer,
	note text DEFAULT 'plain');
ALTER TABLE prices DROP COLUMN gone;
INSERT INTO prices (id, "createdAt", "priceDate", n)
SELECT g, '2026-01-01 00:00+00'::timestamptz + g * interval '1 day',
	CASE WHEN g % 3 > 0 THEN '2026-01-01 00:00+00'::timestamptz + g * interval '1 day' END, g
FROM generate_series(1, 90) g;

-- What is refused, before anything is made.
CREATE FUNCTION probe.try(null_key text, key text DEFAULT 'priceDate') RETURNS text
LANGUAGE sql AS $$
	SELECT probe.refusal(format('SELECT partshift.convert(''prices'', ''range'', %L, every => ''1 month'', null_key => %L)', key, null_key))
$$;
SELECT probe.try(expression) FROM (VALUES
	('now()'),
	('"createdAt" +'),
	('"createdAt" AS x'),
	('*'),
	('1, 2'),
	('nothing'),
	('n'),
	('(SELECT max("createdAt") FROM prices)'),
	('max("createdAt")'),
	('row_number() OVER ()'),
	('generate_series("createdAt", "createdAt", ''1 day'')'),
	('CASE WHEN prices IS NULL THEN "createdAt" END'),
	('CASE WHEN xmin IS NOT NULL THEN "createdAt" END'),
	('n::text::timestamptz'),
	('random()'),
	('"createdAt" FROM prices'),
	('"createdAt"; DROP TABLE prices'),
	('nullif("createdAt", ''2026-01-10 00:00+00'')')) AS v (expression);
SELECT probe.try('fails(n)');
SELECT probe.try('public.fails(n)');
SELECT probe.refusal($$ SELECT partshift.convert('prices', 'range', 'id', every => '10', null_key => '1') $$);
SELECT probe.refusal($$ SELECT partshift.convert('prices', 'hash', '"priceDate", n', partitions => 2, null_key => '"createdAt"') $$);
SELECT probe.refusal($$ SELECT partshift.convert('prices', 'list', 'priceDate', null_key => '"createdAt"', derive => 'n') $$);
CREATE TABLE divided (id integer, at timestamptz) PARTITION BY HASH (id);
SELECT probe.refusal($$ SELECT partshift.convert('divided', 'range', 'at', every => '1 month', null_key => 'now()') $$);
DROP TABLE divided;
CREATE TABLE days (day timestamptz PRIMARY KEY);
ALTER TABLE prices ADD CHECK ("priceDate" > '2000-01-01'), ADD UNIQUE (n, "priceDate"), ADD UNIQUE ("priceDate", id),
	ADD FOREIGN KEY ("priceDate") REFERENCES days NOT VALID,
	ADD priced boolean GENERATED ALWAYS AS ("priceDate" IS NOT NULL) STORED;
CREATE UNIQUE INDEX prices_partial ON prices (n) WHERE "priceDate" IS NOT NULL;
SELECT message FROM jsonb_to_recordset(partshift.plan_job('prices', 'range', 'priceDate',
	'{"every": "1 month", "null_key": "\"createdAt\"", "unique_keys": "extend"}')->'findings') AS f (severity text, message text)
WHERE severity = 'error' AND message !~ 'not valid' ORDER BY 1;
ALTER TABLE prices DROP CONSTRAINT "prices_priceDate_check", DROP CONSTRAINT "prices_n_priceDate_key",
	DROP CONSTRAINT "prices_priceDate_fkey", DROP COLUMN priced;
DROP INDEX prices_partial;
DROP TABLE days;
SELECT count(*) FROM pg_class WHERE relname ~ '^prices_';

-- What the plan says.
SELECT severity, topic, object, detail, hint FROM partshift.plan('prices', 'range', 'priceDate', every => '1 month',
	premake => 0, null_key => '"createdAt"') WHERE topic = 'key' ORDER BY 1, 2, 3, 4;

-- The copy, and the changes that are mirrored.
SELECT partshift.convert('prices', 'range', 'priceDate', every => '1 month', premake => 0,
	null_key => '"createdAt"', swap => 'manual', legacy_name => 'prices_old') AS job \gset
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT shadow::regclass AS shadow FROM partshift.job WHERE job_id = :job \gset
CREATE VIEW filled AS SELECT id, "createdAt", coalesce("priceDate", "createdAt") AS "priceDate", n, note FROM prices;
\set same 'SELECT * FROM probe.differences(''filled'', :''shadow'');'
:same
INSERT INTO prices (id, "createdAt", "priceDate", n) VALUES
	(101, '2026-02-01 00:00+00', NULL, 1), (102, '2026-02-01 00:00+00', '2026-03-01 00:00+00', 1),
	(103, '2031-02-01 00:00+00', NULL, 1);
-- an update of the input is one of the key; of the key itself, to null and from null
UPDATE prices SET "createdAt" = "createdAt" + interval '1 month' WHERE id IN (3, 6, 7, 8, 101);
UPDATE prices SET "priceDate" = NULL WHERE id IN (1, 2, 102);
UPDATE prices SET "priceDate" = '2026-01-02 00:00+00' WHERE id IN (9, 12);
UPDATE prices SET "priceDate" = "createdAt" WHERE id IN (15, 18);
UPDATE prices SET id = id + 1000 WHERE id IN (21, 22, 24);
UPDATE prices SET note = 'changed' WHERE id IN (27, 28, 30);
DELETE FROM prices WHERE id IN (33, 34, 36);
BEGIN;
UPDATE prices SET "createdAt" = '2026-01-01 00:00+00' WHERE id = 39;
SAVEPOINT a;
UPDATE prices SET "createdAt" = '2026-02-01 00:00+00' WHERE id = 39;
DELETE FROM prices WHERE id = 42;
ROLLBACK TO a;
UPDATE prices SET "createdAt" = '2026-03-01 00:00+00', id = 1039 WHERE id = 39;
COMMIT;
:same
SELECT * FROM probe.damages(:'shadow');

-- A row for which there is no value does not fail, and the swap waits for it to have one.
INSERT INTO prices (id, n) VALUES (201, 1), (202, 2), (203, 3);
UPDATE prices SET "createdAt" = NULL WHERE id IN (45, 46, 48);
SELECT count(*) FROM partshift.unplaced WHERE job_id = :job;
SELECT * FROM probe.differences('filled', :'shadow');
SELECT partshift.verify(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
DELETE FROM prices WHERE id = 201;
UPDATE prices SET "createdAt" = '2026-02-02 00:00+00' WHERE id IN (45, 202);
UPDATE prices SET "priceDate" = '2026-02-03 00:00+00' WHERE id = 203;
UPDATE prices SET "createdAt" = '2026-02-02 00:00+00', "priceDate" = NULL WHERE id = 48;
SELECT partshift.resume(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
:same
SELECT count(*) FROM partshift.unplaced WHERE job_id = :job;
UPDATE prices SET "createdAt" = NULL WHERE id IN (46, 48);
SELECT partshift.swap(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT id FROM :shadow WHERE id IN (46, 48);
DELETE FROM prices WHERE id = 48;
SELECT partshift.resume(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT count(*) FROM partshift.unplaced WHERE job_id = :job;

-- From the swap on the server refuses a null.
SELECT probe.refusal($$ INSERT INTO prices (id, "createdAt") VALUES (301, '2026-02-01 00:00+00') $$);
SELECT probe.refusal($$ UPDATE prices SET "priceDate" = NULL WHERE id = 50 $$);
CALL probe.await(format('EXISTS (SELECT FROM partshift.carried_object WHERE job_id = %s)', :job));
SELECT object, state, reason FROM partshift.carried(:job) WHERE state <> 'same' AND class <> 'index'
	AND NOT (object ~ '_not_null$' AND reason IS NOT NULL);	-- 18 has names for NOT NULL

-- Legacy has the values it had, and follows.
DROP VIEW filled;
CREATE VIEW filled AS SELECT id, "createdAt", coalesce("priceDate", "createdAt") AS "priceDate", n, note FROM prices_old;
\set shadow prices
SELECT count(*) > 10 FROM prices_old WHERE "priceDate" IS NULL;
INSERT INTO prices (id, "createdAt", "priceDate") VALUES (302, '2026-01-01 00:00+00', '2026-02-03 00:00+00');
UPDATE prices SET "createdAt" = "createdAt" + interval '1 month' WHERE id IN (51, 52, 54);
UPDATE prices SET "priceDate" = "priceDate" + interval '1 month' WHERE id IN (57, 58, 60);
UPDATE prices SET id = id + 1000 WHERE id IN (63, 64);
DELETE FROM prices WHERE id IN (66, 67);
UPDATE prices SET note = 'new' WHERE id IN (69, 70);
:same
SELECT count(*) FROM partshift.dropout WHERE job_id = :job;
SELECT partshift.verify(:job);
CALL probe.finish(:job);
SELECT count(*) FROM partshift.verification WHERE job_id = :job AND NOT equal;
CREATE TABLE before AS TABLE prices;
SELECT partshift.rollback(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
DROP VIEW filled;
CREATE VIEW filled AS SELECT id, "createdAt", coalesce("priceDate", "createdAt") AS "priceDate", n, note FROM prices;
SELECT * FROM probe.differences('filled', 'before');
SELECT id, "createdAt", "priceDate" FROM prices WHERE id IN (51, 69, 72) ORDER BY 1;
DROP TABLE before;

-- An expression that fails is as one that is null; hash; a swap that nobody verifies.
UPDATE prices SET n = 1 WHERE n = 13;
SELECT partshift.convert('prices', 'hash', 'priceDate', partitions => 3, null_key => 'public.fails(n)',
	swap => 'manual', verify => 'none', legacy_name => 'prices_old') AS job \gset
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT shadow::regclass AS shadow FROM partshift.job WHERE job_id = :job \gset
INSERT INTO prices (id, n) VALUES (401, 13), (402, 12);
UPDATE prices SET n = 13 WHERE id = 72;
UPDATE prices SET n = 14 WHERE id = 75;
SELECT id FROM :shadow WHERE id IN (72, 75, 401, 402) ORDER BY 1;
SELECT count(*) FROM partshift.unplaced WHERE job_id = :job;
SELECT partshift.swap(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
-- What the expression needs cannot be dropped.
SELECT split_part(probe.refusal('DROP FUNCTION fails'), E'\n', 1);
SELECT probe.refusal('DROP FUNCTION fails CASCADE');
UPDATE prices SET n = 14 WHERE n = 13;
SELECT partshift.resume(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT count(*) FROM prices WHERE "priceDate" BETWEEN '2026-03-04 00:00+00' AND '2026-03-06 00:00+00';
SELECT partshift.finalize(:job);
CALL probe.finish(:job);
DROP VIEW filled;
DROP TABLE prices, prices_old;
DROP FUNCTION fails;
