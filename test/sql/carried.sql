-- What the table carries is on the new table, and on the old one after a rollback.
\set ECHO none
\getenv dir PG_ABS_SRCDIR
\set common :dir '/sql/common.psql'
\i :common
CREATE ROLE partshift_owner NOLOGIN;
CREATE ROLE partshift_reader NOLOGIN;
CREATE ROLE partshift_clerk NOLOGIN;
CREATE SCHEMA shop AUTHORIZATION partshift_owner;
CREATE EXTENSION IF NOT EXISTS btree_gin;
CREATE EXTENSION IF NOT EXISTS btree_gist;
CREATE EXTENSION IF NOT EXISTS pg_trgm;
SET search_path = shop, public;
SET ROLE partshift_owner;

CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE DOMAIN percent AS numeric(5, 2) CHECK (VALUE BETWEEN 0 AND 100);
CREATE FUNCTION weight(text) RETURNS integer LANGUAGE sql IMMUTABLE
	AS 'SELECT length($1) % 7';
CREATE TABLE countries (code char(2), region integer, name text,
	PRIMARY KEY (code, region), UNIQUE (name));
CREATE TABLE people (id integer PRIMARY KEY, name text);

CREATE TABLE goods (
	gone_first integer,
	id bigint GENERATED ALWAYS AS IDENTITY
		(START 50 INCREMENT 3 MINVALUE 5 MAXVALUE 900000 CACHE 1 CYCLE) NOT NULL,
	tenant integer NOT NULL DEFAULT 1,
	"Größe in ""cm""" integer DEFAULT 3 + 4,
	number serial,
	label varchar(80) COLLATE "C" NOT NULL DEFAULT 'none'::varchar,
	gone_middle text,
	mood mood DEFAULT 'good',
	discount percent DEFAULT 5,
	tags text[],
	data jsonb DEFAULT '{"a": [1, 2]}',
	area int4range,
	made timestamptz DEFAULT now(),
	total numeric(12, 2) GENERATED ALWAYS AS (tenant * 1.5) STORED,
	code char(2), region integer,
	parent bigint, parent_tenant integer,
	maker integer, checker integer,
	picture bytea, remark text, body text,
	CONSTRAINT goods_pk PRIMARY KEY (id, tenant),
	CONSTRAINT goods_label_key UNIQUE (label, tenant) INCLUDE (mood) DEFERRABLE INITIALLY DEFERRED,
	CONSTRAINT positive CHECK ("Größe in ""cm""" > 0),
	CONSTRAINT "It's well" CHECK (weight(label) < 100 AND tenant > 0),
	CONSTRAINT in_country FOREIGN KEY (code, region) REFERENCES countries MATCH FULL
		ON UPDATE CASCADE ON DELETE RESTRICT,
	CONSTRAINT has_parent FOREIGN KEY (parent, parent_tenant) REFERENCES goods (id, tenant)
		ON DELETE SET NULL (parent) DEFERRABLE INITIALLY IMMEDIATE,
	CONSTRAINT made_by FOREIGN KEY (maker) REFERENCES people ON DELETE SET DEFAULT,
	CONSTRAINT checked_by FOREIGN KEY (checker) REFERENCES people
		DEFERRABLE INITIALLY DEFERRED);
ALTER TABLE goods DROP COLUMN gone_first, DROP COLUMN gone_middle;
ALTER TABLE goods
	ALTER remark SET STORAGE EXTERNAL, ALTER body SET STORAGE MAIN,
	ALTER picture SET STORAGE PLAIN, ALTER data SET COMPRESSION pglz,
	ALTER label SET STATISTICS 250, ALTER maker SET STATISTICS 0,
	ALTER maker SET (n_distinct = -0.5);
CREATE UNIQUE INDEX goods_nulls ON goods (tenant, code, region, number) NULLS NOT DISTINCT;
CREATE INDEX goods_made ON goods (made DESC NULLS LAST, tenant) WITH (fillfactor = 70);
CREATE INDEX goods_weight ON goods (weight(label), lower(label) text_pattern_ops)
	WHERE mood = 'good' AND weight(label) > 1;
