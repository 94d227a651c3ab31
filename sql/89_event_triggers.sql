CREATE FUNCTION partshift.guarded_drop()
RETURNS TABLE (job_id integer, relation text, is_drop boolean,
			   is_direct boolean, hint text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT EXISTS (SELECT FROM pg_event_trigger_dropped_objects() d
				   WHERE NOT d.is_temporary)
	THEN
		RETURN;
	END IF;
	RETURN QUERY
		SELECT p.job_id, p.relation, p.is_drop, true, p.hint
		FROM partshift.guarded_parts() p
		WHERE NOT (CASE WHEN p.of_source THEN partshift.is_restored(p.job_id)
				   ELSE false END)
		LIMIT 1;
	IF NOT FOUND AND EXISTS (
			SELECT FROM pg_event_trigger_dropped_objects() d
			WHERE NOT d.is_temporary AND d.object_type IN ('table', 'index',
				'sequence', 'statistics object', 'publication',
				'publication namespace'))
	THEN
		RETURN QUERY
			SELECT (g.job).job_id, format('%s.%s', (g.job).schema_name,
										  (g.job).table_name),
				false, false, g.hint
			FROM partshift.guarded_jobs() g
			WHERE g.state IN ('before', 'returning')
				AND partshift.has_changed(g.job)
			ORDER BY (g.job).job_id LIMIT 1;
	END IF;
END
$$;

COMMENT ON FUNCTION partshift.guarded_drop() IS
'called for sql_drop: the live job, if there is one, that needs something that was dropped';

/*
 * The event triggers that keep what a live job needs.
 *
 * They must not stand in the way of everybody's DDL when the library is gone,
 * least of all of the command that drops the extension and with it all
 * triggers of live jobs.  So their function is not C.  It has no search_path
 * of its own, because the names of a command are looked up as the command
 * does, and mentions nothing by an unqualified name.
 */
CREATE FUNCTION partshift.is_loaded() RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'partshift_is_loaded';

COMMENT ON FUNCTION partshift.is_loaded() IS
'true; an error if the library cannot be loaded';

CREATE FUNCTION partshift.check_command(event text, tag text) RETURNS void
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'partshift_check_command';

COMMENT ON FUNCTION partshift.check_command(text, text) IS
'refuses the command that an event trigger fires for if a live job could not survive it';

CREATE FUNCTION partshift.guarded_extension(classes oid[], objects oid[],
											command text)
RETURNS TABLE (job_id integer, table_name text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT l.*
	FROM pg_extension e, partshift.live_job() l
	WHERE e.extname = 'partshift'
		AND command NOT IN ('GRANT', 'REVOKE', 'COMMENT')
		AND EXISTS (
			SELECT FROM unnest(classes, objects) AS o(classid, objid)
			WHERE o.classid = 'pg_extension'::regclass AND o.objid = e.oid
			UNION ALL
			SELECT FROM unnest(classes, objects) AS o(classid, objid),
				LATERAL (
					SELECT o.classid, o.objid
					UNION ALL
					SELECT 'pg_class'::regclass, t.relid
					FROM partshift.tables_of(o.classid, o.objid) AS t(relid)
				) AS m(classid, objid)
				JOIN pg_depend d ON d.classid = m.classid AND d.objid = m.objid
			WHERE d.refclassid = 'pg_extension'::regclass
				AND d.refobjid = e.oid AND d.deptype = 'e'
				AND NOT EXISTS (SELECT FROM partshift.job j
								WHERE d.classid = 'pg_class'::regclass
									AND d.objid IN (j.log, j.postponed)))
$$;

COMMENT ON FUNCTION partshift.guarded_extension(oid[], oid[], text) IS
'the first live job, if one of the objects is this extension or belongs to it';

CREATE FUNCTION partshift.guard() RETURNS event_trigger
LANGUAGE plpgsql
AS $$
BEGIN
	BEGIN
		PERFORM partshift.is_loaded();
	EXCEPTION
		WHEN undefined_file OR undefined_function OR insufficient_privilege
			OR internal_error
		THEN
			IF tg_event OPERATOR(pg_catalog.=) 'ddl_command_start' THEN
				RAISE WARNING USING
					MESSAGE = 'library of extension "partshift" could not be loaded',
					DETAIL = SQLERRM,
					HINT = 'Install it again, or remove its triggers from all tables with DROP EXTENSION partshift CASCADE.';
			END IF;
			RETURN;
	END;
	PERFORM partshift.check_command(tg_event, tg_tag);
END
$$;

COMMENT ON FUNCTION partshift.guard() IS
'event trigger that refuses what a live job could not survive';

CREATE EVENT TRIGGER partshift_guard_start ON ddl_command_start
	EXECUTE FUNCTION partshift.guard();

COMMENT ON EVENT TRIGGER partshift_guard_start IS
'keeps partshift installed, and its tables from CONCURRENTLY, while a conversion is in progress';

CREATE EVENT TRIGGER partshift_guard_end ON ddl_command_end
	EXECUTE FUNCTION partshift.guard();

COMMENT ON EVENT TRIGGER partshift_guard_end IS
'refuses DDL on tables whose conversion is in progress';

CREATE EVENT TRIGGER partshift_guard_drop ON sql_drop
	EXECUTE FUNCTION partshift.guard();

COMMENT ON EVENT TRIGGER partshift_guard_drop IS
'refuses to drop what a conversion in progress needs';
