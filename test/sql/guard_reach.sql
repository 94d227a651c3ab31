-- The guard reaches every object of a conversion, by whatever command, and
-- whoever gives it: a superuser, and an owner who is none.
\set ECHO none
\getenv dir PG_ABS_SRCDIR
\set common :dir '/sql/common.psql'
\i :common
SET lock_timeout = '60s';

/* How a command ends for a role; what it did is undone in any case. */
CREATE FUNCTION probe.answer(command text, role name) RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('role', role, true);
	EXECUTE command;
	RAISE SQLSTATE 'ZZZZZ';
EXCEPTION WHEN OTHERS THEN
	IF SQLSTATE = 'ZZZZZ' THEN
		RETURN 'allowed';
	END IF;
	RETURN probe.mask(regexp_replace(concat_ws(': ', SQLSTATE, SQLERRM),
		'^55006: cannot (\w+) (table|extension) "(.*)" while conversion job (\d+) is in progress$',
		'job \4 refuses to \1 \3'));
END
$$;

CREATE FUNCTION probe.answers(commands text[], roles name[])
RETURNS TABLE (command text, answer text)
LANGUAGE sql AS $$
	SELECT regexp_replace(probe.mask(c.command), '(log_|postponed_|mirror_)[\d_]+', '\1N'),
		regexp_replace(string_agg(DISTINCT probe.answer(c.command, r.role), ' / '),
			'(log_|postponed_)\d+', '\1N')
	FROM unnest(commands) WITH ORDINALITY AS c (command, n), unnest(roles) AS r (role)
	GROUP BY c.n, c.command
	ORDER BY c.n
$$;

DROP ROLE IF EXISTS reach_owner, reach_other;
CREATE ROLE reach_owner;
CREATE ROLE reach_other;
GRANT reach_other TO reach_owner;
CREATE SCHEMA reach AUTHORIZATION reach_owner;
CREATE SCHEMA beyond AUTHORIZATION reach_owner;
GRANT CREATE ON SCHEMA reach, beyond TO reach_other;
SET allow_in_place_tablespaces = on;
DROP TABLESPACE IF EXISTS reach_space;
CREATE TABLESPACE reach_space LOCATION '';
GRANT CREATE ON TABLESPACE reach_space TO reach_owner;
SET ROLE reach_owner;
CREATE FUNCTION reach.stamp() RETURNS trigger LANGUAGE plpgsql
AS 'BEGIN RETURN NEW; END';
CREATE TABLE reach.t (
	day date PRIMARY KEY,
	note text,
	CONSTRAINT short CHECK (length(note) < 100));
CREATE INDEX t_note_idx ON reach.t (note);
CREATE TRIGGER stamp BEFORE UPDATE ON reach.t
	FOR EACH ROW EXECUTE FUNCTION reach.stamp();
CREATE POLICY all_rows ON reach.t USING (true);
INSERT INTO reach.t SELECT '2026-01-01'::date + g, 'n' || g FROM generate_series(0, 50) g;
CREATE TABLE reach.root (LIKE reach.t) PARTITION BY RANGE (day);
CREATE TABLE reach.spare (LIKE reach.t INCLUDING CONSTRAINTS);
CREATE TYPE reach.pair AS (day date, note text);
RESET ROLE;
CREATE FUNCTION probe.convert() RETURNS integer LANGUAGE sql AS $$
	SELECT partshift.convert('reach.t', 'range', 'day', swap => 'manual',
		bounds => '["2026-01-01", "2026-02-01", "2026-03-01"]')
$$;
SELECT probe.convert() AS job \gset
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT format('reach.t_ps%s', job_id) AS shadow,
	(SELECT indexrelid::regclass FROM pg_index WHERE indrelid = shadow AND indisprimary)
		AS shadow_index,
	format('partshift.log_%s', job_id) AS log,
	format('partshift.postponed_%s', job_id) AS postponed,
	(SELECT tgname FROM pg_trigger WHERE tgrelid = j.relid
		AND tgfoid = 'partshift.mirror_row()'::regprocedure) AS mirror
FROM partshift.job j WHERE job_id = :job \gset
\set leaf reach.t_p202601
\set leaf_index reach.t_p202601_pkey
\set ECHO all

