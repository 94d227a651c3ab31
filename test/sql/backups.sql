-- What conversions leave: how long it is kept, and when it may go.
\set ECHO none
\getenv dir PG_ABS_SRCDIR
\set common :dir '/sql/common.psql'
\i :common
\pset format unaligned
\pset tuples_only on
CREATE ROLE regress_ps_owner;
CREATE ROLE regress_ps_other;
CREATE FUNCTION dateless(name text) RETURNS text LANGUAGE sql AS
$$ SELECT regexp_replace(name, '_legacy_\d+', '_legacy_DATE', 'g') $$;
CREATE PROCEDURE convert(name text, more text DEFAULT '')
LANGUAGE plpgsql AS $$
DECLARE
	job integer;
BEGIN
	EXECUTE format('CREATE TABLE %I (id integer PRIMARY KEY); INSERT INTO %1$I SELECT generate_series(0, 99);
		ALTER TABLE %1$I OWNER TO regress_ps_owner', name);
	EXECUTE format('SELECT partshift.convert(%L, ''range'', ''id'', every => ''50''%s)', name, more) INTO job;
	COMMIT;
	CALL probe.finish(job);
END
$$;
CREATE PROCEDURE finalize(name text)
LANGUAGE plpgsql AS $$
DECLARE
	job integer := max(job_id) FROM partshift.job WHERE table_name = name;
BEGIN
	PERFORM partshift.finalize(job);
	COMMIT;
	CALL probe.await(format('status <> ''active'' FROM partshift.job WHERE job_id = %s', job));
END
$$;
CREATE FUNCTION legacy(of text) RETURNS regclass LANGUAGE sql AS
$$ SELECT relid FROM partshift.job WHERE table_name = of ORDER BY job_id DESC LIMIT 1 $$;
\set backups 'SELECT dateless(backup), relation, owner, state, expires_at - kept_at = interval \'7 days\', verified_by, rows, missing FROM partshift.backups WHERE relation ~ \'^public.[abcd]$\' ORDER BY 1;'
\set cleanup 'SELECT dateless(table_name), action, status, detail FROM partshift.cleanup'

CALL convert('a');
CALL convert('b', ', verify => ''none''');
CALL convert('c');
CALL convert('d', ', keep_legacy => false');
:backups
SELECT dateless(probe.refusal('SELECT partshift.verify_backup(legacy(''a''))'));
SELECT dateless(probe.refusal('SELECT partshift.extend_backup(legacy(''a''), ''1 day'')'));
:cleanup(dry_run => true, backup => legacy('a'));
CALL finalize('a');
CALL finalize('b');
CALL finalize('d');
:backups
-- Nothing that is no backup, and nothing of others.
SELECT probe.refusal(c) FROM unnest(ARRAY[
	'SELECT * FROM partshift.cleanup(false, ''a'')', 'SELECT * FROM partshift.cleanup(true, ''a'')',
	'SELECT * FROM partshift.verify_backup(''a'')', 'SELECT * FROM partshift.extend_backup(''a'', ''1 day'')',
	'SELECT * FROM partshift.verify_backup(NULL)', 'SELECT * FROM partshift.verify_backup(''pg_class'')',
	'SELECT * FROM partshift.extend_backup(legacy(''a''), NULL)']) c;
SELECT legacy('a') AS a \gset
SET ROLE regress_ps_other;
SELECT dateless(probe.refusal(format('SELECT partshift.verify_backup(%L)', :'a')));
SELECT dateless(probe.refusal(format('SELECT partshift.extend_backup(%L, ''1 day'')', :'a')));
SELECT dateless(probe.refusal(format('SELECT partshift.cleanup(backup => %L)', :'a')));
:cleanup();
SELECT count(*) FROM partshift.backups;
SELECT count(*) FROM partshift.health();
RESET ROLE;
-- Time passes.
SELECT partshift.extend_backup(legacy('a'), '30 days') > now() + interval '36 days';
UPDATE partshift.backup SET expires_at = now() - interval '1 minute' WHERE relation ~ '^public.[abcd]$';
:backups
SELECT severity, topic, table_name, dateless(object), dateless(detail), dateless(mend)
FROM partshift.health('a') WHERE topic ~ 'backup';
SELECT severity, topic, dateless(mend) FROM partshift.health() WHERE topic ~ 'backup' AND table_name ~ '^public.[abcd]$';
:cleanup() WHERE table_name ~ '^public.[abcd]_';
SELECT legacy('a') IS NOT NULL, legacy('b') IS NOT NULL;
-- A backup that is needed after all, one that was renamed, one without proof.
SET ROLE regress_ps_owner;
DELETE FROM b WHERE id < 3;
RESET ROLE;
SELECT * FROM partshift.verify_backup(legacy('b'));
:cleanup(dry_run => false);
:backups
SELECT * FROM partshift.verify_backup(legacy('b'), accept_missing => true);
ALTER TABLE b RENAME TO b2;
DO $$ BEGIN EXECUTE format('ALTER TABLE %s RENAME TO mine', legacy('b')); END $$;
:cleanup(dry_run => false);
SELECT count(*) FROM mine;
SELECT state FROM partshift.backups WHERE relation = 'public.b';
DO $$ BEGIN EXECUTE format('ALTER TABLE mine RENAME TO %I', (SELECT name FROM partshift.backup WHERE relation = 'public.b')); END $$;
-- Somebody else's table of the name is not the backup.
DO $$ BEGIN EXECUTE format('ALTER TABLE %I RENAME TO mine', (SELECT name FROM partshift.backup WHERE relation = 'public.b'));
	EXECUTE format('CREATE TABLE %I (his integer)', (SELECT name FROM partshift.backup WHERE relation = 'public.b')); END $$;
DROP TABLE mine;
SELECT count(*) FROM partshift.cleanup(dry_run => false);
SELECT state FROM partshift.backups WHERE relation = 'public.b';
DO $$ BEGIN EXECUTE format('DROP TABLE %I', (SELECT name FROM partshift.backup WHERE relation = 'public.b')); END $$;
-- Something depends on it.
CALL finalize('c');
UPDATE partshift.backup SET expires_at = now() - interval '1 minute' WHERE relation = 'public.c';
DO $$ BEGIN EXECUTE format('CREATE VIEW c_reader AS SELECT * FROM %s', legacy('c')); END $$;
SELECT regexp_replace(dateless(probe.refusal('SELECT partshift.cleanup(dry_run => false)')), E'\n.*depend.*', '');
DROP VIEW c_reader;
:cleanup(dry_run => false);
:backups
SELECT count(*) FROM c;

-- Health of a table: what is amiss, and the statement that mends it.
DROP TABLE a, b2, c, d;
CREATE TABLE sick (at timestamptz, n integer) PARTITION BY RANGE (at);
CREATE TABLE sick_default PARTITION OF sick DEFAULT;
SELECT partshift.manage('sick', every => '1 year', premake => 1, retention => '2 years');
SELECT severity, topic, table_name, regexp_replace(object, '\d{4}', 'YYYY'), regexp_replace(detail, '\d{4}', 'YYYY', 'g'), mend FROM partshift.health('sick');
ALTER TABLE sick DETACH PARTITION sick_default;
SELECT severity, topic, table_name, regexp_replace(object, '\d{4}', 'YYYY') FROM partshift.health('sick');
ALTER TABLE sick ATTACH PARTITION sick_default DEFAULT;
SELECT count(*) FROM partshift.maintain('sick');
SELECT * FROM partshift.health('sick');
INSERT INTO sick VALUES (NULL, 1);
INSERT INTO sick SELECT now(), g FROM generate_series(1, 2000) g;
SELECT severity, topic, object, detail, mend FROM partshift.health('sick');
SELECT pg_stat_force_next_flush();
ANALYZE sick;
SELECT regexp_replace(leaf, '\d{4}', 'YYYY'), rows, bytes > 0, share > 0.5, status FROM partshift.leaves('sick') ORDER BY rows DESC, 1;
SELECT table_name, partitions, used, rows, bytes > max_bytes, avg_bytes BETWEEN min_bytes AND max_bytes, stddev_bytes > 0 FROM partshift.distribution('sick');
SELECT probe.refusal('SELECT * FROM partshift.health(0)');
DROP TABLE sick;
DROP ROLE regress_ps_owner, regress_ps_other;
