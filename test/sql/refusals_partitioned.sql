-- What is refused of a table that is partitioned already, and guarded of it.
\set ECHO none
\getenv dir PG_ABS_SRCDIR
\set common :dir '/sql/common.psql'
\i :common
CREATE FUNCTION refused(arguments text) RETURNS text LANGUAGE sql AS $$
	SELECT probe.refusal(format('SELECT partshift.convert(%s)', arguments))
$$;
\pset format unaligned
\pset tuples_only on

CREATE TABLE parted (id integer NOT NULL, part integer NOT NULL, v text CHECK (v <> ''),
	PRIMARY KEY (id, part)) PARTITION BY LIST (part);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES IN (2);

-- The tree.
CREATE TABLE parted_3 PARTITION OF parted FOR VALUES IN (3) PARTITION BY HASH (id);
SELECT refused($$'parted', 'hash', 'id', partitions => 2$$);
DROP TABLE parted_3;
SELECT refused($$'parted_1', 'hash', 'id', partitions => 2$$);
CREATE ROLE other_owner;
GRANT ALL ON SCHEMA public TO other_owner;
ALTER TABLE parted_2 OWNER TO other_owner;
SELECT refused($$'parted', 'hash', 'id', partitions => 2$$);
ALTER TABLE parted_2 OWNER TO CURRENT_USER;
ALTER TABLE parted_2 SET UNLOGGED;
SELECT refused($$'parted', 'hash', 'id', partitions => 2$$);
ALTER TABLE parted_2 SET LOGGED;
ALTER TABLE parted_2 REPLICA IDENTITY FULL;
SELECT refused($$'parted', 'hash', 'id', partitions => 2$$);
ALTER TABLE parted_2 REPLICA IDENTITY DEFAULT;

-- What one partition has by itself.
CREATE UNIQUE INDEX by_itself ON parted_2 (v);
SELECT refused($$'parted', 'hash', 'id', partitions => 2$$);
DROP INDEX by_itself;
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER by_itself AFTER INSERT ON parted_2 FOR EACH ROW EXECUTE FUNCTION nothing();
SELECT refused($$'parted', 'hash', 'id', partitions => 2$$);
DROP TRIGGER by_itself ON parted_2;
CREATE TRIGGER of_all AFTER INSERT ON parted FOR EACH ROW EXECUTE FUNCTION nothing();
ALTER TABLE parted_2 DISABLE TRIGGER of_all;
SELECT refused($$'parted', 'hash', 'id', partitions => 2$$);
DROP TRIGGER of_all ON parted;
ALTER TABLE parted_2 ADD CONSTRAINT by_itself FOREIGN KEY (id, part) REFERENCES parted;
SELECT refused($$'parted', 'hash', 'id', partitions => 2$$);
ALTER TABLE parted_2 DROP CONSTRAINT by_itself;
CREATE TABLE child (id integer, part integer,
	CONSTRAINT to_one FOREIGN KEY (id, part) REFERENCES parted_1);
SELECT refused($$'parted', 'hash', 'part', partitions => 2$$);
DROP TABLE child;
ALTER TABLE parted_2 ENABLE ROW LEVEL SECURITY;
CREATE POLICY by_itself ON parted_2 USING (true);
SELECT refused($$'parted', 'hash', 'id', partitions => 2$$);
DROP POLICY by_itself ON parted_2;
ALTER TABLE parted_2 DISABLE ROW LEVEL SECURITY;
CREATE RULE by_itself AS ON DELETE TO parted_2 DO ALSO NOTHING;
SELECT refused($$'parted', 'hash', 'id', partitions => 2$$);
DROP RULE by_itself ON parted_2;
CREATE SEQUENCE by_itself OWNED BY parted_2.id;
SELECT refused($$'parted', 'hash', 'id', partitions => 2$$);
DROP SEQUENCE by_itself;
SET client_min_messages = error;
CREATE PUBLICATION by_itself FOR TABLE parted_2;
RESET client_min_messages;
SELECT refused($$'parted', 'hash', 'id', partitions => 2$$);
DROP PUBLICATION by_itself;

-- What depends on one partition.
CREATE VIEW over_one AS SELECT * FROM parted_1;
SELECT refused($$'parted', 'hash', 'id', partitions => 2$$);
DROP VIEW over_one;
CREATE TABLE of_its_type (r parted_1);
SELECT refused($$'parted', 'hash', 'id', partitions => 2$$);
DROP TABLE of_its_type;

