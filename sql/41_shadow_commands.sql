/*
 * The shadow, continued: extended statistics, row security, comments, logs,
 * and the list that a worker runs.
 */

/*
 * Of the parent, and of every leaf, since a query that needs one leaf is
 * planned by what is known of it.  The owner may lack the right to create them
 * where they belong, so they are made in the schema of the transaction.
 */
CREATE FUNCTION partshift.planned_statistics(job partshift.job)
RETURNS TABLE (source oid, is_leaf boolean, relation text, schema_name name, name text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH leaf AS (
		SELECT (e.entry ->> 'oid')::oid AS source, l.leaf ->> 'name' AS leaf,
			concat(partshift.leaf_final_name(l.leaf), '_', e.entry ->> 'name') AS name,
			(e.place * 10000 + l.place)::integer AS ordinal
		FROM jsonb_array_elements(job.plan -> 'statistics')
				WITH ORDINALITY AS e (entry, place),
			jsonb_array_elements(job.plan -> 'leaves')
				WITH ORDINALITY AS l (leaf, place)
	), named AS (
		SELECT l.*, octet_length(l.name) > 63
			OR count(*) OVER (PARTITION BY l.name) > 1
			OR EXISTS (SELECT FROM pg_statistic_ext s
						JOIN pg_namespace n ON n.oid = s.stxnamespace
					   WHERE n.nspname = job.schema_name AND s.stxname::text = l.name) AS taken
		FROM leaf l
	)
	SELECT (e.entry ->> 'oid')::oid, false,
		format('%I.%I', job.schema_name, job.plan ->> 'shadow_name'),
		(e.entry ->> 'schema')::name, e.entry ->> 'shadow_name'
	FROM jsonb_array_elements(job.plan -> 'statistics') AS e (entry)
	UNION ALL
	SELECT n.source, true, format('%I.%I', job.schema_name, n.leaf), job.schema_name,
		CASE WHEN n.taken THEN partshift.shadow_name(n.name, job.job_id, n.ordinal)
			ELSE n.name END
	FROM named n
$$;

COMMENT ON FUNCTION partshift.planned_statistics(partshift.job) IS
'the statistics objects to make, of the parent and of each leaf';

CREATE FUNCTION partshift.shadow_extended_commands(job partshift.job)
RETURNS TABLE (run_as oid, command text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT c.run_as, c.command
	FROM partshift.planned_statistics(job) AS p
		JOIN pg_statistic_ext AS s ON s.oid = p.source,
		LATERAL (VALUES (
			format('%I.%I', format('partshift_build_%s', job.job_id), p.name),
			format('%I.%I', p.schema_name, p.name),
			(SELECT string_agg(CASE k.kind WHEN 'd' THEN 'ndistinct'
					WHEN 'f' THEN 'dependencies' ELSE 'mcv' END, ', ')
			 FROM unnest(s.stxkind) AS k (kind)
			 WHERE k.kind IN ('d', 'f', 'm'))))
			AS v (scratch, final, kinds),
		LATERAL (VALUES
			(1, job.owner, format('CREATE STATISTICS %s%s ON %s FROM %s', v.scratch,
				' (' || v.kinds || ')', pg_get_statisticsobjdef_columns(s.oid),
				p.relation)),
			(2, NULL::oid, format('ALTER STATISTICS %s SET SCHEMA %I', v.scratch,
				p.schema_name)),
			(3, NULL, CASE WHEN s.stxowner <> job.owner THEN
				format('ALTER STATISTICS %s OWNER TO %s', v.final, s.stxowner::regrole) END),
			(4, NULL, CASE WHEN s.stxstattarget >= 0 THEN
				format('ALTER STATISTICS %s SET STATISTICS %s', v.final, s.stxstattarget) END),
			(5, NULL, CASE WHEN NOT p.is_leaf THEN
				format('COMMENT ON STATISTICS %s IS %L', v.final,
					   obj_description(s.oid, 'pg_statistic_ext')) END))
			AS c (part, run_as, command)
	WHERE c.command IS NOT NULL
	ORDER BY p.is_leaf, p.name, c.part
$$;

COMMENT ON FUNCTION partshift.shadow_extended_commands(partshift.job) IS
'statements that create the extended statistics';

/*
 * On the parent only: nobody but the owner may use a leaf directly.
 */
CREATE FUNCTION partshift.shadow_security_commands(job partshift.job)
RETURNS TABLE (run_as oid, command text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT NULL::oid, format('ALTER TABLE %I.%I %s ROW LEVEL SECURITY',
		job.schema_name, job.plan ->> 'shadow_name', v.change)
	FROM pg_class c, LATERAL (VALUES ('ENABLE', c.relrowsecurity),
							('FORCE', c.relforcerowsecurity)) AS v(change, set)
	WHERE c.oid = job.relid AND v.set
$$;

COMMENT ON FUNCTION partshift.shadow_security_commands(partshift.job) IS
'statements that turn row security on as it is for the source';

CREATE FUNCTION partshift.shadow_comment_commands(job partshift.job)
RETURNS TABLE (run_as oid, command text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH object(target, description) AS (
		/* The table's own comment comes with the name. */
		SELECT format('TABLE %I.%I', job.schema_name, job.plan ->> 'shadow_name'),
			partshift.unused_mark(job.job_id)
		UNION ALL
		SELECT format('COLUMN %I.%I.%I', job.schema_name,
					  job.plan ->> 'shadow_name', a.attname),
			col_description(a.attrelid, a.attnum)
		FROM pg_attribute a
		WHERE a.attrelid = job.relid AND a.attnum > 0 AND NOT a.attisdropped
		UNION ALL
		SELECT format('CONSTRAINT %I ON %I.%I', o.conname, job.schema_name,
					  job.plan ->> 'shadow_name'),
			obj_description(o.oid, 'pg_constraint')
		FROM pg_constraint o
		WHERE o.conrelid = job.relid AND o.contype IN ('c', 'n')
		UNION ALL
		SELECT format('POLICY %I ON %I.%I', p.polname, job.schema_name,
					  job.plan ->> 'shadow_name'),
			obj_description(p.oid, 'pg_policy')
		FROM pg_policy p
		WHERE p.polrelid = job.relid
	)
	SELECT NULL::oid, format('COMMENT ON %s IS %L', o.target, o.description)
	FROM object o
	WHERE o.description IS NOT NULL
$$;

COMMENT ON FUNCTION partshift.shadow_comment_commands(partshift.job) IS
'statements that copy the comments of the table, its columns, constraints and policies';

/*
 * The logs hold identities only to look rows up by, so a domain's checks have
 * no business there: its base type will do.
 */
CREATE FUNCTION partshift.shadow_log_commands(job partshift.job)
RETURNS TABLE (run_as oid, command text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH RECURSIVE typ AS (
		SELECT k.place, a.type AS oid, a.modifier AS typmod, a.collid AS collation
		FROM unnest(job.identity_columns) WITH ORDINALITY AS k(name, place),
			LATERAL partshift.key_column(job.relid, k.name, job.plan -> 'computed') a
		UNION ALL
		SELECT typ.place, t.typbasetype, t.typtypmod, typ.collation
		FROM typ JOIN pg_type t ON t.oid = typ.oid
		WHERE t.typtype = 'd'
	), list(columns) AS (
		SELECT string_agg(format('k%s %s%s NOT NULL', typ.place,
			format_type(typ.oid, typ.typmod),
			CASE WHEN typ.collation <> 0
				AND typ.collation <> t.typcollation
				THEN format(' COLLATE %I.%I', n.nspname, c.collname)
				ELSE '' END), ', ' ORDER BY typ.place)
		FROM typ JOIN pg_type t ON t.oid = typ.oid
			LEFT JOIN pg_collation c ON c.oid = typ.collation
			LEFT JOIN pg_namespace n ON n.oid = c.collnamespace
		WHERE t.typtype <> 'd'
	)
	SELECT NULL::oid, format('CREATE %sTABLE partshift.%I (%s) USING heap '
		'WITH (autovacuum_enabled = off) TABLESPACE %I',
		CASE r.relpersistence WHEN 'u' THEN 'UNLOGGED ' ELSE '' END,
		v.name, list.columns, partshift.shadow_tablespace(job.relid))
	FROM list, pg_class r,
		(VALUES (job.plan ->> 'log_name'),
			(job.plan ->> 'postponed_name')) AS v(name)
	WHERE r.oid = partshift.storage_model(job.relid)
		AND NOT partshift.locks_writes(job.options)
$$;

COMMENT ON FUNCTION partshift.shadow_log_commands(partshift.job) IS
'statements that create the logs of touched and of postponed identities';

/*
 * Default privileges would open the copy to whoever may create no row of it.
 * They are those of the role that runs CREATE TABLE: the current one, or the
 * table's owner.
 */
CREATE FUNCTION partshift.shadow_revoke_commands(job partshift.job)
RETURNS TABLE (run_as oid, command text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH grantee AS (
		SELECT d.defaclobjtype AS kind,
			string_agg(DISTINCT CASE g.grantee WHEN 0 THEN 'PUBLIC'
				ELSE g.grantee::regrole::text END, ', ') AS list
		FROM pg_default_acl d, aclexplode(d.defaclacl) AS g
		WHERE d.defaclobjtype IN ('r', 'S')
			AND g.grantee NOT IN (job.owner, d.defaclrole)
			AND d.defaclrole IN (current_user::regrole, job.owner)
		GROUP BY d.defaclobjtype
	), created(kind, name) AS (
		SELECT 'r', format('%I.%I', v.schema_name, v.name)
		FROM (VALUES (job.schema_name, job.plan ->> 'shadow_name'),
				('partshift', job.plan ->> 'log_name'),
				('partshift', job.plan ->> 'postponed_name'))
			AS v(schema_name, name)
		WHERE v.schema_name <> 'partshift' OR NOT partshift.locks_writes(job.options)
		UNION ALL
		SELECT 'r', format('%I.%I', job.schema_name, l.entry ->> 'name')
		FROM jsonb_array_elements(job.plan -> 'leaves') AS l(entry)
		UNION ALL
		SELECT 'S', format('%I.%I', job.schema_name, partshift.shadow_name(
						s.relname::text, job.job_id, a.attnum::integer))
		FROM pg_attribute a
			JOIN pg_depend p ON p.refclassid = 'pg_class'::regclass
				AND p.refobjid = a.attrelid AND p.refobjsubid = a.attnum
				AND p.classid = 'pg_class'::regclass AND p.deptype = 'i'
			JOIN pg_class s ON s.oid = p.objid AND s.relkind = 'S'
		WHERE a.attrelid = job.relid AND a.attidentity <> ''
	)
	SELECT NULL::oid, format('REVOKE ALL ON %s %s FROM %s CASCADE',
		CASE g.kind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
		string_agg(c.name, ', '), g.list)
	FROM grantee g JOIN created c ON c.kind = g.kind::text
	GROUP BY g.kind, g.list
$$;

COMMENT ON FUNCTION partshift.shadow_revoke_commands(partshift.job) IS
'statements that take away what default privileges granted on the shadow';

/*
 * Constants are deparsed and parsed again, so the settings make their text
 * mean the same whatever the reader's settings are.
 */
CREATE FUNCTION partshift.shadow_commands(job_id integer)
RETURNS TABLE (run_as oid, command text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET datestyle = 'ISO, YMD'
SET intervalstyle = 'iso_8601'
SET timezone = 'UTC'
SET extra_float_digits = 1
AS $$
DECLARE
	job partshift.job;
BEGIN
	SELECT j.* INTO STRICT job FROM partshift.job j
	WHERE j.job_id = shadow_commands.job_id;

	RETURN QUERY SELECT * FROM partshift.shadow_log_commands(job);
	RETURN QUERY SELECT * FROM partshift.shadow_parent_commands(job);
	RETURN QUERY SELECT * FROM partshift.shadow_column_commands(job);
	RETURN QUERY SELECT * FROM partshift.shadow_constraint_commands(job, true);
	RETURN QUERY SELECT * FROM partshift.shadow_computed_commands(job);
	RETURN QUERY SELECT * FROM partshift.shadow_leaf_commands(job);
	RETURN QUERY SELECT * FROM partshift.shadow_extended_commands(job);
	RETURN QUERY SELECT NULL::oid, format('DROP SCHEMA partshift_build_%s', job_id);
	RETURN QUERY SELECT * FROM partshift.shadow_constraint_commands(job, false);
	RETURN QUERY SELECT * FROM partshift.shadow_statistics_commands(job);
	RETURN QUERY SELECT * FROM partshift.shadow_security_commands(job);
	RETURN QUERY SELECT * FROM partshift.shadow_comment_commands(job);
	RETURN QUERY SELECT NULL::oid, format('SELECT partshift.copy_labels(%s, %L::regclass)',
		job.relid, format('%I.%I', job.schema_name, job.plan ->> 'shadow_name'));
	RETURN QUERY SELECT * FROM partshift.shadow_revoke_commands(job);

	/* So that no dump has them; last, lest it have their privileges. */
	RETURN QUERY SELECT NULL::oid, format('ALTER EXTENSION partshift ADD TABLE partshift.%I', v.name)
		FROM (VALUES (job.plan ->> 'log_name'), (job.plan ->> 'postponed_name')) AS v(name)
		WHERE NOT partshift.locks_writes(job.options);
END
$$;

COMMENT ON FUNCTION partshift.shadow_commands(integer) IS
'statements that create the shadow of a job, its leaves and its logs, in order, for one transaction';

CREATE FUNCTION partshift.shadow_created(job_id integer) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	missing text;
BEGIN
	UPDATE partshift.job AS j
	SET shadow = (SELECT c.oid FROM pg_class c
				  WHERE c.oid = to_regclass(format('%I.%I', j.schema_name,
												   j.plan ->> 'shadow_name'))
					AND c.relkind = 'p' AND c.relowner = j.owner),
		log = to_regclass(format('partshift.%I', j.plan ->> 'log_name')),
		postponed = to_regclass(format('partshift.%I',
									   j.plan ->> 'postponed_name'))
	WHERE j.job_id = shadow_created.job_id
	RETURNING CASE WHEN j.shadow IS NULL THEN j.plan ->> 'shadow_name'
		WHEN partshift.locks_writes(j.options) THEN NULL
		WHEN j.log IS NULL THEN j.plan ->> 'log_name'
		WHEN j.postponed IS NULL THEN j.plan ->> 'postponed_name' END
	INTO missing;

	IF missing IS NOT NULL THEN
		RAISE EXCEPTION USING
			ERRCODE = 'object_not_in_prerequisite_state',
			MESSAGE = format('table "%s" was not created', missing);
	END IF;
END
$$;

COMMENT ON FUNCTION partshift.shadow_created(integer) IS
'records the tables that the statements of shadow_commands() made';

CREATE FUNCTION partshift.leaf_filled_commands(job_id integer)
RETURNS TABLE (run_as oid, command text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT NULL::oid, format('ALTER TABLE %I.%I %s', n.nspname, l.relname,
							 o.change)
	FROM partshift.job j
		JOIN pg_inherits i ON i.inhparent = j.shadow
		JOIN pg_class l ON l.oid = i.inhrelid
		JOIN pg_namespace n ON n.oid = l.relnamespace
		JOIN pg_class s ON s.oid = partshift.storage_model(j.relid)
		LEFT JOIN pg_class t ON t.oid = s.reltoastrelid,
		LATERAL (
			SELECT string_agg(CASE WHEN e.entry IS NULL
				THEN format('RESET (%sautovacuum_enabled)', v.prefix)
				ELSE format('SET (%sautovacuum_enabled=%L)', v.prefix,
							split_part(e.entry, '=', 2)) END, ', ')
			FROM (VALUES ('', s.reloptions), ('toast.', t.reloptions))
				AS v(prefix, options)
				LEFT JOIN LATERAL unnest(v.options) AS e(entry)
					ON e.entry LIKE 'autovacuum\_enabled=%'
			WHERE v.prefix = '' OR v.options IS NOT NULL) AS o(change)
	WHERE j.job_id = leaf_filled_commands.job_id
	ORDER BY l.oid
$$;

COMMENT ON FUNCTION partshift.leaf_filled_commands(integer) IS
'statements that let autovacuum have the leaves, as far as it had the source';
