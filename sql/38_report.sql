/*
 * Checks of what is to be built, and what the plan says about it.
 */

CREATE FUNCTION partshift.planned_names(plan jsonb)
RETURNS TABLE(kind text, name text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT 'partition', leaf->>'name' FROM jsonb_array_elements(plan->'leaves') leaf
	UNION ALL
	SELECT 'legacy partition', leaf->>'old_name' FROM jsonb_array_elements(plan->'leaves') leaf
	WHERE leaf ? 'old_name'
	UNION ALL
	SELECT 'shadow table', plan->>'shadow_name'
	UNION ALL
	SELECT 'shadow index', entry->>'shadow_name'
	FROM jsonb_array_elements(plan->'indexes') entry
	WHERE NOT (entry->>'per_partition')::boolean
	UNION ALL
	SELECT 'legacy table', plan->>'legacy_name'
$$;

COMMENT ON FUNCTION partshift.planned_names(jsonb) IS
'the names of relations that the conversion makes in the table''s schema';

/* The name of an array type makes way for a table's row type. */
CREATE FUNCTION partshift.name_is_taken(name text, schema_name text)
RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
				   WHERE n.nspname = schema_name AND c.relname::text = name)
		   OR EXISTS (SELECT FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
					  WHERE n.nspname = schema_name AND t.typname::text = name
						AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid))
$$;

COMMENT ON FUNCTION partshift.name_is_taken(text, text) IS
'whether a new table could not have a name';

/* Of thousands of names that are too long, three tell as much. */
CREATE FUNCTION partshift.check_names(relid oid, plan jsonb)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH planned AS (
		SELECT min(kind) AS kind, name, count(*) AS uses
		FROM partshift.planned_names(plan) GROUP BY name
	), problems AS (
		SELECT kind, name,
			   CASE WHEN octet_length(name) > 63 THEN 'long'
					WHEN uses > 1 THEN 'twice'
					WHEN partshift.name_is_taken(name, plan->>'schema') THEN 'taken'
			   END AS problem
		FROM planned
	), numbered AS (
		SELECT *, row_number() OVER (PARTITION BY kind, problem ORDER BY name) AS number
		FROM problems WHERE problem IS NOT NULL
	)
	SELECT f.*
	FROM numbered,
		 partshift.refused('name', name,
			CASE problem WHEN 'long' THEN '42622' ELSE '42P07' END,
			CASE problem
			  WHEN 'long' THEN format('name "%s" of the %s is too long', name, kind)
			  WHEN 'twice' THEN format('two of the new relations would be named "%s"', name)
			  ELSE format('name "%s" of the %s is in use', name, kind)
			END,
			CASE problem
			  WHEN 'long' THEN format('It has %s bytes, and a name has at most 63.', octet_length(name))
			  WHEN 'taken' THEN format('Schema %I has a relation or a type of this name.', plan->>'schema')
			END,
			CASE kind
			  WHEN 'partition' THEN 'Choose another with option "name_format".'
			  WHEN 'legacy partition' THEN 'Choose another for the new partition with option "name_format".'
			  WHEN 'legacy table' THEN 'Choose another with option "legacy_name".'
			END) f
	WHERE number <= 3
	ORDER BY kind, problem, name
$$;

COMMENT ON FUNCTION partshift.check_names(oid, jsonb) IS
'refuses names that are too long or in use';

CREATE FUNCTION partshift.lock_table_size()
RETURNS bigint
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT current_setting('max_locks_per_transaction')::bigint
		   * (current_setting('max_connections')::bigint
			  + current_setting('max_prepared_transactions')::bigint
			  + current_setting('max_worker_processes')::bigint
			  + current_setting('max_wal_senders')::bigint
			  + coalesce(current_setting('autovacuum_worker_slots', true),
						 current_setting('autovacuum_max_workers'))::bigint + 1)
$$;

COMMENT ON FUNCTION partshift.lock_table_size() IS
'how many locks the server has room for';

