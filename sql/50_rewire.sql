/*
 * The statements of the phase rewire, each a transaction of its own.
 *
 * A leaf or a third table gets its key NOT VALID, which takes an instant, and
 * has it validated while it is in use.  A partitioned table then takes the
 * valid keys of its leaves over: before 18 the server refuses one that is not
 * valid there.
 */

/*
 * Adding a foreign key locks the table that has it and then the one it refers
 * to; applications mostly write them the other way about.  To meet them less
 * often in a deadlock, both locks are taken first.
 */
CREATE FUNCTION partshift.lock_together(first oid, first_exclusive boolean,
										second oid, second_exclusive boolean)
RETURNS void
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'partshift_lock_together';

COMMENT ON FUNCTION partshift.lock_together(oid, boolean, oid, boolean) IS
'locks two tables with their partitions, SHARE ROW EXCLUSIVE or ACCESS EXCLUSIVE, in the order that did not fail before';

CREATE FUNCTION partshift.foreign_key_lock(relation oid, referenced oid)
RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT format('SELECT partshift.lock_together(%s, false, %s, false)',
				  referenced, relation)
$$;

COMMENT ON FUNCTION partshift.foreign_key_lock(oid, oid) IS
'the statement that takes the locks for a new foreign key';

CREATE FUNCTION partshift.adopt_foreign_key(relation oid, referenced oid,
										   name name, definition text)
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	leaf oid;
BEGIN
	/*
	 * The server drops the leaf's triggers on the table referred to, which
	 * takes ACCESS EXCLUSIVE.  To ask for that later would be an upgrade, with
	 * the shadow locked: whoever reads that table and then writes the source
	 * would wait for us as we for him.
	 */
	PERFORM partshift.lock_together(referenced, true, relation, false);

	/*
	 * The server takes over a key of a leaf that is valid and the same, and
	 * reads the leaf otherwise.  It must not: we are not the table's owner
	 * here, and comparing values may call the owner's functions.
	 */
	SELECT t.relid INTO leaf
	FROM pg_partition_tree(relation::regclass) AS t
	WHERE t.isleaf
		AND NOT EXISTS (
			SELECT
			FROM pg_constraint AS c,
				LATERAL (SELECT partshift.foreign_key_definition(c.oid) AS def) AS d
			WHERE c.conrelid = t.relid
				AND c.contype = 'f'
				AND c.conparentid = 0
				AND c.convalidated
				AND c.conname = adopt_foreign_key.name
				AND adopt_foreign_key.definition = format('%s %s %s %s',
					d.def ->> 'head', partshift.relation_name(c.confrelid),
					d.def ->> 'tail', d.def ->> 'deferral'))
	LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION USING
			ERRCODE = 'object_not_in_prerequisite_state',
			MESSAGE = format('foreign key "%s" of partition %s has changed or is not valid',
							 name, leaf::regclass),
			HINT = 'Abort the conversion and begin again.';
	END IF;

	EXECUTE format('ALTER TABLE %s ADD CONSTRAINT %I %s',
				   partshift.relation_name(relation), name, definition);
END
$$;

COMMENT ON FUNCTION partshift.adopt_foreign_key(oid, oid, name, text) IS
'adds a foreign key to a partitioned table whose leaves all have it, without reading them';

CREATE FUNCTION partshift.foreign_key_commands(relation oid, referenced oid,
											   name name, definition text,
											   validated boolean, enforced boolean)
