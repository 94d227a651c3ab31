/*
 * Which partitions a managed table lacks, and which it has outlived.
 */

/*
 * Rows further ahead than this are strays: there is a partition for them if
 * need be, but none for all the time until then.  Nor are partitions made for
 * all of a longer time during which there was no maintenance, unless there
 * are rows.
 */
CREATE FUNCTION partshift.reach() RETURNS integer
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT 100 $$;

COMMENT ON FUNCTION partshift.reach() IS
'how many steps away something may be and still count as present';

/* Read as the owner, without the executor's care for rows nobody needs. */
CREATE FUNCTION partshift.has_rows(leaf oid) RETURNS boolean
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT partshift.query_as(c.relowner,
		format('SELECT ''t'' FROM ONLY %I.%I LIMIT 1', n.nspname, c.relname)) IS NOT NULL
	FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
	WHERE c.oid = leaf
$$;

COMMENT ON FUNCTION partshift.has_rows(oid) IS
'whether there is a row in a partition';

/*
 * The last step that has data: of numbers it is the present one.  For times
 * what lies beyond the reach is left out of account.
 */
CREATE FUNCTION partshift.last_step(p partshift.managed, key partshift.key, at_most numeric)
RETURNS numeric
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s partshift.stretch;
	number numeric;
BEGIN
	FOR s IN
		SELECT t.* FROM partshift.stretches(p.relid, key.type) t
		WHERE t.beyond < 'Infinity' AND NOT t.is_pending AND t.is_plain
		ORDER BY t.beyond DESC
	LOOP
		number := partshift.policy_step(p, key, s.upper);
		IF partshift.policy_bound(p, key, number) = s.upper THEN
			number := number - 1;
		END IF;
		CONTINUE WHEN number > at_most;
		IF partshift.has_rows(s.leaf) THEN
			RETURN number;
		END IF;
	END LOOP;
	RETURN NULL;
END
$$;

COMMENT ON FUNCTION partshift.last_step(partshift.managed, partshift.key, numeric) IS
'the step of the grid of the last partition that has rows, up to a step';

/*
 * The steps that rows of DEFAULT belong to, found one after the other, each by
 * the first row after those that are known; up to a number of steps.
 */
CREATE FUNCTION partshift.default_steps(p partshift.managed, key partshift.key, at_most integer)
RETURNS TABLE (step numeric, rows bigint)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	leaf text;
	owner oid;
	condition text := 'true';
	found_value text;
