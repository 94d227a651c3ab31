-- Foreign keys from the table to itself that lack the partition key.
\set ECHO none
\getenv dir PG_ABS_SRCDIR
\set common :dir '/sql/common.psql'
\i :common
/* What the tables are made of. */
CREATE FUNCTION probe.objects() RETURNS SETOF text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT concat_ws(' ', 'column', a.attrelid::regclass, a.attname, format_type(a.atttypid, a.atttypmod))
	FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
	WHERE c.relname IN ('folders', 'notes') AND a.attnum > 0 AND NOT a.attisdropped
	UNION ALL
	SELECT probe.mask(concat_ws(' ', 'key', conrelid::regclass, conname, pg_get_constraintdef(oid), convalidated))
	FROM pg_constraint WHERE contype = 'f' AND conparentid = 0
		AND conrelid::regclass::text IN ('tree.folders', 'tree.notes')
	UNION ALL
	SELECT concat_ws(' ', 'trigger', tgrelid::regclass, tgname, tgenabled) FROM pg_trigger
	WHERE NOT tgisinternal AND tgname !~ '^partshift_reverse'
		AND tgrelid::regclass::text IN ('tree.folders', 'tree.notes')
$$;
SET check_function_bodies = off;
/* Rows whose column is not the partition key of what they refer to. */
CREATE FUNCTION probe.astray() RETURNS TABLE (id bigint, parent bigint, parent_user_id integer, of_parent integer,
	twin bigint, twin_user_id integer, of_twin integer)
LANGUAGE sql AS $$
	SELECT f.id, f.parent, f.parent_user_id, p.user_id, f.twin, f.twin_user_id, t.user_id
	FROM tree.folders f LEFT JOIN tree.folders p ON p.id = f.parent LEFT JOIN tree.folders t ON t.id = f.twin
	WHERE (f.parent_user_id, f.twin_user_id) IS DISTINCT FROM (p.user_id, t.user_id)
		OR p.id IS NULL AND f.parent IS NOT NULL OR t.id IS NULL AND f.twin IS NOT NULL
	ORDER BY 1
$$;
/* What applications do that know nothing of the columns; n keeps the rows apart. */
CREATE PROCEDURE probe.use(n bigint) LANGUAGE plpgsql AS $$
BEGIN
	/* In any order, in one statement; and rows that refer to themselves. */
	INSERT INTO tree.folders (id, user_id, parent) VALUES
		(n + 4, 1, n + 3), (n + 3, 2, n + 2), (n + 1, 3, n + 1), (n + 2, 4, n + 1), (n + 5, 3, NULL);
	INSERT INTO tree.folders (id, user_id, twin) VALUES (n + 6, 5, n + 7);
	INSERT INTO tree.folders (id, user_id, twin) VALUES (n + 7, 6, n + 6);
	/* What is referred to gets another key, alone and with what refers to it. */
	UPDATE tree.folders SET user_id = 30 WHERE id IN (n + 1, n + 6);
	UPDATE tree.folders SET user_id = 31 + id - n WHERE id BETWEEN n + 1 AND n + 7;
	UPDATE tree.folders SET user_id = 50 WHERE id BETWEEN n + 1 AND n + 4;
	/* The reference changes, with and without the key; so does what it means. */
	UPDATE tree.folders SET parent = n + 5 WHERE id = n + 4;
	UPDATE tree.folders SET parent = n + 4, user_id = user_id + 1 WHERE id = n + 2;
	UPDATE tree.folders SET id = n + 8 WHERE id = n + 5;
	UPDATE tree.folders SET twin = NULL WHERE id = n + 6;
END $$;
RESET check_function_bodies;
\set ECHO all
CREATE ROLE partshift_owner NOLOGIN;
CREATE SCHEMA tree AUTHORIZATION partshift_owner;
SET search_path = tree, public;
SET ROLE partshift_owner;
CREATE TABLE folders (
	id bigint PRIMARY KEY, user_id integer NOT NULL, gone text, parent bigint, twin bigint, body text,
	CONSTRAINT of_parent FOREIGN KEY (parent) REFERENCES folders ON UPDATE CASCADE ON DELETE CASCADE,
	CONSTRAINT of_twin FOREIGN KEY (twin) REFERENCES folders ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED);
ALTER TABLE folders DROP COLUMN gone;
CREATE INDEX ON folders (parent);
CREATE TABLE notes (id integer PRIMARY KEY, folder bigint REFERENCES folders ON DELETE CASCADE);
CREATE TABLE seen (what text);
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO tree.seen VALUES (TG_OP);
	RETURN NEW;
END
$$;
CREATE TRIGGER seen AFTER UPDATE ON folders FOR EACH ROW EXECUTE FUNCTION see();
INSERT INTO folders SELECT g, g % 17, nullif(g / 3, 0), CASE WHEN g % 5 = 0 THEN 601 - g END, repeat('x', 100)
FROM generate_series(1, 600) g;
INSERT INTO notes SELECT g, g FROM generate_series(1, 600) g;
RESET ROLE;
CREATE TABLE was AS SELECT * FROM probe.objects();
CREATE VIEW rows AS SELECT id, user_id, parent, twin FROM folders;

