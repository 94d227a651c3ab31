-- Extended foreign keys of every shape, and of tables of every shape.
\set ECHO none
\getenv dir PG_ABS_SRCDIR
\set common :dir '/sql/common.psql'
\i :common
CREATE FUNCTION probe.keys() RETURNS TABLE (child regclass, name name, definition text, valid boolean)
LANGUAGE sql STABLE AS $$
	SELECT conrelid::regclass, conname, pg_get_constraintdef(oid), convalidated
	FROM pg_constraint WHERE contype = 'f' AND conparentid = 0 AND conrelid::regclass::text ~ '^(shape\.)?c_'
	ORDER BY conrelid::regclass::text COLLATE "C", conname
$$;
/* The first line of an error, or that there was none. */
CREATE FUNCTION probe.attempt(command text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE command;
	SET CONSTRAINTS ALL IMMEDIATE;
	SET CONSTRAINTS ALL DEFERRED;
	RETURN 'done';
EXCEPTION WHEN OTHERS THEN
	/* Servers say differently that there is still a reference. */
	RETURN CASE WHEN SQLERRM ~ '^update or delete on' THEN 'refused' ELSE concat_ws(': ', SQLSTATE, SQLERRM) END;
END $$;
\set ECHO all
CREATE ROLE partshift_owner NOLOGIN;
CREATE SCHEMA shape AUTHORIZATION partshift_owner;
SET search_path = shape, public;
SET ROLE partshift_owner;
/* Nobody but the domain's users is to call it. */
CREATE FUNCTION fine(value text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
		RAISE 'called by a superuser';
	END IF;
	RETURN value <> '';
END $$;
CREATE DOMAIN word AS varchar(20) COLLATE "C" CHECK (shape.fine(VALUE));
CREATE DOMAIN tenant AS word NOT NULL;
CREATE TABLE accounts (id bigint PRIMARY KEY, tenant tenant NOT NULL, region integer NOT NULL, k text,
	UNIQUE (k, region));
INSERT INTO accounts SELECT g, 't' || g % 7, g % 3, 'k' || g FROM generate_series(1, 200) g;
-- A column of two keys there was, which is never null
CREATE TABLE c_given (id integer PRIMARY KEY, rec bigint REFERENCES accounts ON DELETE SET NULL (rec),
	tenant varchar(20) COLLATE "C" NOT NULL, region integer NOT NULL);
INSERT INTO c_given SELECT g, a.id, coalesce(a.tenant, 'none'), coalesce(a.region, 9)
FROM generate_series(1, 300) g LEFT JOIN accounts a ON a.id = g;
-- several columns, nulls in some of them
CREATE TABLE c_pairs (k text, region integer, n integer,
	FOREIGN KEY (k, region) REFERENCES accounts (k, region) ON UPDATE SET NULL ON DELETE SET NULL (k));
INSERT INTO c_pairs SELECT 'k' || g, CASE WHEN g % 10 > 0 THEN g % 3 END, g FROM generate_series(1, 100) g;
CREATE TABLE c_later (k text, region integer, n integer,
	FOREIGN KEY (k, region) REFERENCES accounts (k, region) DEFERRABLE);
CREATE TABLE c_whole (k text, region integer, n integer,
	FOREIGN KEY (k, region) REFERENCES accounts (k, region) MATCH FULL ON DELETE CASCADE);
INSERT INTO c_whole SELECT 'k' || g, g % 3, g FROM generate_series(1, 100) g UNION ALL SELECT NULL, NULL, 0;
-- actions
CREATE TABLE c_default (rec bigint DEFAULT 1 REFERENCES accounts ON DELETE SET DEFAULT, n integer);
INSERT INTO c_default SELECT g, g FROM generate_series(2, 50) g;
CREATE TABLE c_strict (rec bigint CONSTRAINT strict REFERENCES accounts ON DELETE RESTRICT DEFERRABLE, n integer);
INSERT INTO c_strict SELECT g, g FROM generate_series(190, 200) g;
-- partitions of partitions, some with other columns
CREATE TABLE c_deep (id integer, day date NOT NULL, rec bigint REFERENCES accounts ON DELETE CASCADE)
	PARTITION BY RANGE (day);
CREATE TABLE c_deep_1 PARTITION OF c_deep FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
CREATE TABLE c_deep_2 (rec bigint, gone text, id integer, day date NOT NULL) PARTITION BY LIST (id);
ALTER TABLE c_deep_2 DROP COLUMN gone;
CREATE TABLE c_deep_2_even (day date NOT NULL, id integer, rec bigint);
ALTER TABLE c_deep_2 ATTACH PARTITION c_deep_2_even DEFAULT;
ALTER TABLE c_deep ATTACH PARTITION c_deep_2 FOR VALUES FROM ('2024-02-01') TO ('2024-03-01');
INSERT INTO c_deep SELECT g, date '2024-01-01' + g % 60, nullif(g % 100, 0) FROM generate_series(1, 500) g;
RESET ROLE;

\set convert 'partshift.convert(''accounts'', ''hash'', ''tenant, region'', partitions => 3, unique_keys => ''extend'', foreign_keys => ''extend'', legacy_name => ''accounts_old'', swap => ''manual'''
\set columns 'extend_columns => ''{"c_given_rec_fkey": {"tenant": "tenant", "region": "region"}}'''
-- Columns that are no good
BEGIN;
ALTER TABLE c_given ALTER tenant DROP NOT NULL, ALTER region DROP NOT NULL;
SELECT probe.refusal('SELECT ' || :'convert' || ', ' || :'columns' || ')');
ROLLBACK;
BEGIN;
CREATE TABLE words (word varchar(20) COLLATE "C" PRIMARY KEY);
INSERT INTO words SELECT DISTINCT tenant FROM c_given;
ALTER TABLE c_given ALTER tenant DROP NOT NULL, ALTER region DROP NOT NULL,
	ADD CONSTRAINT a_word FOREIGN KEY (tenant) REFERENCES words;
DELETE FROM c_given WHERE rec IS NULL;
SELECT probe.refusal('SELECT ' || :'convert' || ', ' || :'columns' || ')');
ROLLBACK;
BEGIN;
ALTER TABLE c_given ADD second bigint CONSTRAINT second REFERENCES accounts;
SELECT probe.refusal('SELECT ' || :'convert' || $$, extend_columns => '{"c_given_rec_fkey": {"tenant": "u", "region": "v"}, "second": {"tenant": "u", "region": "w"}}')$$);
ROLLBACK;
-- Tables that are
BEGIN;
ALTER TABLE c_deep_1 ADD CONSTRAINT own FOREIGN KEY (id) REFERENCES accounts NOT VALID;
SELECT probe.refusal('SELECT ' || :'convert' || ', ' || :'columns' || ')');
ROLLBACK;
BEGIN;
CREATE TYPE bare AS (rec bigint);
CREATE TABLE c_typed OF bare (FOREIGN KEY (rec) REFERENCES accounts);
SELECT probe.refusal('SELECT ' || :'convert' || ', ' || :'columns' || ')');
ROLLBACK;
-- Keys that are
BEGIN;
CREATE TABLE loose (id integer PRIMARY KEY, k integer, up integer CONSTRAINT up REFERENCES loose);
CREATE TABLE c_loose (id integer CONSTRAINT loose REFERENCES loose);
SELECT probe.refusal('SELECT partshift.convert(''loose'', ''hash'', ''k'', partitions => 2, null_key => ''0'', foreign_keys => ''extend'')');
SELECT probe.refusal('SELECT partshift.convert(''loose'', ''list'', ''d'', derive => ''id % 2'', partitions => 2, foreign_keys => ''extend'')');
ROLLBACK;
-- What is to be known before
SET client_min_messages = error;
CREATE PUBLICATION partshift_whole FOR TABLE c_default, c_deep;
CREATE PUBLICATION partshift_some FOR TABLE c_strict (rec);
RESET client_min_messages;
SELECT detail FROM partshift.plan('accounts', 'hash', 'tenant, region', partitions => 3,
	unique_keys => 'extend', foreign_keys => 'extend', :columns)
WHERE severity = 'warning' AND topic = 'foreign key' AND detail !~ 'is extended by';
DROP PUBLICATION partshift_whole, partshift_some;

CREATE TABLE was AS SELECT * FROM probe.keys();
SELECT :convert, :columns) AS job \gset
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT attrelid::regclass, attname, format_type(atttypid, atttypmod), attcollation::regcollation
FROM pg_attribute WHERE attrelid IN ('c_pairs'::regclass, 'c_deep_2_even'::regclass, 'c_strict'::regclass)
	AND attnum > 0 AND NOT attisdropped ORDER BY attrelid::regclass::text, attname;
