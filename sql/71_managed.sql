/*
 * Range tables whose partitions are maintained: the policies, and the bounds
 * that a table has.
 *
 * A policy's grid is that of option "every", moved by a shift where the
 * table's own boundaries lie elsewhere: ranges of numbers that begin at 1,
 * weeks that begin on Sunday.  It is laid in the policy's time zone, which no
 * session's setting changes.
 */
CREATE TABLE partshift.managed (
	relid oid PRIMARY KEY,
	row_type oid NOT NULL,
	key_column name NOT NULL,
	every text NOT NULL,
	shift text NOT NULL,
	timezone text NOT NULL,
	premake integer NOT NULL,
	name_format text NOT NULL,
	retention text,
	retention_count integer,
	retention_action text NOT NULL
		CHECK (retention_action IN ('drop', 'detach', 'move')),
	retention_schema name,
	move_rows integer NOT NULL,
	analyze_every interval,
	managed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	analyzed_at timestamptz,
	maintained_at timestamptz,
	failed_at timestamptz,
	error text,
	successor oid
);

COMMENT ON TABLE partshift.managed IS
'policies of the tables whose partitions are maintained';
COMMENT ON COLUMN partshift.managed.row_type IS
'tells the table from a later one with its OID';
COMMENT ON COLUMN partshift.managed.shift IS
'how far the table''s boundaries are from those of the grid of every';
COMMENT ON COLUMN partshift.managed.maintained_at IS
'when maintenance last ended without an error';
COMMENT ON COLUMN partshift.managed.failed_at IS
'when maintenance failed last, if it has not succeeded since';

COMMENT ON COLUMN partshift.managed.successor IS
'the table to which a conversion that has not ended has passed the policy on';

CREATE SEQUENCE partshift.maintenance_run;

CREATE TABLE partshift.maintenance_log (
	run bigint NOT NULL,
	place bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	logged_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	relid oid,
	owner oid NOT NULL,
	relation text NOT NULL,
	action text NOT NULL,
	object text,
	status text NOT NULL CHECK (status IN ('done', 'deferred', 'failed')),
	rows bigint,
	error_sqlstate text,
	detail text
);

COMMENT ON TABLE partshift.maintenance_log IS
'what maintenance did to managed tables and to backups, and what it could not do';

CREATE INDEX maintenance_log_run_idx ON partshift.maintenance_log (run);
CREATE INDEX maintenance_log_time_idx ON partshift.maintenance_log (logged_at);

/*
 * Partitions that were or are being detached to be dropped or moved.  A
 * worker that died in between left the rest of it to the next.
 */
