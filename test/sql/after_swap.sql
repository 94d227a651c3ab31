-- After the swap each write reaches the legacy table too, until finalize.
\set ECHO none
\getenv dir PG_ABS_SRCDIR
\set common :dir '/sql/common.psql'
\i :common
\set tables :dir '/sql/tables.psql'
\set writes :dir '/sql/writes.psql'
\i :tables

SELECT partshift.convert('plays', 'list', 'grp', partitions => 4,
	legacy_name => 'plays_old') AS job \gset
SELECT partshift.convert('tree', 'hash', 'id', partitions => 3,
	legacy_name => 'tree_old') AS tree_job \gset
CALL probe.finish(:job);
CALL probe.finish(:tree_job);
SELECT probe.state(:job), probe.state(:tree_job);
\set plays plays_old
\set tree tree_old
\i :writes
SELECT * FROM probe.damages('plays');
SELECT * FROM probe.damages('tree');
SELECT job_id = :job, reason FROM partshift.dropout WHERE job_id IN (:job, :tree_job);
SELECT rollback_possible FROM partshift.jobs WHERE job_id IN (:job, :tree_job);
SELECT bt_index_check(indexrelid, true) FROM pg_index
WHERE indrelid IN ('plays_old'::regclass, 'tree_old'::regclass);

-- A partition that is added later is followed too.
CREATE TABLE plays_5 PARTITION OF plays FOR VALUES IN (5);
INSERT INTO plays (id, grp, n) VALUES (5000, 5, 1), (5001, 5, 1);
UPDATE plays SET grp = 0 WHERE id = 5001;
SELECT * FROM probe.differences('plays', 'plays_old');

-- The comparison serves after the swap as well.
SELECT partshift.verify(:job);
CALL probe.finish(:job);
SELECT leaf, source_rows = shadow_rows AS same, equal FROM partshift.verification
WHERE job_id = :job ORDER BY leaf;

-- Rollback: the old table has its name again, with every write since.
CREATE TABLE before AS TABLE plays;
CREATE TABLE tree_before AS TABLE tree;
SELECT partshift.rollback(:job);
SELECT partshift.rollback(:tree_job);
CALL probe.finish(:job);
CALL probe.finish(:tree_job);
SELECT probe.state(:job), probe.state(:tree_job);
SELECT relname, relkind FROM pg_class
WHERE relkind IN ('r', 'p') AND relname ~ '^(plays|tree)' ORDER BY 1;
SELECT * FROM probe.differences('before', 'plays');
SELECT * FROM probe.differences('tree_before', 'tree');
SELECT tgname FROM pg_trigger
WHERE tgrelid IN ('plays'::regclass, 'tree'::regclass) AND tgname !~ '^RI_'
ORDER BY 1;
DROP TABLE tree, tree_before, before;

-- A rolled back table can be converted again.
SELECT partshift.convert('plays', 'hash', 'id, grp', partitions => 2,
	legacy_name => 'plays_old') AS job \gset
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT partshift.finalize(:job);
CALL probe.finish(:job);

-- Finalized: legacy stays as it is.
CREATE TABLE before AS TABLE plays;
DELETE FROM plays WHERE id < 20;
SELECT * FROM probe.differences('before', 'plays_old');
SELECT probe.refusal(format('SELECT partshift.rollback(%s)', :job));
DROP TABLE plays, plays_old, before;
DROP FUNCTION play;

-- The sequence of an identity or serial column moves along, and back.
CREATE TABLE items (
	id bigint GENERATED ALWAYS AS IDENTITY (START 100 INCREMENT 5) PRIMARY KEY,
	number serial,
	name text);
CREATE SEQUENCE free_numbers OWNED BY items.name;
INSERT INTO items (name) SELECT 'i' FROM generate_series(1, 10);
SELECT pg_get_serial_sequence('items', 'id') AS id,
	pg_get_serial_sequence('items', 'number') AS number,
	pg_get_serial_sequence('items', 'name') AS name;
SELECT partshift.convert('items', 'hash', 'id', partitions => 2,
	legacy_name => 'items_old') AS job \gset
CALL probe.finish(:job);
SELECT pg_get_serial_sequence('items', 'id') AS id,
	pg_get_serial_sequence('items', 'number') AS number,
	pg_get_serial_sequence('items', 'name') AS name;