-- An index of each partition is that of its table, and there are no others.
SELECT count(*), count(h.inhparent) FROM pg_index i LEFT JOIN pg_inherits h ON h.inhrelid = i.indexrelid
WHERE i.indrelid IN (SELECT relid FROM pg_partition_tree('c_deep'));
SELECT partshift.swap(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT * FROM probe.keys();

-- The application goes on, and is refused what it was refused before.
SET ROLE partshift_owner;
SELECT command, probe.attempt(command) FROM unnest(ARRAY[
	$$INSERT INTO c_given VALUES (1001, NULL, 'any', 5)$$,
	$$INSERT INTO c_given VALUES (1002, 1, 't1', 1)$$,
	$$INSERT INTO c_given VALUES (1003, 1, 't2', 1)$$,
	$$UPDATE c_given SET rec = 2 WHERE id = 1$$,
	$$UPDATE c_given SET rec = NULL WHERE id = 2$$,
	$$INSERT INTO c_pairs VALUES ('k1', 1, 1001), ('k1', NULL, 1002), (NULL, 1, 1003), ('nobody', NULL, 1004)$$,
	$$INSERT INTO c_pairs VALUES ('nobody', 1, 1005)$$,
	$$UPDATE c_pairs SET k = 'nobody' WHERE n = 1$$,
	$$UPDATE c_pairs SET tenant = NULL WHERE n = 1$$,
	$$INSERT INTO c_whole VALUES ('k1', NULL, 1001)$$,
	$$INSERT INTO c_whole VALUES ('nobody', 1, 1001)$$,
	$$DELETE FROM accounts WHERE id IN (2, 3)$$,
	$$DELETE FROM accounts WHERE id = 195$$,
	$$UPDATE accounts SET tenant = 'new' WHERE id IN (1, 4, 200)$$,
	$$WITH c AS (INSERT INTO c_default VALUES (5001, 5001) RETURNING rec) INSERT INTO accounts SELECT rec, 'with', 1, 'with' FROM c$$,
	$$INSERT INTO c_default VALUES (5002, 5002)$$,
	$$SET CONSTRAINTS strict DEFERRED; INSERT INTO c_strict VALUES (5003, 5003); INSERT INTO accounts VALUES (5003, 'late', 1, 'late')$$,
	$$INSERT INTO c_strict VALUES (5004, 5004); INSERT INTO accounts VALUES (5004, 'late', 1, 'later')$$,
	$$SET CONSTRAINTS strict DEFERRED; INSERT INTO c_strict VALUES (5005, 5005)$$])
	WITH ORDINALITY AS u (command, n) ORDER BY u.n;
-- Only at the commit: whether the key has been deferred no trigger knows.
BEGIN;
INSERT INTO c_later VALUES ('nobody', 1, 1), ('k1', 1, 2);
TABLE c_later ORDER BY n;
SAVEPOINT a;
SET CONSTRAINTS ALL IMMEDIATE;
ROLLBACK TO a;
COMMIT;
TABLE c_later;
SELECT * FROM c_given WHERE id IN (1, 2, 3) OR id > 1000 ORDER BY id;
SELECT * FROM c_pairs WHERE n IN (1, 2, 3, 10) OR n > 1000 ORDER BY n;
SELECT * FROM c_default WHERE n IN (2, 3) OR n > 1000 ORDER BY n;
SELECT * FROM c_strict WHERE n > 199 ORDER BY n;
-- Nobody's reference is without its columns, nor has another's.
SELECT count(*) FROM c_deep c LEFT JOIN accounts a ON a.id = c.rec
WHERE (c.tenant, c.region) IS DISTINCT FROM (a.tenant::varchar, a.region);
SELECT count(*) FROM c_pairs c JOIN accounts a USING (k, region) WHERE c.tenant IS DISTINCT FROM a.tenant::varchar;
SELECT count(*) FROM c_whole c LEFT JOIN accounts a USING (k, region) WHERE c.tenant IS DISTINCT FROM a.tenant::varchar;
RESET ROLE;

SELECT partshift.rollback(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
(TABLE was EXCEPT ALL SELECT * FROM probe.keys()) UNION ALL (SELECT * FROM probe.keys() EXCEPT ALL TABLE was);
SELECT attrelid::regclass, attname FROM pg_attribute
WHERE attrelid IN (SELECT oid FROM pg_class WHERE relname ~ '^c_' AND relkind IN ('r', 'p')) AND attname IN ('tenant', 'region', 'rec_tenant') AND NOT attisdropped
ORDER BY attrelid::regclass::text, attname;
SELECT count(*) FROM pg_trigger WHERE tgname ~* 'partshift';

SET client_min_messages = error;
DROP SCHEMA shape CASCADE;
RESET search_path;
DROP ROLE partshift_owner;
