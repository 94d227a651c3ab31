/*
 * The tables that the source's rows are in: itself, or its partitions if it is
 * partitioned already.  The parent has the columns, the constraints, the
 * partitioned indexes and all that is upon the table; what is stored, and how,
 * is the partitions' affair, and the first of them stands for all.
 */
CREATE FUNCTION partshift.is_partitioned(relid oid) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT EXISTS (SELECT FROM pg_class c WHERE c.oid = relid AND c.relkind = 'p')
$$;

COMMENT ON FUNCTION partshift.is_partitioned(oid) IS
'whether a table is partitioned';

CREATE FUNCTION partshift.row_tables(relid oid) RETURNS SETOF oid
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT c.oid FROM pg_class c WHERE c.oid = relid AND c.relkind <> 'p'
	UNION ALL
	SELECT i.inhrelid
	FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhparent
	WHERE i.inhparent = relid AND c.relkind = 'p'
$$;

COMMENT ON FUNCTION partshift.row_tables(oid) IS
'the table, or its partitions';

CREATE FUNCTION partshift.storage_model(relid oid) RETURNS oid
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(min(t), relid) FROM partshift.row_tables(relid) t
$$;

COMMENT ON FUNCTION partshift.storage_model(oid) IS
'the table whose storage the new partitions get: the table, or its first partition';

CREATE FUNCTION partshift.scan_name(relid oid) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN partshift.is_partitioned(relid) THEN '' ELSE 'ONLY ' END || relid::regclass
$$;

COMMENT ON FUNCTION partshift.scan_name(oid) IS
'what follows FROM to read the table''s rows';

CREATE FUNCTION partshift.table_size(relid oid) RETURNS bigint
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(sum(pg_table_size(t)), 0)::bigint FROM partshift.row_tables(relid) t
$$;

COMMENT ON FUNCTION partshift.table_size(oid) IS
'the size of the table without its indexes';

CREATE FUNCTION partshift.total_size(relid oid) RETURNS bigint
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(sum(pg_total_relation_size(t)), 0)::bigint FROM partshift.row_tables(relid) t
$$;

COMMENT ON FUNCTION partshift.total_size(oid) IS
'the size of the table with its indexes';

/*
 * The new partitions get their names at the swap.  One that a partition of the
 * source has until then is built under another; the source's gets its own with
 * the date, as the table does, and has it back after a rollback.  Long names
 * may be alike once they are cut, hence the numbers, which no index has.
 */
CREATE FUNCTION partshift.settle_leaf_names(relid oid, plan jsonb, job_id integer)
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH named AS (
		SELECT l.place, l.entry || CASE WHEN old.oid IS NULL
					OR count(*) OVER (PARTITION BY l.entry ->> 'name') > 1 THEN '{}'
				ELSE jsonb_build_object(
					'name', partshift.shadow_name(l.entry ->> 'name', coalesce(job_id, 0),
						CASE WHEN octet_length(l.entry ->> 'name') > 50
							THEN 1000000 + l.place::integer END),
					'final_name', l.entry ->> 'name',
					'old_name', partshift.legacy_name(l.entry ->> 'name', '{}')) END AS entry
		FROM jsonb_array_elements(plan -> 'leaves') WITH ORDINALITY AS l (entry, place)
			LEFT JOIN pg_class old ON old.relname = l.entry ->> 'name'
				AND old.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = relid)
				AND old.oid IN (SELECT t FROM partshift.row_tables(relid) t WHERE t <> relid)
	)
	SELECT plan || jsonb_build_object('leaves', coalesce(jsonb_agg(n.entry ORDER BY n.place), '[]'),
		'default_leaf', coalesce(max(n.entry ->> 'name')
			FILTER (WHERE n.entry ->> 'final_name' = plan ->> 'default_leaf'),
			plan ->> 'default_leaf'))
	FROM named n
$$;

COMMENT ON FUNCTION partshift.settle_leaf_names(oid, jsonb, integer) IS
'the plan with other names, until the swap, for partitions whose names those of the table have';

CREATE FUNCTION partshift.leaf_final_name(entry jsonb) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(entry ->> 'final_name', entry ->> 'name')
$$;

COMMENT ON FUNCTION partshift.leaf_final_name(jsonb) IS
'the name that a partition of a plan has after the swap';
