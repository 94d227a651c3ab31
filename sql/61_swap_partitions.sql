/*
 * The names of partitions in a swap of a table that was partitioned already.
 *
 * By then the new partition has a name of its own (settle_leaf_names()), and
 * the old one has that which the application knows.  After the swap the new
 * table is the application's, which may have renamed its partitions; so on the
 * way back they go by what they are called now.  So do the indexes of two
 * partitions that exchange their names, where they have the same but for what
 * the new one's has until the swap.
 */
CREATE FUNCTION partshift.swap_partition_commands(job_id integer, reverse boolean)
RETURNS TABLE (run_as oid, command text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT NULL::oid, format('ALTER TABLE %s RENAME TO %I', partshift.relation_name(c.oid), v.new_name)
	FROM partshift.job AS j,
		jsonb_array_elements(j.plan -> 'leaves') WITH ORDINALITY AS l (entry, place),
		LATERAL (VALUES
			(j.relid, swap_partition_commands.reverse, l.entry ->> 'final_name', l.entry ->> 'old_name'),
			(j.shadow, NOT swap_partition_commands.reverse, l.entry ->> 'name', l.entry ->> 'final_name'))
			AS s (parent, later, before, after),
		LATERAL (SELECT CASE WHEN swap_partition_commands.reverse THEN s.after ELSE s.before END,
					CASE WHEN swap_partition_commands.reverse THEN s.before ELSE s.after END)
			AS v (name, new_name)
		JOIN pg_class AS c ON c.relname = v.name
		JOIN pg_inherits AS i ON i.inhrelid = c.oid
	WHERE j.job_id = swap_partition_commands.job_id AND l.entry ? 'final_name'
		AND i.inhparent = s.parent
	ORDER BY s.later, l.place
$$;

COMMENT ON FUNCTION partshift.swap_partition_commands(integer, boolean) IS
'exchanges the names of old and new partitions that would have the same';

CREATE FUNCTION partshift.swap_partition_indexes(job_id integer, reverse boolean)
RETURNS TABLE (run_as oid, command text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH pair AS (
		SELECT n.nspname, a.relname AS name, b.relname AS shadow_name,
			format('partshift_%s_%s', j.job_id, a.oid) AS spare,
			row_number() OVER (ORDER BY a.oid) AS place
		FROM partshift.job AS j,
			jsonb_array_elements(j.plan -> 'leaves') AS l (entry),
			LATERAL (VALUES (j.relid, l.entry ->> 'final_name', j.shadow, l.entry ->> 'name', false),
				(j.shadow, l.entry ->> 'final_name', j.relid, l.entry ->> 'old_name', true))
				AS s (loser, loser_leaf, taker, taker_leaf, reverse)
			JOIN pg_inherits AS hx ON hx.inhparent = s.loser
			JOIN pg_class AS x ON x.oid = hx.inhrelid AND x.relname = s.loser_leaf
			JOIN pg_inherits AS hy ON hy.inhparent = s.taker
			JOIN pg_class AS y ON y.oid = hy.inhrelid AND y.relname = s.taker_leaf
			JOIN pg_namespace AS n ON n.oid = x.relnamespace
			JOIN pg_index AS ix ON ix.indrelid = x.oid
			JOIN pg_class AS a ON a.oid = ix.indexrelid
			JOIN pg_index AS iy ON iy.indrelid = y.oid
			JOIN pg_class AS b ON b.oid = iy.indexrelid
		WHERE j.job_id = swap_partition_indexes.job_id AND l.entry ? 'final_name'
			AND b.relname = partshift.shadow_name(a.relname, j.job_id)
			AND s.reverse = swap_partition_indexes.reverse
	)
	SELECT NULL::oid, format('ALTER INDEX %I.%I RENAME TO %I', p.nspname, r.name, r.new_name)
	FROM pair AS p,
		LATERAL (VALUES (1, p.name::text, p.spare), (2, p.shadow_name::text, p.name::text),
			(3, p.spare, p.shadow_name::text)) AS r (step, name, new_name)
	ORDER BY p.place, r.step
$$;

COMMENT ON FUNCTION partshift.swap_partition_indexes(integer, boolean) IS
'exchanges the names of the indexes of partitions that exchange theirs';