CREATE FUNCTION partshift.check_locks(plan jsonb)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT f.*
	FROM (SELECT jsonb_array_length(plan->'leaves') AS leaves,
				 jsonb_array_length(plan->'source_leaves') AS old_leaves,
				 jsonb_array_length(plan->'indexes') AS indexes,
				 partshift.lock_table_size() AS capacity) n,
		 LATERAL (SELECT (leaves + old_leaves) * (1 + indexes) * 2) AS l(locks),
		 LATERAL (SELECT format('%s partitions with %s indexes each take about %s locks; the server has room for %s.',
								leaves + old_leaves, indexes, locks, capacity)) AS d(detail),
		 LATERAL (
			SELECT r.*
			FROM partshift.refused('locks', NULL, '53400',
					'too many partitions for the server''s lock table', detail,
					'Raise max_locks_per_transaction, or make fewer partitions.') r
			WHERE locks > capacity
			UNION ALL
			SELECT w.*
			FROM partshift.warned('locks', NULL,
					'the partitions take a large share of the server''s lock table', detail,
					'Raise max_locks_per_transaction, or make fewer partitions.') w
			WHERE locks > capacity * 0.25 AND locks <= capacity
			UNION ALL
			SELECT w.*
			FROM partshift.warned('locks', NULL,
					format('%s partitions slow down the planning of queries that do not name the partition key', leaves)) w
			WHERE leaves > 1000
			UNION ALL
			SELECT i.*
			FROM partshift.informed('locks', NULL,
					format('a query that does not name the partition key locks up to %s relations',
						   1 + indexes + leaves * (1 + indexes))) i) f
$$;

COMMENT ON FUNCTION partshift.check_locks(jsonb) IS
'findings about the locks that the partitions need';

/* Neighbouring ranges are joined, so that each row meets few conditions. */
CREATE FUNCTION partshift.covered_condition(relid oid, strategy text, column_name name,
											options jsonb, leaves partshift.leaf[])
RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH ranges AS (
		SELECT lower, upper, position,
			   lower IS DISTINCT FROM lag(upper) OVER (ORDER BY position) AS starts
		FROM unnest(leaves) WITH ORDINALITY AS l(label, lower, upper, vals, position)
	), islands AS (
		SELECT lower, upper, position, count(*) FILTER (WHERE starts) OVER (ORDER BY position) AS island
		FROM ranges
	), joined AS (
		SELECT (array_agg(lower ORDER BY position))[1] AS lower,
			   (array_agg(upper ORDER BY position DESC))[1] AS upper
		FROM islands GROUP BY island
	), key AS (
		SELECT * FROM partshift.key_of(relid, column_name, options)
	)
	SELECT CASE strategy
			 WHEN 'range' THEN
				(SELECT string_agg(concat_ws(' AND ', 'true',
							CASE WHEN lower <> 'MINVALUE'
								 THEN format('%s >= %L::%s', key.expression, lower, key.loose) END,
							CASE WHEN upper <> 'MAXVALUE'
								 THEN format('%s < %L::%s', key.expression, upper, key.loose) END),
						' OR ') FROM joined)
			 ELSE
				(SELECT format('%s IN (%s)', key.expression,
							   string_agg(format('%L::%s', value, key.exact), ', '))
				 FROM unnest(leaves) l(label, lower, upper, vals), unnest(l.vals) value)
		   END
	FROM key
$$;

COMMENT ON FUNCTION partshift.covered_condition(oid, text, name, jsonb, partshift.leaf[]) IS
'the condition that a row belongs to a leaf other than the default one';

CREATE FUNCTION partshift.check_outside(relid oid, strategy text, column_name name, options jsonb,
										leaves partshift.leaf[])
RETURNS SETOF partshift.finding
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	drops boolean := coalesce(options->>'default_partition', 'keep') = 'drop';
	outside bigint;
BEGIN
	IF strategy = 'hash' OR NOT (drops OR options ?| ARRAY['bounds', 'lists', 'partitions']) THEN
		RETURN;
	END IF;
	SELECT partshift.query_as(c.relowner,
			format('SELECT count(*) FROM %s t WHERE NOT (%s)', partshift.scan_name(c.oid),
				   partshift.covered_condition(relid, strategy, column_name, options, leaves)))
		INTO outside
	FROM pg_class c WHERE c.oid = relid;

	IF outside > 0 AND drops THEN
		RETURN NEXT partshift.refused('bounds', column_name, '22023',
			'some rows of the table belong to no partition',
			format('Their number is %s.  They would be in the default partition, which is to be dropped.', outside),
			'Add partitions for them, or keep the default partition.');
	ELSIF outside > 0 THEN
		RETURN NEXT partshift.warned('bounds', column_name,
			'some rows of the table belong to the default partition',
			format('Their number is %s.', outside));
	END IF;
END
$$;

COMMENT ON FUNCTION partshift.check_outside(oid, text, name, jsonb, partshift.leaf[]) IS
'findings about rows that only the default partition takes';

