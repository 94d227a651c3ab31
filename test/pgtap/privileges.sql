-- Owner, privileges, row security and its policies.  Default privileges give
-- nobody what he has not on the table.
\ir common.psql
CREATE ROLE run_owner NOLOGIN;
CREATE ROLE run_clerk NOLOGIN;
CREATE ROLE run_reader NOLOGIN;
GRANT USAGE ON SCHEMA run TO PUBLIC;
GRANT CREATE ON SCHEMA run TO run_owner;
SET ROLE run_owner;
CREATE TABLE run.t (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant integer, note text);
CREATE TABLE run.tenant (id integer);
GRANT SELECT ON run.tenant TO PUBLIC;
GRANT SELECT, INSERT ON run.t TO run_clerk WITH GRANT OPTION;
GRANT UPDATE (note), REFERENCES (id) ON run.t TO run_reader;
SET ROLE run_clerk;
GRANT SELECT ON run.t TO run_reader;
SET ROLE run_owner;
REVOKE TRUNCATE ON run.t FROM run_owner;
INSERT INTO run.t (tenant, note) SELECT g % 5, 'x' FROM generate_series(1, 100) g;
INSERT INTO run.tenant VALUES (1), (2);
ALTER TABLE run.t ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON run.t TO run_owner USING (true);
CREATE POLICY few ON run.t FOR SELECT TO run_clerk, run_reader USING (tenant IN (SELECT id FROM run.tenant));
CREATE POLICY fewer ON run.t AS RESTRICTIVE FOR UPDATE USING (tenant = 1) WITH CHECK (tenant < 3);
COMMENT ON POLICY few ON run.t IS 'of known tenants';
RESET ROLE;
-- From here on everybody may read what is made, whoever makes it.
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT USAGE ON SEQUENCES TO run_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE run_owner GRANT SELECT ON TABLES TO run_reader WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES FOR ROLE run_owner IN SCHEMA run GRANT DELETE ON TABLES TO run_clerk;
ALTER DEFAULT PRIVILEGES FOR ROLE run_owner REVOKE INSERT, SELECT ON TABLES FROM run_owner;
CREATE TABLE run.was AS
	SELECT relacl::text, (SELECT string_agg(attname || attacl::text, ' ' ORDER BY attnum) FROM pg_attribute
						  WHERE attrelid = c.oid AND attacl IS NOT NULL) AS attacl,
		(SELECT relacl::text FROM pg_class WHERE oid = 'run.t_id_seq'::regclass) AS seqacl
	FROM pg_class c WHERE oid = 'run.t'::regclass;
REVOKE ALL ON run.was FROM PUBLIC;
CREATE FUNCTION run.checks(stage text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	n integer;
BEGIN
	RETURN NEXT table_owner_is('run', 't', 'run_owner', stage || ': owner');
	RETURN NEXT table_privs_are('run', 't', 'run_clerk', ARRAY['SELECT', 'INSERT'], stage || ': of the clerk');
	RETURN NEXT table_privs_are('run', 't', 'run_reader', ARRAY['SELECT'], stage || ': of the reader');
	RETURN NEXT column_privs_are('run', 't', 'note', 'run_reader', ARRAY['SELECT', 'UPDATE'], stage || ': on a column');
	RETURN NEXT column_privs_are('run', 't', 'id', 'run_reader', ARRAY['SELECT', 'REFERENCES'], stage || ': on the key');
	RETURN NEXT run.same_rows($q$ SELECT relacl::text, (SELECT string_agg(attname || attacl::text, ' ' ORDER BY attnum)
			FROM pg_attribute WHERE attrelid = c.oid AND attacl IS NOT NULL),
			(SELECT relacl::text FROM pg_class WHERE oid = 'run.t_id_seq'::regclass)
		FROM pg_class c WHERE oid = 'run.t'::regclass $q$, 'TABLE run.was', stage || ': all of it, with who granted');
	RETURN NEXT is_empty($q$ SELECT c.relname, a.* FROM pg_class c, aclexplode(c.relacl) a
		WHERE c.oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'run.t'::regclass)
			AND a.grantee <> c.relowner $q$, stage || ': nobody else has any on a partition');
	RETURN NEXT policies_are('run', 't', ARRAY['own', 'few', 'fewer'], stage || ': policies');
	RETURN NEXT policy_roles_are('run', 't', 'few', ARRAY['run_clerk', 'run_reader'], stage || ': their roles');
	RETURN NEXT policy_cmd_is('run', 't', 'fewer', 'UPDATE', stage || ': their commands');
	RETURN NEXT run.same_rows($q$ SELECT polname::text, polpermissive, pg_get_expr(polqual, polrelid),
			pg_get_expr(polwithcheck, polrelid), obj_description(oid, 'pg_policy')
		FROM pg_policy WHERE polrelid = 'run.t'::regclass ORDER BY polname COLLATE "C" $q$,
		$q$ VALUES ('few', true, E'(tenant IN ( SELECT tenant.id\n   FROM run.tenant))', NULL, 'of known tenants'),
			('fewer', false, '(tenant = 1)', '(tenant < 3)', NULL), ('own', true, 'true', NULL, NULL) $q$,
		stage || ': their expressions and comments');
	RETURN NEXT run.same_rows($q$ SELECT relrowsecurity, relforcerowsecurity FROM pg_class WHERE oid = 'run.t'::regclass $q$,
		'VALUES (true, true)', stage || ': row security is on, and forced');
	SET LOCAL ROLE run_reader;
	SELECT count(*) INTO n FROM run.t;
	RESET ROLE;
	RETURN NEXT is(n, 40, stage || ': who sees what');
END
$$;
SELECT plan(43);
\set arguments '''hash'', ''id'', partitions => 3'
\ir convert.psql
ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM PUBLIC;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON SEQUENCES FROM run_reader;
DROP OWNED BY run_owner, run_clerk, run_reader;
DROP ROLE run_owner, run_clerk, run_reader;
