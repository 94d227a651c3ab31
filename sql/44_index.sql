/*
 * The names and lists of the index phase; index.c does the building.
 */
/*
 * A task names the index it copies by the OID that the plan noted.  REINDEX
 * CONCURRENTLY gives the index another one; it is found by its name.
 */
CREATE FUNCTION partshift.planned_indexes(job_id integer)
RETURNS TABLE (place integer, planned oid, source oid, shadow_name text,
			   added text[], per_partition boolean)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT e.place::integer, (e.entry ->> 'oid')::oid,
		coalesce((SELECT i.indexrelid
				  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
				  WHERE i.indrelid = j.relid AND c.relname = e.entry ->> 'name'),
				 (e.entry ->> 'oid')::oid),
		e.entry ->> 'shadow_name',
		ARRAY(SELECT jsonb_array_elements_text(
				coalesce(nullif(e.entry -> 'added', 'null'), '[]'))),
		coalesce((e.entry ->> 'per_partition')::boolean, false)
	FROM partshift.job j, jsonb_array_elements(j.plan -> 'indexes')
		WITH ORDINALITY AS e(entry, place)
	WHERE j.job_id = planned_indexes.job_id
	ORDER BY e.place
$$;

COMMENT ON FUNCTION partshift.planned_indexes(integer) IS
'the indexes that a job builds, the key first';

/*
 * One task for each index of each leaf, then one for each leaf's VACUUM.  The
 * order is by index, so that workers that begin together begin on different
 * leaves.  Names are given here, as the server would choose them, because two
 * workers that let the server choose could get the same one.  A name that an
 * index of the source's partition of that name has is exchanged in the swap,
 * unless that made the swap's locks last.
 */
CREATE FUNCTION partshift.add_index_tasks(job_id integer) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	WITH leaf AS (
		SELECT c.oid, coalesce((SELECT partshift.leaf_final_name(e.entry)
				FROM jsonb_array_elements(j.plan -> 'leaves') AS e (entry)
				WHERE e.entry ->> 'name' = c.relname), c.relname) AS relname,
			c.relnamespace, j.relid AS source,
			row_number() OVER (ORDER BY c.oid)::integer AS place,
			count(*) OVER ()::integer AS leaves,
			(SELECT count(*) FROM jsonb_array_elements(j.plan -> 'leaves') AS e (entry)
			 WHERE e.entry ? 'final_name') AS lent
		FROM partshift.job j
			JOIN pg_inherits i ON i.inhparent = j.shadow
			JOIN pg_class c ON c.oid = i.inhrelid
		WHERE j.job_id = add_index_tasks.job_id
	), planned AS (
		SELECT p.place, p.planned,
			CASE WHEN x.indisprimary THEN ''
				ELSE '_' || array_to_string(ARRAY(
					SELECT a.attname::text FROM pg_attribute a
					WHERE a.attrelid = p.source
					ORDER BY a.attnum) || p.added, '_') END
			|| CASE WHEN x.indisprimary THEN '_pkey'
				WHEN EXISTS (SELECT FROM pg_constraint o
					WHERE o.conindid = p.source AND o.conrelid = x.indrelid
						AND o.contype = 'u') THEN '_key'
				ELSE '_idx' END AS ending
		FROM partshift.planned_indexes(add_index_tasks.job_id) p
			JOIN pg_index x ON x.indexrelid = p.source
	), build AS (
		SELECT (p.place - 1) * l.leaves + l.place AS task_no,
			l.oid AS leaf, p.planned, l.relname::text AS leaf_name,
			l.relname || p.ending AS name,
			count(*) OVER (PARTITION BY l.relname || p.ending) > 1
			OR octet_length(l.relname || p.ending) > 63
			OR EXISTS (SELECT FROM pg_class c
				WHERE c.relname = l.relname || p.ending
					AND c.relnamespace = l.relnamespace) AS taken,
			count(*) OVER (PARTITION BY l.relname || p.ending) = 1
			AND octet_length(l.relname || p.ending) <= 50
			AND l.lent * (SELECT count(*) FROM planned) <= 100
			AND EXISTS (SELECT FROM pg_inherits h
					JOIN pg_class o ON o.oid = h.inhrelid AND o.relname = l.relname
					JOIN pg_index i ON i.indrelid = o.oid
					JOIN pg_class c ON c.oid = i.indexrelid
				WHERE h.inhparent = l.source
					AND c.relname = l.relname || p.ending) AS lent
		FROM planned p, leaf l
	)
	INSERT INTO partshift.task (job_id, phase, task_no, object, other, command)
	SELECT add_index_tasks.job_id, 'index', b.task_no, b.leaf, b.planned,
		CASE WHEN b.lent
				THEN partshift.shadow_name(b.name, add_index_tasks.job_id)
			WHEN b.taken THEN partshift.shadow_name(
				b.leaf_name, add_index_tasks.job_id, b.task_no)
			ELSE b.name END
	FROM build b
	UNION ALL
	SELECT add_index_tasks.job_id, 'index',
		(SELECT count(*) FROM planned)::integer * l.leaves + l.place,
		l.oid, NULL, NULL
	FROM leaf l