-- The source.
SELECT * FROM probe.answers(ARRAY[
	'ALTER TABLE reach.t ADD COLUMN extra integer',
	'ALTER TABLE reach.t RENAME TO u',
	'ALTER TABLE reach.t OWNER TO reach_other',
	'ALTER TABLE reach.t SET SCHEMA beyond',
	'ALTER TABLE reach.t SET TABLESPACE reach_space',
	'ALTER TABLE reach.t SET UNLOGGED',
	'ALTER TABLE reach.t OF reach.pair',
	'ALTER TABLE reach.t INHERIT reach.spare',
	'ALTER TABLE reach.spare INHERIT reach.t',
	'ALTER TABLE reach.root ATTACH PARTITION reach.t FOR VALUES FROM (MINVALUE) TO (MAXVALUE)',
	'ALTER TABLE reach.t ALTER COLUMN note SET STATISTICS 10',
	'ALTER TABLE reach.t ALTER COLUMN note SET STORAGE external',
	'ALTER TABLE reach.t ALTER COLUMN note SET (n_distinct = 5)',
	'ALTER TABLE reach.t SET (toast.autovacuum_enabled = off)',
	'ALTER TABLE reach.t FORCE ROW LEVEL SECURITY',
	'ALTER TABLE ALL IN TABLESPACE pg_default OWNED BY reach_owner SET TABLESPACE reach_space',
	'ALTER INDEX ALL IN TABLESPACE pg_default OWNED BY reach_owner SET TABLESPACE reach_space',
	'ALTER INDEX reach.t_note_idx SET (fillfactor = 50)',
	'ALTER INDEX reach.t_note_idx SET TABLESPACE reach_space',
	'ALTER INDEX reach.t_note_idx RENAME TO i',
	'CREATE OR REPLACE TRIGGER stamp AFTER UPDATE ON reach.t FOR EACH ROW EXECUTE FUNCTION reach.stamp()',
	format('DROP TRIGGER %I ON reach.t', :'mirror'),
	format('ALTER TRIGGER %I ON reach.t RENAME TO m', :'mirror'),
	format('COMMENT ON TRIGGER %I ON reach.t IS ''x''', :'mirror'),
	'ALTER FUNCTION reach.stamp() RENAME TO stamped',
	'CREATE FUNCTION reach.f() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count(*) FROM reach.t; END',
	'CREATE VIEW reach.v AS TABLE reach.t',
	'CREATE RULE r AS ON DELETE TO reach.t DO INSTEAD NOTHING',
	'CREATE STATISTICS reach.s ON day, note FROM reach.t',
	'GRANT SELECT ON reach.t TO reach_other',
	'COMMENT ON TABLE reach.t IS ''x''',
	'COMMENT ON CONSTRAINT short ON reach.t IS ''x''',
	'COMMENT ON INDEX reach.t_note_idx IS ''x''',
	'COMMENT ON TRIGGER stamp ON reach.t IS ''x''',
	'COMMENT ON POLICY all_rows ON reach.t IS ''x''',
	'COMMENT ON TYPE reach.t IS ''x''',
	'REASSIGN OWNED BY reach_owner TO reach_other',
	'REASSIGN OWNED BY reach_other, reach_owner TO reach_other',
	'DROP TABLE reach.t'], '{postgres,reach_owner}');

-- The shadow, its leaves and their indexes.
SELECT * FROM probe.answers(ARRAY[
	format('ALTER TABLE %s RENAME TO u', :'shadow'),
	format('ALTER TABLE %s RENAME TO u', :'leaf'),
	format('ALTER TABLE %s RENAME COLUMN note TO n', :'shadow'),
	format('ALTER TABLE %s OWNER TO reach_other', :'shadow'),
	format('ALTER TABLE %s OWNER TO reach_other', :'leaf'),
	format('ALTER TABLE %s SET SCHEMA beyond', :'shadow'),
	format('ALTER TABLE %s SET SCHEMA beyond', :'leaf'),
	format('ALTER TABLE %s SET UNLOGGED', :'leaf'),
	format('ALTER TABLE %s SET (autovacuum_enabled = off)', :'leaf'),
	format('ALTER TABLE %s DISABLE TRIGGER USER', :'leaf'),
	format('ALTER TABLE %s ADD CHECK (day > ''2000-01-01'')', :'leaf'),
	format('ALTER TABLE %s DROP CONSTRAINT short', :'shadow'),
	format('ALTER TABLE %s DETACH PARTITION %s', :'shadow', :'leaf'),
	format('ALTER TABLE %s ATTACH PARTITION reach.spare FOR VALUES FROM (''2030-01-01'') TO (''2030-02-01'')', :'shadow'),
	format('CREATE TABLE reach.later PARTITION OF %s FOR VALUES FROM (''2030-01-01'') TO (''2030-02-01'')', :'shadow'),
	format('CREATE INDEX ON %s (note)', :'shadow'),
	format('CREATE INDEX ON %s (note)', :'leaf'),
	format('ALTER INDEX %s RENAME TO i', :'shadow_index'),
	format('ALTER INDEX %s RENAME TO i', :'leaf_index'),
	format('CREATE TRIGGER g BEFORE INSERT ON %s FOR EACH ROW EXECUTE FUNCTION reach.stamp()', :'shadow'),
	format('CREATE TRIGGER g BEFORE INSERT ON %s FOR EACH ROW EXECUTE FUNCTION reach.stamp()', :'leaf'),
	format('CREATE POLICY p ON %s USING (true)', :'shadow'),
	format('ALTER POLICY all_rows ON %s USING (false)', :'shadow'),
	format('DROP POLICY all_rows ON %s', :'shadow'),
	format('CREATE RULE r AS ON INSERT TO %s DO INSTEAD NOTHING', :'leaf'),
	format('CREATE STATISTICS reach.s ON day, note FROM %s', :'leaf'),
	format('CREATE VIEW reach.v AS TABLE %s', :'leaf'),
	format('CREATE FUNCTION reach.f() RETURNS SETOF %1$s LANGUAGE sql AS ''TABLE %1$s''', :'leaf'),
	format('GRANT SELECT ON %s TO reach_other', :'shadow'),
	format('GRANT SELECT (day) ON %s TO reach_other', :'leaf'),
	format('COMMENT ON TABLE %s IS ''x''', :'shadow'),
	format('COMMENT ON COLUMN %s.note IS ''x''', :'leaf'),
	format('DROP TABLE %s', :'shadow'),
	format('DROP TABLE %s', :'leaf')], '{postgres,reach_owner}');

