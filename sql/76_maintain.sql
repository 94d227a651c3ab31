/*
 * Maintenance: the list of what a table needs, which a worker goes through
 * and a dry run shows.  Functions in FROM make the planner expect thousands of
 * rows where there are a few: that is not worth compiling.
 */

CREATE TYPE partshift.chore AS (
	action text,
	object text,
	leaf oid,
	lower text,
	upper text,
	rows bigint,
	problem text
);

COMMENT ON TYPE partshift.chore IS
'one thing that maintenance is to do to a table';

CREATE FUNCTION partshift.list_chores(relid oid, moment timestamptz)
RETURNS SETOF partshift.chore
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET jit = off
SET datestyle = 'ISO, YMD'
SET intervalstyle = 'postgres'
SET timezone = 'UTC'
AS $$
DECLARE
	p partshift.managed := partshift.policy(relid);
	key partshift.key;
	busy boolean := false;
BEGIN
	PERFORM partshift.managed_key(relid);
	PERFORM set_config('timezone', p.timezone, true);
	key := partshift.key_of(relid, p.key_column, '{}');

	/* Nothing else can be detached concurrently before these are. */
	RETURN QUERY
		SELECT 'detach', s.name, s.leaf, s.lower, s.upper, NULL::bigint, NULL::text
		FROM partshift.stretches(relid, key.type) s WHERE s.is_pending;
	RETURN QUERY
		SELECT 'create', m.name, NULL::oid, m.lower, m.upper, m.rows, m.problem
		FROM partshift.missing_leaves(p, key, moment) m;
	busy := FOUND;
	RETURN QUERY
		SELECT 'detach', e.name, e.leaf, e.lower, e.upper, NULL::bigint,
			CASE WHEN partshift.detach_way(relid) = 'refused' THEN 'reference' END
		FROM partshift.expired_leaves(p, key, moment) e
		WHERE NOT e.is_pending;
	busy := busy OR FOUND;
	RETURN QUERY
		SELECT t.action, format('%I.%I', t.schema_name, t.name), t.leaf,
			NULL::text, NULL::text, NULL::bigint, NULL::text
		FROM partshift.retired t
		WHERE t.relid = list_chores.relid
			AND t.leaf NOT IN (SELECT i.inhrelid FROM pg_inherits i
							   WHERE i.inhparent = list_chores.relid);
	IF busy OR p.analyzed_at IS NULL OR p.analyzed_at + p.analyze_every <= moment
		OR p.analyzed_at > moment
	THEN
		RETURN QUERY
			SELECT 'analyze', format('%I.%I', n.nspname, c.relname), NULL::oid,
				NULL::text, NULL::text, NULL::bigint, NULL::text
			FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
			WHERE c.oid = relid AND p.analyze_every > interval '0';
	END IF;
END
$$;

COMMENT ON FUNCTION partshift.list_chores(oid, timestamptz) IS
'what a managed table needs at a moment, in the order in which it is done';

/*
 * Those that the caller may have maintained, and that there still are.  One
 * that is being converted is left as it is, and so is what it has become
 * afterwards: the new table has the policy then.
 */
