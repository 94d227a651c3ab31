-- Views and materialized views: the same objects, with all that is upon them,
-- and what they show is what the table holds.
\ir common.psql
CREATE ROLE run_owner NOLOGIN;
CREATE ROLE run_clerk NOLOGIN;
GRANT USAGE, CREATE ON SCHEMA run TO run_owner;
CREATE TABLE run.t (id integer PRIMARY KEY, n integer, note text);
INSERT INTO run.t SELECT g, g % 10, 'x' FROM generate_series(1, 100) g;
GRANT ALL ON run.t TO run_owner;
SET ROLE run_owner;
CREATE VIEW run.v WITH (security_barrier, security_invoker = off) AS SELECT id, n AS "Zahl" FROM run.t WHERE n < 5
	WITH LOCAL CHECK OPTION;
CREATE VIEW run.over AS SELECT count(*) AS c FROM run.v;
CREATE MATERIALIZED VIEW run.m AS SELECT n, count(*) AS c FROM run.t GROUP BY n;
CREATE UNIQUE INDEX m_n ON run.m (n);
CREATE VIEW run.on_m AS SELECT sum(c) AS s FROM run.m;
COMMENT ON VIEW run.v IS 'few';
COMMENT ON COLUMN run.v."Zahl" IS 'how many';
COMMENT ON MATERIALIZED VIEW run.m IS 'by n';
ALTER VIEW run.v ALTER COLUMN "Zahl" SET DEFAULT 3;
GRANT SELECT, INSERT ON run.v TO run_clerk WITH GRANT OPTION;
GRANT UPDATE (id) ON run.v TO run_clerk;
GRANT SELECT ON run.m TO run_clerk;
RESET ROLE;
CREATE TABLE run.was AS SELECT oid, pg_get_viewdef(oid) AS def, relacl, reloptions FROM pg_class
	WHERE oid IN ('run.v'::regclass, 'run.over'::regclass, 'run.m'::regclass, 'run.on_m'::regclass);
CREATE FUNCTION run.checks(stage text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN NEXT views_are('run', ARRAY['v', 'over', 'on_m'], stage || ': the views');
	RETURN NEXT materialized_views_are('run', ARRAY['m'], stage || ': the materialized views');
	RETURN NEXT view_owner_is('run', 'v', 'run_owner', stage || ': owner');
	RETURN NEXT materialized_view_owner_is('run', 'm', 'run_owner', stage || ': owner of the materialized one');
	RETURN NEXT has_column('run', 'v', 'Zahl', stage || ': column');
	RETURN NEXT col_default_is('run', 'v', 'Zahl', '3', stage || ': default');
	RETURN NEXT table_privs_are('run', 'v', 'run_clerk', ARRAY['SELECT', 'INSERT'], stage || ': privileges');
	RETURN NEXT column_privs_are('run', 'v', 'id', 'run_clerk', ARRAY['SELECT', 'INSERT', 'UPDATE'], stage || ': of a column');
	RETURN NEXT table_privs_are('run', 'm', 'run_clerk', ARRAY['SELECT'], stage || ': of the materialized view');
	RETURN NEXT index_is_unique('run', 'm', 'm_n', stage || ': its index');
	RETURN NEXT bag_eq($q$ SELECT oid, pg_get_viewdef(oid), relacl::text, reloptions FROM pg_class
		WHERE relnamespace = 'run'::regnamespace AND relkind IN ('v', 'm') $q$,
		'SELECT oid, def, relacl::text, reloptions FROM run.was', stage || ': the same objects, with options');
	RETURN NEXT run.same_rows($q$ SELECT obj_description('run.v'::regclass), col_description('run.v'::regclass, 2),
		obj_description('run.m'::regclass) $q$, $q$ VALUES ('few', 'how many', 'by n') $q$, stage || ': comments');
	RETURN NEXT is((SELECT c FROM run.over), (SELECT count(*) FROM run.t WHERE n < 5), stage || ': what it shows');
	RETURN NEXT is((SELECT s FROM run.on_m), 100::numeric, stage || ': what the materialized view holds');
	RETURN NEXT throws_ok('INSERT INTO run.v (id, "Zahl") VALUES (900, 7)', '44000', NULL, stage || ': check option');
	INSERT INTO run.v (id) VALUES (900);
	RETURN NEXT is((SELECT n FROM run.t WHERE id = 900), 3, stage || ': written through it');
	RETURN NEXT lives_ok('REFRESH MATERIALIZED VIEW CONCURRENTLY run.m', stage || ': refreshed');
	RETURN NEXT is((SELECT s FROM run.on_m), 101::numeric, stage || ': from the table in use');
	DELETE FROM run.t WHERE id = 900;
	REFRESH MATERIALIZED VIEW run.m;
END
$$;
SELECT plan(58);
\set arguments '''hash'', ''id'', partitions => 3'
\ir convert.psql
DROP OWNED BY run_owner, run_clerk;
DROP ROLE run_owner, run_clerk;