BEGIN
	SELECT s.name, c.relowner INTO leaf, owner
	FROM partshift.stretches(p.relid, key.type) s JOIN pg_class c ON c.oid = s.leaf
	WHERE s.is_default AND s.is_plain;
	IF leaf IS NULL THEN
		RETURN;
	END IF;
	IF key.type IN ('date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype, 'numeric'::regtype) THEN
		condition := format('t.%1$I > ''-infinity'' AND t.%1$I < ''infinity''', p.key_column);
	END IF;
	found_value := partshift.query_as(owner, format(
		'SELECT t.%1$I::text FROM ONLY %2$s t WHERE t.%1$I IS NOT NULL AND %3$s ORDER BY t.%1$I LIMIT 1',
		p.key_column, leaf, condition));
	WHILE found_value IS NOT NULL AND at_most > 0 LOOP
		step := partshift.policy_step(p, key, found_value);
		found_value := partshift.policy_bound(p, key, step + 1);
		rows := partshift.query_as(owner, format(
			'SELECT count(*)::text FROM ONLY %2$s t WHERE %3$s%4$s%5$s', p.key_column, leaf, condition,
			(SELECT format(' AND t.%I >= %L', p.key_column, b.bound)
			 FROM partshift.policy_bound(p, key, step) AS b (bound) WHERE b.bound <> 'MINVALUE'),
			CASE WHEN found_value <> 'MAXVALUE'
				THEN format(' AND t.%I < %L', p.key_column, found_value) END));
		RETURN NEXT;
		EXIT WHEN found_value = 'MAXVALUE';
		found_value := partshift.query_as(owner, format(
			'SELECT t.%1$I::text FROM ONLY %2$s t WHERE t.%1$I >= %4$L AND %3$s ORDER BY t.%1$I LIMIT 1',
			p.key_column, leaf, condition, found_value));
		at_most := at_most - 1;
	END LOOP;
END
$$;

COMMENT ON FUNCTION partshift.default_steps(partshift.managed, partshift.key, integer) IS
'the steps of the grid that rows in the DEFAULT partition are in, the earliest first, with their numbers of rows';

/*
 * Before it everything has expired: null if nothing does.  By age it is a
 * moment in local time, so that a month is a month and a day a day whatever
 * the clocks do; by number it is a boundary of the grid.
 */
CREATE FUNCTION partshift.expiry(p partshift.managed, key partshift.key, present numeric,
	moment timestamptz) RETURNS numeric
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE
		WHEN present IS NULL THEN NULL
		WHEN p.retention_count IS NOT NULL THEN
			partshift.bound_rank(partshift.policy_bound(p, key,
				present - p.retention_count + 1), key.type)
		WHEN p.retention IS NULL THEN NULL
		WHEN partshift.is_number(key.type) THEN
			partshift.bound_rank(partshift.policy_bound(p, key, present), key.type)
				- p.retention::numeric
		ELSE partshift.bound_rank(partshift.from_local(
			moment::timestamp - p.retention::interval, key.type), key.type)
		END
$$;

COMMENT ON FUNCTION partshift.expiry(partshift.managed, partshift.key, numeric, timestamptz) IS
'the rank of the boundary before which partitions of a managed table have expired';

/*
 * The parts of a range that no partition covers.
 */
CREATE FUNCTION partshift.uncovered(lower text, upper text, type oid,
	have partshift.stretch[])
RETURNS TABLE (lower_part text, upper_part text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	least numeric := partshift.bound_rank(lower, type);
	beyond numeric := partshift.bound_rank(upper, type);
	s partshift.stretch;
BEGIN
	FOREACH s IN ARRAY have LOOP
		CONTINUE WHEN s.is_default OR s.beyond <= least;
		EXIT WHEN s.least >= beyond;
		IF s.least > least THEN
			lower_part := lower;
			upper_part := s.lower;
			RETURN NEXT;
		END IF;
		lower := s.upper;
		least := s.beyond;
	END LOOP;
	IF least < beyond THEN
		lower_part := lower;
		upper_part := upper;
		RETURN NEXT;
	END IF;
END
$$;

COMMENT ON FUNCTION partshift.uncovered(text, text, oid, partshift.stretch[]) IS
'what is left of a range when those of partitions in their order are taken out';

CREATE FUNCTION partshift.name_problem(schema_name name, name text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE
		WHEN octet_length(name) > 63 THEN 'too long'
		WHEN EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
					 WHERE n.nspname = schema_name AND c.relname::text = name)
			OR EXISTS (SELECT FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
					   WHERE n.nspname = schema_name AND t.typname::text = name)
			THEN 'in use'
		END
$$;

COMMENT ON FUNCTION partshift.name_problem(name, text) IS
'why a partition cannot have a name: it is too long, or in use; else null';

CREATE FUNCTION partshift.check_new_name(relid oid, name text) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	problem text;
BEGIN
	SELECT partshift.name_problem(n.nspname, check_new_name.name) INTO problem
	FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
	WHERE c.oid = relid;
	IF problem IS NOT NULL THEN
		PERFORM partshift.refuse_policy(
			format('name "%s" of the partition is %s', name, problem),
			NULL, 'Give other names by option "name_format".',
			CASE problem WHEN 'in use' THEN '42P07' ELSE '42622' END);
	END IF;
END
$$;

COMMENT ON FUNCTION partshift.check_new_name(oid, text) IS
'raises an error for a name that a new partition cannot have';

/*
 * Two kinds of steps are wanted.  From the present one, or where the
 * partitions ended that led up to it, to the last that is made ahead: all of
 * them.  And those of rows that only DEFAULT has taken.  None that has
 * expired.
 *
 * The caller has set TimeZone to the policy's.
 */
CREATE FUNCTION partshift.missing_leaves(p partshift.managed, key partshift.key, moment timestamptz,
	OUT lower text, OUT upper text, OUT name text, OUT rows bigint, OUT problem text)
RETURNS SETOF record
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	have partshift.stretch[];
	late jsonb;
	present numeric;
	first_step numeric;
	target numeric;
	expired numeric;
BEGIN
	SELECT array_agg(s ORDER BY s.least) INTO have
	FROM partshift.stretches(p.relid, key.type) s WHERE NOT s.is_default;
	have := coalesce(have, '{}');
	SELECT jsonb_object_agg(d.step::text, d.rows) INTO late
	FROM partshift.default_steps(p, key, partshift.reach()) d;
	late := coalesce(late, '{}');

	IF partshift.is_number(key.type) THEN
		present := partshift.last_step(p, key, 'Infinity');
		SELECT greatest(present, max(d::numeric)) INTO present FROM jsonb_object_keys(late) d
		WHERE present IS NULL OR d::numeric <= present + partshift.reach();
		present := coalesce(present,
			(SELECT partshift.policy_step(p, key, s.lower) FROM unnest(have) s
			 WHERE s.least > '-Infinity' ORDER BY s.least LIMIT 1), 0);
		target := present;
		first_step := present;
	ELSE
		present := partshift.policy_step(p, key, partshift.from_local(moment::timestamp, key.type));
		target := greatest(present, partshift.last_step(p, key, present + partshift.reach()),
			(SELECT max(d::numeric) FROM jsonb_object_keys(late) d
			 WHERE d::numeric <= present + partshift.reach()));
		SELECT least(present, partshift.policy_step(p, key, s.upper)) INTO first_step
		FROM unnest(have) s
		WHERE s.beyond < 'Infinity'
			AND s.least <= partshift.bound_rank(partshift.policy_bound(p, key, present), key.type)
		ORDER BY s.least DESC LIMIT 1;
		first_step := greatest(coalesce(first_step, present), present - partshift.reach());
	END IF;
	target := target + p.premake;
	expired := partshift.expiry(p, key, present, moment);
	PERFORM partshift.check_leaf_count(target - first_step + 1);

	RETURN QUERY
	WITH step AS (
		SELECT n.n FROM generate_series(first_step, target) AS n (n)
		UNION
		SELECT d::numeric FROM jsonb_object_keys(late) AS d
	), piece AS (
		SELECT step.n, u.lower_part, u.upper_part
		FROM step, partshift.policy_bound(p, key, step.n) AS l (bound),
			partshift.policy_bound(p, key, step.n + 1) AS h (bound),
			partshift.uncovered(l.bound, h.bound, key.type, have) AS u
		WHERE l.bound <> 'MAXVALUE'
			AND (expired IS NULL OR partshift.bound_rank(h.bound, key.type) > expired)
	)
	SELECT piece.lower_part, piece.upper_part, f.name,
		coalesce((late ->> piece.n::text)::bigint, 0),
		coalesce(partshift.name_problem(ns.nspname, f.name),
			CASE WHEN (late ->> piece.n::text)::bigint > p.move_rows THEN 'rows' END)
	FROM piece, partshift.policy_name(p, key, piece.lower_part) AS f (name),
		pg_class c JOIN pg_namespace ns ON ns.oid = c.relnamespace
	WHERE c.oid = p.relid
	ORDER BY piece.n;
END
$$;

COMMENT ON FUNCTION partshift.missing_leaves(partshift.managed, partshift.key, timestamptz) IS
'partitions to be made, with the rows of DEFAULT that belong into each, and what is in the way';
