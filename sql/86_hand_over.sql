/*
 * Handing a table of equal ranges over to pg_partman, which then adds and
 * drops partitions.
 *
 * All is done with the rights of the caller, who needs them on pg_partman's
 * tables anyway.  Its own function for registering a table makes partitions
 * first, by its own grid; so the row of its configuration is written here, and
 * its other functions are asked whether they understand the partitions.
 */
CREATE VIEW partshift.range_grid WITH (security_barrier) AS
SELECT j.job_id,
	j.shadow AS relation,
	j.key_columns[1] AS key_column,
	j.options ->> 'every' AS every,
	coalesce((j.options ->> 'premake')::integer, 3) AS premake,
	coalesce(j.options ->> 'timezone', 'UTC') AS timezone,
	j.phase,
	j.status
FROM partshift.job j
WHERE j.strategy = 'range' AND j.options ? 'every' AND j.shadow IS NOT NULL
	AND (j.phase = 'done' OR j.reverse)
	AND j.status NOT IN ('aborted', 'rolled_back')
	AND partshift.can_see(j.owner);

COMMENT ON VIEW partshift.range_grid IS
'how conversions have divided tables into ranges of equal size';

CREATE FUNCTION partshift.grid_of(relation regclass)
RETURNS partshift.range_grid
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	grid partshift.range_grid;
	table_name name;
BEGIN
	IF relation IS NULL THEN
		RAISE EXCEPTION 'relation must not be null'
			USING ERRCODE = 'null_value_not_allowed';
	END IF;
	SELECT c.relname INTO table_name FROM pg_class c WHERE c.oid = relation;
	IF NOT EXISTS (SELECT FROM pg_class c
				   WHERE c.oid = relation AND pg_has_role(c.relowner, 'USAGE')) THEN
		RAISE EXCEPTION 'must be owner of table %', table_name
			USING ERRCODE = 'insufficient_privilege';
	END IF;

	SELECT g.* INTO grid FROM partshift.range_grid g
	WHERE g.relation = grid_of.relation
	ORDER BY g.job_id DESC LIMIT 1;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'table "%" was not divided into ranges of equal size', table_name
			USING ERRCODE = 'object_not_in_prerequisite_state',
				  DETAIL = 'Only what convert() has made with option "every" can be handed over.';
	ELSIF grid.status <> 'finalized' THEN
		RAISE EXCEPTION 'conversion of table "%" is not finalized', table_name
			USING ERRCODE = 'object_not_in_prerequisite_state',
				  DETAIL = format('Job %s is %s in phase %s.', grid.job_id, grid.status, grid.phase),
				  HINT = format('Use partshift.finalize(%s).  A partition that is dropped makes a rollback impossible.', grid.job_id);
	END IF;
	RETURN grid;
END
$$;

COMMENT ON FUNCTION partshift.grid_of(regclass) IS
'how a table of the caller''s was divided, if it can be handed over';

CREATE FUNCTION partshift.partman_schema(OUT schema_name name, OUT major integer)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	version text;
BEGIN
	SELECT n.nspname, e.extversion INTO schema_name, version
	FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
	WHERE e.extname = 'pg_partman';
	IF NOT FOUND THEN
		RAISE EXCEPTION 'extension "pg_partman" is not installed'
			USING ERRCODE = 'object_not_in_prerequisite_state',
				  HINT = 'Use CREATE SCHEMA partman; CREATE EXTENSION pg_partman SCHEMA partman.';
	ELSIF version !~ '^(4\.([7-9]|[1-9]\d)|5\.\d)' THEN
		RAISE EXCEPTION 'version % of extension "pg_partman" is not supported', version
			USING ERRCODE = 'feature_not_supported',
				  DETAIL = 'It must be 4.7 or a later 4, or 5.';
	END IF;
	major := split_part(version, '.', 1);
END
$$;

COMMENT ON FUNCTION partshift.partman_schema() IS
'where pg_partman is, and its version';

/*
 * Of new partitions only what they do not get from the parent: storage
 * parameters, being unlogged, and unique indexes that each partition has
 * alone.  Expressions are not parsed here, with the caller's rights: who has
 * unique indexes with some adds them to the template.
 */
CREATE FUNCTION partshift.make_template(relation regclass, leaf oid, template text)
RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	details record;
	command text;
