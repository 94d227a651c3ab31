-- derive: a list key that only the new table has, computed from the row.
\set ECHO none
\getenv dir PG_ABS_SRCDIR
\set common :dir '/sql/common.psql'
\i :common
\pset format unaligned
\pset tuples_only on

CREATE TABLE collections (id integer PRIMARY KEY);
INSERT INTO collections SELECT generate_series(1, 20);
CREATE TABLE chunks (
	id integer PRIMARY KEY,
	"Collection" integer NOT NULL CONSTRAINT of_collection REFERENCES collections ON DELETE CASCADE,
	code text UNIQUE,
	body text,
	words integer GENERATED ALWAYS AS (length(body)) STORED);
INSERT INTO chunks (id, "Collection", code, body) SELECT g, 1 + g % 20, 'c' || g, repeat('x', g) FROM generate_series(1, 200) g;
\set expression 'mod(abs(hashtext("Collection"::text)), 4)'

-- What is refused, before anything is made.
CREATE FUNCTION probe.try(derive text, key text DEFAULT 'bucket', strategy text DEFAULT 'list') RETURNS text
LANGUAGE sql AS $$
	SELECT probe.refusal(format('SELECT partshift.convert(''chunks'', %L, %L, partitions => 4, derive => %L, unique_keys => ''extend'')', strategy, key, derive))
$$;
SELECT probe.try(expression) FROM (VALUES
	('1'),
	('row(id)'),
	('ARRAY[id]'),
	('id::text'),
	('nullif(id, 7)'),
	('1 / (id - 7)'),
	('(random() * id)::integer'),
	('bucket')) AS v (expression);
SELECT probe.try(:'expression', 'body');
SELECT probe.try(:'expression', 'a, b');
SELECT probe.try(:'expression', repeat('b', 64));
SELECT probe.try(:'expression', strategy => 'hash');
CREATE TABLE notes (id integer PRIMARY KEY, chunk integer REFERENCES chunks);
SELECT probe.try(:'expression');
SELECT probe.refusal($$ SELECT partshift.convert('chunks', 'list', 'bucket', partitions => 4, derive => 'id % 4',
	unique_keys => 'extend', foreign_keys => 'extend') $$);
DROP TABLE notes;
SET client_min_messages = error;	-- wal_level may be low
CREATE PUBLICATION pub FOR TABLE chunks (id, body) WITH (publish_via_partition_root);
SELECT probe.try(:'expression');
DROP PUBLICATION pub;
SET client_min_messages = warning;
SELECT count(*) FROM pg_class WHERE relname ~ '^chunks_[0-9d]';

-- What the plan says.
SELECT severity, topic, object, detail, hint FROM partshift.plan('chunks', 'list', 'bucket', partitions => 4,
	derive => :'expression', unique_keys => 'extend') WHERE topic IN ('key', 'partitions') ORDER BY 1, 2, 3, 4;
SELECT detail FROM partshift.plan('chunks', 'list', 'kind',
	derive => 'left(body, 1)', unique_keys => 'extend') WHERE topic = 'partitions' AND severity = 'info';

-- The copy, and the changes that are mirrored.
SELECT partshift.convert('chunks', 'list', 'bucket', partitions => 4, derive => :'expression',
	unique_keys => 'extend', swap => 'manual', default_partition => 'drop', legacy_name => 'chunks_old') AS job \gset
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT shadow::regclass AS shadow FROM partshift.job WHERE job_id = :job \gset
CREATE FUNCTION probe.same(other regclass) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	CREATE TEMPORARY TABLE short AS SELECT id, "Collection", code, body, words FROM chunks;
	EXECUTE format('CREATE TEMPORARY TABLE other AS SELECT id, "Collection", code, body, words FROM %s', other);
	RETURN QUERY SELECT * FROM probe.differences('short', 'other');
	DROP TABLE short, other;