-- The log, which is the extension's.
SELECT * FROM probe.answers(ARRAY[
	format('ALTER TABLE %s RENAME TO u', :'log'),
	format('ALTER TABLE %s OWNER TO reach_other', :'log'),
	format('ALTER TABLE %s SET SCHEMA beyond', :'postponed'),
	format('CREATE INDEX ON %s (k1)', :'log'),
	format('CREATE TRIGGER g BEFORE INSERT ON %s FOR EACH ROW EXECUTE FUNCTION reach.stamp()', :'log'),
	format('CREATE POLICY p ON %s USING (true)', :'postponed'),
	format('CREATE RULE r AS ON INSERT TO %s DO INSTEAD NOTHING', :'log'),
	format('GRANT INSERT ON %s TO reach_other', :'log'),
	format('COMMENT ON TABLE %s IS ''x''', :'log'),
	format('CREATE VIEW reach.v AS TABLE %s', :'log'),
	format('DROP TABLE %s', :'postponed')], '{postgres}');

-- What only a superuser can do to them.
SET client_min_messages = error;
CREATE PUBLICATION reach_pub;
SELECT * FROM probe.answers(ARRAY[
	format('ALTER TABLE reach.t DISABLE TRIGGER %I', :'mirror'),
	'ALTER EXTENSION amcheck ADD TABLE reach.t',
	format('ALTER EXTENSION amcheck ADD TABLE %s', :'leaf'),
	'CREATE PUBLICATION p FOR TABLE reach.t',
	format('CREATE PUBLICATION p FOR TABLE %s', :'shadow'),
	format('ALTER PUBLICATION reach_pub ADD TABLE %s', :'leaf'),
	'ALTER PUBLICATION reach_pub ADD TABLES IN SCHEMA reach',
	'DROP OWNED BY reach_owner',
	'DROP SCHEMA reach CASCADE',
	'DROP SCHEMA partshift CASCADE'], '{postgres}');
DROP PUBLICATION reach_pub;
SET client_min_messages = warning;

-- The extension itself, and what belongs to it.
SELECT * FROM probe.answers(ARRAY[
	'ALTER EXTENSION partshift DROP FUNCTION partshift.mirror_row()',
	'ALTER EXTENSION partshift DROP EVENT TRIGGER partshift_guard_end',
	'ALTER EXTENSION partshift ADD TABLE reach.spare',
	'ALTER EXTENSION partshift SET SCHEMA beyond',
	'ALTER FUNCTION partshift.mirror_row() RENAME TO m',
	'ALTER FUNCTION partshift.mirror_row() OWNER TO reach_other',
	'ALTER FUNCTION partshift.mirror_row() SET SCHEMA beyond',
	'ALTER FUNCTION partshift.capture_row() DEPENDS ON EXTENSION amcheck',
	'CREATE OR REPLACE FUNCTION partshift.reverse_row() RETURNS trigger LANGUAGE plpgsql AS ''BEGIN RETURN NULL; END''',
	'ALTER TABLE partshift.task ADD COLUMN extra integer',
	'ALTER TABLE partshift.job OWNER TO reach_other',
	'CREATE TRIGGER g BEFORE UPDATE ON partshift.job FOR EACH ROW EXECUTE FUNCTION reach.stamp()',
	'ALTER VIEW partshift.jobs RENAME TO j',
	'ALTER SCHEMA partshift OWNER TO reach_other',
	'ALTER TABLE partshift.job RENAME TO j',
	'ALTER SCHEMA partshift RENAME TO p',
	'DROP FUNCTION partshift.mirror_row() CASCADE',
	'DROP EVENT TRIGGER partshift_guard_start',
	'DROP EXTENSION partshift',
	'DROP EXTENSION partshift CASCADE',
	'DROP EXTENSION plpgsql CASCADE',
	'DO ''BEGIN DROP EXTENSION partshift CASCADE; END''',
	'GRANT SELECT ON partshift.job TO reach_other',
	'COMMENT ON FUNCTION partshift.mirror_row() IS ''x'''], '{postgres}');
