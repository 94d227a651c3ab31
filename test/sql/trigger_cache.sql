-- What a session has found out about a trigger's tables it does not believe
-- longer than it is true.
\set ECHO none
\getenv dir PG_ABS_SRCDIR
\set common :dir '/sql/common.psql'
\i :common

CREATE TABLE goods (id integer PRIMARY KEY, price integer NOT NULL);
INSERT INTO goods SELECT i, i + 1000 FROM generate_series(1, 100) i;
SELECT partshift.convert('goods', 'range', 'id', every => '100',
	premake => 2, legacy_name => 'goods_old') AS job \gset
CALL probe.finish(:job);
SELECT probe.state(:job);
SET enable_seqscan = off;
CREATE PROCEDURE past_the_guard(command text) LANGUAGE plpgsql
SET session_replication_role = replica AS $$ BEGIN EXECUTE command; END $$;

-- An index that came after the first row has the second.
INSERT INTO goods VALUES (101, 101);
CALL past_the_guard('CREATE INDEX goods_old_price ON goods_old (price)');
INSERT INTO goods VALUES (102, 102);
SELECT bt_index_check('goods_old_price', true);
SELECT count(*) FROM goods_old WHERE price = 102;

-- One that is gone is not looked for.
CALL past_the_guard('DROP INDEX goods_old_price');
UPDATE goods SET price = 0 WHERE id = 102;
SELECT * FROM probe.differences('goods', 'goods_old');

-- A row whose trigger failed leaves nothing to trip over.
CREATE FUNCTION write_more(integer) RETURNS integer LANGUAGE plpgsql AS $$
BEGIN
	IF $1 BETWEEN 2000 AND 2002 THEN
		INSERT INTO public.goods VALUES ($1 - 1890, $1 + 1);
	END IF;
	RETURN $1;
END $$;
CREATE FUNCTION inverse(integer) RETURNS integer IMMUTABLE LANGUAGE plpgsql
	AS 'BEGIN RETURN 1000 / ((SELECT public.write_more($1)) - 7); END';
CALL past_the_guard('CREATE INDEX goods_old_inverse ON goods_old (inverse(price))');
INSERT INTO goods VALUES (103, 103);
SELECT probe.refusal('UPDATE goods SET price = 7 WHERE id <= 103');
BEGIN;
INSERT INTO goods VALUES (104, 104);
SAVEPOINT s;
SELECT probe.refusal('INSERT INTO goods VALUES (105, 7)');
INSERT INTO goods VALUES (105, 105);
ROLLBACK TO s;
INSERT INTO goods VALUES (106, 106);
COMMIT;
SELECT * FROM probe.differences('goods', 'goods_old');

-- A trigger may run inside itself.
INSERT INTO goods VALUES (120, 2000);
SELECT id, price FROM goods WHERE id >= 110 ORDER BY 1;
SELECT * FROM probe.differences('goods', 'goods_old');
CALL past_the_guard('DROP INDEX goods_old_inverse');
INSERT INTO goods VALUES (121, 121);
SELECT * FROM probe.differences('goods', 'goods_old');
SELECT bt_index_check(indexrelid, true) FROM pg_index WHERE indrelid = 'goods_old'::regclass;

-- Partitions come and go.
CREATE TABLE goods_more PARTITION OF goods FOR VALUES FROM (1000) TO (2000);
INSERT INTO goods VALUES (1000, 1), (1001, 1);
SELECT * FROM probe.differences('goods', 'goods_old');
ALTER TABLE goods DETACH PARTITION goods_more;
INSERT INTO goods_more VALUES (1002, 1);
SELECT id FROM goods_old WHERE id >= 1000 ORDER BY 1;
INSERT INTO goods VALUES (122, 122);
ALTER TABLE goods ATTACH PARTITION goods_more FOR VALUES FROM (1000) TO (2000);
INSERT INTO goods VALUES (1003, 1);
SELECT id FROM goods_old WHERE id >= 1000 ORDER BY 1;
DELETE FROM goods_old WHERE id >= 1000;
DELETE FROM goods WHERE id >= 1000;

-- Statements that know the tables by heart.
PREPARE put (integer, integer) AS INSERT INTO goods VALUES ($1, $2);
EXECUTE put (130, 1);
EXECUTE put (131, 1);
CALL past_the_guard('CREATE INDEX goods_old_both ON goods_old (price, id)');
EXECUTE put (132, 1);
SELECT bt_index_check('goods_old_both', true);
SELECT * FROM probe.differences('goods', 'goods_old');
SELECT * FROM probe.damages('goods');
SELECT * FROM partshift.dropout WHERE job_id = :job;

-- A table that no longer can follow is noticed.
INSERT INTO goods VALUES (140, 1);
SELECT format('ALTER TABLE goods_old DROP CONSTRAINT %I', conname) AS command
FROM pg_constraint WHERE conrelid = 'goods_old'::regclass AND contype = 'p' \gset
CALL past_the_guard(:'command');
INSERT INTO goods VALUES (141, 1);
SELECT reason FROM partshift.dropout WHERE job_id = :job;
CALL past_the_guard('DROP TABLE goods_old');
INSERT INTO goods VALUES (142, 1);
SELECT count(*) FROM goods;
SELECT partshift.finalize(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
DROP TABLE goods;
-- What comparing keys of the owner's types keeps does not outlive the row.
CREATE TYPE pair AS (a integer, b integer);
CREATE TABLE pairs (k pair, id integer, v integer, PRIMARY KEY (k, id));
INSERT INTO pairs SELECT ROW(g, g)::pair, g, 0 FROM generate_series(1, 2000) g;
SELECT partshift.convert('pairs', 'hash', 'id', partitions => 2, legacy_name => 'pairs_old') AS job \gset
CALL probe.finish(:job);
UPDATE pairs SET v = 1;
SELECT sum(used_bytes) AS used FROM pg_backend_memory_contexts WHERE name = 'partshift trigger' \gset
UPDATE pairs SET v = 2;
SELECT sum(used_bytes) - :used < 20000 AS kept_little FROM pg_backend_memory_contexts WHERE name = 'partshift trigger';
SELECT partshift.finalize(:job);
CALL probe.finish(:job);
DROP TABLE pairs, pairs_old;
DROP TYPE pair;
