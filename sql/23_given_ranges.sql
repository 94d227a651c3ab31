/*
 * Ranges that the user lays himself: option "bounds" is an array of ascending
 * boundaries, or an object of names and pairs.
 */

CREATE FUNCTION partshift.given_bound(key partshift.key, value jsonb)
RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	bound text := value #>> '{}';
BEGIN
	IF jsonb_typeof(value) NOT IN ('string', 'number') THEN
		RAISE EXCEPTION 'boundary % of option "bounds" is neither a string nor a number', value
			USING ERRCODE = 'invalid_parameter_value';
	ELSIF upper(bound) IN ('MINVALUE', 'MAXVALUE') THEN
		RETURN upper(bound);
	END IF;

	IF key.type = 'uuid'::regtype AND bound !~ '^[{[:xdigit:]][-}[:xdigit:]]{31,}$' THEN
		key.exact := 'timestamptz';
		key.loose := 'timestamptz';
		RETURN partshift.uuid_floor(
			partshift.key_value(key, bound, 'option "bounds"')::timestamptz);
	END IF;
	bound := partshift.key_value(key, bound, 'option "bounds"');
	IF lower(bound) IN ('infinity', '-infinity', 'nan') THEN
		RAISE EXCEPTION 'boundary "%" of option "bounds" is not finite', bound
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'Write MINVALUE or MAXVALUE for a range without an end.';
	END IF;
	RETURN bound;
END
$$;

COMMENT ON FUNCTION partshift.given_bound(partshift.key, jsonb) IS
'one boundary of option "bounds" in the canonical spelling of the key''s type';

