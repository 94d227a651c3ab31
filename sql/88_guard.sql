/*
 * The guard: DDL that a live job could not survive is refused.
 *
 * Before the swap that is all DDL on the source, on what the job made, and on
 * whatever else would change the source's fingerprint, as a new view or
 * foreign key would: it would be lost, or stop the swap.  After the swap it is
 * DDL on the legacy table, which could no longer follow; dropping it is the
 * owner's decision.  The new table is then the application's.  While a
 * rollback is under way both tables are guarded again, and only the legacy
 * table if it has failed.
 */
CREATE FUNCTION partshift.guarded_jobs(OUT job partshift.job, OUT state text,
	OUT hint text)
RETURNS SETOF record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT j, s.state, CASE
		WHEN s.state = 'before' THEN format('Abort the job with partshift.abort(%s) or wait until it has swapped the tables; pausing it does not help.', j.job_id)
		WHEN s.state = 'after' THEN format('Finalize the job with partshift.finalize(%s) first; pausing it does not help.', j.job_id)
		WHEN j.status = 'active' THEN 'Wait until the rollback is complete.'
		ELSE format('Use partshift.resume(%s) and wait until the rollback is complete.', j.job_id) END
	FROM partshift.job j, LATERAL (SELECT CASE
			WHEN j.reverse AND j.phase = 'done' THEN 'leaving'
			WHEN j.reverse AND j.status = 'failed' THEN 'stuck'
			WHEN j.reverse THEN 'returning'
			WHEN j.phase = 'done' THEN 'after'
			ELSE 'before' END) AS s(state)
	WHERE j.status IN ('active', 'paused', 'failed')
$$;

COMMENT ON FUNCTION partshift.guarded_jobs() IS
'live jobs, how far each is on its way there or back, and what to do to be rid of it';

