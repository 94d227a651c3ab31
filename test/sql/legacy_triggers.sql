-- Triggers fire once for each change, also while both tables have the foreign keys.
\set ECHO none
\getenv dir PG_ABS_SRCDIR
\set common :dir '/sql/common.psql'
\i :common
\pset format unaligned
\pset tuples_only on
CREATE TABLE p (id integer PRIMARY KEY);
CREATE TABLE t (id integer PRIMARY KEY, p integer REFERENCES p ON UPDATE CASCADE ON DELETE CASCADE);
CREATE TABLE trace (what text);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO trace VALUES (format('%s of %s', TG_OP, OLD.id));
	RETURN NULL;
END
$$;
CREATE TRIGGER noted AFTER UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION note();
INSERT INTO p SELECT generate_series(1, 9);
INSERT INTO t SELECT g, g FROM generate_series(1, 9) g;

-- The shadow has its key.
SELECT partshift.convert('t', 'hash', 'id', partitions => 2, legacy_name => 't_old', swap => 'manual') AS job \gset
CALL probe.finish(:job);
DELETE FROM p WHERE id = 1;
UPDATE p SET id = 12 WHERE id = 2;
SELECT * FROM trace ORDER BY what;
TRUNCATE trace;
SELECT partshift.swap(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
DELETE FROM p WHERE id = 3;
UPDATE p SET id = 14 WHERE id = 4;
SELECT * FROM trace ORDER BY what;
TRUNCATE trace;

-- The legacy table has its key again.
BEGIN;
LOCK TABLE t IN ACCESS SHARE MODE;
PREPARE TRANSACTION 'a reader';
SELECT partshift.rollback(:job);
CALL probe.await(format('phase = ''swap'' AND lock_tries > 0 FROM partshift.job WHERE job_id = %s', :job));
SELECT count(*) FROM pg_constraint WHERE conrelid = 't_old'::regclass AND contype = 'f';
DELETE FROM p WHERE id = 5;
UPDATE p SET id = 16 WHERE id = 6;
SELECT * FROM trace ORDER BY what;
TRUNCATE trace;
SELECT * FROM probe.differences('t', 't_old');
COMMIT PREPARED 'a reader';
CALL probe.finish(:job);
SELECT probe.state(:job);
DELETE FROM p WHERE id = 7;
UPDATE p SET id = 18 WHERE id = 8;
SELECT * FROM trace ORDER BY what;
DROP TABLE t, p, trace;
DROP FUNCTION note;