CREATE FUNCTION partshift.bound_labels(key partshift.key, bounds text[])
RETURNS text[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH given AS (
		SELECT bound, position,
			   CASE WHEN bound NOT IN ('MINVALUE', 'MAXVALUE')
						 AND NOT partshift.is_number(key.type)
					THEN partshift.to_local(bound, key.type)
			   END AS moment
		FROM unnest(bounds) WITH ORDINALITY AS b(bound, position)
	), pattern AS (
		SELECT partshift.common_pattern(array_agg(moment)
					FILTER (WHERE moment IS NOT NULL)) AS text
		FROM given
	)
	SELECT array_agg(CASE
						WHEN bound = 'MINVALUE' THEN 'min'
						WHEN moment IS NULL THEN partshift.number_label(bound)
						ELSE partshift.time_label(moment, pattern.text)
					 END ORDER BY position)
	FROM given, pattern
$$;

COMMENT ON FUNCTION partshift.bound_labels(partshift.key, text[]) IS
'what distinguishes the names of ranges that begin with these boundaries';

CREATE FUNCTION partshift.array_leaves(key partshift.key, bounds jsonb)
RETURNS SETOF partshift.leaf
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	given text[];
	labels text[];
	n integer;
BEGIN
	SELECT array_agg(partshift.given_bound(key, value) ORDER BY position) INTO given
	FROM jsonb_array_elements(bounds) WITH ORDINALITY AS b(value, position);
	IF cardinality(given) < 2 IS NOT FALSE THEN
		RAISE EXCEPTION 'option "bounds" has fewer than two boundaries'
			USING ERRCODE = 'invalid_parameter_value';
	END IF;

	labels := partshift.bound_labels(key, given);
	FOR n IN 2 .. cardinality(given) LOOP
		IF partshift.bound_rank(given[n - 1], key.type)
		   >= partshift.bound_rank(given[n], key.type) THEN
			RAISE EXCEPTION 'boundaries of option "bounds" do not ascend'
				USING ERRCODE = 'invalid_parameter_value',
					  DETAIL = format('Boundary "%s" is followed by "%s".', given[n - 1], given[n]);
		END IF;
		RETURN NEXT (labels[n - 1], given[n - 1], given[n], NULL)::partshift.leaf;
	END LOOP;
END
$$;

COMMENT ON FUNCTION partshift.array_leaves(partshift.key, jsonb) IS
'the ranges between boundaries given in a row';

CREATE FUNCTION partshift.named_ranges(key partshift.key, bounds jsonb)
RETURNS SETOF partshift.leaf
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	name text;
	pair jsonb;
BEGIN
	FOR name, pair IN SELECT * FROM jsonb_each(bounds) LOOP
		IF jsonb_typeof(pair) <> 'array' OR jsonb_path_query_first(pair, '$.size()') <> '2' THEN
			RAISE EXCEPTION 'bounds of partition "%" are not an array of two', name
				USING ERRCODE = 'invalid_parameter_value',
					  HINT = 'Write them like {"name": ["from", "to"]}.';
		END IF;
		RETURN NEXT (name, partshift.given_bound(key, pair->0),
					 partshift.given_bound(key, pair->1), NULL)::partshift.leaf;
	END LOOP;
END
$$;

COMMENT ON FUNCTION partshift.named_ranges(partshift.key, jsonb) IS
'the ranges given by name, not yet compared with each other';

CREATE FUNCTION partshift.object_leaves(key partshift.key, bounds jsonb)
RETURNS SETOF partshift.leaf
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	leaf partshift.leaf;
	previous partshift.leaf;
BEGIN
	FOR leaf IN
		SELECT r.* FROM partshift.named_ranges(key, bounds) r
		ORDER BY partshift.bound_rank(r.lower, key.type),
				 partshift.bound_rank(r.upper, key.type), r.label
	LOOP
		IF partshift.bound_rank(leaf.lower, key.type)
		   >= partshift.bound_rank(leaf.upper, key.type) THEN
			RAISE EXCEPTION 'range of partition "%" is empty', leaf.label
				USING ERRCODE = 'invalid_parameter_value',
					  DETAIL = format('It begins with %s and ends before %s.', leaf.lower, leaf.upper);
		ELSIF partshift.bound_rank(previous.upper, key.type)
			  > partshift.bound_rank(leaf.lower, key.type) THEN
			RAISE EXCEPTION 'ranges of partitions "%" and "%" overlap', previous.label, leaf.label
				USING ERRCODE = 'invalid_parameter_value',
					  DETAIL = format('The former ends before %s and the latter begins with %s.',
									  previous.upper, leaf.lower);
		END IF;
		RETURN NEXT leaf;
		previous := leaf;
	END LOOP;
	IF previous IS NULL THEN
		RAISE EXCEPTION 'option "bounds" names no partition'
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
END
$$;

COMMENT ON FUNCTION partshift.object_leaves(partshift.key, jsonb) IS
'the ranges given by name, in order';

CREATE FUNCTION partshift.range_leaves(relid oid, column_name name, options jsonb)
RETURNS SETOF partshift.leaf
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	bounds jsonb := options->'bounds';
	key partshift.key := partshift.key_of(relid, column_name, options);
BEGIN
	IF bounds IS NULL AND NOT options ? 'every' THEN
		RAISE EXCEPTION 'the bounds of the ranges are missing'
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'Give option "every", for example every => ''1 month'', or option "bounds".';
	ELSIF bounds IS NULL THEN
		RETURN QUERY SELECT * FROM partshift.every_leaves(relid, column_name, options);
	ELSIF jsonb_typeof(bounds) = 'array' THEN
		PERFORM partshift.check_leaf_count(jsonb_array_length(bounds));
		RETURN QUERY SELECT * FROM partshift.array_leaves(key, bounds);
	ELSIF jsonb_typeof(bounds) = 'object' THEN
		PERFORM partshift.check_leaf_count(count(*)) FROM jsonb_object_keys(bounds);
		RETURN QUERY SELECT * FROM partshift.object_leaves(key, bounds);
	ELSE
		RAISE EXCEPTION 'option "bounds" is neither an array nor an object'
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
END
$$;

COMMENT ON FUNCTION partshift.range_leaves(oid, name, jsonb) IS
'the leaves of a table partitioned by range';
