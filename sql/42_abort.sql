/*
 * What takes a conversion back before its swap.
 *
 * Only what the job made is dropped, found by OID and never with CASCADE.
 * Dropping a foreign key locks the tables at both its ends, so all of them
 * are locked first, in the order of their OIDs, as the swap does.
 */
CREATE FUNCTION partshift.drop_log_commands(job_id integer)
RETURNS TABLE (run_as oid, command text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT NULL::oid, format(v.command, c.relname)
	FROM partshift.job j
		JOIN pg_class c ON c.oid IN (j.log, j.postponed)
			AND c.relnamespace = 'partshift'::regnamespace AND c.relkind = 'r',
		LATERAL (VALUES
			(1, 'ALTER EXTENSION partshift DROP TABLE partshift.%I',
			 EXISTS (SELECT FROM pg_depend d
					 WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
						AND d.deptype = 'e')),
			(2, 'DROP TABLE partshift.%I', true)) AS v (step, command, applies)
	WHERE j.job_id = drop_log_commands.job_id AND v.applies
	ORDER BY c.oid, v.step
$$;

COMMENT ON FUNCTION partshift.drop_log_commands(integer) IS
'statements that drop a job''s logs, which belong to the extension';

CREATE FUNCTION partshift.abort_commands(job_id integer, extensions boolean DEFAULT true)
RETURNS TABLE (run_as oid, command text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	job partshift.job;
	name text;
BEGIN
	SELECT j.* INTO STRICT job FROM partshift.job j
	WHERE j.job_id = abort_commands.job_id;

	SELECT format('%I.%I', n.nspname, c.relname) INTO name
	FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
	WHERE c.oid = job.shadow AND c.relkind = 'p';

	IF job.status NOT IN ('rolled_back', 'aborted')
		AND (job.phase = 'done' OR job.reverse)
		OR name = format('%I.%I', job.schema_name, job.table_name)
	THEN
		RAISE EXCEPTION USING
			ERRCODE = 'object_not_in_prerequisite_state',
			MESSAGE = format('cannot abort job %s after its swap', job.job_id),
			HINT = 'Use partshift.rollback() to return to the unpartitioned table.';
	END IF;

	IF name IS NOT NULL THEN
		RETURN QUERY
			SELECT NULL::oid, format('LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE',
				string_agg(format('%I.%I', n.nspname, c.relname),
						   ', ONLY ' ORDER BY c.oid))
			FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
			WHERE c.oid = job.shadow
				OR c.oid IN (
					SELECT x.relation FROM partshift.extended_keys(job.plan) x
					UNION ALL
					SELECT o.conrelid FROM pg_constraint o
					WHERE o.contype = 'f' AND o.confrelid = job.shadow
					UNION ALL
					SELECT o.confrelid
					FROM pg_constraint o
					WHERE o.contype = 'f' AND (o.conrelid = job.shadow
						OR o.conrelid IN (SELECT i.inhrelid FROM pg_inherits i
							WHERE i.inhparent = job.shadow)));

		RETURN QUERY
			SELECT NULL::oid, format('ALTER TABLE %I.%I DROP CONSTRAINT %I',
									 n.nspname, c.relname, o.conname)
			FROM pg_constraint o
				JOIN pg_class c ON c.oid = o.conrelid
				JOIN pg_namespace n ON n.oid = c.relnamespace
			WHERE o.contype = 'f' AND o.confrelid = job.shadow
				AND o.conparentid = 0 AND o.conrelid <> job.shadow
				AND o.conrelid NOT IN (SELECT i.inhrelid FROM pg_inherits i
					WHERE i.inhparent = job.shadow)
			ORDER BY c.oid, o.conname COLLATE "C";

		RETURN QUERY VALUES (NULL::oid, format('DROP TABLE %s', name));
	END IF;
	IF extensions THEN
		RETURN QUERY SELECT r.* FROM partshift.retract_commands(job.job_id) r;
	END IF;

	RETURN QUERY SELECT d.* FROM partshift.drop_log_commands(job.job_id) d;
END
$$;

COMMENT ON FUNCTION partshift.abort_commands(integer, boolean) IS
'statements that drop what a job made, before its swap or after it was rolled back; the table may keep what the extension of its keys gave it';
