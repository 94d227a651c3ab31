/*
 * Computed partition keys: an expression for the nulls of the key column
 * (null_key), or for a column that only the new table has (derive).
 *
 * What the rest needs to know is in the plan as "computed": the column and its
 * type, the expression as text and as tree, and "value", what the key is in a
 * query of the source as "t".
 */

CREATE FUNCTION partshift.key_column(relid oid, column_name name, computed jsonb)
RETURNS TABLE(type oid, modifier integer, collid oid)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT a.atttypid, a.atttypmod, a.attcollation
	FROM pg_attribute a
	WHERE a.attrelid = relid AND a.attname = column_name
	UNION ALL
	SELECT (computed->>'type')::oid, (computed->>'modifier')::integer,
		   (computed->>'collation')::oid
	WHERE (computed->>'derived')::boolean AND computed->>'column' = column_name
$$;

COMMENT ON FUNCTION partshift.key_column(oid, name, jsonb) IS
'the type of a column of the table, or of the derived one';

CREATE FUNCTION partshift.derived_column(relid oid, key text)
RETURNS name[]
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	names text[] := partshift.key_names(relid, key);
BEGIN
	IF cardinality(names) > 1 THEN
		RAISE EXCEPTION 'option "derive" makes a single column'
			USING ERRCODE = 'invalid_parameter_value';
	ELSIF octet_length(names[1]) > 63 THEN
		RAISE EXCEPTION 'name "%" of the derived column is too long', names[1]
			USING ERRCODE = 'name_too_long';
	ELSIF EXISTS (SELECT FROM pg_attribute a
				  WHERE a.attrelid = relid AND a.attname::text = names[1]
					AND NOT a.attisdropped) THEN
		RAISE EXCEPTION 'column "%" of relation "%" already exists', names[1],
			(SELECT relname FROM pg_class WHERE oid = relid)
			USING ERRCODE = 'duplicate_column',
				  DETAIL = 'Option "derive" makes a column for the partition key.',
				  HINT = 'Name another, or leave the option off.';
	END IF;
	RETURN names::name[];
END
$$;

COMMENT ON FUNCTION partshift.derived_column(oid, text) IS
'the column to derive; raises an error if there is one of this name';

CREATE FUNCTION partshift.derived_check_name(relid oid, column_name name)
RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT name
	FROM (SELECT partshift.clip_name(c.relname || '_' || column_name, 63 - octet_length(suffix))
				 || suffix AS name, n
		  FROM pg_class c, generate_series(0, 9) n,
			   CAST('_derived' || CASE n WHEN 0 THEN '' ELSE n::text END AS text) suffix
		  WHERE c.oid = relid) names
	WHERE NOT EXISTS (SELECT FROM pg_constraint o
					  WHERE o.conrelid = relid AND o.conname::text = names.name)
	ORDER BY n LIMIT 1
$$;

COMMENT ON FUNCTION partshift.derived_check_name(oid, name) IS
'the name of the constraint that a derived column has its value';

CREATE FUNCTION partshift.computed_column(relid oid, key_columns name[], options jsonb)
RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	derived boolean := options ? 'derive';
	option text := CASE WHEN derived THEN 'derive' ELSE 'null_key' END;
	target record;
	e record;
BEGIN
	SELECT c.relname, c.relkind, a.atttypid, a.atttypmod,
		partshift.has_no_nulls(a) AS attnotnull INTO target
	FROM pg_class c LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = key_columns[1]
	WHERE c.oid = relid;

	IF target.relkind = 'p' THEN
		RAISE EXCEPTION 'option "%" does not apply to partitioned table "%"', option, target.relname
			USING ERRCODE = 'feature_not_supported';
	ELSIF cardinality(key_columns) > 1 THEN
		RAISE EXCEPTION 'option "%" needs a partition key of one column', option
			USING ERRCODE = 'invalid_parameter_value';
	ELSIF target.attnotnull THEN
		RAISE EXCEPTION 'partition key column "%" cannot be null', key_columns[1]
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'Leave option "null_key" off.';
	END IF;
	SELECT * INTO e
	FROM partshift.read_expression(relid, options->>option, coalesce(target.atttypid, 0),
								   coalesce(target.atttypmod, -1), option);
	RETURN jsonb_build_object(
		'option', option, 'column', key_columns[1], 'derived', derived,
		'type', e.type::bigint, 'modifier', e.modifier, 'collation', e.collid::bigint,
		'definition', e.definition, 'tree', e.tree,
		'value', CASE WHEN derived THEN format('(%s)', e.definition)
					  ELSE format('coalesce(t.%I, %s)', key_columns[1], e.definition) END,
		'constraint', CASE WHEN derived
						   THEN partshift.derived_check_name(relid, key_columns[1]) END);
