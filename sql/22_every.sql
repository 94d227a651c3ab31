/*
 * Ranges of equal size, from the first value in the data to the last and some
 * more: option "every".
 */

CREATE FUNCTION partshift.bound_rank(bound text, type oid)
RETURNS numeric
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE
			 WHEN bound = 'MINVALUE' THEN '-Infinity'
			 WHEN bound = 'MAXVALUE' THEN 'Infinity'
			 WHEN type IN ('date'::regtype, 'timestamp'::regtype) THEN
				extract(epoch FROM bound::timestamp)
			 WHEN type = 'timestamptz'::regtype THEN
				extract(epoch FROM bound::timestamptz)
			 WHEN type = 'uuid'::regtype THEN
				(SELECT sum(('x' || substr(replace(bound, '-', ''), 8 * n + 1, 8))::bit(32)::bigint
							* 4294967296::numeric ^ (3 - n))
				 FROM generate_series(0, 3) n)
			 ELSE bound::numeric
		   END
$$;

COMMENT ON FUNCTION partshift.bound_rank(text, oid) IS
'a number that orders the boundaries of one type';

CREATE FUNCTION partshift.is_number(type oid)
RETURNS boolean
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT type IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'numeric'::regtype)
$$;

COMMENT ON FUNCTION partshift.is_number(oid) IS
'whether a range key of this type is a number and not a time';

CREATE FUNCTION partshift.number_step(every text)
RETURNS numeric
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF every !~ '^\s*[-+]?[0-9]+\s*$' THEN
		RAISE EXCEPTION 'option "every" is not a whole number: "%"', every
			USING ERRCODE = 'invalid_parameter_value',
				  DETAIL = 'The partition key is a number.';
	ELSIF every::numeric <= 0 THEN
		RAISE EXCEPTION 'option "every" is not greater than zero: "%"', every
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	RETURN every::numeric;
END
$$;

COMMENT ON FUNCTION partshift.number_step(text) IS
'option "every" of a number key';