END
$$;
SELECT probe.same(:'shadow');
INSERT INTO chunks (id, "Collection", code, body) VALUES (301, 1, 'n1', 'one'), (302, 2, 'n2', 'two');
UPDATE chunks SET "Collection" = "Collection" % 20 + 1 WHERE id < 50;
UPDATE chunks SET id = id + 1000 WHERE id BETWEEN 50 AND 60;
UPDATE chunks SET id = id + 1000, "Collection" = 3 WHERE id BETWEEN 61 AND 70;
UPDATE chunks SET body = 'changed' WHERE id BETWEEN 71 AND 80;
DELETE FROM chunks WHERE id BETWEEN 81 AND 90;
DELETE FROM collections WHERE id = 20;
BEGIN;
UPDATE chunks SET "Collection" = 4 WHERE id = 91;
SAVEPOINT a;
UPDATE chunks SET "Collection" = 5 WHERE id = 91;
DELETE FROM chunks WHERE id = 92;
ROLLBACK TO a;
UPDATE chunks SET "Collection" = 6, id = 1091 WHERE id = 91;
COMMIT;
SELECT probe.same(:'shadow');
SELECT * FROM probe.damages(:'shadow');
SELECT partshift.verify(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT bool_and(equal), sum(source_rows) = sum(shadow_rows) FROM partshift.verification WHERE job_id = :job;
-- The comparison sees a wrong value of the derived column.
BEGIN;
SET LOCAL session_replication_role = replica;
ALTER TABLE :shadow DROP CONSTRAINT chunks_bucket_derived;
UPDATE :shadow SET bucket = (bucket + 1) % 4 WHERE id = 100;
COMMIT;
SELECT partshift.verify(:job);
CALL probe.finish(:job);
SELECT error_sqlstate FROM partshift.job WHERE job_id = :job;
SELECT source_rows - shadow_rows, identities FROM partshift.verification WHERE job_id = :job AND NOT equal ORDER BY 1, 2;
SELECT partshift.abort(:job);
CALL probe.finish(:job);

-- The swap, with a key of text.
SELECT partshift.convert('chunks', 'list', 'bucket', partitions => 4, derive => :'expression',
	unique_keys => 'extend', swap => 'manual', default_partition => 'drop', legacy_name => 'chunks_old') AS job \gset
CALL probe.finish(:job);
SELECT partshift.swap(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT probe.same('chunks_old');
CALL probe.await(format('EXISTS (SELECT FROM partshift.carried_object WHERE job_id = %s)', :job));
-- 18 has names for NOT NULL.
SELECT object, state, reason FROM partshift.carried(:job) WHERE state <> 'same' AND NOT (object ~ '_not_null$' AND reason IS NOT NULL);
SELECT column_name, data_type, is_nullable FROM information_schema.columns WHERE table_name = 'chunks' ORDER BY ordinal_position;

-- From the swap on the application gives the column, with its value.
SELECT probe.refusal($$ INSERT INTO chunks (id, "Collection") VALUES (401, 1) $$);
SELECT probe.refusal(format($$ INSERT INTO chunks (id, "Collection", bucket) VALUES (401, 1, (%s + 1) %% 4) $$, replace(:'expression', '"Collection"', '1')));
SELECT probe.refusal($$ INSERT INTO chunks (id, "Collection", bucket) VALUES (401, 1, 7) $$);
SELECT probe.refusal($$ UPDATE chunks SET "Collection" = 1, bucket = 0 WHERE id = 100 $$) ~ 'chunks_bucket_derived'
	<> (:expression = 0) FROM (VALUES (1)) AS v ("Collection");
PREPARE add (integer, integer) AS INSERT INTO chunks (id, "Collection", code, bucket) SELECT $1, $2, 'p' || $1, mod(abs(hashtext($2::text)), 4);
EXECUTE add (401, 1);
EXECUTE add (402, 2);
EXECUTE add (403, 3);
UPDATE chunks SET "Collection" = 3, bucket = mod(abs(hashtext('3')), 4) WHERE id IN (100, 101, 102);
UPDATE chunks SET id = id + 2000 WHERE id BETWEEN 103 AND 110;
UPDATE chunks SET id = id + 2000, "Collection" = 5, bucket = mod(abs(hashtext('5')), 4) WHERE id BETWEEN 111 AND 115;
UPDATE chunks SET body = 'new' WHERE id BETWEEN 116 AND 120;
DELETE FROM chunks WHERE id BETWEEN 121 AND 130;
DELETE FROM collections WHERE id = 19;
SELECT probe.same('chunks_old');
SELECT count(*) FROM partshift.dropout WHERE job_id = :job;
SELECT partshift.verify(:job);
CALL probe.finish(:job);
SELECT bool_and(equal) FROM partshift.verification WHERE job_id = :job;
SELECT count(*) AS rows FROM chunks \gset
SELECT partshift.rollback(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT count(*) = :rows FROM chunks;
SELECT column_name FROM information_schema.columns WHERE table_name = 'chunks' ORDER BY ordinal_position;

-- One id in two partitions is more than legacy can hold.
SELECT partshift.convert('chunks', 'list', 'bucket', derive => 'substr(code, 1, 1)::"char"::text',
	unique_keys => 'per_partition', legacy_name => 'chunks_old') AS job \gset
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'chunks_bucket_derived' AND conparentid = 0 AND conrelid = 'chunks'::regclass;
INSERT INTO chunks (id, "Collection", code, bucket) VALUES (1, 1, 'z', 'z');
SELECT reason FROM partshift.dropout WHERE job_id = :job;
SELECT partshift.finalize(:job);
CALL probe.finish(:job);
DROP TABLE chunks, chunks_old, collections;