END
$$;

COMMENT ON FUNCTION partshift.computed_column(oid, name[], jsonb) IS
'what there is to know of a computed key; raises an error for an expression that cannot be one';

/* What is wrong with the expression is raised by the parser, in many words. */
CREATE FUNCTION partshift.try_computed(relid oid, key_columns name[], options jsonb,
									   OUT column_value jsonb, OUT failed boolean,
									   OUT refusal partshift.finding)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	failed := false;
	IF NOT options ?| ARRAY['null_key', 'derive'] THEN
		RETURN;
	END IF;
	column_value := partshift.computed_column(relid, key_columns, options);
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS refusal.sqlstate = RETURNED_SQLSTATE,
		refusal.message = MESSAGE_TEXT,
		refusal.detail = PG_EXCEPTION_DETAIL,
		refusal.hint = PG_EXCEPTION_HINT;
	refusal := partshift.refused('key', key_columns[1], refusal.sqlstate, refusal.message,
								 refusal.detail, refusal.hint);
	failed := true;
END
$$;

COMMENT ON FUNCTION partshift.try_computed(oid, name[], jsonb) IS
'what there is to know of a computed key, or why there is none';

CREATE FUNCTION partshift.count_unplaced(relid oid, value text)
RETURNS bigint
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT partshift.query_as(c.relowner,
			format('SELECT count(*) FROM %s t WHERE %s IS NULL', partshift.scan_name(c.oid), value))::bigint
	FROM pg_class c WHERE c.oid = relid
$$;

COMMENT ON FUNCTION partshift.count_unplaced(oid, text) IS
'how many rows have no value for a computed key';

CREATE FUNCTION partshift.try_count_unplaced(relid oid, value text,
											 OUT n bigint, OUT refusal partshift.finding)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	n := partshift.count_unplaced(relid, value);
EXCEPTION WHEN OTHERS THEN
	refusal := partshift.refused('key', NULL, SQLSTATE,
		format('expression of the partition key cannot be evaluated for some row: %s', SQLERRM));
END
$$;

COMMENT ON FUNCTION partshift.try_count_unplaced(oid, text) IS
'the same, or why it cannot be told';

/*
 * What holds for the null in the source need not hold for the value in the
 * new table, and nothing checks it there: rows are written past constraints.
 * A unique index is safe if its other columns are unique by themselves.
 */
CREATE FUNCTION partshift.check_filled_column(relid oid, plan jsonb)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH filled AS (
		SELECT a.attname, a.attnum
		FROM pg_attribute a
		WHERE a.attrelid = relid AND a.attname = plan #>> '{computed,column}'
	), obstacle AS (
		SELECT 1 AS part, con.conname AS name,
			format(CASE con.contype WHEN 'f' THEN 'foreign key "%s" contains column "%s", whose nulls are to be filled'
						ELSE 'constraint "%s" mentions column "%s", whose nulls are to be filled' END,
				   con.conname, k.attname) AS message,
			'What holds for the null need not hold for the value.' AS detail,
			'Drop it, and add it again after the swap.' AS hint
		FROM filled k, pg_constraint con
		WHERE con.conrelid = relid AND con.contype IN ('c', 'f') AND con.conparentid = 0
		  AND k.attnum = ANY (con.conkey)
		UNION ALL
		SELECT 2, a.attname,
			format('column "%s" is generated from column "%s", whose nulls are to be filled',
				   a.attname, k.attname),
			'It would have the value for the null.', 'Fill the nulls in the table.'
		FROM filled k
			 JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = relid
				  AND d.refobjsubid = k.attnum AND d.classid = 'pg_attrdef'::regclass
			 JOIN pg_attrdef f ON f.oid = d.objid
			 JOIN pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum
		WHERE a.attgenerated <> ''
		UNION ALL
		SELECT 3, c.relname,
			format('unique index "%s" mentions column "%s", whose nulls are to be filled',
				   c.relname, k.attname),
			'Rows that are different by a null may be equal by the value.',
			'Fill the nulls in the table, or drop the index.'
		FROM filled k
			 CROSS JOIN pg_index i
			 JOIN pg_class c ON c.oid = i.indexrelid
		WHERE i.indrelid = relid AND i.indisunique
		  AND (k.attnum = ANY (i.indkey[0:i.indnkeyatts - 1])
			   OR EXISTS (SELECT FROM pg_depend d
						  WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
							AND d.refclassid = 'pg_class'::regclass AND d.refobjid = relid
							AND d.refobjsubid = k.attnum
							AND (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL)))
		  AND NOT (i.indpred IS NULL AND i.indexprs IS NULL
				   AND (SELECT bool_and(n.attnum = ANY (i.indkey[0:i.indnkeyatts - 1]))
						FROM partshift.index_columns((plan->>'key_index')::oid) n))
	)
	SELECT f.*
	FROM obstacle o, partshift.refused('key', o.name, '0A000', o.message, o.detail, o.hint) f
	ORDER BY o.part, o.name