/* numeric(p,s) has p - s digits before the point; s may be negative. */
CREATE FUNCTION partshift.number_limit(type oid, modifier integer)
RETURNS numeric
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE
			 WHEN type = 'int2'::regtype THEN 2::numeric ^ 15
			 WHEN type = 'int4'::regtype THEN 2::numeric ^ 31
			 WHEN type = 'int8'::regtype THEN 2::numeric ^ 63
			 WHEN modifier < 0 THEN 'Infinity'
			 ELSE 10::numeric ^ ((((modifier - 4) >> 16) & 65535)
								 - ((((modifier - 4) & 2047) # 1024) - 1024))
		   END
$$;

COMMENT ON FUNCTION partshift.number_limit(oid, integer) IS
'the first whole number that is too large for a column';

CREATE FUNCTION partshift.number_label(value text)
RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT regexp_replace(value, '^-', 'm')
$$;

COMMENT ON FUNCTION partshift.number_label(text) IS
'a number as part of a name';

CREATE FUNCTION partshift.number_bound(key partshift.key, value numeric)
RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE
			 WHEN value >= most THEN 'MAXVALUE'
			 WHEN value < -most OR value = -most AND key.type = 'numeric'::regtype THEN 'MINVALUE'
			 ELSE partshift.key_value(key, trim_scale(value)::text, 'option "every"')
		   END
	FROM partshift.number_limit(key.type, key.modifier) most
$$;

COMMENT ON FUNCTION partshift.number_bound(partshift.key, numeric) IS
'a number as a boundary; one that the column cannot hold is no boundary';

CREATE FUNCTION partshift.number_leaves(key partshift.key, every numeric, data_range text[],
										premake integer)
RETURNS SETOF partshift.leaf
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	first_step numeric := floor(coalesce(data_range[1], '0')::numeric / every);
	last_step numeric := floor(coalesce(data_range[2], '0')::numeric / every) + premake;
BEGIN
	PERFORM partshift.check_leaf_count(last_step - first_step + 1);

	RETURN QUERY
	SELECT partshift.number_label(trim_scale(number * every)::text),
		   lower, partshift.number_bound(key, (number + 1) * every), NULL::text[]
	FROM generate_series(first_step, last_step) number,
		 partshift.number_bound(key, number * every) lower
	WHERE lower <> 'MAXVALUE'
	ORDER BY number;
END
$$;

COMMENT ON FUNCTION partshift.number_leaves(partshift.key, numeric, text[], integer) IS
'ranges of a number key from the data''s first to its last, and some more';

/*
 * Without an index on the column this reads the table, so both are asked for
 * at once.  Only min() and max() are not defined for uuid before PostgreSQL
 * 18, of which the first and the last are read in order; an index serves that
 * as well.
 */
CREATE FUNCTION partshift.data_range(relid oid, key partshift.key)
RETURNS text[]
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	target record;
	finite text := '';
	extremes text[] := '{}';
	direction text;
BEGIN
	SELECT c.relowner, partshift.scan_name(c.oid) AS name INTO target
	FROM pg_class c WHERE c.oid = relid;
	IF key.type IN ('date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype,
				'numeric'::regtype) THEN
		finite := format(' WHERE %1$s > ''-infinity'' AND %1$s < ''infinity''', key.expression);
	END IF;

	IF key.type = 'uuid'::regtype THEN
		FOREACH direction IN ARRAY ARRAY['ASC', 'DESC'] LOOP
			extremes := array_append(extremes, partshift.query_as(target.relowner,
				format('SELECT (%1$s)::text FROM %2$s t ORDER BY %1$s %3$s LIMIT 1',
					   key.expression, target.name, direction)));
		END LOOP;
	ELSE
		extremes := partshift.query_as(target.relowner,
			format('SELECT ARRAY[min(%1$s)::text, max(%1$s)::text]::text FROM %2$s t%3$s',
				   key.expression, target.name, finite))::text[];
	END IF;
	RETURN extremes;
END
$$;

COMMENT ON FUNCTION partshift.data_range(oid, partshift.key) IS
'the first and last finite values of a column, as text; NULLs if there are none';

CREATE FUNCTION partshift.check_uuids(relid oid, column_name name, key partshift.key)
RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	stranger text;
BEGIN
	SELECT partshift.query_as(c.relowner,
		format('SELECT (%1$s)::text FROM %2$s t WHERE substr((%1$s)::text, 15, 1) <> ''7'' LIMIT 1',
			   key.expression, partshift.scan_name(c.oid))) INTO stranger
	FROM pg_class c WHERE c.oid = relid;
	IF stranger IS NOT NULL THEN
		RAISE EXCEPTION 'column "%" holds a uuid that is not of version 7', column_name
			USING ERRCODE = 'object_not_in_prerequisite_state',
				  DETAIL = format('Only version 7 begins with a time.  One that does not is %s.', stranger),
				  HINT = 'Partition by hash, or give option "bounds".';
	END IF;
END
$$;

COMMENT ON FUNCTION partshift.check_uuids(oid, name, partshift.key) IS
'raises an error if a column holds uuids that are not ordered by time';

CREATE FUNCTION partshift.every_leaves(relid oid, column_name name, options jsonb)
RETURNS SETOF partshift.leaf
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	key partshift.key := partshift.key_of(relid, column_name, options);
	every text := options->>'every';
	premake integer := coalesce((options->>'premake')::integer, 3);
	step interval;
	number numeric;
BEGIN
	IF partshift.is_number(key.type) THEN
		number := partshift.number_step(every);
		RETURN QUERY SELECT *
					 FROM partshift.number_leaves(key, number,
							partshift.data_range(relid, key), premake);
		RETURN;
	END IF;

	step := partshift.time_step(every);
	IF key.type = 'date'::regtype AND extract(epoch FROM step)::bigint % 86400 <> 0
	   AND partshift.step_months(step) = 0 THEN
		RAISE EXCEPTION 'interval "%" is not a whole number of days', every
			USING ERRCODE = 'invalid_parameter_value',
				  DETAIL = format('Column "%s" is a date.', column_name);
	ELSIF key.type = 'uuid'::regtype THEN
		PERFORM partshift.check_uuids(relid, column_name, key);
	END IF;
	RETURN QUERY SELECT *
				 FROM partshift.time_leaves(key.type, step,
						partshift.data_range(relid, key), premake);
END
$$;

COMMENT ON FUNCTION partshift.every_leaves(oid, name, jsonb) IS
'the ranges that option "every" asks for';
