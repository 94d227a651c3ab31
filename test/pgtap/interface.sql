-- What the extension installs: documented, confined, and open to whom it is.
BEGIN;
SELECT plan(10);

SELECT has_extension('partshift');
SELECT is_empty($$
	SELECT p.oid::regprocedure FROM pg_proc p
	WHERE p.pronamespace = 'partshift'::regnamespace
		AND obj_description(p.oid, 'pg_proc') IS NULL $$,
	'every function has a comment');
SELECT is_empty($$
	SELECT c.oid::regclass FROM pg_class c
	WHERE c.relnamespace = 'partshift'::regnamespace AND c.relkind IN ('r', 'v')
		AND obj_description(c.oid, 'pg_class') IS NULL $$,
	'every table and view has a comment');
SELECT is_empty($$
	SELECT p.oid::regprocedure FROM pg_proc p
	WHERE p.pronamespace = 'partshift'::regnamespace AND p.prosecdef $$,
	'no function is SECURITY DEFINER');
SELECT is_empty($$
	SELECT p.oid::regprocedure
	FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
	WHERE p.pronamespace = 'partshift'::regnamespace AND l.lanname <> 'c'
		AND NOT EXISTS (SELECT FROM unnest(p.proconfig) o
						WHERE o LIKE 'search\_path=pg\_catalog, pg\_temp%')
		AND p.proname NOT IN ('convert', 'plan', 'pause', 'resume', 'abort',
			'swap', 'rollback', 'finalize', 'verify', 'guard') $$,
	'every internal function has a fixed search_path');
SELECT set_eq($$
	SELECT p.proname::text FROM pg_proc p
	WHERE p.pronamespace = 'partshift'::regnamespace
		AND EXISTS (SELECT FROM aclexplode(coalesce(p.proacl,
						acldefault('f', p.proowner))) a
					WHERE a.grantee = 0 AND a.privilege_type = 'EXECUTE') $$,
	ARRAY['abort', 'acts_for', 'alter_job', 'can_see', 'carried', 'check_command', 'compare', 'convert',
		'create_job', 'finalize', 'hash_remainder', 'is_loaded', 'order_job', 'pause', 'plan', 'plan_job', 'pruning', 'resume',
		'rollback', 'swap', 'verify', 'wait', 'watch',
		'maintain', 'manage', 'manage_table', 'run_maintenance', 'unmanage',
		'cleanup', 'run_cleanup', 'extend_backup', 'verify_backup', 'order_backup',
		'health', 'inspect', 'leaves', 'distribution',
		-- what hand_over() calls as its caller
		'hand_over', 'check_partman', 'end_policy', 'grid_of', 'is_number', 'bound_rank', 'leaf_bounds', 'make_template',
		'partman_schema', 'register_partman', 'step_months', 'step_pattern', 'time_step'],
	'PUBLIC may call the interface and nothing else');
SELECT is_empty($$
	SELECT c.oid::regclass FROM pg_class c
	WHERE c.relnamespace = 'partshift'::regnamespace
		AND EXISTS (SELECT FROM aclexplode(c.relacl) a
					WHERE a.grantee = 0 AND a.privilege_type <> 'SELECT') $$,
	'PUBLIC may write nothing');
SELECT is_empty($$
	SELECT c.oid::regclass FROM pg_class c
	WHERE c.relnamespace = 'partshift'::regnamespace AND c.relkind = 'r'
		AND NOT c.relrowsecurity
		AND EXISTS (SELECT FROM aclexplode(c.relacl) a WHERE a.grantee = 0) $$,
	'PUBLIC reads tables by row only');
SELECT is_empty($$
	SELECT c.oid::regclass FROM pg_class c
	WHERE c.relnamespace = 'partshift'::regnamespace AND c.relkind = 'r' AND c.relreplident = 'd'
		AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary) $$,
	'rows can be deleted where all tables are published');
SELECT throws_ok('SELECT partshift.convert(''pg_class'', ''hash'', ''oid'')',
	'42809', NULL, 'a system catalog is refused');

SELECT * FROM finish();
ROLLBACK;