$$;

COMMENT ON FUNCTION partshift.check_filled_column(oid, jsonb) IS
'refuses what relies on the nulls of a column that are to be filled';

CREATE FUNCTION partshift.describe_computed(relid oid, plan jsonb)
RETURNS SETOF partshift.finding
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT f.*
	FROM jsonb_to_record(plan->'computed') AS k("column" text, derived boolean, definition text,
												 "constraint" text),
		 LATERAL (
			SELECT w.*
			FROM partshift.warned('key', k.column,
					format('applications must give column "%s" from the swap on', k.column),
					format('It must be %s, which constraint "%s" checks; without it an insertion fails.',
						   k.definition, k.constraint),
					'Partitioning by hash of the columns themselves needs no column and no change of an application.') w
			WHERE k.derived
			UNION ALL
			SELECT w.*
			FROM partshift.warned('key', k.column,
					format('column "%s" is NOT NULL from the swap on', k.column),
					format('Until then its nulls are %s in the new table.', k.definition)) w
			WHERE NOT k.derived
			UNION ALL
			SELECT i.*
			FROM partshift.count_nulls(relid, k.column) nulls,
				 partshift.informed('key', k.column, format('nulls to be filled: %s', nulls)) i
			WHERE NOT k.derived) f
$$;

COMMENT ON FUNCTION partshift.describe_computed(oid, jsonb) IS
'what the plan says about a computed key';