BEGIN
	SELECT c.relpersistence = 'u' AS unlogged,
		concat_ws(', ', array_to_string(c.reloptions, ', '),
				  (SELECT string_agg('toast.' || o, ', ') FROM unnest(t.reloptions) o)) AS parameters,
		pg_get_userbyid(c.relowner) AS owner,
		array(SELECT format('CREATE UNIQUE INDEX ON %s%s', template,
							substring(pg_get_indexdef(i.indexrelid) FROM ' USING .*'))
			  FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
			  WHERE i.indrelid = leaf AND i.indisunique AND NOT x.relispartition
				AND i.indexprs IS NULL AND i.indpred IS NULL) AS indexes
	INTO details
	FROM pg_class c LEFT JOIN pg_class t ON t.oid = c.reltoastrelid
	WHERE c.oid = leaf;
	IF NOT details.unlogged AND details.parameters = '' AND details.indexes = '{}' THEN
		RETURN false;
	END IF;

	EXECUTE format('CREATE %sTABLE %s (LIKE %s)%s',
				   CASE WHEN details.unlogged THEN 'UNLOGGED ' ELSE '' END, template, relation,
				   CASE WHEN details.parameters <> '' THEN format(' WITH (%s)', details.parameters) END);
	FOREACH command IN ARRAY details.indexes LOOP
		EXECUTE command;
	END LOOP;
	IF details.owner <> current_user THEN
		EXECUTE format('ALTER TABLE %s OWNER TO %I', template, details.owner);
	END IF;
	RETURN true;
END
$$;

COMMENT ON FUNCTION partshift.make_template(regclass, oid, text) IS
'makes a template for new partitions, if there is anything to take from one';

/*
 * pg_partman reads the order of partitions from names (4) or bounds (5), and
 * passes over a partition to be made if there is a relation of its name.
 */
CREATE FUNCTION partshift.check_partman(relation regclass, partman name, parent text)
RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	named text[];
	listed text[];
	expected text;
	reason text;
BEGIN
	SELECT array_agg(c.relname ORDER BY partshift.bound_rank(b.lower, b.type)) INTO named
	FROM partshift.leaf_bounds(relation) b JOIN pg_class c ON c.oid = b.leaf;
	BEGIN
		EXECUTE format('SELECT array_agg(s.partition_tablename) FROM %I.show_partitions(%L) s',
					   partman, parent) INTO listed;
		EXECUTE format('SELECT s.partition_table FROM %I.show_partition_name(%L, %L) s',
					   partman, parent,
					   (SELECT b.lower FROM partshift.leaf_bounds(relation) b
						ORDER BY partshift.bound_rank(b.lower, b.type) DESC LIMIT 1)) INTO expected;
	EXCEPTION WHEN data_exception OR raise_exception THEN
		reason := format('pg_partman says: %s', SQLERRM);
	END;
	reason := coalesce(reason,
		CASE WHEN named IS DISTINCT FROM listed
			 THEN 'pg_partman would read their order in another way.' END,
		CASE WHEN expected IS DISTINCT FROM named[cardinality(named)]
			 THEN format('Partition "%s" would be called "%s".', named[cardinality(named)], expected) END);
	IF reason IS NOT NULL THEN
		RAISE EXCEPTION 'names of the partitions of table % do not fit pg_partman''s', relation
			USING ERRCODE = 'feature_not_supported', DETAIL = reason,
				  HINT = 'Rename them, or convert with the default for option "name_format".';
	END IF;
END
$$;

COMMENT ON FUNCTION partshift.check_partman(regclass, name, text) IS
'raises an error unless pg_partman takes the partitions for its own';