CREATE INDEX goods_collated ON goods (label COLLATE "POSIX", remark varchar_pattern_ops);
CREATE INDEX goods_included ON goods (maker) INCLUDE (label, code);
CREATE INDEX goods_hash ON goods USING hash (label);
CREATE INDEX goods_gin ON goods USING gin (tags, data) WITH (fastupdate = off);
CREATE INDEX goods_ops ON goods USING gin (data jsonb_path_ops);
CREATE INDEX goods_trgm ON goods USING gist (label gist_trgm_ops (siglen = 32), area);
CREATE INDEX goods_brin ON goods USING brin (made, tenant int4_minmax_multi_ops)
	WITH (pages_per_range = 4);
CREATE INDEX goods_spgist ON goods USING spgist (area);
ALTER INDEX goods_weight ALTER COLUMN 1 SET STATISTICS 77;
ALTER TABLE goods SET (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05,
	autovacuum_enabled = on, toast_tuple_target = 1000,
	toast.autovacuum_vacuum_threshold = 99, toast.autovacuum_enabled = off);
ALTER TABLE goods REPLICA IDENTITY USING INDEX goods_pk;

CREATE TABLE parts (
	id integer PRIMARY KEY, good bigint, good_tenant integer,
	CONSTRAINT of_good FOREIGN KEY (good, good_tenant) REFERENCES goods
		ON DELETE CASCADE ON UPDATE CASCADE,
	CONSTRAINT late FOREIGN KEY (good, good_tenant) REFERENCES goods (id, tenant)
		DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE "Piles" (
	day date, good bigint, tenant integer,
	CONSTRAINT "of it" FOREIGN KEY (good, tenant) REFERENCES goods ON DELETE SET NULL)
	PARTITION BY RANGE (day);
CREATE TABLE piles_1 PARTITION OF "Piles" FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
CREATE TABLE piles_2 PARTITION OF "Piles" FOR VALUES FROM ('2024-02-01') TO ('2024-03-01');

CREATE TABLE trace (n serial, what text);
GRANT INSERT ON trace TO PUBLIC;
GRANT USAGE ON trace_n_seq TO PUBLIC;
GRANT SELECT ON people TO PUBLIC;
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO shop.trace (what) SELECT concat_ws(' ', TG_NAME, TG_WHEN, TG_LEVEL, TG_OP, TG_ARGV[0]);
	RETURN coalesce(NEW, OLD);
END
$$;
CREATE TRIGGER "2 second" AFTER INSERT OR UPDATE OF label ON goods
	FOR EACH ROW WHEN (NEW.tenant > 0) EXECUTE FUNCTION note('it''s');
CREATE TRIGGER "1 first" AFTER INSERT OR DELETE ON goods FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER "0 before" BEFORE INSERT ON goods FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER "each statement" AFTER INSERT OR UPDATE OR DELETE ON goods
	FOR EACH STATEMENT EXECUTE FUNCTION note();
CREATE TRIGGER emptied BEFORE TRUNCATE ON goods EXECUTE FUNCTION note();
CREATE TRIGGER "seen rows" AFTER UPDATE ON goods REFERENCING NEW TABLE AS n
	FOR EACH STATEMENT EXECUTE FUNCTION note();
CREATE CONSTRAINT TRIGGER "at commit" AFTER INSERT ON goods
	DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER off AFTER INSERT ON goods FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER "on replicas" AFTER INSERT ON goods FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER always AFTER INSERT ON goods FOR EACH ROW EXECUTE FUNCTION note();
RESET ROLE;
ALTER TABLE goods DISABLE TRIGGER off;
ALTER TABLE goods ENABLE REPLICA TRIGGER "on replicas";
ALTER TABLE goods ENABLE ALWAYS TRIGGER always;
SET ROLE partshift_owner;

GRANT USAGE ON SCHEMA shop TO partshift_clerk, partshift_reader;
GRANT SELECT, INSERT ON goods TO partshift_clerk WITH GRANT OPTION;
SET ROLE partshift_clerk;
GRANT SELECT ON shop.goods TO partshift_reader;
SET ROLE partshift_owner;
GRANT UPDATE (label, remark), REFERENCES (id) ON goods TO partshift_reader;
GRANT SELECT (number) ON goods TO PUBLIC;
REVOKE DELETE ON goods FROM partshift_owner;
GRANT USAGE ON SEQUENCE goods_id_seq TO partshift_clerk;
GRANT SELECT ON SEQUENCE goods_number_seq TO partshift_reader;
ALTER TABLE goods ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY all_rows ON goods TO partshift_owner USING (true);
CREATE POLICY "their own" ON goods AS RESTRICTIVE FOR UPDATE TO partshift_clerk, partshift_reader
	USING (tenant < 5 AND label IN (SELECT name FROM people)) WITH CHECK (tenant < 6);
CREATE POLICY everybody ON goods FOR SELECT USING (tenant <> 3);
COMMENT ON TABLE goods IS 'what''s sold';
COMMENT ON COLUMN goods."Größe in ""cm""" IS 'how large';
COMMENT ON CONSTRAINT positive ON goods IS 'no nothing';
COMMENT ON CONSTRAINT goods_pk ON goods IS 'the key';
COMMENT ON CONSTRAINT has_parent ON goods IS 'to itself';
COMMENT ON CONSTRAINT in_country ON goods IS 'outgoing';
COMMENT ON CONSTRAINT of_good ON parts IS 'incoming';
COMMENT ON INDEX goods_trgm IS 'search';
COMMENT ON INDEX goods_pk IS 'the index of the key';
COMMENT ON TRIGGER "2 second" ON goods IS 'not first';
COMMENT ON POLICY everybody ON goods IS 'but three';
COMMENT ON SEQUENCE goods_number_seq IS 'numbers';

INSERT INTO countries SELECT 'C' || g, g, 'land ' || g FROM generate_series(0, 9) g;
INSERT INTO people SELECT g, 'label ' || g FROM generate_series(1, 9) g;
INSERT INTO goods (tenant, label, tags, area, code, region, maker, checker, picture, remark, body)
SELECT g % 7 + 1, 'label ' || g, ARRAY['t' || g % 9], int4range(g, g + 10),
	'C' || g % 10, g % 10, g % 9 + 1, nullif(g % 9, 0), '\x00ff', repeat('r', g), repeat('b', g * 9)
FROM generate_series(1, 700) g;
UPDATE goods c SET parent = p.id, parent_tenant = p.tenant
FROM goods p WHERE p.number = c.number / 2;
INSERT INTO parts SELECT g, id, tenant FROM goods, generate_series(number, number) g;
INSERT INTO "Piles" SELECT date '2024-01-01' + number % 60, id, tenant FROM goods;
DELETE FROM trace;
RESET ROLE;
CREATE TABLE before AS TABLE goods;
CREATE TABLE was AS SELECT * FROM probe.describe('goods')
	UNION ALL SELECT * FROM probe.storage('goods');
SELECT count(*) FROM was;
CREATE PROCEDURE compare(which regclass) LANGUAGE plpgsql AS $$
DECLARE
	line text;
BEGIN
	FOR line IN
		WITH now_is AS (SELECT * FROM probe.describe(which)
						UNION ALL SELECT * FROM probe.storage(which))
		(SELECT 'lost: ' || d FROM (TABLE was EXCEPT ALL TABLE now_is) l(d))
		UNION ALL
		(SELECT 'new: ' || d FROM (TABLE now_is EXCEPT ALL TABLE was) l(d))
		ORDER BY 1
	LOOP
		RAISE WARNING '%', line;
	END LOOP;
END
$$;

SELECT partshift.convert('goods', 'hash', 'tenant', partitions => 3,
	legacy_name => 'goods_old') AS job \gset
CALL probe.finish(:job);
SELECT probe.state(:job);

-- Nothing fired, nothing is lost, nothing is new.
SELECT * FROM trace;
SELECT * FROM probe.differences('before', 'goods');
SELECT * FROM probe.damages('goods');
CALL compare('goods');
CALL probe.await(format('NOT plan ? ''inventory'' FROM partshift.job WHERE job_id = %s', :job));
SELECT * FROM partshift.carried_object WHERE job_id = :job AND state <> 'same';
SELECT class, count(*) FROM partshift.carried(:job) WHERE class NOT IN ('constraint', 'privilege')
GROUP BY class ORDER BY class COLLATE "C";

-- Every foreign key is enforced and valid on each partition.
SELECT conrelid::regclass, conname, convalidated FROM pg_constraint
WHERE contype = 'f' AND NOT convalidated
	AND (conrelid = 'goods'::regclass OR confrelid = 'goods'::regclass);
SELECT count(*) FROM pg_constraint
WHERE contype = 'f' AND conrelid IN (SELECT leaf FROM probe.leaves('goods'));
SELECT conname FROM pg_constraint
WHERE conname ~ '_ps\d' AND conparentid = 0 AND conrelid <> 'goods_old'::regclass;

-- The leaves are the owner's, and nobody else may use them.
SELECT leaf, pg_get_userbyid(relowner), relacl FROM probe.leaves('goods')
	JOIN pg_class c ON c.oid = leaf;
SELECT attname, probe.options(attoptions) AS options, attstattarget > 0 AS more FROM pg_attribute
WHERE attrelid = 'goods_p1'::regclass
	AND (probe.options(attoptions) IS NOT NULL OR attstattarget > 0);

-- The planner's statistics are there before the first query.
SELECT count(*) FROM pg_stats
WHERE tablename = 'goods' AND inherited AND attname = 'label';
SELECT bool_and(reltuples > 0) FROM pg_class
WHERE oid IN (SELECT leaf FROM probe.leaves('goods'));

-- Triggers fire as they did, in their order.
SET ROLE partshift_owner;
BEGIN;
INSERT INTO goods (label) VALUES ('one more');
SELECT what FROM trace ORDER BY n;
DELETE FROM trace;
COMMIT;
SELECT what FROM trace ORDER BY n;
DELETE FROM trace;
UPDATE goods SET label = 'changed' WHERE label = 'one more';
SELECT what FROM trace ORDER BY n;
DELETE FROM trace;

-- Foreign keys do what they did.
BEGIN;
UPDATE countries SET region = 100 WHERE code = 'C1';
SELECT count(*) FROM goods WHERE region = 100;
ROLLBACK;
BEGIN;
SET LOCAL ROLE postgres;
DELETE FROM goods WHERE number = 20;
SELECT count(*), count(parent_tenant) FROM goods WHERE number IN (40, 41) AND parent IS NULL;
SELECT count(*) FROM parts WHERE id = 20;
SELECT count(*) FROM "Piles" WHERE good IS NULL;
ROLLBACK;
RESET ROLE;

-- Row security and privileges hold.
SET ROLE partshift_reader;
SELECT count(*) FROM goods;
SELECT count(*) FROM goods_p1;
WITH changed AS (UPDATE goods SET label = 'mine' RETURNING 1)
SELECT count(*) FROM changed;
UPDATE goods SET tenant = 1;
RESET ROLE;
SELECT count(*) FROM goods WHERE tenant <> 3;

-- And back.
DROP TABLE before;
CREATE TABLE before AS TABLE goods;
SELECT partshift.rollback(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT * FROM probe.differences('before', 'goods');
CALL compare('goods');
SELECT relkind FROM pg_class WHERE oid = 'goods'::regclass;

-- By a list with a default partition, finalized.
SELECT partshift.convert('goods', 'list', 'tenant', partitions => 4,
	keep_legacy => false) AS job \gset
CALL probe.finish(:job);
SELECT partshift.finalize(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT * FROM probe.differences('before', 'goods');
SELECT * FROM probe.damages('goods');
CALL compare('goods');

SET client_min_messages = error;
DROP SCHEMA shop CASCADE;
RESET search_path;
SET client_min_messages = warning;
DROP ROLE partshift_owner, partshift_reader, partshift_clerk;