INSERT INTO items (name) VALUES ('new') RETURNING id, number;
SELECT * FROM probe.differences('items', 'items_old');
SELECT partshift.rollback(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT pg_get_serial_sequence('items', 'id') AS id,
	pg_get_serial_sequence('items', 'number') AS number,
	pg_get_serial_sequence('items', 'name') AS name;
INSERT INTO items (name) VALUES ('newer') RETURNING id, number;
SELECT relname FROM pg_class
WHERE relkind = 'S' AND relnamespace = 'public'::regnamespace ORDER BY 1;

-- With the legacy table dropped, the sequences stay.
SELECT partshift.convert('items', 'hash', 'id', partitions => 2,
	keep_legacy => false) AS job \gset
CALL probe.finish(:job);
SELECT partshift.finalize(:job);
CALL probe.finish(:job);
INSERT INTO items (name) VALUES ('newest') RETURNING id, number;
SELECT relname FROM pg_class
WHERE relkind = 'S' AND relnamespace = 'public'::regnamespace ORDER BY 1;
DROP TABLE items;

-- reverse_sync => false: legacy does not follow, and there is no way back.
CREATE TABLE items (id integer PRIMARY KEY, name text);
INSERT INTO items SELECT g, 'n' FROM generate_series(1, 100) g;
SELECT partshift.convert('items', 'hash', 'id', partitions => 2,
	legacy_name => 'items_old', reverse_sync => false) AS job \gset
CALL probe.finish(:job);
SELECT probe.state(:job);
DELETE FROM items WHERE id < 50;
SELECT count(*) FROM items_old;
SELECT rollback_possible FROM partshift.jobs WHERE job_id = :job;
SELECT probe.refusal(format('SELECT partshift.rollback(%s)', :job));
SELECT partshift.finalize(:job);
CALL probe.finish(:job);
DROP TABLE items, items_old;

-- What ends the way back: the write succeeds, and the job says why.
CREATE PROCEDURE prepare() LANGUAGE plpgsql AS $$
BEGIN
	CREATE TABLE items (id integer PRIMARY KEY, grp integer NOT NULL, name text);
	INSERT INTO items SELECT g, g % 3, 'n' FROM generate_series(1, 100) g;
END
$$;
CREATE FUNCTION reason() RETURNS TABLE (possible boolean, lost boolean, why text)
LANGUAGE sql AS $$
	SELECT rollback_possible, rollback_lost_at IS NOT NULL, rollback_lost_reason
	FROM partshift.jobs ORDER BY job_id DESC LIMIT 1
$$;

-- A row that the old key forbids;
CALL prepare();
SELECT partshift.convert('items', 'list', 'grp', partitions => 3,
	legacy_name => 'items_old') AS job \gset
CALL probe.finish(:job);
INSERT INTO items VALUES (1, 2, 'again');
SELECT * FROM reason();
UPDATE items SET name = 'still' WHERE id = 1;
DELETE FROM items WHERE id > 50;
SELECT name, count(*) FROM items GROUP BY 1 ORDER BY 1;
SELECT count(*) FROM partshift.dropout WHERE job_id = :job;
SELECT regexp_replace(probe.refusal(format('SELECT partshift.rollback(%s)', :job)),
	'since \d\S+ \S+:', 'since then:');
SELECT partshift.finalize(:job);
CALL probe.finish(:job);
DROP TABLE items, items_old;

-- another definition of either table;
CALL prepare();
SELECT partshift.convert('items', 'list', 'grp', partitions => 3,
	legacy_name => 'items_old') AS job \gset
CALL probe.finish(:job);
ALTER TABLE items ADD COLUMN more integer;
UPDATE items SET more = 1 WHERE id = 1;
SELECT * FROM reason();
SELECT partshift.finalize(:job);
CALL probe.finish(:job);
DROP TABLE items, items_old;

CALL prepare();
SELECT partshift.convert('items', 'list', 'grp', partitions => 3,
	legacy_name => 'items_old') AS job \gset
CALL probe.finish(:job);
-- (past the guard, which would refuse it)
SET session_replication_role = replica;
DO $$
BEGIN
	EXECUTE (SELECT format('ALTER TABLE items_old DROP CONSTRAINT %I', conname)
			 FROM pg_constraint
			 WHERE conrelid = 'items_old'::regclass AND contype = 'p');
END
$$;
RESET session_replication_role;
UPDATE items SET name = 'm' WHERE id = 1;
SELECT * FROM reason();
SELECT partshift.finalize(:job);
CALL probe.finish(:job);
DROP TABLE items, items_old;

-- the legacy table dropped;
CALL prepare();
SELECT partshift.convert('items', 'list', 'grp', partitions => 3,
	legacy_name => 'items_old') AS job \gset
CALL probe.finish(:job);
DROP TABLE items_old;
INSERT INTO items VALUES (101, 0, 'm');
SELECT * FROM reason();
SELECT count(*) FROM items;
SELECT partshift.finalize(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
DROP TABLE items;

-- one partition truncated; all of them together are followed.
CALL prepare();
SELECT partshift.convert('items', 'list', 'grp', partitions => 3,
	legacy_name => 'items_old') AS job \gset
CALL probe.finish(:job);
TRUNCATE items;
INSERT INTO items VALUES (1, 0, 'm'), (2, 1, 'm');
SELECT * FROM probe.differences('items', 'items_old');
SELECT * FROM reason();
TRUNCATE items_1;
SELECT * FROM reason();
SELECT partshift.finalize(:job);
CALL probe.finish(:job);
DROP TABLE items, items_old;

-- A duplicate that is gone again by the end of the statement is none.
CREATE TABLE items (id integer PRIMARY KEY, pos integer NOT NULL, grp integer NOT NULL,
	CONSTRAINT one_pos UNIQUE (pos) DEFERRABLE);
INSERT INTO items SELECT g, g, g % 3 FROM generate_series(1, 100) g;
SELECT partshift.convert('items', 'hash', 'pos', partitions => 3,
	legacy_name => 'items_old') AS job \gset
CALL probe.finish(:job);
UPDATE items SET pos = 101 - pos;
SELECT * FROM probe.differences('items', 'items_old');
SELECT * FROM reason();
SELECT partshift.finalize(:job);
CALL probe.finish(:job);
DROP TABLE items, items_old;
DROP PROCEDURE prepare;
DROP FUNCTION reason;

-- Nothing of the conversions is left.
SELECT tgname FROM pg_trigger WHERE tgname ~ 'partshift';
SELECT relname FROM pg_class
WHERE relnamespace IN ('public'::regnamespace, 'partshift'::regnamespace)
	AND relname ~ '_ps\d|^log_|^postponed_|old';

-- A nested statement writes a row under its new key before the event that
-- takes the old one away: the legacy table, which alone holds the rest unique,
-- has it twice for that moment.
CREATE TABLE notes (
	id integer PRIMARY KEY, grp integer NOT NULL, code text, n integer DEFAULT 0);
CREATE UNIQUE INDEX ON notes (code);
CREATE UNIQUE INDEX ON notes (lower(code)) WHERE n >= 0;
CREATE UNIQUE INDEX ON notes ((code IS NULL), code) NULLS NOT DISTINCT;
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF pg_trigger_depth() = 1 THEN
		UPDATE notes SET n = n + 1 WHERE id = NEW.id;
	END IF;
	RETURN NULL;
END $$;
CREATE TRIGGER a_note AFTER UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION note();
INSERT INTO notes SELECT g, g % 2, nullif('c' || g, 'c9') FROM generate_series(1, 9) AS g;
SELECT partshift.convert('notes', 'list', 'grp', partitions => 2,
	unique_keys => 'per_partition', legacy_name => 'notes_old') AS job \gset
CALL probe.finish(:job);
UPDATE notes SET id = id + 100 WHERE id <> 5;
SELECT probe.differences('notes', 'notes_old');
SELECT reason FROM partshift.dropout WHERE job_id = :job;
-- One that stays is one too many.
INSERT INTO notes VALUES (1, 0, 'c5');
SELECT reason FROM partshift.dropout WHERE job_id = :job;
SELECT partshift.finalize(:job);
CALL probe.finish(:job);
DROP TABLE notes, notes_old;
DROP FUNCTION note;