$$;

COMMENT ON FUNCTION partshift.add_index_tasks(integer) IS
'writes down the tasks of the index phase';

CREATE FUNCTION partshift.index_detail_commands(source oid, target oid,
												comments boolean)
RETURNS SETOF text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT format('ALTER INDEX %I.%I ALTER COLUMN %s SET STATISTICS %s',
				  n.nspname, c.relname, a.attnum, a.attstattarget)
	FROM pg_attribute a, pg_class c
		JOIN pg_namespace n ON n.oid = c.relnamespace
	WHERE a.attrelid = source AND a.attstattarget >= 0 AND c.oid = target
	UNION ALL
	SELECT format('COMMENT ON INDEX %I.%I IS %L', n.nspname, c.relname,
				  d.description)
	FROM pg_class c
		JOIN pg_namespace n ON n.oid = c.relnamespace,
		obj_description(source, 'pg_class') AS d(description)
	WHERE comments AND c.oid = target AND d.description IS NOT NULL
	UNION ALL
	SELECT format('COMMENT ON CONSTRAINT %I ON %I.%I IS %L', t.conname,
				  n.nspname, c.relname, d.description)
	FROM pg_constraint s
		JOIN pg_constraint t ON t.conindid = target
			AND t.contype IN ('p', 'u')
		JOIN pg_class c ON c.oid = t.conrelid
		JOIN pg_namespace n ON n.oid = c.relnamespace,
		obj_description(s.oid, 'pg_constraint') AS d(description)
	WHERE comments AND s.conindid = source AND s.contype IN ('p', 'u')
		AND d.description IS NOT NULL
$$;

COMMENT ON FUNCTION partshift.index_detail_commands(oid, oid, boolean) IS
'statements for what an index has beside its definition: statistics targets, comments';

/*
 * The leaves' indexes go by their names, as planned ones do.
 *
 * As the owner, because the server folds the constants of an index expression
 * to compare two indexes.  A limited number at a time: each statement locks a
 * leaf and its index until the transaction ends.
 */
CREATE FUNCTION partshift.attach_commands(job_id integer)
RETURNS TABLE (run_as oid, command text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT j.owner, format('ALTER INDEX %I.%I ATTACH PARTITION %I.%I',
						   n.nspname, x.relname, n.nspname, c.relname)
	FROM partshift.job j
		JOIN pg_class s ON s.oid = j.shadow
		JOIN pg_namespace n ON n.oid = s.relnamespace,
		LATERAL partshift.planned_indexes(j.job_id) AS p
		JOIN pg_class x ON x.relname = p.shadow_name
		JOIN partshift.task t ON t.other = p.planned
		JOIN pg_index i ON i.indrelid = t.object
		JOIN pg_class c ON c.oid = i.indexrelid AND c.relname = t.command
	WHERE j.job_id = attach_commands.job_id AND NOT p.per_partition
		AND x.relnamespace = s.relnamespace AND x.relkind = 'I'
		AND t.job_id = j.job_id AND t.phase = 'index' AND t.done
		AND NOT c.relispartition
	ORDER BY t.task_no
	LIMIT 200
$$;

COMMENT ON FUNCTION partshift.attach_commands(integer) IS
'statements that attach the leaves'' indexes that are not attached yet';

CREATE FUNCTION partshift.invalid_index(job_id integer) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT p.shadow_name
	FROM partshift.job j,
		LATERAL partshift.planned_indexes(j.job_id) AS p
	WHERE j.job_id = invalid_index.job_id AND NOT p.per_partition
		AND NOT EXISTS (
			SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
			WHERE i.indrelid = j.shadow AND c.relname = p.shadow_name
				AND i.indisvalid)
	LIMIT 1
$$;

COMMENT ON FUNCTION partshift.invalid_index(integer) IS
'an index of the shadow that is missing or not valid, NULL if there is none';