CREATE FUNCTION partshift.leaf_bounds(relation regclass)
RETURNS TABLE (leaf oid, type oid, lower text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT c.oid, a.atttypid,
		trim(BOTH '''' FROM substring(pg_get_expr(c.relpartbound, c.oid) FROM 'FROM \(([^)]+)\) TO'))
	FROM pg_inherits i
		JOIN pg_class c ON c.oid = i.inhrelid
		JOIN pg_partitioned_table p ON p.partrelid = i.inhparent
		JOIN pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0]
	WHERE i.inhparent = relation
		AND pg_get_expr(c.relpartbound, c.oid) <> 'DEFAULT'
$$;

COMMENT ON FUNCTION partshift.leaf_bounds(regclass) IS
'the partitions of a table by range, without the default one, and where they begin';

CREATE FUNCTION partshift.register_partman(relation regclass, grid partshift.range_grid)
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	partman record := partshift.partman_schema();
	parent record;
	full_name text;
	template text;
	pattern text;
	registered boolean;
BEGIN
	SELECT n.nspname, c.relname, t.oid AS type, partshift.is_number(t.oid) AS is_number,
		(SELECT b.leaf FROM partshift.leaf_bounds(relation) b
		 ORDER BY partshift.bound_rank(b.lower, b.type) DESC LIMIT 1) AS leaf
	INTO parent
	FROM pg_class c
		JOIN pg_namespace n ON n.oid = c.relnamespace
		JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = grid.key_column
		JOIN pg_type t ON t.oid = a.atttypid
	WHERE c.oid = relation;
	full_name := concat(parent.nspname, '.', parent.relname);

	IF parent.type = 'uuid'::regtype OR partman.major = 4 AND parent.type = 'numeric'::regtype THEN
		RAISE EXCEPTION 'pg_partman % cannot maintain ranges of column "%" of type %',
			partman.major, grid.key_column, format_type(parent.type, NULL)
			USING ERRCODE = 'feature_not_supported';
	ELSIF full_name ~ '[.''].*[.'']|''' THEN
		RAISE EXCEPTION 'pg_partman cannot maintain table %', relation
			USING ERRCODE = 'feature_not_supported',
				  DETAIL = 'There is a dot or a quote in a name.';
	END IF;
	EXECUTE format('SELECT EXISTS (SELECT FROM %I.part_config p WHERE p.parent_table = $1)',
				   partman.schema_name) INTO registered USING full_name;
	IF registered THEN
		RAISE EXCEPTION 'table "%" is maintained by pg_partman already', parent.relname
			USING ERRCODE = 'duplicate_object';
	END IF;

	IF NOT parent.is_number THEN
		pattern := partshift.step_pattern(partshift.time_step(grid.every));
	END IF;
	template := left(format('template_%s_%s', parent.nspname, parent.relname), 63);
	IF NOT partshift.make_template(relation, parent.leaf,
								   format('%I.%I', partman.schema_name, template)) THEN
		template := NULL;
	END IF;
	EXECUTE format('INSERT INTO %I.part_config (parent_table, control, partition_type,'
				   ' partition_interval, premake, infinite_time_partitions, datetime_string,'
				   ' ignore_default_data, template_table)'
				   ' VALUES ($1, $2, $3, $4, $5, $6, $7, true, $8)', partman.schema_name)
	USING full_name, grid.key_column::text,
		CASE partman.major WHEN 4 THEN 'native' ELSE 'range' END,
		CASE WHEN parent.is_number THEN trim(grid.every)
			 ELSE partshift.time_step(grid.every)::text END,
		greatest(grid.premake, 1), NOT parent.is_number, pattern,
		partman.schema_name || '.' || template;
	PERFORM partshift.check_partman(relation, partman.schema_name, full_name);
END
$$;

COMMENT ON FUNCTION partshift.register_partman(regclass, partshift.range_grid) IS
'registers a table with pg_partman, as it was divided';

/*
 * What a policy says goes before what the conversion was told.  Dropping is
 * for the tool to be told anew: what is handed over goes on, and no more.
 */
CREATE FUNCTION partshift.end_policy(relation regclass, INOUT grid partshift.range_grid)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	policy partshift.policies;
BEGIN
	SELECT p.* INTO policy
	FROM partshift.policies p, pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
	WHERE c.oid = end_policy.relation AND p.relation = format('%I.%I', n.nspname, c.relname);
	IF NOT FOUND THEN
		RETURN;
	END IF;
	grid.every := policy.every;
	grid.premake := policy.premake;
	grid.timezone := policy.timezone;
	PERFORM partshift.manage_table(relation, NULL);
	IF policy.retention IS NOT NULL OR policy.retention_count IS NOT NULL THEN
		RAISE NOTICE 'retention of table % is not handed over', relation
			USING HINT = 'Set retention in pg_partman''s part_config.';
	END IF;
END
$$;

COMMENT ON FUNCTION partshift.end_policy(regclass, partshift.range_grid) IS
'ends the maintenance of a table, and says how it was divided lately';

CREATE FUNCTION partshift.hand_over(relation regclass, tool text)
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
SET intervalstyle = 'postgres'
SET datestyle = 'ISO, YMD'
AS $$
DECLARE
	grid partshift.range_grid;
BEGIN
	IF tool IS DISTINCT FROM 'partman' THEN
		RAISE EXCEPTION 'unrecognized tool: "%"', tool
			USING ERRCODE = 'invalid_parameter_value', HINT = 'The only one is "partman".';
	END IF;
	grid := partshift.end_policy(relation, partshift.grid_of(relation));
	PERFORM set_config('timezone', grid.timezone, true);
	PERFORM partshift.register_partman(relation, grid);
	IF EXISTS (SELECT FROM pg_attribute a
			   WHERE a.attrelid = relation AND a.attname = grid.key_column
				 AND a.atttypid = 'timestamptz'::regtype) THEN
		RAISE NOTICE 'pg_partman uses the time zone of whoever calls run_maintenance()'
			USING HINT = format('Let it be called with timezone set to "%s", by which the table was divided.', grid.timezone);
	END IF;
END
$$;

COMMENT ON FUNCTION partshift.hand_over(regclass, text) IS
'has pg_partman go on with the partitions of a finalized conversion';