-- Options that need a plain table.
SELECT refused($$'parted', 'hash', 'id', partitions => 2, foreign_keys => 'extend'$$);
SELECT refused($$'parted', 'hash', 'id', partitions => 2, lock_writes => true$$);
SELECT refused($$'parted', 'hash', 'id', partitions => 2, null_key => '1'$$);

-- A name that belongs to something else than a partition of the table.
CREATE TABLE parted_p1 ();
SELECT refused($$'parted', 'hash', 'id', partitions => 2$$);
DROP TABLE parted_p1;

-- What is only stored is named and left off.
CREATE INDEX by_itself ON parted_2 (v);
ALTER TABLE parted_2 ADD CONSTRAINT also CHECK (id > 0), SET (fillfactor = 50);
GRANT SELECT ON parted_2 TO other_owner;
CREATE STATISTICS parted_2_stat ON id, v FROM parted_2;
SELECT severity, object, detail FROM partshift.plan('parted', 'hash', 'id', partitions => 2)
WHERE topic = 'partitions';
DROP INDEX by_itself;
ALTER TABLE parted_2 DROP CONSTRAINT also, RESET (fillfactor);
REVOKE ALL ON parted_2 FROM other_owner;
DROP STATISTICS parted_2_stat;
DROP OWNED BY other_owner;
DROP ROLE other_owner;

-- While a job lives no partition changes, comes or goes.
INSERT INTO parted SELECT g, 1 + g % 2, 'v' FROM generate_series(1, 100) g;
CREATE TABLE spare (id integer NOT NULL, part integer NOT NULL,
	v text CONSTRAINT parted_v_check CHECK (v <> ''));
SELECT partshift.convert('parted', 'hash', 'id', partitions => 2, swap => 'manual',
	legacy_name => 'parted_old') AS job \gset
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT probe.refusal('CREATE TABLE parted_3 PARTITION OF parted FOR VALUES IN (3)');
SELECT probe.refusal('ALTER TABLE parted ATTACH PARTITION spare FOR VALUES IN (3)');
SELECT probe.refusal('ALTER TABLE parted DETACH PARTITION parted_2');
\set VERBOSITY sqlstate
ALTER TABLE parted DETACH PARTITION parted_2 CONCURRENTLY;
\set VERBOSITY default
SELECT probe.refusal('DROP TABLE parted_2');
SELECT probe.refusal('ALTER TABLE parted_2 ADD CONSTRAINT more CHECK (id > 0)');
SELECT probe.refusal('CREATE INDEX ON parted_2 (v)');
SELECT probe.refusal('ALTER TABLE parted_2 RENAME TO parted_two');
SELECT probe.refusal('ALTER TABLE parted_2 DISABLE TRIGGER ALL');
VACUUM FULL parted_2;

-- Behind the guard's back a partition comes: the swap does not take place.
SET session_replication_role = replica;
CREATE TABLE parted_3 PARTITION OF parted FOR VALUES IN (3);
RESET session_replication_role;
SELECT partshift.swap(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
SET session_replication_role = replica;
DROP TABLE parted_3;
RESET session_replication_role;
SELECT partshift.resume(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);

-- After the swap the old partitions are guarded until they go with their table.
SELECT probe.refusal('CREATE TABLE parted_3 PARTITION OF parted_old FOR VALUES IN (3)');
SELECT probe.refusal('DROP TABLE parted_2');
SELECT probe.refusal('CREATE INDEX ON parted_2 (v)');
DROP TABLE parted_old;
SELECT partshift.finalize(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);

-- A partition that was detached behind the guard's back is freed by the abort.
DROP TABLE parted, spare;
CREATE TABLE parted (id integer NOT NULL, part integer NOT NULL, PRIMARY KEY (id, part))
	PARTITION BY LIST (part);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES IN (2);
SELECT partshift.convert('parted', 'hash', 'id', partitions => 2, swap => 'manual') AS job \gset
CALL probe.finish(:job);
SET session_replication_role = replica;
ALTER TABLE parted DETACH PARTITION parted_2;
RESET session_replication_role;
SELECT partshift.abort(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
INSERT INTO parted_2 VALUES (1, 2);
SELECT tgrelid::regclass, tgname FROM pg_trigger WHERE tgname ~ '^partshift';
DROP TABLE parted, parted_2;
DROP FUNCTION refused, nothing;
