/*
 * Time as a partition key: grids of boundaries, and names.
 *
 * A grid over time is laid in local time, without a zone: it begins with year
 * 1 for months, with the Monday of 5 January 1970 for weeks, and with midnight
 * of 1 January 1970 for everything else, so that two tables partitioned by the
 * same interval have the same boundaries.  Only then are the boundaries
 * given the offset of the zone.  Where clocks are put forward two of them may
 * be the same instant, and one is left out; where they are put back a
 * partition is longer.
 */

CREATE FUNCTION partshift.time_step(every text)
RETURNS interval
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	step interval;
	months integer;
	days integer;
	seconds numeric;
BEGIN
	BEGIN
		step := every;
	EXCEPTION WHEN data_exception THEN
		step := NULL;
	END;
	IF step IS NULL OR every ~ '^\s*[-+]?[0-9.]+\s*$' THEN
		RAISE EXCEPTION 'option "every" is not an interval with a unit: "%"', every
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'Write it like ''1 month'', ''1 day'' or ''6 hours''.';
	ELSIF NOT isfinite(step) THEN
		RAISE EXCEPTION 'interval "%" is not finite', every
			USING ERRCODE = 'invalid_parameter_value';
	END IF;

	months := extract(year FROM step) * 12 + extract(month FROM step);
	days := extract(day FROM step);
	seconds := extract(epoch FROM step - make_interval(months => months, days => days));

	IF (months <> 0)::integer + (days <> 0)::integer + (seconds <> 0)::integer > 1 THEN
		RAISE EXCEPTION 'interval "%" mixes units', every
			USING ERRCODE = 'invalid_parameter_value',
				  DETAIL = 'Months and days have no fixed length.',
				  HINT = 'Use years and months, or weeks and days, or hours, minutes and seconds.';
	ELSIF months = 0 AND days = 0 AND seconds = 0 THEN
		RAISE EXCEPTION 'interval "%" is zero', every
			USING ERRCODE = 'invalid_parameter_value';
	ELSIF months < 0 OR days < 0 OR seconds < 0 THEN
		RAISE EXCEPTION 'interval "%" is negative', every
			USING ERRCODE = 'invalid_parameter_value';
	ELSIF seconds <> floor(seconds) THEN
		RAISE EXCEPTION 'interval "%" has a fraction of a second', every
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	RETURN step;
END
$$;

COMMENT ON FUNCTION partshift.time_step(text) IS
'option "every" as an interval of one unit: months, days or seconds';

CREATE FUNCTION partshift.step_months(step interval)
RETURNS integer
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT (extract(year FROM step) * 12 + extract(month FROM step))::integer
$$;

COMMENT ON FUNCTION partshift.step_months(interval) IS
'the months of an interval';

CREATE FUNCTION partshift.grid_origin(step interval)
RETURNS timestamp
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE
			 WHEN partshift.step_months(step) > 0 THEN timestamp '0001-01-01'
			 WHEN extract(day FROM step)::integer % 7 = 0
				  AND extract(day FROM step) > 0 THEN timestamp '1970-01-05'
			 ELSE timestamp '1970-01-01'
		   END
$$;

COMMENT ON FUNCTION partshift.grid_origin(interval) IS
'where the grid of an interval begins';

CREATE FUNCTION partshift.step_number(moment timestamp, step interval)
RETURNS numeric
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE
			 WHEN partshift.step_months(step) > 0 THEN
				floor(((extract(year FROM moment)
						- CASE WHEN extract(year FROM moment) > 0 THEN 1 ELSE 0 END) * 12
					   + extract(month FROM moment) - 1) / partshift.step_months(step))
			 ELSE
				floor((extract(epoch FROM moment)
					   - extract(epoch FROM partshift.grid_origin(step)))
					  / extract(epoch FROM step))
		   END
$$;

COMMENT ON FUNCTION partshift.step_number(timestamp, interval) IS
'which step of the grid a moment falls into';

/* The seconds of a step are added as such: an interval cannot hold all of them. */
CREATE FUNCTION partshift.grid_moment(number numeric, step interval)
RETURNS timestamp
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE
			 WHEN partshift.step_months(step) > 0 THEN
				partshift.grid_origin(step)
				+ make_interval(months => (number * partshift.step_months(step))::integer)
			 ELSE
				partshift.grid_origin(step)
				+ make_interval(days => floor(seconds / 86400)::integer,
								secs => (seconds - floor(seconds / 86400) * 86400)::double precision)
		   END
	FROM CAST(number * extract(epoch FROM step) AS numeric) seconds
$$;

COMMENT ON FUNCTION partshift.grid_moment(numeric, interval) IS
'the moment at which a step of the grid begins';

/* A version 7 uuid begins with 48 bits that count milliseconds since 1970. */
CREATE FUNCTION partshift.uuid_floor(moment timestamptz)
RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE
			 WHEN ms <= 0 THEN 'MINVALUE'
			 WHEN ms >= 281474976710656 THEN 'MAXVALUE'
			 ELSE (lpad(to_hex(ms), 12, '0') || repeat('0', 20))::uuid::text
		   END
	FROM CAST(floor(extract(epoch FROM moment) * 1000) AS bigint) ms
$$;

COMMENT ON FUNCTION partshift.uuid_floor(timestamptz) IS
'the first uuid of a moment';

CREATE FUNCTION partshift.uuid_moment(value text)
RETURNS timestamptz
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT timestamptz '1970-01-01 00:00:00+00'
		   + make_interval(hours => (ms / 3600000)::integer,
						   secs => (ms % 3600000) / 1000.0)
	FROM CAST(('x' || left(replace(value, '-', ''), 12))::bit(48)::bigint AS bigint) ms