CREATE FUNCTION partshift.live_job() RETURNS TABLE (job_id integer, table_name text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT j.job_id, format('%s.%s', j.schema_name, j.table_name)
	FROM partshift.job j
	WHERE j.status IN ('active', 'paused', 'failed')
	ORDER BY j.job_id LIMIT 1
$$;

COMMENT ON FUNCTION partshift.live_job() IS
'the first job that is neither ended nor finalized';

/*
 * Under the names that they have while nobody has tampered with them, since a
 * command that is looked at may have given them others.
 */
CREATE FUNCTION partshift.guarded_tables(OUT job_id integer, OUT relid oid,
	OUT name text, OUT state text, OUT hint text)
RETURNS SETOF record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT (g.job).job_id, c.oid, format('%s.%s',
			coalesce(t.schema_name, n.nspname), coalesce(t.name, c.relname)),
		g.state, g.hint
	FROM partshift.guarded_jobs() g, LATERAL (
			SELECT (g.job).relid, (g.job).schema_name,
				CASE WHEN g.state = 'before' THEN (g.job).table_name
					ELSE (g.job).legacy_name END
			WHERE g.state <> 'leaving'
			UNION ALL
			SELECT (g.job).shadow, (g.job).schema_name,
				CASE WHEN g.state = 'returning' THEN (g.job).table_name
					ELSE (g.job).plan ->> 'shadow_name' END
			WHERE g.state NOT IN ('after', 'stuck')
			UNION ALL
			SELECT i.inhrelid, NULL, NULL FROM pg_inherits i
			WHERE i.inhparent = (g.job).shadow
				AND g.state NOT IN ('after', 'stuck')
			UNION ALL
			SELECT i.inhrelid, NULL, NULL FROM pg_inherits i
			WHERE i.inhparent = (g.job).relid AND g.state <> 'leaving'
				AND partshift.is_partitioned((g.job).relid)
			UNION ALL
			SELECT (g.job).log, 'partshift', (g.job).plan ->> 'log_name'
			UNION ALL
			SELECT (g.job).postponed, 'partshift',
				(g.job).plan ->> 'postponed_name'
		) AS t(relid, schema_name, name)
		JOIN pg_class c ON c.oid = t.relid
		JOIN pg_namespace n ON n.oid = c.relnamespace
	/* Without the new table, the legacy one has nothing to follow. */
	WHERE g.state <> 'after'
		OR EXISTS (SELECT FROM pg_class w WHERE w.oid = (g.job).shadow)
$$;

COMMENT ON FUNCTION partshift.guarded_tables() IS
'the tables that must stay as they are for a live job';

CREATE FUNCTION partshift.tables_of(classid oid, objid oid) RETURNS SETOF oid
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT tables_of.objid
	WHERE tables_of.classid = 'pg_class'::regclass
	UNION ALL
	SELECT i.indrelid FROM pg_index i
	WHERE tables_of.classid = 'pg_class'::regclass
		AND i.indexrelid = tables_of.objid
	UNION ALL
	SELECT d.refobjid FROM pg_depend d
	WHERE tables_of.classid = 'pg_class'::regclass
		AND d.classid = 'pg_class'::regclass AND d.objid = tables_of.objid
		AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
	UNION ALL
	SELECT unnest(ARRAY[o.conrelid, o.confrelid]) FROM pg_constraint o
	WHERE tables_of.classid = 'pg_constraint'::regclass
		AND o.oid = tables_of.objid
	UNION ALL
	SELECT unnest(ARRAY[t.tgrelid, t.tgconstrrelid]) FROM pg_trigger t
	WHERE tables_of.classid = 'pg_trigger'::regclass
		AND t.oid = tables_of.objid
	UNION ALL
	SELECT p.polrelid FROM pg_policy p
	WHERE tables_of.classid = 'pg_policy'::regclass
		AND p.oid = tables_of.objid
	UNION ALL
	SELECT r.ev_class FROM pg_rewrite r
	WHERE tables_of.classid = 'pg_rewrite'::regclass
		AND r.oid = tables_of.objid
	UNION ALL
	SELECT a.adrelid FROM pg_attrdef a
	WHERE tables_of.classid = 'pg_attrdef'::regclass
		AND a.oid = tables_of.objid
	UNION ALL
	SELECT s.stxrelid FROM pg_statistic_ext s
	WHERE tables_of.classid = 'pg_statistic_ext'::regclass
		AND s.oid = tables_of.objid
	UNION ALL
	SELECT r.prrelid FROM pg_publication_rel r
	WHERE tables_of.classid = 'pg_publication_rel'::regclass
		AND r.oid = tables_of.objid
	UNION ALL
	SELECT r.prrelid FROM pg_publication_rel r
	WHERE tables_of.classid = 'pg_publication'::regclass
		AND r.prpubid = tables_of.objid
	UNION ALL
	SELECT r.srrelid FROM pg_subscription_rel r
	WHERE tables_of.classid = 'pg_subscription'::regclass
		AND r.srsubid = tables_of.objid
	UNION ALL
	SELECT d.objid FROM pg_depend d
	WHERE tables_of.classid = 'pg_extension'::regclass
		AND d.refclassid = 'pg_extension'::regclass
		AND d.refobjid = tables_of.objid
		AND d.classid = 'pg_class'::regclass AND d.deptype = 'e'
	UNION ALL
	SELECT t.typrelid FROM pg_type t
	WHERE tables_of.classid = 'pg_type'::regclass
		AND t.oid = tables_of.objid
$$;

COMMENT ON FUNCTION partshift.tables_of(oid, oid) IS
'the tables that an object is a part of, or refers to, or consists of';

CREATE FUNCTION partshift.parts_of(relation oid,
	OUT classid oid, OUT objid oid)
RETURNS SETOF record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT 'pg_class'::regclass::oid, parts_of.relation
	UNION ALL
	SELECT d.classid, d.objid FROM pg_depend d
	WHERE d.refclassid = 'pg_class'::regclass
		AND d.refobjid = parts_of.relation AND d.deptype IN ('a', 'i')
	UNION ALL
	SELECT 'pg_type'::regclass, t.typarray
	FROM pg_class c JOIN pg_type t ON t.oid = c.reltype
	WHERE c.oid = parts_of.relation AND t.typarray <> 0
$$;

COMMENT ON FUNCTION partshift.parts_of(oid) IS
'a relation and what goes with it: its types, constraints, defaults, rules';

/*
 * Whether the table whose fingerprint matters has another one now.  Only a
 * job that still has a swap before it needs that.
 */
CREATE FUNCTION partshift.has_changed(job partshift.job) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN job.reverse
		THEN partshift.fingerprint(job.shadow)
			IS DISTINCT FROM job.plan ->> 'new_fingerprint'
		ELSE partshift.fingerprint(job.relid)
			IS DISTINCT FROM job.fingerprint END
$$;

COMMENT ON FUNCTION partshift.has_changed(partshift.job) IS
'whether the table that is to give its name away differs from what was recorded';

/*
 * A job that has failed because the source was changed behind the guard's
 * back can go on when the change is undone, so that must be allowed, and
 * nothing else: the triggers go on writing to what the job made.  The
 * fingerprint says nothing of them, and they have to be at work still.
 */
CREATE FUNCTION partshift.is_restored(job_id integer) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	job partshift.job;
BEGIN
	SELECT j.* INTO job FROM partshift.job j
	WHERE j.job_id = is_restored.job_id;
	IF job.status <> 'failed' OR job.reverse OR job.phase = 'done'
		OR partshift.has_changed(job)
	THEN
		RETURN false;
	END IF;
	RETURN job.horizon_xmax IS NULL OR EXISTS (
		SELECT FROM pg_trigger t
		WHERE t.tgrelid = job.relid AND t.tgenabled = 'A'
			AND t.tgfoid IN ('partshift.capture_row()'::regprocedure,
							 'partshift.mirror_row()'::regprocedure));
END
$$;

COMMENT ON FUNCTION partshift.is_restored(integer) IS
'whether a failed job''s source is, or is again, what the job was planned for';

CREATE FUNCTION partshift.guarded_object(classes oid[], objects oid[],
										 command text)
RETURNS TABLE (job_id integer, relation text, is_drop boolean,
			   is_direct boolean, hint text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT g.job_id, g.name, false, true, g.hint
	FROM unnest(classes, objects) AS o(classid, objid),
		LATERAL partshift.tables_of(o.classid, o.objid) AS t(relid)
		JOIN partshift.guarded_tables() g ON g.relid = t.relid
		JOIN partshift.job j ON j.job_id = g.job_id
	WHERE NOT (CASE WHEN g.relid = j.relid AND command <> 'COMMENT'
			   THEN partshift.is_restored(g.job_id) ELSE false END)
	ORDER BY g.job_id, g.relid NOT IN (j.relid, j.shadow), g.relid
	LIMIT 1
$$;

COMMENT ON FUNCTION partshift.guarded_object(oid[], oid[], text) IS
'the live job, if there is one, whose table one of the objects is or is a part of';

CREATE FUNCTION partshift.guarded_owner(roles oid[])
RETURNS TABLE (job_id integer, relation text, is_drop boolean,
			   is_direct boolean, hint text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT g.job_id, g.name, false, true, g.hint
	FROM partshift.guarded_tables() g JOIN pg_class c ON c.oid = g.relid
	WHERE c.relowner = ANY (roles)
	ORDER BY g.job_id, g.relid
	LIMIT 1
$$;

COMMENT ON FUNCTION partshift.guarded_owner(oid[]) IS
'the live job, if there is one, whose table one of the roles owns';

CREATE FUNCTION partshift.with_parts(INOUT classes oid[], INOUT objects oid[])
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT array_agg(t.classid), array_agg(t.objid)
	FROM (
		SELECT o.classid, o.objid
		FROM unnest(classes, objects) AS o(classid, objid)
		UNION
		SELECT p.classid, p.objid
		FROM unnest(classes, objects) AS o(classid, objid),
			LATERAL partshift.parts_of(o.objid) AS p
		WHERE o.classid = 'pg_class'::regclass) AS t
$$;

COMMENT ON FUNCTION partshift.with_parts(oid[], oid[]) IS
'objects, and what goes with those of them that are relations';

/*
 * What the job made must be free to go with an abort.  A foreign key has been
 * looked at before; those of the job itself are among the parts.
 */
CREATE FUNCTION partshift.guarded_reference(classes oid[], objects oid[])
RETURNS TABLE (job_id integer, relation text, is_drop boolean,
			   is_direct boolean, hint text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT g.job_id, g.name, false, false, g.hint
	FROM partshift.guarded_tables() g
		JOIN partshift.job j ON j.job_id = g.job_id AND j.relid <> g.relid
		JOIN pg_class c ON c.oid = g.relid
		JOIN pg_type t ON t.oid = c.reltype
		JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass
				AND d.refobjid = g.relid
			OR d.refclassid = 'pg_type'::regclass
				AND d.refobjid IN (t.oid, t.typarray)
		JOIN unnest(classes, objects) AS o(classid, objid)
			ON o.classid = d.classid AND o.objid = d.objid
	WHERE g.state = 'before'
		AND o.classid NOT IN ('pg_constraint'::regclass, 'pg_trigger'::regclass,
							  'pg_type'::regclass)
	ORDER BY g.job_id, g.relid
	LIMIT 1
$$;

COMMENT ON FUNCTION partshift.guarded_reference(oid[], oid[]) IS
'the live job, if there is one, that made a table which one of the objects refers to';

CREATE FUNCTION partshift.is_related(relation oid, classes oid[], objects oid[])
RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH own AS MATERIALIZED (
		SELECT p.* FROM partshift.parts_of(is_related.relation) p
	), touched AS MATERIALIZED (
		SELECT o.* FROM unnest(classes, objects) AS o(classid, objid)
	)
	SELECT EXISTS (
		SELECT FROM touched t
		WHERE t.classid IN ('pg_namespace'::regclass,
			'pg_publication'::regclass, 'pg_publication_rel'::regclass,
			'pg_publication_namespace'::regclass)
		UNION ALL
		SELECT FROM touched t
			JOIN pg_depend d ON d.classid = t.classid AND d.objid = t.objid
			JOIN own ON own.classid = d.refclassid AND own.objid = d.refobjid
		UNION ALL
		SELECT FROM own
			JOIN pg_depend d ON d.classid = own.classid AND d.objid = own.objid
			JOIN touched t ON t.classid = d.refclassid AND t.objid = d.refobjid)
$$;

COMMENT ON FUNCTION partshift.is_related(oid, oid[], oid[]) IS
'whether a table, or what goes with it, depends on one of the objects or conversely';

/*
 * The fingerprint alone would blame every command for what an earlier one had
 * changed; so only one with an object that the table depends on, or that
 * depends on it, is looked at.  DROP OWNED changes more than it tells.
 */
CREATE FUNCTION partshift.guarded_definition(classes oid[], objects oid[],
											 command text)
RETURNS TABLE (job_id integer, relation text, is_drop boolean,
			   is_direct boolean, hint text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	guarded record;
BEGIN
	IF NOT EXISTS (SELECT FROM partshift.guarded_jobs() g
				   WHERE g.state IN ('before', 'returning'))
	THEN
		RETURN;
	END IF;
	SELECT p.classes, p.objects INTO classes, objects
	FROM partshift.with_parts(classes, objects) p;

	RETURN QUERY SELECT r.*
		FROM partshift.guarded_reference(classes, objects) r;
	IF FOUND THEN
		RETURN;
	END IF;
	FOR guarded IN
		SELECT g.job, g.hint FROM partshift.guarded_jobs() g
		WHERE g.state IN ('before', 'returning')
		ORDER BY (g.job).job_id
	LOOP
		IF (command = 'DROP OWNED'
			OR partshift.is_related(CASE WHEN (guarded.job).reverse
				THEN (guarded.job).shadow ELSE (guarded.job).relid END,
				classes, objects))
			AND partshift.has_changed(guarded.job)
		THEN
			RETURN QUERY SELECT (guarded.job).job_id,
				format('%s.%s', (guarded.job).schema_name,
					   (guarded.job).table_name), false, false, guarded.hint;
			RETURN;
		END IF;
	END LOOP;
END
$$;

COMMENT ON FUNCTION partshift.guarded_definition(oid[], oid[], text) IS
'the live job, if there is one, whose table is no longer what was recorded because of a command';

/*
 * What is gone has no OID to look anything up by, but it is told by which
 * names it could be found; those of tables that are left still serve.  An
 * index, a sequence and the like does not tell whose it was: the fingerprint
 * does.
 */
CREATE FUNCTION partshift.guarded_parts(OUT job_id integer, OUT relation text,
	OUT is_drop boolean, OUT of_source boolean, OUT hint text)
RETURNS SETOF record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH gone AS MATERIALIZED (
		SELECT d.* FROM pg_event_trigger_dropped_objects() d
		WHERE NOT d.is_temporary
	), guarded AS MATERIALIZED (
		SELECT g.*, n.nspname, c.relname
		FROM partshift.guarded_tables() g
			JOIN pg_class c ON c.oid = g.relid
			JOIN pg_namespace n ON n.oid = c.relnamespace
	)
	/* The table itself, which only the legacy one is free to go. */
	SELECT (g.job).job_id, format('%s.%s', d.schema_name, d.object_name), true,
		false, g.hint
	FROM gone d, partshift.guarded_jobs() g
	WHERE d.object_type = 'table' AND g.state <> 'after'
		AND (d.objid = (g.job).relid AND g.state <> 'leaving'
			 OR d.objid IN ((g.job).log, (g.job).postponed)
			 OR g.state <> 'stuck' AND (d.objid = (g.job).shadow
				OR d.schema_name = (g.job).schema_name
				AND EXISTS (
					SELECT
					FROM jsonb_array_elements((g.job).plan -> 'leaves') AS l(leaf)
					WHERE l.leaf ->> 'name' = d.object_name)))
	UNION ALL
	/* A partition of the source, or of the legacy table while that is left. */
	SELECT (g.job).job_id, format('%s.%s', d.schema_name, d.object_name), true,
		false, g.hint
	FROM gone d, partshift.guarded_jobs() g
	WHERE d.object_type = 'table' AND g.state <> 'leaving'
		AND (g.job).plan -> 'source_leaves' @> to_jsonb(d.objid::bigint)
		AND EXISTS (SELECT FROM pg_class c WHERE c.oid = (g.job).relid)
		AND EXISTS (SELECT FROM pg_class c WHERE c.oid = (g.job).shadow
					UNION ALL SELECT WHERE (g.job).shadow IS NULL)
	UNION ALL
	/* A column, trigger, policy and so on of a table that is left. */
	SELECT g.job_id, g.name, false, g.relid = j.relid, g.hint
	FROM gone d
		JOIN guarded g ON d.classid = 'pg_class'::regclass
			AND d.objid = g.relid AND d.objsubid > 0
		OR (cardinality(d.address_names) > 2
			OR d.object_type = 'publication relation')
			AND d.address_names[1] = g.nspname
			AND d.address_names[2] = g.relname
		JOIN partshift.job j ON j.job_id = g.job_id
	UNION ALL
	/* An index that was planned for or built. */
	SELECT g.job_id, g.name, false, g.relid = j.relid, g.hint
	FROM gone d, guarded g
		JOIN partshift.job j ON j.job_id = g.job_id
	WHERE d.object_type = 'index' AND (
		g.relid = j.relid AND EXISTS (
			SELECT FROM jsonb_array_elements(j.plan -> 'indexes') AS i(index)
			WHERE (i.index ->> 'oid')::oid = d.objid)
		OR EXISTS (
			SELECT FROM partshift.task t
			WHERE t.job_id = g.job_id AND t.phase = 'index'
				AND t.object = g.relid AND t.result = d.objid)
		OR g.relid = j.shadow AND g.state = 'before' AND EXISTS (
			SELECT FROM jsonb_array_elements(j.plan -> 'indexes') AS i(index)
			WHERE d.schema_name = j.schema_name
				AND i.index ->> 'shadow_name' = d.object_name))
	ORDER BY 1, 3 DESC, 2
$$;

COMMENT ON FUNCTION partshift.guarded_parts() IS
'called for sql_drop: live jobs'' tables that were dropped, or have lost a part';
