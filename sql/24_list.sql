/*
 * Partitions by list: lists given by name, the numbers below N, or one
 * partition for each value in the data.
 */

CREATE FUNCTION partshift.listed_values(lists jsonb)
RETURNS TABLE(name text, value text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	list record;
	item jsonb;
BEGIN
	FOR list IN SELECT * FROM jsonb_each(lists) LOOP
		IF jsonb_typeof(list.value) <> 'array' OR list.value = '[]' THEN
			RAISE EXCEPTION 'list of partition "%" is not an array of values', list.key
				USING ERRCODE = 'invalid_parameter_value',
					  HINT = 'Write it like {"name": ["value", "value"]}.';
		END IF;
		FOR item IN SELECT * FROM jsonb_array_elements(list.value) LOOP
			IF item = 'null' THEN
				RAISE EXCEPTION 'list of partition "%" holds a null', list.key
					USING ERRCODE = 'null_value_not_allowed',
						  DETAIL = 'A partition key column is NOT NULL.';
			ELSIF jsonb_typeof(item) IN ('array', 'object') THEN
				RAISE EXCEPTION 'list of partition "%" holds % where a value is expected', list.key, item
					USING ERRCODE = 'invalid_parameter_value';
			END IF;
			name := list.key;
			value := item #>> '{}';
			RETURN NEXT;
		END LOOP;
	END LOOP;
END
$$;

COMMENT ON FUNCTION partshift.listed_values(jsonb) IS
'option "lists" row by row';

/*
 * Two spellings of one value are equal only to the type and to the collation
 * of the column, so the query is made for them.
 */
CREATE FUNCTION partshift.check_listed_twice(key partshift.key, names text[], listed text[])
RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	twice jsonb := partshift.query_as(key.owner, format(
		'SELECT jsonb_build_array(min(value), min(name), max(name))::text
		 FROM unnest(%L::text[], %L::text[]) AS u(name, value)
		 GROUP BY (value::%s)%s HAVING count(*) > 1 ORDER BY min(value) LIMIT 1',
		names, listed, key.exact, key.collate_clause));
BEGIN
	IF twice IS NULL THEN
		RETURN;
	ELSIF twice->1 = twice->2 THEN
		RAISE EXCEPTION 'value "%" is listed twice for partition "%"', twice->>0, twice->>1
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	RAISE EXCEPTION 'value "%" is listed for partitions "%" and "%"',
		twice->>0, twice->>1, twice->>2
		USING ERRCODE = 'invalid_parameter_value';
END
$$;

COMMENT ON FUNCTION partshift.check_listed_twice(partshift.key, text[], text[]) IS
'raises an error for a value that is in two lists, or twice in one';

CREATE FUNCTION partshift.named_lists(key partshift.key, lists jsonb)
RETURNS SETOF partshift.leaf
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	names text[];
	listed text[];
BEGIN
	IF jsonb_typeof(lists) <> 'object' OR lists = '{}' THEN
		RAISE EXCEPTION 'option "lists" is not an object of names and values'
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'Write it like {"name": ["value", "value"]}.';
	END IF;
	SELECT array_agg(l.name),
		   array_agg(partshift.key_value(key, l.value, format('partition "%s"', l.name)))
		INTO names, listed
	FROM partshift.listed_values(lists) l;
	PERFORM partshift.check_listed_twice(key, names, listed);

	RETURN QUERY
	SELECT u.name, NULL, NULL, array_agg(u.value ORDER BY u.position)
	FROM unnest(names, listed) WITH ORDINALITY AS u(name, value, position)
	GROUP BY u.name
	ORDER BY min(u.position);
END
$$;

COMMENT ON FUNCTION partshift.named_lists(partshift.key, jsonb) IS
'the leaves of lists given by name';

CREATE FUNCTION partshift.counted_lists(key partshift.key, column_name name, partitions integer)
RETURNS SETOF partshift.leaf
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF key.type NOT IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) THEN
		RAISE EXCEPTION 'option "partitions" needs an integer key for strategy "list"'
			USING ERRCODE = 'invalid_parameter_value',
				  DETAIL = format('Column "%s" is of type %s.', column_name, key.exact),
				  HINT = 'Give option "lists", or neither for one partition for each value.';
	ELSIF partitions < 1 THEN
		RAISE EXCEPTION 'option "partitions" is not greater than zero: %', partitions
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	PERFORM partshift.check_leaf_count(partitions);
	RETURN QUERY SELECT n::text, NULL, NULL, ARRAY[n::text]
				 FROM generate_series(0, partitions - 1) n;
END
$$;

COMMENT ON FUNCTION partshift.counted_lists(partshift.key, name, integer) IS
'a leaf for each number below the given one';

CREATE FUNCTION partshift.distinct_lists(relid oid, column_name name, key partshift.key)
RETURNS SETOF partshift.leaf
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	found_values jsonb;
BEGIN
	SELECT partshift.query_as(c.relowner,
		format('SELECT jsonb_agg(v::text ORDER BY v)::text
				FROM (SELECT DISTINCT %s FROM %s t LIMIT 501) AS s(v)',
			   key.expression, partshift.scan_name(c.oid)))::jsonb INTO found_values
	FROM pg_class c WHERE c.oid = relid;

	IF found_values IS NULL THEN
		RAISE EXCEPTION 'the table holds no value to make a partition for'
			USING ERRCODE = 'object_not_in_prerequisite_state',
				  HINT = 'Give option "lists".';
	ELSIF jsonb_array_length(found_values) > 500 THEN
		RAISE EXCEPTION 'column "%" holds more than 500 different values', column_name
			USING ERRCODE = 'configuration_limit_exceeded',
				  HINT = 'Give option "lists", or partition by hash.';
	END IF;
	RETURN QUERY SELECT v.value, NULL, NULL, ARRAY[v.value]
				 FROM jsonb_array_elements_text(found_values)
					  WITH ORDINALITY AS v(value, position)
				 ORDER BY v.position;
END
$$;

COMMENT ON FUNCTION partshift.distinct_lists(oid, name, partshift.key) IS
'a leaf for each value that the table holds';

CREATE FUNCTION partshift.list_leaves(relid oid, column_name name, options jsonb)
RETURNS SETOF partshift.leaf
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	key partshift.key := partshift.key_of(relid, column_name, options);
BEGIN
	IF options ? 'lists' THEN
		RETURN QUERY SELECT * FROM partshift.named_lists(key, options->'lists');
	ELSIF options ? 'partitions' THEN
		RETURN QUERY SELECT * FROM partshift.counted_lists(key, column_name,
									(options->>'partitions')::integer);
	ELSE
		RETURN QUERY SELECT * FROM partshift.distinct_lists(relid, column_name, key);
	END IF;
END
$$;

COMMENT ON FUNCTION partshift.list_leaves(oid, name, jsonb) IS
'the leaves of a table partitioned by list';
