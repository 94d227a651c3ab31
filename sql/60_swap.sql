/*
 * The catalog changes of a swap, as statements that are all prepared before
 * any lock is asked for and then run in one transaction.
 *
 * Names that the application knows go to the new object and the old one gets
 * the name that the new one had; so the way back is the same exchange.  The
 * definitions of triggers are read while the old table still bears the name:
 * they can then be run as they stand once the new one bears it.
 */
CREATE FUNCTION partshift.swap_drop_commands(job_id integer, reverse boolean)
RETURNS TABLE (run_as oid, command text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT NULL::oid, format('ALTER TABLE %s DROP CONSTRAINT %I',
							 partshift.relation_name(c.conrelid), c.conname)
	FROM partshift.job AS j,
		LATERAL (SELECT CASE WHEN swap_drop_commands.reverse
							THEN j.shadow ELSE j.relid END AS relid) AS t
		JOIN pg_constraint AS c ON t.relid IN (c.conrelid, c.confrelid)
	WHERE j.job_id = swap_drop_commands.job_id
		AND c.contype = 'f'
		AND c.conparentid = 0
	ORDER BY c.conrelid, c.conname
$$;

COMMENT ON FUNCTION partshift.swap_drop_commands(integer, boolean) IS
'drops the foreign keys from and to the table that loses the name';

/*
 * Both tables have one owner, unless REASSIGN OWNED, taken back halfway, has
 * given what the job made to another role.
 */
CREATE FUNCTION partshift.swap_owner_commands(job_id integer, reverse boolean)
RETURNS TABLE (run_as oid, command text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT NULL::oid, format('ALTER TABLE %s OWNER TO %s',
							 partshift.relation_name(c.oid), f.relowner::regrole)
	FROM partshift.job AS j,
		LATERAL (SELECT CASE WHEN swap_owner_commands.reverse
							THEN j.shadow ELSE j.relid END,
					CASE WHEN swap_owner_commands.reverse
							THEN j.relid ELSE j.shadow END) AS t (away, back)
		JOIN pg_class AS f ON f.oid = t.away
		JOIN pg_class AS c ON c.oid = t.back
			OR c.oid IN (SELECT i.inhrelid FROM pg_inherits AS i
						 WHERE i.inhparent = t.back)
	WHERE j.job_id = swap_owner_commands.job_id
		AND c.relowner <> f.relowner
	ORDER BY c.oid
$$;

COMMENT ON FUNCTION partshift.swap_owner_commands(integer, boolean) IS
'gives the table that gets the name, with its partitions, the owner of the one that loses it';

CREATE FUNCTION partshift.swap_name_commands(job_id integer, reverse boolean)
RETURNS TABLE (run_as oid, command text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	job partshift.job;
	away name;
	back name;
	entry record;
	spare name;
BEGIN
	SELECT j.* INTO job
	FROM partshift.job AS j
	WHERE j.job_id = swap_name_commands.job_id;
	IF reverse THEN
		away := job.plan ->> 'shadow_name';
		back := job.legacy_name;
	ELSE
		away := job.legacy_name;
		back := job.plan ->> 'shadow_name';
	END IF;

	RETURN QUERY VALUES
		(NULL::oid, format('ALTER TABLE %I.%I RENAME TO %I',
						   job.schema_name, job.table_name, away)),
		(NULL::oid, format('ALTER TABLE %I.%I RENAME TO %I',
						   job.schema_name, back, job.table_name));

	/* The constraint of an index is renamed with it. */
	FOR entry IN
		SELECT (i.def ->> 'name')::name AS name,
			(i.def ->> 'shadow_name')::name AS shadow_name, i.n
		FROM jsonb_array_elements(job.plan -> 'indexes') WITH ORDINALITY AS i (def, n)
		WHERE NOT coalesce((i.def ->> 'per_partition')::boolean, false)
		ORDER BY i.n
	LOOP
		spare := format('partshift_%s_%s', job.job_id, entry.n);
		RETURN QUERY VALUES
			(NULL::oid, format('ALTER INDEX %I.%I RENAME TO %I',
							   job.schema_name, entry.name, spare)),
			(NULL::oid, format('ALTER INDEX %I.%I RENAME TO %I',
							   job.schema_name, entry.shadow_name, entry.name)),
			(NULL::oid, format('ALTER INDEX %I.%I RENAME TO %I',
							   job.schema_name, spare, entry.shadow_name));
	END LOOP;
END
$$;

COMMENT ON FUNCTION partshift.swap_name_commands(integer, boolean) IS
'exchanges the names of both tables and of their indexes';

CREATE FUNCTION partshift.swap_statistics_commands(job_id integer)
RETURNS TABLE (run_as oid, command text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT NULL::oid, format('ALTER STATISTICS %I.%I RENAME TO %I',
							 e.entry ->> 'schema', r.name, r.new_name)
	FROM partshift.job AS j,
		jsonb_array_elements(j.plan -> 'statistics') WITH ORDINALITY AS e (entry, n),
		LATERAL (SELECT format('partshift_%s_s%s', j.job_id, e.n) AS spare) AS v,
		LATERAL (VALUES (1, e.entry ->> 'name', v.spare),
			(2, e.entry ->> 'shadow_name', e.entry ->> 'name'),
			(3, v.spare, e.entry ->> 'shadow_name')) AS r (step, name, new_name)
	WHERE j.job_id = swap_statistics_commands.job_id
	ORDER BY e.n, r.step
$$;

COMMENT ON FUNCTION partshift.swap_statistics_commands(integer) IS
'exchanges the names of the extended statistics of both tables';

CREATE FUNCTION partshift.foreign_key_parts(conid oid)
RETURNS TABLE (key oid, relation oid, name name)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	/* A key to a partitioned table has rows on the same table as well. */
	WITH RECURSIVE part AS (
		SELECT c.oid, c.conrelid, c.confrelid, c.conname
		FROM pg_constraint AS c
		WHERE c.oid = foreign_key_parts.conid
		UNION ALL
		SELECT c.oid, c.conrelid, c.confrelid, c.conname
		FROM part AS p
			JOIN pg_constraint AS c ON c.conparentid = p.oid
				AND c.confrelid = p.confrelid
	)
	SELECT p.oid, p.conrelid, p.conname
	FROM part AS p
$$;

COMMENT ON FUNCTION partshift.foreign_key_parts(oid) IS
'a foreign key and what became of it on the partitions of its table';

CREATE FUNCTION partshift.swap_rename_commands(old_key oid, new_key oid,
											   name name)
RETURNS TABLE (run_as oid, command text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT NULL::oid, format('ALTER TABLE %s RENAME CONSTRAINT %I TO %I',
							 partshift.relation_name(n.relation), n.name,
							 coalesce(o.name, swap_rename_commands.name))
	FROM partshift.foreign_key_parts(swap_rename_commands.new_key) AS n
		LEFT JOIN partshift.foreign_key_parts(swap_rename_commands.old_key) AS o
			ON o.relation = n.relation
	ORDER BY n.relation
$$;

COMMENT ON FUNCTION partshift.swap_rename_commands(oid, oid, name) IS
'gives a new foreign key, and its parts on partitions, the names of the old one';

CREATE FUNCTION partshift.swap_foreign_key_commands(job_id integer,
													reverse boolean)
RETURNS TABLE (run_as oid, command text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	key record;
	new_key oid;
	relname text;
BEGIN
	FOR key IN
		SELECT k.*, j.schema_name, j.table_name
		FROM partshift.job AS j,
			partshift.job_foreign_keys(j.job_id, swap_foreign_key_commands.reverse) AS k
		WHERE j.job_id = swap_foreign_key_commands.job_id
	LOOP
		SELECT c.oid INTO new_key
		FROM pg_constraint AS c
		WHERE c.conrelid = key.relation
			AND c.confrelid = key.referenced
			AND c.contype = 'f'
			AND c.conparentid = 0
			AND c.conname = key.new_name
			AND c.convalidated = key.validated;
		IF NOT FOUND THEN
			RAISE EXCEPTION USING
				ERRCODE = 'object_not_in_prerequisite_state',
				MESSAGE = format('foreign key "%s" of table "%s" has no valid counterpart',
								 key.name, (SELECT c.relname FROM pg_class AS c
											WHERE c.oid = key.relation)),
				DETAIL = 'It was added or changed during the conversion.',
				HINT = 'Abort the conversion and begin again.';
		END IF;

		/* The statements run after the tables have exchanged their names. */
		IF key.incoming THEN
			relname := partshift.relation_name(key.relation);
			RETURN QUERY SELECT r.run_as, r.command
				FROM partshift.swap_rename_commands(key.old_key, new_key, key.name) AS r;
			IF key.deferral <> 'DEFERRABLE INITIALLY DEFERRED' AND key.enforced THEN
				RETURN QUERY SELECT NULL::oid,
					format('ALTER TABLE %s ALTER CONSTRAINT %I %s',
						   relname, key.name, key.deferral);
			END IF;
		ELSE
			relname := format('%I.%I', key.schema_name, key.table_name);
		END IF;
		IF key.comment IS NOT NULL THEN
			RETURN QUERY SELECT NULL::oid,
				format('COMMENT ON CONSTRAINT %I ON %s IS %L',
					   key.name, relname, key.comment);
		END IF;
	END LOOP;
END
$$;

COMMENT ON FUNCTION partshift.swap_foreign_key_commands(integer, boolean) IS
'gives the validated new foreign keys the names, the deferrability and the comments of the old ones';

CREATE FUNCTION partshift.swap_trigger_commands(job_id integer)
RETURNS TABLE (run_as oid, command text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT c.run_as, c.command
	FROM partshift.job AS j
		JOIN pg_trigger AS t ON t.tgrelid = j.relid AND NOT t.tgisinternal,
		LATERAL (SELECT partshift.relation_name(j.relid) AS relname,
					 obj_description(t.oid, 'pg_trigger') AS comment) AS v,
		LATERAL (
			/*
			 * Reading a condition may call functions of the owner, by way of
			 * the input of a type; without one, only an owner who has lost
			 * the right to call the trigger's function would be refused.  The
			 * conditions of ours test for nulls, and nobody may call theirs.
			 */
			SELECT 1, CASE WHEN t.tgqual IS NULL
					OR t.tgfoid = 'partshift.fill_late()'::regprocedure
				THEN NULL ELSE j.owner END,
				pg_get_triggerdef(t.oid, false)
			UNION ALL
			SELECT 2, NULL, format('ALTER TABLE %s %s TRIGGER %I', v.relname,
				CASE t.tgenabled
					WHEN 'D' THEN 'DISABLE'
					WHEN 'R' THEN 'ENABLE REPLICA'
					ELSE 'ENABLE ALWAYS' END, t.tgname)
			WHERE t.tgenabled <> 'O'
			UNION ALL
			SELECT 3, NULL, format('COMMENT ON TRIGGER %I ON %s IS %L',
								   t.tgname, v.relname, v.comment)
			WHERE v.comment IS NOT NULL
			UNION ALL
			SELECT 4, NULL, format('ALTER TRIGGER %I ON %s DEPENDS ON EXTENSION %I',
								   t.tgname, v.relname, e.extname)
			FROM pg_depend AS d
				JOIN pg_extension AS e ON e.oid = d.refobjid
			WHERE d.classid = 'pg_trigger'::regclass
				AND d.objid = t.oid
				AND d.refclassid = 'pg_extension'::regclass
				AND d.deptype = 'x'
		) AS c (part, run_as, command)
	WHERE j.job_id = swap_trigger_commands.job_id
	ORDER BY t.tgname, c.part
$$;

COMMENT ON FUNCTION partshift.swap_trigger_commands(integer) IS
'creates the user''s triggers on the new table, as they are on the source';

/*
 * The legacy table keeps its triggers, but they must not fire: what is written
 * to it has been written to the new table, whose triggers fired.  The mirror
 * fires none; the referential actions of the foreign keys that legacy gets
 * again before a swap back would.  The new table's triggers remember how they
 * were enabled, and what the user has changed about that since.
 */
CREATE FUNCTION partshift.swap_silence_commands(job_id integer, reverse boolean)
RETURNS TABLE (run_as oid, command text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT NULL::oid, format('ALTER TABLE %I.%I DISABLE TRIGGER %I',
							 j.schema_name, j.legacy_name, t.tgname)
	FROM partshift.job AS j
		JOIN pg_trigger AS t ON t.tgrelid = j.relid AND NOT t.tgisinternal
	WHERE j.job_id = swap_silence_commands.job_id
		AND NOT swap_silence_commands.reverse
		AND t.tgenabled <> 'D'
	UNION ALL
	SELECT NULL::oid, format('ALTER TABLE %I.%I %s TRIGGER %I',
							 j.schema_name, j.table_name,
							 CASE n.tgenabled
								WHEN 'D' THEN 'DISABLE'
								WHEN 'R' THEN 'ENABLE REPLICA'
								WHEN 'A' THEN 'ENABLE ALWAYS'
								ELSE 'ENABLE' END, t.tgname)
	FROM partshift.job AS j
		JOIN pg_trigger AS t ON t.tgrelid = j.relid AND NOT t.tgisinternal
		JOIN pg_trigger AS n ON n.tgrelid = j.shadow AND n.tgname = t.tgname
			AND NOT n.tgisinternal
	WHERE j.job_id = swap_silence_commands.job_id
		AND swap_silence_commands.reverse
		AND n.tgenabled <> t.tgenabled
$$;

COMMENT ON FUNCTION partshift.swap_silence_commands(integer, boolean) IS
'disables the triggers of the table that becomes legacy, or enables them again';

/* The mark that a table bears while it is not in use goes with the name. */
CREATE FUNCTION partshift.swap_comment_commands(job_id integer, reverse boolean)
RETURNS TABLE (run_as oid, command text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT NULL::oid, format('COMMENT ON TABLE %I.%I IS %L',
							 j.schema_name, v.name, v.description)
	FROM partshift.job AS j,
		LATERAL (VALUES
			(j.table_name, obj_description(CASE WHEN swap_comment_commands.reverse
				THEN j.shadow ELSE j.relid END, 'pg_class'), true),
			((j.plan ->> 'shadow_name')::name, partshift.unused_mark(j.job_id),
			 swap_comment_commands.reverse)) AS v (name, description, applies)
	WHERE j.job_id = swap_comment_commands.job_id AND v.applies
$$;

COMMENT ON FUNCTION partshift.swap_comment_commands(integer, boolean) IS
'gives the table that gets the name the comment of the one that loses it';

CREATE FUNCTION partshift.swap_commands(job_id integer, reverse boolean)
RETURNS TABLE (run_as oid, command text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN QUERY SELECT c.*
		FROM partshift.swap_drop_commands(job_id, reverse) AS c;
	RETURN QUERY SELECT c.*
		FROM partshift.swap_owner_commands(job_id, reverse) AS c;
	RETURN QUERY SELECT c.*
		FROM partshift.swap_name_commands(job_id, reverse) AS c;
	RETURN QUERY SELECT c.*
		FROM partshift.swap_partition_commands(job_id, reverse) AS c;
	RETURN QUERY SELECT c.*
		FROM partshift.swap_partition_indexes(job_id, reverse) AS c;
	RETURN QUERY SELECT c.*
		FROM partshift.swap_statistics_commands(job_id) AS c;
	RETURN QUERY SELECT c.*
		FROM partshift.swap_foreign_key_commands(job_id, reverse) AS c;
	RETURN QUERY SELECT c.*
		FROM partshift.swap_silence_commands(job_id, reverse) AS c;
	RETURN QUERY SELECT c.*
		FROM partshift.swap_comment_commands(job_id, reverse) AS c;
	IF NOT reverse THEN
		RETURN QUERY SELECT c.*
			FROM partshift.swap_trigger_commands(job_id) AS c;
		RETURN QUERY SELECT c.* FROM partshift.drop_log_commands(job_id) AS c;
	END IF;
END
$$;

COMMENT ON FUNCTION partshift.swap_commands(integer, boolean) IS
'all the statements of a swap, in order, to be run in one transaction';

CREATE FUNCTION partshift.swap_relations(job_id integer, with_neighbours boolean)
RETURNS SETOF oid
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH RECURSIVE side AS (
		SELECT i.relid, i.relid = j.shadow AS is_shadow
		FROM partshift.job AS j,
			unnest(ARRAY[j.relid, j.shadow]) AS i (relid)
		WHERE j.job_id = swap_relations.job_id
			AND i.relid IS NOT NULL
	), dependent AS (
		SELECT d.relation, d.with_partitions
		FROM side AS s, partshift.dependent_relations(s.relid) AS d
		WHERE swap_relations.with_neighbours
	), tree AS (
		SELECT s.relid
		FROM side AS s
		UNION
		SELECT v.relid
		FROM side AS s
			JOIN pg_constraint AS c ON s.relid IN (c.conrelid, c.confrelid)
				AND c.contype = 'f'
				AND (swap_relations.with_neighbours OR s.is_shadow),
			unnest(ARRAY[c.conrelid, c.confrelid]) AS v (relid)
		UNION
		SELECT x.relation
		FROM partshift.job AS j, partshift.extended_keys(j.plan) AS x
		WHERE j.job_id = swap_relations.job_id
		UNION
		SELECT d.relation
		FROM dependent AS d
		WHERE d.with_partitions
		UNION
		SELECT i.inhrelid
		FROM tree AS t
			JOIN pg_inherits AS i ON i.inhparent = t.relid
	)
	SELECT c.oid
	FROM pg_class AS c
	WHERE c.oid IN (SELECT t.relid FROM tree AS t
					UNION ALL
					SELECT d.relation FROM dependent AS d)
	ORDER BY c.oid
$$;

COMMENT ON FUNCTION partshift.swap_relations(integer, boolean) IS
'every table that a swap or an abort changes, in the order in which to lock them: both tables, what foreign keys join to the shadow and, with its neighbours, to the source, the partitions of all these, and what depends on either';