\set convert 'partshift.convert(''folders'', ''hash'', ''user_id'', partitions => 5, foreign_keys => ''extend'', legacy_name => ''folders_old'''
\set columns 'extend_columns => ''{"of_twin": {"user_id": "twin_user_id"}}'''
-- What stands in the way is named, and nothing is made.
SELECT probe.refusal('SELECT ' || :'convert' || $$, extend_columns => '{"of_twin": {"user_id": "user_id"}}')$$);
SELECT probe.refusal('SELECT ' || :'convert' || $$, extend_columns => '{"of_twin": {"user_id": "parent_user_id"}}')$$);
SELECT topic, object, detail FROM partshift.plan('folders', 'hash', 'user_id', partitions => 5,
	foreign_keys => 'extend', :columns) WHERE severity = 'warning' AND topic = 'foreign key';
SELECT count(*) FROM (SELECT * FROM probe.objects() EXCEPT ALL TABLE was) AS new;

SELECT :convert, swap => 'manual', :columns) AS job \gset
CALL probe.finish(:job);
SELECT probe.state(:job);
-- The rows there were are filled; no trigger of the user's fired.
SELECT * FROM probe.astray();
SELECT * FROM seen;
SELECT count(*) FROM folders WHERE parent_user_id IS NOT NULL;
SELECT * FROM (SELECT * FROM probe.objects() EXCEPT ALL TABLE was) AS new (object) ORDER BY object COLLATE "C";
-- Applications go on as before.
CALL probe.use(1000);
TABLE rows ORDER BY id DESC LIMIT 7;
SELECT * FROM probe.astray();
INSERT INTO folders (id, user_id, parent) VALUES (2001, 1, 4711);
UPDATE folders SET parent = 4711 WHERE id = 500;
BEGIN;
INSERT INTO folders (id, user_id, twin) VALUES (2001, 1, 2002);
INSERT INTO folders (id, user_id) VALUES (2002, 2);
COMMIT;
INSERT INTO folders (id, user_id, twin) VALUES (2003, 1, 4711);
-- What is given is looked up all the same, for no key sees to it yet.
INSERT INTO folders (id, user_id, parent, parent_user_id) VALUES (2004, 1, 2001, 16);
UPDATE folders SET parent_user_id = 16 WHERE id = 500;
DELETE FROM folders WHERE id = 7;
SELECT * FROM probe.astray();
SELECT count(*) FROM folders;

SELECT partshift.swap(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT * FROM probe.astray();
SELECT * FROM (SELECT * FROM probe.objects() EXCEPT ALL TABLE was) AS new (object) ORDER BY object COLLATE "C";
CALL probe.await(format('NOT plan ? ''inventory'' FROM partshift.job WHERE job_id = %s', :job));
SELECT class, object, state, reason FROM partshift.carried(:job) WHERE state <> 'same';
SELECT * FROM probe.differences('folders', 'folders_old');
CALL probe.use(3000);
TABLE rows ORDER BY id DESC LIMIT 7;
SELECT * FROM probe.astray();
INSERT INTO folders (id, user_id, parent) VALUES (4001, 1, 4711);
UPDATE folders SET parent = 4711 WHERE id = 500;
BEGIN;
INSERT INTO folders (id, user_id, twin) VALUES (4001, 1, 4002);
INSERT INTO folders (id, user_id) VALUES (4002, 2);
COMMIT;
INSERT INTO folders (id, user_id, twin) VALUES (4003, 1, 4711);
-- The key does now.
INSERT INTO folders (id, user_id, parent, parent_user_id) VALUES (4004, 1, 4001, 16);
UPDATE folders SET parent_user_id = 16 WHERE id = 500;
-- Trees move as a whole, whichever row comes first.
UPDATE folders SET user_id = 100 WHERE id IN (4, 12, 13, 14, 36, 37, 38);
UPDATE folders SET user_id = 101 + id % 5 WHERE id < 300;
DELETE FROM folders WHERE id = 8;
SELECT * FROM probe.astray();
SELECT * FROM probe.damages('folders');
SELECT * FROM probe.differences('folders', 'folders_old');

-- Back, and nothing is left.
SELECT partshift.rollback(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
(TABLE was EXCEPT ALL SELECT * FROM probe.objects())
UNION ALL (SELECT * FROM probe.objects() EXCEPT ALL TABLE was);
INSERT INTO folders (id, user_id, parent) VALUES (5001, 1, 4711);
INSERT INTO folders (id, user_id, parent) VALUES (5001, 1, 500);

-- Nor by an abort.
SELECT :convert, swap => 'manual', :columns) AS job \gset
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT partshift.abort(:job);
CALL probe.finish(:job);
(TABLE was EXCEPT ALL SELECT * FROM probe.objects())
UNION ALL (SELECT * FROM probe.objects() EXCEPT ALL TABLE was);

-- A conversion that is finalized leaves nothing of it on the old table but the columns.
SELECT :convert, :columns) AS job \gset
CALL probe.finish(:job);
SELECT partshift.finalize(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT tgname FROM pg_trigger WHERE tgrelid = 'folders_old'::regclass AND NOT tgisinternal;
CALL probe.use(6000);
SELECT * FROM probe.astray();

SET client_min_messages = error;
DROP SCHEMA tree CASCADE;
RESET search_path;
DROP ROLE partshift_owner;