\set VERBOSITY sqlstate
DROP EXTENSION partshift;
SELECT probe.mask(:'LAST_ERROR_MESSAGE');
\set VERBOSITY default

-- Whoever may not do it anyway learns nothing of the jobs.
SET ROLE reach_other;
SELECT probe.answer('REASSIGN OWNED BY reach_owner TO reach_other', 'reach_other');
\set VERBOSITY terse
DROP EXTENSION partshift;
\set VERBOSITY default
RESET ROLE;

-- Who disables the event trigger is not stopped by what it has noted before.
ALTER EVENT TRIGGER partshift_guard_start DISABLE;
SET client_min_messages = error;
BEGIN;
DROP EXTENSION partshift CASCADE;
ROLLBACK;
SET client_min_messages = warning;
ALTER EVENT TRIGGER partshift_guard_start ENABLE;

-- Harmless.
SELECT * FROM probe.answers(ARRAY[
	'ALTER DEFAULT PRIVILEGES FOR ROLE reach_owner IN SCHEMA reach GRANT SELECT ON TABLES TO reach_other',
	'ALTER DEFAULT PRIVILEGES FOR ROLE reach_owner REVOKE ALL ON TABLES FROM reach_owner',
	'ALTER FUNCTION reach.stamp() OWNER TO reach_other',
	'GRANT USAGE ON SCHEMA reach TO reach_other',
	'CREATE TABLE reach.u (LIKE reach.t INCLUDING ALL)',
	'ALTER TABLE reach.spare OWNER TO reach_other',
	'REASSIGN OWNED BY reach_other TO reach_owner',
	'ALTER EXTENSION amcheck UPDATE',
	'DROP EXTENSION amcheck',
	'DO ''BEGIN DROP EXTENSION amcheck; END'''], '{postgres}');

-- REASSIGN OWNED where the library is not loaded: it is noticed.  When it has
-- been undone for the source, the job goes on, and all is the owner's again.
SET session_replication_role = replica;
REASSIGN OWNED BY reach_owner TO reach_other;
RESET session_replication_role;
SELECT partshift.swap(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
ALTER TABLE reach.t OWNER TO reach_owner;

-- To undo it is all that is free while the job has failed: what it made is
-- still written to by the triggers.
SELECT * FROM probe.answers(ARRAY[
	'ALTER TABLE reach.t OWNER TO reach_owner',
	'COMMENT ON TABLE reach.t IS ''x''',
	'DROP TABLE reach.t',
	format('DROP TRIGGER %I ON reach.t', :'mirror'),
	format('DROP TABLE %s', :'shadow'),
	format('DROP TABLE %s', :'leaf'),
	format('ALTER TABLE %s DETACH PARTITION %s', :'shadow', :'leaf'),
	format('CREATE TRIGGER g BEFORE INSERT ON %s FOR EACH ROW EXECUTE FUNCTION reach.stamp()', :'leaf'),
	format('CREATE RULE r AS ON INSERT TO %s DO INSTEAD NOTHING', :'shadow'),
	format('COMMENT ON COLUMN %s.note IS ''x''', :'leaf'),
	format('DROP TABLE %s', :'log')], '{postgres}');
INSERT INTO reach.t VALUES ('2026-06-01', 'still written');
SELECT partshift.resume(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT c.relname, c.relkind, c.relowner::regrole
FROM pg_class c WHERE c.relname ~ '^t(_p\d+|_default)?$'
	AND c.relnamespace = 'reach'::regnamespace ORDER BY 1;
SELECT count(*) FROM reach.t;

SET client_min_messages = error;
SELECT partshift.finalize(:job);
CALL probe.await(format($$(SELECT status = 'finalized' FROM partshift.job
	WHERE job_id = %s)$$, :job));
DROP SCHEMA reach CASCADE;
DROP SCHEMA beyond;
DROP OWNED BY reach_owner, reach_other;
DROP TABLESPACE reach_space;
DROP ROLE reach_owner, reach_other;