CREATE TABLE partshift.retired (
	leaf oid PRIMARY KEY,
	relid oid NOT NULL,
	owner oid NOT NULL,
	row_type oid NOT NULL,
	schema_name name NOT NULL,
	name name NOT NULL,
	action text NOT NULL,
	to_schema name,
	retired_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

COMMENT ON TABLE partshift.retired IS
'partitions on their way out of a managed table';

CREATE TYPE partshift.stretch AS (
	leaf oid,
	name text,
	lower text,
	upper text,
	least numeric,
	beyond numeric,
	is_default boolean,
	is_pending boolean,
	is_plain boolean
);

COMMENT ON TYPE partshift.stretch IS
'a partition of a range table: its bounds as text, and as numbers that order them';

/*
 * With one key column of a built-in type a bound is two words, and none of
 * them has a quote or a parenthesis inside.
 */
CREATE FUNCTION partshift.stretches(relid oid, type oid)
RETURNS SETOF partshift.stretch
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT c.oid, format('%I.%I', n.nspname, c.relname),
		trim(b.words[1], ''''), trim(b.words[2], ''''),
		partshift.bound_rank(trim(b.words[1], ''''), stretches.type),
		partshift.bound_rank(trim(b.words[2], ''''), stretches.type),
		b.words IS NULL, i.inhdetachpending, c.relkind = 'r'
	FROM pg_inherits i
		JOIN pg_class c ON c.oid = i.inhrelid
		JOIN pg_namespace n ON n.oid = c.relnamespace,
		LATERAL regexp_match(pg_get_expr(c.relpartbound, c.oid),
			'^FOR VALUES FROM \(([^)]+)\) TO \(([^)]+)\)$') AS b (words)
	WHERE i.inhparent = stretches.relid
	ORDER BY 5 NULLS LAST
$$;

COMMENT ON FUNCTION partshift.stretches(oid, oid) IS
'the partitions of a range table in the order of their bounds, DEFAULT last';

CREATE FUNCTION partshift.policy(relid oid) RETURNS partshift.managed
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	found_policy partshift.managed;
BEGIN
	SELECT m.* INTO found_policy
	FROM partshift.managed m JOIN pg_class c ON c.oid = m.relid AND c.reltype = m.row_type
	WHERE m.relid = policy.relid;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'table "%" is not managed', (SELECT c.relname FROM pg_class c WHERE c.oid = relid)
			USING ERRCODE = 'undefined_object',
				  HINT = 'Use partshift.manage() to have its partitions maintained.';
	END IF;
	RETURN found_policy;
END
$$;

COMMENT ON FUNCTION partshift.policy(oid) IS
'the policy of a managed table';

/* A moment that occurs twice belongs to the step that is not over: see first_step(). */
CREATE FUNCTION partshift.policy_step(p partshift.managed, key partshift.key, value text)
RETURNS numeric
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	number numeric;
BEGIN
	IF partshift.is_number(key.type) THEN
		RETURN floor((value::numeric - p.shift::numeric) / p.every::numeric);
	END IF;
	number := partshift.step_number(
		partshift.to_local(value, key.type) - p.shift::interval, p.every::interval);
	IF partshift.bound_rank(partshift.policy_bound(p, key, number), key.type)
		> partshift.bound_rank(value, key.type)
	THEN
		RETURN number - 1;
	END IF;
	RETURN number;
END
$$;

COMMENT ON FUNCTION partshift.policy_step(partshift.managed, partshift.key, text) IS
'which step of a policy''s grid a value is in';

CREATE FUNCTION partshift.policy_bound(p partshift.managed, key partshift.key, number numeric)
RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN partshift.is_number(key.type)
		THEN partshift.number_bound(key, number * p.every::numeric + p.shift::numeric)
		ELSE partshift.from_local(
			partshift.grid_moment(number, p.every::interval) + p.shift::interval, key.type)
		END
$$;

COMMENT ON FUNCTION partshift.policy_bound(partshift.managed, partshift.key, numeric) IS
'the boundary at which a step of a policy''s grid begins';

CREATE FUNCTION partshift.policy_name(p partshift.managed, key partshift.key, lower text)
RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT partshift.leaf_name(p.name_format, c.relname::text, CASE
		WHEN lower = 'MINVALUE' THEN 'min'
		WHEN partshift.is_number(key.type) THEN partshift.number_label(lower)
		ELSE partshift.time_label(partshift.to_local(lower, key.type), CASE
			WHEN p.shift::interval = interval '0' THEN partshift.step_pattern(p.every::interval)
			WHEN partshift.step_pattern(p.every::interval) IN ('YYYY', 'YYYYMM')
				AND extract(epoch FROM p.shift::interval)::bigint % 86400 = 0
				AND extract(day FROM p.shift::interval) <> 0 THEN 'YYYYMMDD'
			WHEN partshift.step_pattern(p.every::interval) = 'YYYY'
				AND partshift.step_months(p.shift::interval) <> 0 THEN 'YYYYMM'
			ELSE partshift.step_pattern(p.every::interval) END)
		END)
	FROM pg_class c WHERE c.oid = p.relid
$$;

COMMENT ON FUNCTION partshift.policy_name(partshift.managed, partshift.key, text) IS
'the name of a partition that begins at a boundary';

/*
 * How far the boundaries of a table are from the grid: by its last partition.
 * Only that has to fit, the rest may be history.
 */
CREATE FUNCTION partshift.shift_of(every text, type oid, bound text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE
		WHEN partshift.is_number(type) THEN
			CASE WHEN bound IS NULL THEN '0' ELSE trim_scale(
				bound::numeric - floor(bound::numeric / every::numeric) * every::numeric)::text END
		WHEN bound IS NULL THEN '0'
		ELSE coalesce((
			SELECT CASE WHEN partshift.step_months(every::interval) > 0
				THEN make_interval(months => (extract(year FROM m.moment) * 12
						+ extract(month FROM m.moment) - extract(year FROM g.moment) * 12
						- extract(month FROM g.moment))::integer)
					+ (m.moment - date_trunc('month', m.moment))
				ELSE m.moment - g.moment END::text
			FROM partshift.to_local(bound, type) AS m (moment),
				partshift.grid_moment(partshift.step_number(m.moment, every::interval),
					every::interval) AS g (moment)), '0')
		END
$$;

COMMENT ON FUNCTION partshift.shift_of(text, oid, text) IS
'how far a boundary is from the grid of an interval';

/*
 * The interval of a table whose partitions are all of one width: of months if
 * months fit, else of days, else of seconds.
 */
CREATE FUNCTION partshift.infer_every(relid oid, type oid) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	inferred text;
	bounds text[];
BEGIN
	SELECT array_agg(ARRAY[s.lower, s.upper]) INTO bounds
	FROM partshift.stretches(relid, type) s
	WHERE s.least > '-Infinity' AND s.beyond < 'Infinity';

	IF partshift.is_number(type) THEN
		SELECT min(w.width)::text INTO inferred
		FROM (SELECT bounds[n][2]::numeric - bounds[n][1]::numeric AS width
			  FROM generate_subscripts(bounds, 1) n) AS w
		HAVING min(w.width) = max(w.width) AND min(w.width) = floor(min(w.width));
		RETURN inferred;
	END IF;

	WITH moment AS (
		SELECT partshift.to_local(bounds[n][1], type) AS one,
			partshift.to_local(bounds[n][2], type) AS other
		FROM generate_subscripts(bounds, 1) n
	), width AS (
		SELECT m.one, m.other,
			extract(year FROM age(m.other, m.one)) * 12
				+ extract(month FROM age(m.other, m.one)) AS months,
			extract(epoch FROM m.other - m.one) AS seconds
		FROM moment m
	)
	SELECT CASE
		WHEN min(w.months) > 0 AND min(w.months) = max(w.months)
			AND bool_and(w.one + make_interval(months => w.months::integer) = w.other)
			THEN make_interval(months => min(w.months)::integer)::text
		WHEN min(w.seconds) = max(w.seconds) AND min(w.seconds)::bigint % 86400 = 0
			THEN make_interval(days => (min(w.seconds) / 86400)::integer)::text
		WHEN min(w.seconds) = max(w.seconds) AND min(w.seconds) = floor(min(w.seconds))
			THEN make_interval(secs => min(w.seconds)::double precision)::text
		END INTO inferred
	FROM width w;
	RETURN inferred;
END
$$;

COMMENT ON FUNCTION partshift.infer_every(oid, oid) IS
'the width that all bounded partitions of a table have in common, or null';
