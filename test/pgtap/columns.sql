-- Columns with all that is said about them, and storage parameters.
\ir common.psql
CREATE TYPE run.mood AS ENUM ('good', 'bad');
CREATE DOMAIN run.percent AS numeric(5, 2) CHECK (VALUE <= 100);
CREATE TABLE run.t (
	gone text,
	id bigint PRIMARY KEY,
	"Große Zahl" numeric(12, 3) DEFAULT 3.5,
	name varchar(40) COLLATE "C" NOT NULL DEFAULT 'it''s',
	mood run.mood DEFAULT 'good',
	share run.percent,
	tags text[],
	doc jsonb DEFAULT '{"a": 1}',
	made timestamptz(3) DEFAULT now(),
	doubled numeric GENERATED ALWAYS AS ("Große Zahl" * 2) STORED);
ALTER TABLE run.t DROP COLUMN gone;
ALTER TABLE run.t ALTER name SET STORAGE EXTERNAL, ALTER doc SET COMPRESSION pglz,
	ALTER name SET STATISTICS 33, ALTER share SET (n_distinct = -0.25, n_distinct_inherited = 7);
ALTER TABLE run.t SET (fillfactor = 70, autovacuum_vacuum_threshold = 99, toast.autovacuum_enabled = off);
INSERT INTO run.t (id, tags) SELECT g, ARRAY['x' || g] FROM generate_series(1, 100) g;

-- A partitioned table has its storage parameters on the partitions.
CREATE FUNCTION run.stored() RETURNS SETOF regclass LANGUAGE sql AS $$
	SELECT oid FROM pg_class
	WHERE oid = 'run.t'::regclass AND relkind = 'r'
		OR oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'run.t'::regclass)
$$;
CREATE FUNCTION run.checks(stage text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN NEXT columns_are('run', 't', ARRAY['id', 'Große Zahl', 'name', 'mood', 'share', 'tags', 'doc',
		'made', 'doubled'], stage || ': the columns');
	RETURN NEXT col_type_is('run', 't', 'Große Zahl', 'numeric(12,3)', stage || ': numeric');
	RETURN NEXT col_type_is('run', 't', 'name', 'character varying(40)', stage || ': varchar');
	RETURN NEXT col_type_is('run', 't', 'mood', 'run', 'mood', stage || ': enum');
	RETURN NEXT col_type_is('run', 't', 'share', 'run', 'percent', stage || ': domain');
	RETURN NEXT col_type_is('run', 't', 'tags', 'text[]', stage || ': array');
	RETURN NEXT col_type_is('run', 't', 'made', 'timestamp(3) with time zone', stage || ': timestamptz');
	RETURN NEXT col_not_null('run', 't', 'name', stage || ': NOT NULL');
	RETURN NEXT col_is_null('run', 't', 'mood', stage || ': nullable');
	RETURN NEXT col_default_is('run', 't', 'Große Zahl', '3.5', stage || ': default of a number');
	RETURN NEXT col_default_is('run', 't', 'name', 'it''s', stage || ': default of a text');
	RETURN NEXT col_default_is('run', 't', 'made', 'now()', stage || ': default of a function');
	RETURN NEXT col_hasnt_default('run', 't', 'tags', stage || ': no default');
	RETURN NEXT run.same_rows($q$ SELECT attname::text, attgenerated::text FROM pg_attribute
		WHERE attrelid = 'run.t'::regclass AND attgenerated <> '' $q$, $q$ VALUES ('doubled', 's') $q$,
		stage || ': the generated column');
	RETURN NEXT run.same_rows($q$ SELECT collname::text FROM pg_attribute JOIN pg_collation c ON c.oid = attcollation
		WHERE attrelid = 'run.t'::regclass AND attname = 'name' $q$, $q$ VALUES ('C') $q$, stage || ': collation');
	RETURN NEXT set_eq($q$ SELECT DISTINCT attname::text, attstorage::text, attcompression::text
		FROM run.stored() s JOIN pg_attribute ON attrelid = s WHERE attname IN ('name', 'doc') $q$,
		$q$ VALUES ('name', 'e', ''), ('doc', 'x', 'p') $q$, stage || ': storage and compression');
	RETURN NEXT set_eq($q$ SELECT DISTINCT attname::text, attstattarget::int
		FROM run.stored() s JOIN pg_attribute ON attrelid = s WHERE attstattarget > 0 $q$,
		$q$ VALUES ('name', 33) $q$, stage || ': statistics target');
	RETURN NEXT set_eq($q$ SELECT DISTINCT o FROM (SELECT 'run.t'::regclass UNION ALL SELECT run.stored()) s (rel)
		JOIN pg_attribute ON attrelid = rel, unnest(attoptions) o WHERE attname = 'share' AND o !~ '^pg_' $q$,
		ARRAY['n_distinct=-0.25', 'n_distinct_inherited=7'], stage || ': n_distinct');
	RETURN NEXT set_eq($q$ SELECT o FROM run.stored() s JOIN pg_class c ON c.oid = s
		LEFT JOIN pg_class t ON t.oid = c.reltoastrelid, unnest(c.reloptions || t.reloptions) o $q$,
		ARRAY['fillfactor=70', 'autovacuum_vacuum_threshold=99', 'autovacuum_enabled=off'],
		stage || ': storage parameters');
	RETURN NEXT run.same_rows('SELECT count(*)::int, sum(doubled) FROM run.t', 'VALUES (100, 700.000)', stage || ': rows');
END
$$;
SELECT plan(64);
\set arguments '''hash'', ''id'', partitions => 3'
\ir convert.psql