RETURNS TABLE (run_as oid, command text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	partitioned boolean;
	part record;
BEGIN
	SELECT c.relkind = 'p' INTO partitioned
	FROM pg_class AS c
	WHERE c.oid = relation;

	IF NOT validated OR NOT enforced THEN
		RETURN QUERY SELECT NULL::oid,
			format('%s; ALTER TABLE %s ADD CONSTRAINT %I %s %s',
				   partshift.foreign_key_lock(relation, referenced),
				   partshift.relation_name(relation), name, definition,
				   CASE WHEN enforced THEN 'NOT VALID' ELSE 'NOT ENFORCED' END);
		RETURN;
	END IF;

	/*
	 * Adding needs the right to refer to a table that the owner may no longer
	 * have; validating compares values, which is the owner's business alone.
	 */
	FOR part IN
		SELECT c.oid AS relid, partshift.relation_name(c.oid) AS relname,
			c.relowner
		FROM pg_class AS c
		WHERE CASE WHEN partitioned
			THEN c.oid IN (SELECT t.relid
						   FROM pg_partition_tree(relation::regclass) AS t
						   WHERE t.isleaf)
			ELSE c.oid = relation END
		ORDER BY c.oid
	LOOP
		RETURN QUERY VALUES
			(NULL::oid, format('%s; ALTER TABLE %s ADD CONSTRAINT %I %s NOT VALID',
							   partshift.foreign_key_lock(part.relid, referenced),
							   part.relname, name, definition)),
			(part.relowner, format('ALTER TABLE %s VALIDATE CONSTRAINT %I',
								   part.relname, name));
	END LOOP;

	IF partitioned THEN
		RETURN QUERY SELECT NULL::oid,
			format('SELECT partshift.adopt_foreign_key(%s, %s, %L, %L)',
				   relation, referenced, name, definition);
	END IF;
END
$$;

COMMENT ON FUNCTION partshift.foreign_key_commands(oid, oid, name, text, boolean, boolean) IS
'the statements, each a transaction, that give a table a foreign key without stopping its writers';

CREATE FUNCTION partshift.replica_identity_commands(job_id integer)
RETURNS TABLE (run_as oid, command text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	/* The parent's own is of no use to the server, but it is there. */
	WITH identity AS (
		SELECT v.of_leaf, j.job_id, j.owner, j.shadow, j.schema_name,
			p.planned, p.shadow_name,
			p.per_partition
		FROM partshift.job AS j,
			LATERAL (VALUES (true, partshift.storage_model(j.relid)),
				(false, j.relid)) AS v (of_leaf, relid)
			JOIN pg_class AS c ON c.oid = v.relid AND c.relreplident = 'i'
			JOIN pg_index AS i ON i.indrelid = c.oid AND i.indisreplident
			LEFT JOIN pg_inherits AS h ON h.inhrelid = i.indexrelid
			JOIN LATERAL partshift.planned_indexes(j.job_id) AS p
				ON p.source = coalesce(h.inhparent, i.indexrelid)
		WHERE j.job_id = replica_identity_commands.job_id
	), wanted AS (
		SELECT i.owner, t.object AS relid, x.relname AS index_name
		FROM identity AS i
			JOIN partshift.task AS t ON t.job_id = i.job_id
				AND t.phase = 'index' AND t.other = i.planned
			JOIN pg_index AS n ON n.indrelid = t.object
			JOIN pg_class AS x ON x.oid = n.indexrelid AND x.relname = t.command
		WHERE i.of_leaf
		UNION ALL
		SELECT i.owner, i.shadow, i.shadow_name
		FROM identity AS i
		WHERE NOT i.of_leaf AND NOT i.per_partition
	)
	SELECT w.owner, format('ALTER TABLE %s REPLICA IDENTITY USING INDEX %I',
						   partshift.relation_name(w.relid), w.index_name)
	FROM wanted AS w
	ORDER BY w.relid
$$;

COMMENT ON FUNCTION partshift.replica_identity_commands(integer) IS
'statements that give the shadow and its leaves the replica identity of a source that uses an index for it';

/* A partitioned table cannot be marked for CLUSTER, its leaves can. */
CREATE FUNCTION partshift.cluster_mark_commands(job_id integer)
RETURNS TABLE (run_as oid, command text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT NULL::oid, format('ALTER TABLE %s CLUSTER ON %I',
							 partshift.relation_name(t.object), x.relname)
	FROM partshift.planned_indexes(cluster_mark_commands.job_id) AS p
		JOIN pg_index AS i ON i.indisclustered AND (i.indexrelid = p.source
			OR i.indexrelid IN (SELECT h.inhrelid FROM pg_inherits AS h
								WHERE h.inhparent = p.source))
		JOIN partshift.task AS t ON t.job_id = cluster_mark_commands.job_id
			AND t.phase = 'index' AND t.other = p.planned
		JOIN pg_index AS n ON n.indrelid = t.object
		JOIN pg_class AS x ON x.oid = n.indexrelid AND x.relname = t.command
	GROUP BY t.object, x.relname
	ORDER BY t.object
$$;

COMMENT ON FUNCTION partshift.cluster_mark_commands(integer) IS
'statements that mark the leaves for CLUSTER as the source is';

CREATE FUNCTION partshift.rewire_tasks(job_id integer, reverse boolean)
RETURNS TABLE (run_as oid, command text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT t.run_as, t.command
	FROM (
		SELECT 0 AS part, i.n, NULL::bigint AS m, i.run_as, i.command
		FROM partshift.extension_commands(rewire_tasks.job_id, false)
			WITH ORDINALITY AS i (run_as, command, n)
		WHERE NOT rewire_tasks.reverse
		UNION ALL
		SELECT 1, i.n, NULL, i.run_as, i.command
		FROM partshift.replica_identity_commands(rewire_tasks.job_id)
			WITH ORDINALITY AS i (run_as, command, n)
		WHERE NOT rewire_tasks.reverse
		UNION ALL
		SELECT 2, i.n, NULL, i.run_as, i.command
		FROM partshift.cluster_mark_commands(rewire_tasks.job_id)
			WITH ORDINALITY AS i (run_as, command, n)
		WHERE NOT rewire_tasks.reverse
		UNION ALL
		SELECT 3, 0, NULL, NULL, format('COMMENT ON TABLE %s IS %L',
			partshift.relation_name(j.relid), partshift.unused_mark(j.job_id))
		FROM partshift.job AS j
		WHERE j.job_id = rewire_tasks.job_id AND rewire_tasks.reverse
		UNION ALL
		SELECT 3, k.n, c.m, c.run_as, c.command
		FROM partshift.job_foreign_keys(rewire_tasks.job_id, rewire_tasks.reverse)
				WITH ORDINALITY AS k (old_key, relation, referenced, incoming,
									  name, new_name, definition, deferral,
									  validated, enforced, comment, n),
			LATERAL partshift.foreign_key_commands(k.relation, k.referenced,
				k.new_name, k.definition, k.validated, k.enforced)
				WITH ORDINALITY AS c (run_as, command, m)
	) AS t
	ORDER BY t.part, t.n, t.m
$$;

COMMENT ON FUNCTION partshift.rewire_tasks(integer, boolean) IS
'everything the phase rewire runs, in order, each statement a transaction of its own';

CREATE FUNCTION partshift.unwire_commands(job_id integer)
RETURNS TABLE (run_as oid, command text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	(SELECT NULL::oid, format('ALTER TABLE %s DROP CONSTRAINT %I',
							  partshift.relation_name(c.conrelid), c.conname)
	 FROM partshift.job AS j
		JOIN pg_constraint AS c ON j.relid IN (c.conrelid, c.confrelid)
			OR c.conrelid IN (SELECT partshift.row_tables(j.relid))
	 WHERE j.job_id = unwire_commands.job_id
		AND c.contype = 'f'
		AND c.conparentid = 0
	 ORDER BY c.conrelid, c.conname)
	UNION ALL
	SELECT NULL, format('COMMENT ON TABLE %s IS %L', partshift.relation_name(c.oid),
						obj_description(j.shadow, 'pg_class'))
	FROM partshift.job AS j
		JOIN pg_class AS c ON c.oid = j.relid
	WHERE j.job_id = unwire_commands.job_id
		AND obj_description(c.oid, 'pg_class') = partshift.unused_mark(j.job_id)
$$;

COMMENT ON FUNCTION partshift.unwire_commands(integer) IS
'takes back what was made for a rollback which will not happen';
