-- Publications that list the table, and comments.
\ir common.psql
SET client_min_messages = error;
CREATE TABLE run.t (id integer PRIMARY KEY, n integer, note text);
CREATE TABLE run.other (id integer PRIMARY KEY);
INSERT INTO run.t SELECT g, g % 10, 'x' FROM generate_series(1, 100) g;
CREATE PUBLICATION run_some FOR TABLE run.t (id, n), run.other WITH (publish_via_partition_root = true);
CREATE PUBLICATION run_few FOR TABLE run.t WHERE (id > 50)
	WITH (publish = 'insert, delete', publish_via_partition_root = true);
COMMENT ON TABLE run.t IS 'it''s a table';
COMMENT ON COLUMN run.t.note IS 'said';
COMMENT ON PUBLICATION run_some IS 'some of it';
CREATE FUNCTION run.checks(stage text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN NEXT run.same_rows($q$ SELECT pubname::text, tablename::text, attnames::text, rowfilter FROM pg_publication_tables
		WHERE pubname ~ '^run_' ORDER BY 1, 2 $q$,
		$q$ VALUES ('run_few', 't', '{id,n,note}', '(id > 50)'), ('run_some', 'other', '{id}', NULL),
			('run_some', 't', '{id,n}', NULL) $q$, stage || ': what is published, by which name');
	RETURN NEXT run.same_rows($q$ SELECT pubname::text, pubinsert, pubupdate, pubdelete, pubviaroot FROM pg_publication
		WHERE pubname ~ '^run_' ORDER BY 1 $q$,
		$q$ VALUES ('run_few', true, false, true, true), ('run_some', true, true, true, true) $q$, stage || ': options');
	RETURN NEXT run.same_rows($q$ SELECT obj_description('run.t'::regclass), col_description('run.t'::regclass, 3),
			obj_description(oid, 'pg_publication') FROM pg_publication WHERE pubname = 'run_some' $q$,
		$q$ VALUES ('it''s a table', 'said', 'some of it') $q$, stage || ': comments');
	RETURN NEXT is_empty($q$ SELECT prrelid::regclass FROM pg_publication_rel
		WHERE prrelid NOT IN ('run.t'::regclass, 'run.other'::regclass) $q$, stage || ': nothing else is');
	RETURN NEXT lives_ok('INSERT INTO run.t VALUES (900, 9, ''new''); UPDATE run.t SET n = 8 WHERE id = 900;
		DELETE FROM run.t WHERE id = 900', stage || ': it can be written');
END
$$;
SELECT plan(19);
\set arguments '''hash'', ''id'', partitions => 3'
\ir convert.psql
DROP PUBLICATION run_some, run_few;