/* A publication with a list of columns must list those of the key. */
CREATE FUNCTION partshift.check_derived_column(relid oid, plan jsonb)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT f.*
	FROM pg_publication_rel r
		 JOIN pg_publication p ON p.oid = r.prpubid,
		 LATERAL (
			SELECT x.*
			FROM partshift.refused('publication', p.pubname, '0A000',
					format('publication "%s" does not list column "%s"', p.pubname,
						   plan #>> '{computed,column}'),
					'The column joins the key, by which updates and deletes are published.',
					'Publish all columns of the table, or partition by hash.') x
			WHERE r.prattrs IS NOT NULL
			UNION ALL
			SELECT w.*
			FROM partshift.warned('publication', p.pubname,
					format('subscribers of publication "%s" are sent column "%s" from the swap on',
						   p.pubname, plan #>> '{computed,column}'),
					NULL, 'Add it to their tables first.') w
			WHERE r.prattrs IS NULL) f
	WHERE r.prrelid = relid
$$;

COMMENT ON FUNCTION partshift.check_derived_column(oid, jsonb) IS
'findings about publications of a table that gets a derived column';

CREATE FUNCTION partshift.check_computed(relid oid, key_columns name[], plan jsonb)
RETURNS SETOF partshift.finding
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	computed jsonb := plan->'computed';
	counted record;
BEGIN
	IF computed IS NULL THEN
		RETURN;
	ELSIF (computed->>'derived')::boolean THEN
		RETURN QUERY SELECT * FROM partshift.check_derived_column(relid, plan);
	ELSE
		RETURN QUERY SELECT * FROM partshift.check_filled_column(relid, plan);
	END IF;
	SELECT * INTO counted FROM partshift.try_count_unplaced(relid, computed->>'value');
	IF counted.n IS NULL THEN
		RETURN NEXT counted.refusal;
	ELSIF counted.n > 0 THEN
		RETURN NEXT partshift.refused('key', key_columns[1], '23502',
			format('expression of option "%s" is null for some rows', computed->>'option'),
			format('Their number is %s.', counted.n),
			'Partition key columns are NOT NULL: change the expression, or the rows.');
	END IF;
	RETURN QUERY SELECT * FROM partshift.describe_computed(relid, plan);
END
$$;

COMMENT ON FUNCTION partshift.check_computed(oid, name[], jsonb) IS
'findings about a computed key';

CREATE FUNCTION partshift.derived_definition(computed jsonb)
RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT format('%I %s%s NOT NULL', k.column, format_type(k.type, k.modifier),
				  (SELECT format(' COLLATE %I.%I', n.nspname, c.collname)
				   FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace
				   WHERE c.oid = k.collation))
	FROM jsonb_to_record(computed) AS k("column" text, derived boolean, type oid, modifier integer,
										 "collation" oid)
	WHERE k.derived
$$;

COMMENT ON FUNCTION partshift.derived_definition(jsonb) IS
'a derived column as CREATE TABLE takes it';

/* A row whose expression is null has no right value, so no value is right. */
CREATE FUNCTION partshift.shadow_computed_commands(job partshift.job)
RETURNS TABLE (run_as oid, command text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT job.owner, format('ALTER TABLE %I.%I ADD CONSTRAINT %I CHECK (%I IS NOT DISTINCT FROM (%s))',
		job.schema_name, job.plan->>'shadow_name', k.constraint, k.column, k.definition)
	FROM jsonb_to_record(job.plan->'computed') AS k("column" text, derived boolean, definition text,
													 "constraint" text)
	WHERE k.derived
$$;

COMMENT ON FUNCTION partshift.shadow_computed_commands(partshift.job) IS
'the statement that adds the constraint of a derived column';

CREATE FUNCTION partshift.computed_reason(computed jsonb, class text, object text, before text,
										  after text)
RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE
		WHEN class = 'column' AND object = computed->>'column' AND before || ' not null' <> after
			 AND after = regexp_replace(before, '^(.*?)( default | identity | storage |$)', '\1 not null\2')
			THEN 'It is the partition key; its nulls were filled: null_key.'
		WHEN class = 'column' AND object = computed->>'column' AND before IS NULL
			THEN 'It is the partition key, which is computed: derive.'
		WHEN class = 'constraint' AND object = computed->>'constraint' AND before IS NULL
			THEN 'The derived column must have its value.'
		WHEN class = 'constraint' AND before IS NULL
			 AND after = format('NOT NULL %I', computed->>'column')
			THEN 'A partition key column is NOT NULL.' END
$$;

COMMENT ON FUNCTION partshift.computed_reason(jsonb, text, text, text, text) IS
'why an object is not what it was, if that is due to a computed key';

/*
 * A transaction whose note is deleted here has ended, so the query, whose
 * snapshot is later, sees what it wrote.
 */
CREATE FUNCTION partshift.settle_unplaced(job_id integer)
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	job partshift.job;
	n bigint;
BEGIN
	DELETE FROM partshift.unplaced u WHERE u.job_id = settle_unplaced.job_id;
	IF NOT FOUND THEN
		RETURN;
	END IF;
	SELECT j.* INTO STRICT job FROM partshift.job j WHERE j.job_id = settle_unplaced.job_id;
	n := partshift.count_unplaced(job.relid, job.plan #>> '{computed,value}');
	IF n > 0 THEN
		RAISE EXCEPTION USING
			ERRCODE = 'not_null_violation',
			MESSAGE = format('rows of table "%s" have no value for partition key column "%s"',
							 job.table_name, job.plan #>> '{computed,column}'),
			DETAIL = format('For %s of them %s is null.', n, job.plan #>> '{computed,definition}'),
			HINT = 'Change or delete them, and resume the conversion.';
	END IF;
END
$$;

COMMENT ON FUNCTION partshift.settle_unplaced(integer) IS
'deletes the notes of rows without a place in the new table; raises an error if there still are such rows';
