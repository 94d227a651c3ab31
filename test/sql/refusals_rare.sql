-- What only some servers have, or only with much around it, is refused too.
\set ECHO none
\getenv dir PG_ABS_SRCDIR
\set common :dir '/sql/common.psql'
\i :common
\pset format unaligned
\pset tuples_only on
CREATE EXTENSION IF NOT EXISTS btree_gist;
CREATE SCHEMA sample;
SET search_path = sample, public;
CREATE TABLE t (id integer PRIMARY KEY, n integer, spell int4range NOT NULL);
INSERT INTO t SELECT g, g, int4range(g, g + 1) FROM generate_series(1, 10) g;
CREATE TABLE c (id integer PRIMARY KEY, t integer);

-- PostgreSQL 18.  Older servers have nothing of it to refuse: there, the answer is taken as given.
CREATE FUNCTION refused_since_18(command text, args text, expected text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	answer text;
BEGIN
	IF current_setting('server_version_num')::integer < 180000 THEN
		RETURN 'as expected';
	END IF;
	EXECUTE command;
	answer := probe.refusal(format('SELECT partshift.convert(%s)', args));
	RETURN CASE answer WHEN expected THEN 'as expected' ELSE answer END;
END
$$;
\set t '\'\'\'t\'\', \'\'hash\'\', \'\'id\'\', partitions => 2\''
\set c '\'\'\'c\'\', \'\'hash\'\', \'\'id\'\', partitions => 2\''
SELECT refused_since_18('ALTER TABLE t ALTER n SET NOT NULL;
	ALTER TABLE c ADD CONSTRAINT loose FOREIGN KEY (t) REFERENCES t NOT ENFORCED',
'''t'', ''hash'', ''n'', partitions => 2, foreign_keys => ''extend''',
'0A000: foreign key "loose" of table sample.c is not enforced
HINT: Make it ENFORCED, or drop it.');
ALTER TABLE c DROP CONSTRAINT IF EXISTS loose;
ALTER TABLE t ALTER n DROP NOT NULL;
SELECT refused_since_18('ALTER TABLE t ADD CONSTRAINT later NOT NULL n NOT VALID',
'''t'', ''hash'', ''n'', partitions => 2',
'55000: partition key column "n" can be null
DETAIL: No row has a null in it.
HINT: Run ALTER TABLE sample.t ALTER COLUMN n SET NOT NULL.  Or give option "null_key": an expression for the nulls.');
ALTER TABLE t DROP CONSTRAINT IF EXISTS later;
SELECT refused_since_18('ALTER TABLE t ADD CONSTRAINT own NOT NULL n NO INHERIT', :t,
'0A000: constraint "own" is NO INHERIT
HINT: A partitioned table cannot have it; add it without NO INHERIT.');
ALTER TABLE t DROP CONSTRAINT IF EXISTS own;
SELECT refused_since_18('ALTER TABLE t ADD CONSTRAINT apart UNIQUE (id, spell WITHOUT OVERLAPS)', :t,
'0A000: index "apart" enforces an exclusion constraint
DETAIL: Exclusion constraints are not carried.');
SELECT refused_since_18('ALTER TABLE t DROP CONSTRAINT apart, DROP CONSTRAINT t_pkey,
	ADD CONSTRAINT t_pkey PRIMARY KEY (id, spell WITHOUT OVERLAPS)', :t,
'55000: table "t" has no key that finds a row
DETAIL: Its index "t_pkey" is not a B-tree.  Further reasons: index "t_pkey" enforces an exclusion constraint.
HINT: Add one, for example ALTER TABLE sample.t ADD COLUMN id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY; or keep writers waiting with lock_writes => true.');

-- A key over periods is none of those to the table, and is carried.
CREATE FUNCTION carried_since_18(command text) RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
	IF current_setting('server_version_num')::integer < 180000 THEN
		RETURN '';
	END IF;
	EXECUTE command;
	RETURN partshift.convert('c', 'hash', 'id', partitions => 2);
END
$$;
SELECT carried_since_18('ALTER TABLE c ADD spell int4range, ADD CONSTRAINT during
	FOREIGN KEY (t, PERIOD spell) REFERENCES t (id, PERIOD spell)') AS job \gset
SELECT :'job' = '' AS older \gset
\if :older
\set answer 'FOREIGN KEY (t, PERIOD spell) REFERENCES t(id, PERIOD spell)'
\else
CALL probe.finish(:job);
SELECT coalesce(max(pg_get_constraintdef(o.oid)), probe.state(:job)) AS answer
FROM pg_constraint o JOIN pg_class r ON r.oid = o.conrelid
WHERE o.conname = 'during' AND r.oid = 'c'::regclass AND r.relkind = 'p' AND o.convalidated \gset
SELECT partshift.finalize(:job) \g /dev/null
CALL probe.finish(:job);
\endif
\echo :answer
DROP TABLE c, t CASCADE;

-- What nobody can make here is entered in the catalogs.
CREATE TABLE t (id integer PRIMARY KEY);
SET client_min_messages = error;
CREATE SUBSCRIPTION partshift_sub CONNECTION 'dbname=nowhere' PUBLICATION p
	WITH (connect = false, slot_name = NONE);
INSERT INTO pg_subscription_rel (srsubid, srrelid, srsubstate)
SELECT oid, 't'::regclass, 'r' FROM pg_subscription WHERE subname = 'partshift_sub';
SELECT probe.refusal(format('SELECT partshift.convert(%s)', :t));
DROP SUBSCRIPTION partshift_sub;
INSERT INTO pg_seclabel (objoid, classoid, objsubid, provider, label)
VALUES ('t'::regtype, 'pg_type'::regclass, 0, 'guesses', 'secret');
SELECT probe.refusal(format('SELECT partshift.convert(%s)', :t));
DELETE FROM pg_seclabel WHERE objoid = 't'::regtype;

-- An object of a kind that does not depend on tables; what is known of columns of catalogs, all there is
INSERT INTO pg_depend (classid, objid, objsubid, refclassid, refobjid, refobjsubid, deptype)
SELECT 'pg_ts_dict'::regclass, oid, 0, 'pg_class'::regclass, 't'::regclass, 0, 'n' FROM pg_ts_dict WHERE dictname = 'simple';
SELECT probe.refusal(format('SELECT partshift.convert(%s)', :t));
DELETE FROM pg_depend WHERE refobjid = 't'::regclass AND classid = 'pg_ts_dict'::regclass;
INSERT INTO pg_shdepend (dbid, classid, objid, objsubid, refclassid, refobjid, deptype)
SELECT oid, 'pg_class'::regclass, 't'::regclass, 0, 'pg_authid'::regclass, 10, '?' FROM pg_database
WHERE datname = current_database();
SELECT probe.refusal(format('SELECT partshift.convert(%s)', :t)) ~ '^0A000: table "t" depends on role \w+ in a way that is not known';
DELETE FROM pg_shdepend WHERE objid = 't'::regclass AND deptype = '?';
INSERT INTO pg_init_privs (objoid, classoid, objsubid, privtype, initprivs)
VALUES ('t'::regclass, 'pg_class'::regclass, 0, 'e', '{=r/postgres}');
SELECT probe.refusal(format('SELECT partshift.convert(%s)', :t));
DELETE FROM pg_init_privs WHERE objoid = 't'::regclass;
SELECT format('%s.%s', fktable, fkcols[1]) FROM pg_get_catalog_foreign_keys()
WHERE pktable = 'pg_class'::regclass AND format('%s.%s', fktable, fkcols[1]) <> ALL (partshift.known_references());
SELECT message FROM partshift.check_references('t'::regclass,
	array_remove(array_remove(partshift.known_references(), 'pg_index.indrelid'), 'pg_inherits.inhrelid'));
DROP SCHEMA sample CASCADE;
RESET client_min_messages;