CREATE FUNCTION partshift.maintained_tables(relid oid, role oid)
RETURNS TABLE (relation oid, owner oid, name text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT c.oid, c.relowner, format('%I.%I', n.nspname, c.relname)
	FROM partshift.managed m
		JOIN pg_class c ON c.oid = m.relid AND c.reltype = m.row_type
		JOIN pg_namespace n ON n.oid = c.relnamespace
	WHERE (maintained_tables.relid IS NULL OR m.relid = maintained_tables.relid)
		AND pg_has_role(maintained_tables.role, c.relowner, 'USAGE')
		AND NOT EXISTS (SELECT FROM partshift.job j
						WHERE j.relid = c.oid AND j.status IN ('active', 'paused', 'failed'))
		AND NOT EXISTS (SELECT FROM partshift.backup b WHERE b.relid = c.oid)
	ORDER BY c.oid
$$;

COMMENT ON FUNCTION partshift.maintained_tables(oid, oid) IS
'managed tables that a role has the rights of the owner of';

CREATE FUNCTION partshift.log_chore(run bigint, relid oid, owner oid, relation text, action text,
	object text, status text, rows bigint DEFAULT NULL, code text DEFAULT NULL,
	detail text DEFAULT NULL) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	INSERT INTO partshift.maintenance_log
		(run, relid, owner, relation, action, object, status, rows, error_sqlstate, detail)
	VALUES (run, relid, owner, relation, action, object, status, rows, code, detail)
$$;

COMMENT ON FUNCTION partshift.log_chore(bigint, oid, oid, text, text, text, text, bigint, text, text) IS
'records what maintenance did, or could not do';

CREATE FUNCTION partshift.end_chores(run bigint, relid oid, moment timestamptz) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	UPDATE partshift.managed m
	SET maintained_at = CASE WHEN f.detail IS NULL THEN clock_timestamp() ELSE m.maintained_at END,
		failed_at = CASE WHEN f.detail IS NOT NULL THEN clock_timestamp() END,
		error = f.detail,
		analyzed_at = CASE WHEN EXISTS (
				SELECT FROM partshift.maintenance_log l
				WHERE l.run = end_chores.run AND l.relid = end_chores.relid
					AND l.action = 'analyze' AND l.status = 'done')
			THEN moment ELSE m.analyzed_at END
	FROM (SELECT (SELECT l.detail FROM partshift.maintenance_log l
				  WHERE l.run = end_chores.run AND l.relid = end_chores.relid
					AND l.status = 'failed'
				  ORDER BY l.place LIMIT 1)) AS f (detail)
	WHERE m.relid = end_chores.relid;

	DELETE FROM partshift.maintenance_log l
	WHERE l.logged_at < clock_timestamp() - interval '90 days';
$$;

COMMENT ON FUNCTION partshift.end_chores(bigint, oid, timestamptz) IS
'records how the maintenance of a table ended, and forgets what is long past';

CREATE FUNCTION partshift.why_not(problem text, p partshift.managed, rows bigint,
	OUT code text, OUT message text)
RETURNS record
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE problem WHEN 'in use' THEN '42P07' WHEN 'too long' THEN '42622'
			WHEN 'rows' THEN '53400' WHEN 'reference' THEN '0A000' END,
		CASE problem
		WHEN 'in use' THEN 'The name is in use: give another name_format.'
		WHEN 'too long' THEN 'The name is too long: give another name_format.'
		WHEN 'rows' THEN format('The DEFAULT partition has %s rows for it, more than move_rows (%s) lets be moved under a lock.',
			rows, p.move_rows)
		WHEN 'reference' THEN 'A foreign key of a table of another owner refers to it: detach it by hand.'
		END
$$;

COMMENT ON FUNCTION partshift.why_not(text, partshift.managed, bigint) IS
'why something that a table needs is left undone';

CREATE FUNCTION partshift.dry_run(relid oid, role oid, moment timestamptz)
RETURNS TABLE (relation text, action text, object text, status text, rows bigint, detail text)
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT t.name, c.action, c.object,
		CASE WHEN c.problem IS NULL THEN 'to do' ELSE 'failed' END, c.rows,
		coalesce(w.message, 'from ' || c.lower || ' to ' || c.upper)
	FROM partshift.maintained_tables(relid, role) AS t
		JOIN partshift.managed m ON m.relid = t.relation,
		partshift.list_chores(t.relation, moment) WITH ORDINALITY
			AS c (action, object, leaf, lower, upper, rows, problem, place),
		partshift.why_not(c.problem, m, c.rows) AS w
	ORDER BY t.relation, c.place
$$;

COMMENT ON FUNCTION partshift.dry_run(oid, oid, timestamptz) IS
'what maintain() would do, for the tables of a role';

CREATE FUNCTION partshift.run_report(run bigint,
	OUT report jsonb, OUT ended boolean, OUT failures bigint, OUT failed text)
RETURNS record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(jsonb_agg(jsonb_build_object('table_name', l.relation, 'action', l.action,
			'object', l.object, 'status', l.status, 'rows', l.rows, 'detail', l.detail)
			ORDER BY l.place) FILTER (WHERE l.action <> 'run'), '[]'),
		coalesce(bool_or(l.action = 'run'), false),
		count(*) FILTER (WHERE l.status = 'failed'),
		string_agg(format('%s: %s', coalesce(l.object, l.relation), l.detail), E'\n' ORDER BY l.place)
			FILTER (WHERE l.status = 'failed')
	FROM partshift.maintenance_log l
	WHERE l.run = run_report.run
$$;

COMMENT ON FUNCTION partshift.run_report(bigint) IS
'what a run of maintenance did, whether it came to its end, and what failed';

CREATE FUNCTION partshift.dry_report(relid oid, role oid, moment timestamptz) RETURNS jsonb
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(jsonb_agg(jsonb_build_object('table_name', d.relation, 'action', d.action,
		'object', d.object, 'status', d.status, 'rows', d.rows, 'detail', d.detail)), '[]')
	FROM partshift.dry_run(relid, role, moment) d
$$;

COMMENT ON FUNCTION partshift.dry_report(oid, oid, timestamptz) IS
'what maintain() would do, as one value';

CREATE FUNCTION partshift.run_maintenance(relation regclass, moment timestamptz, dry_run boolean)
RETURNS jsonb
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'partshift_run_maintenance';

COMMENT ON FUNCTION partshift.run_maintenance(regclass, timestamptz, boolean) IS
'maintain() with its result in one value';

CREATE FUNCTION partshift.maintain(relation regclass DEFAULT NULL,
	now timestamptz DEFAULT NULL, dry_run boolean DEFAULT false)
RETURNS TABLE (table_name text, action text, object text, status text, rows bigint, detail text)
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT r.*
	FROM jsonb_to_recordset(partshift.run_maintenance(relation, now, dry_run))
		AS r (table_name text, action text, object text, status text, rows bigint, detail text)
$$;

COMMENT ON FUNCTION partshift.maintain(regclass, timestamptz, boolean) IS
'makes the partitions that managed tables will need and takes away those that have expired';

CREATE VIEW partshift.maintenance WITH (security_barrier) AS
SELECT l.run, l.logged_at, l.relation, l.action, l.object, l.status, l.rows,
	l.error_sqlstate, l.detail
FROM partshift.maintenance_log l
WHERE partshift.can_see(l.owner)
ORDER BY l.place;

COMMENT ON VIEW partshift.maintenance IS
'what maintenance did in the last 90 days, and what it could not do';

CREATE VIEW partshift.policies WITH (security_barrier) AS
SELECT format('%I.%I', n.nspname, c.relname) AS relation, m.key_column, m.every,
	m.shift, m.timezone, m.premake, m.name_format, m.retention, m.retention_count,
	m.retention_action, m.retention_schema, m.move_rows, m.analyze_every,
	m.managed_at, m.maintained_at, m.analyzed_at, m.failed_at, m.error
FROM partshift.managed m
	JOIN pg_class c ON c.oid = m.relid AND c.reltype = m.row_type
	JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE partshift.can_see(c.relowner)
	AND NOT EXISTS (SELECT FROM partshift.job j
					WHERE j.relid = m.relid AND j.status IN ('active', 'paused', 'failed')
						AND (j.phase = 'done' OR j.reverse));

COMMENT ON VIEW partshift.policies IS
'the tables whose partitions are maintained, and how';