CREATE FUNCTION partshift.describe_leaves(strategy text, leaves partshift.leaf[], plan jsonb)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT f.*
	FROM CAST(cardinality(leaves) AS integer) n,
		 CAST(partshift.leaf_final_name(plan->'leaves'->-1) AS text) last_leaf,
		 LATERAL (
			SELECT i.*
			FROM partshift.informed('partitions', NULL,
					format('%s partitions by %s of (%s)', n, strategy,
						   (SELECT string_agg(quote_ident(k), ', ')
							FROM jsonb_array_elements_text(plan->'key_columns') k)),
					format('The first is %I %s, the last is %I %s.',
						   partshift.leaf_final_name(plan->'leaves'->0), plan->'leaves'->0->>'bound',
						   partshift.leaf_final_name(plan->'leaves'->(n - 1)), plan->'leaves'->(n - 1)->>'bound')) i
			WHERE n > 0
			UNION ALL
			SELECT i.*
			FROM CAST((SELECT count(*) FROM jsonb_array_elements(plan->'leaves') l (entry)
					   WHERE entry ? 'old_name') AS bigint) same,
				 partshift.informed('partitions', NULL,
					format('%s of the new partitions get names that old ones have', same),
					'The old ones are renamed at the swap, as the table is; a rollback gives the names back.') i
			WHERE same > 0
			UNION ALL
			SELECT w.*
			FROM partshift.warned('partitions', last_leaf,
					format('default partition "%s" is kept', last_leaf),
					'While it is there, each new partition that is added must be checked against its rows.') w
			WHERE strategy <> 'hash' AND plan->>'default_partition' = 'keep'
			UNION ALL
			SELECT i.*
			FROM partshift.informed('partitions', last_leaf,
					format('default partition "%s" is dropped at the swap if it is empty', last_leaf)) i
			WHERE strategy <> 'hash' AND plan->>'default_partition' = 'drop') f
$$;

COMMENT ON FUNCTION partshift.describe_leaves(text, partshift.leaf[], jsonb) IS
'what the plan says about the partitions';

CREATE FUNCTION partshift.carried_counts(relid oid, plan jsonb)
RETURNS TABLE(topic text, count bigint)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT 'columns', count(*) FROM pg_attribute
	WHERE attrelid = relid AND attnum > 0 AND NOT attisdropped
	UNION ALL
	SELECT 'defaults', count(*) FROM pg_attrdef WHERE adrelid = relid
	UNION ALL
	SELECT 'identity columns', count(*) FROM pg_attribute
	WHERE attrelid = relid AND attnum > 0 AND attidentity <> ''
	UNION ALL
	SELECT 'check constraints', count(*) FROM pg_constraint WHERE conrelid = relid AND contype = 'c'
	UNION ALL
	SELECT 'indexes', jsonb_array_length(plan->'indexes')
	UNION ALL
	SELECT 'outgoing foreign keys', count(*) FROM pg_constraint
	WHERE conrelid = relid AND contype = 'f' AND conparentid = 0
	UNION ALL
	SELECT 'incoming foreign keys', count(*) FROM partshift.incoming_keys(relid, plan) k WHERE k.carried
	UNION ALL
	SELECT 'triggers', count(*) FROM pg_trigger WHERE tgrelid = relid AND NOT tgisinternal
	UNION ALL
	SELECT 'policies', count(*) FROM pg_policy WHERE polrelid = relid
	UNION ALL
	SELECT 'privileges', count(*) FROM pg_class c, aclexplode(c.relacl) WHERE c.oid = relid
	UNION ALL
	SELECT 'column privileges', count(*) FROM pg_attribute a, aclexplode(a.attacl) WHERE a.attrelid = relid
	UNION ALL
	SELECT 'security labels', count(*) FROM partshift.labels_of(relid)
	UNION ALL
	SELECT 'comments', count(*) FROM pg_description
	WHERE (classoid, objoid) IN (SELECT * FROM partshift.referenced_objects(relid))
$$;

COMMENT ON FUNCTION partshift.carried_counts(oid, jsonb) IS
'how many objects of each kind are carried';

CREATE FUNCTION partshift.describe_carried(relid oid, plan jsonb)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT f.*
	FROM pg_index i
		 JOIN pg_class c ON c.oid = i.indexrelid,
		 partshift.informed('key', c.relname, format('rows are found by index "%s"', c.relname)) f
	WHERE i.indexrelid = (plan->>'key_index')::oid
	UNION ALL
	SELECT f.*
	FROM partshift.carried_counts(relid, plan) n,
		 partshift.informed('carried', n.topic, format('%s: %s', n.topic, n.count)) f
	WHERE n.count > 0
	UNION ALL
	SELECT f.*
	FROM partshift.informed('size', plan->>'table',
			format('about %s rows, %s with indexes', plan->>'rows_estimate',
				   pg_size_pretty(partshift.total_size(relid))),
			'The copy needs as much disk again until the legacy table is dropped, and writes about as much WAL if the table is logged.') f
$$;

COMMENT ON FUNCTION partshift.describe_carried(oid, jsonb) IS
'what the plan says about the key, the objects that are carried, and the size';