$$;

COMMENT ON FUNCTION partshift.uuid_moment(text) IS
'the moment that a version 7 uuid begins with';

CREATE FUNCTION partshift.to_local(value text, type oid)
RETURNS timestamp
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE type
			 WHEN 'timestamptz'::regtype THEN value::timestamptz::timestamp
			 WHEN 'uuid'::regtype THEN partshift.uuid_moment(value)::timestamp
			 ELSE value::timestamp
		   END
$$;

COMMENT ON FUNCTION partshift.to_local(text, oid) IS
'a value of a time key in local time';

CREATE FUNCTION partshift.from_local(moment timestamp, type oid)
RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE type
			 WHEN 'timestamptz'::regtype THEN moment::timestamptz::text
			 WHEN 'uuid'::regtype THEN partshift.uuid_floor(moment::timestamptz)
			 WHEN 'date'::regtype THEN moment::date::text
			 ELSE moment::text
		   END
$$;

COMMENT ON FUNCTION partshift.from_local(timestamp, oid) IS
'a moment in local time as a boundary of a time key';

CREATE FUNCTION partshift.time_label(moment timestamp, pattern text)
RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT to_char(moment, pattern)
		   || CASE WHEN extract(year FROM moment) < 0 THEN 'bc' ELSE '' END
$$;

COMMENT ON FUNCTION partshift.time_label(timestamp, text) IS
'a moment as part of a name';

CREATE FUNCTION partshift.step_pattern(step interval)
RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE
			 WHEN months > 0 AND months % 12 = 0 THEN 'YYYY'
			 WHEN months > 0 THEN 'YYYYMM'
			 WHEN extract(day FROM step) > 0 THEN 'YYYYMMDD'
			 WHEN extract(epoch FROM step)::bigint % 3600 = 0 THEN 'YYYYMMDD_HH24'
			 WHEN extract(epoch FROM step)::bigint % 60 = 0 THEN 'YYYYMMDD_HH24MI'
			 ELSE 'YYYYMMDD_HH24MISS'
		   END
	FROM partshift.step_months(step) months
$$;

COMMENT ON FUNCTION partshift.step_pattern(interval) IS
'how the moments of a grid are written in names';

/* The coarsest pattern that tells apart boundaries nobody computed. */
CREATE FUNCTION partshift.common_pattern(moments timestamp[])
RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE
			 WHEN bool_and(m = date_trunc('year', m)) THEN 'YYYY'
			 WHEN bool_and(m = date_trunc('month', m)) THEN 'YYYYMM'
			 WHEN bool_and(m = date_trunc('day', m)) THEN 'YYYYMMDD'
			 WHEN bool_and(m = date_trunc('hour', m)) THEN 'YYYYMMDD_HH24'
			 WHEN bool_and(m = date_trunc('minute', m)) THEN 'YYYYMMDD_HH24MI'
			 WHEN bool_and(m = date_trunc('second', m)) THEN 'YYYYMMDD_HH24MISS'
			 ELSE 'YYYYMMDD_HH24MISS_US'
		   END
	FROM unnest(moments) m
$$;

COMMENT ON FUNCTION partshift.common_pattern(timestamp[]) IS
'how given moments are written in names';

CREATE FUNCTION partshift.grid_bound(number numeric, step interval, type oid)
RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT partshift.from_local(partshift.grid_moment(number, step), type)
$$;

COMMENT ON FUNCTION partshift.grid_bound(numeric, interval, oid) IS
'the boundary at which a step of the grid begins';

/*
 * A local time that occurs twice stands for the second; a value in the first
 * then belongs to the step before.
 */
CREATE FUNCTION partshift.first_step(value text, step interval, type oid)
RETURNS numeric
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN partshift.bound_rank(partshift.grid_bound(number, step, type), type)
					 > partshift.bound_rank(value, type)
				THEN number - 1 ELSE number
		   END
	FROM partshift.step_number(partshift.to_local(value, type), step) number
$$;

COMMENT ON FUNCTION partshift.first_step(text, interval, oid) IS
'the step of the grid that a value is in, as the first of a table''s data';

CREATE FUNCTION partshift.time_leaves(type oid, step interval, data_range text[], premake integer)
RETURNS SETOF partshift.leaf
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	local_now timestamp := now();
	first_step numeric := partshift.first_step(
		coalesce(data_range[1], partshift.from_local(local_now, type)), step, type);
	last_moment timestamp := greatest(partshift.to_local(data_range[2], type), local_now);
	last_step numeric := partshift.step_number(last_moment, step) + premake;
	pattern text := partshift.step_pattern(step);
BEGIN
	PERFORM partshift.check_leaf_count(last_step - first_step + 1);

	RETURN QUERY
	WITH grid AS (
		SELECT partshift.grid_bound(number, step, type) AS bound,
			   max(partshift.grid_moment(number, step)) AS moment
		FROM generate_series(first_step, last_step + 1) number
		GROUP BY 1
	), ranges AS (
		SELECT bound AS lower, moment,
			   lead(bound) OVER (ORDER BY partshift.bound_rank(bound, type)) AS upper
		FROM grid
	)
	SELECT partshift.time_label(CASE WHEN lower = 'MINVALUE' THEN moment
									 ELSE partshift.to_local(lower, type)
								END, pattern),
		   lower, upper, NULL::text[]
	FROM ranges
	WHERE upper IS NOT NULL
	ORDER BY partshift.bound_rank(lower, type);
END
$$;

COMMENT ON FUNCTION partshift.time_leaves(oid, interval, text[], integer) IS
'ranges of a time key from the data''s first to its last, or to now, and some more';
