/*
 * What a conversion would come to: sizes of the partitions, room, time.
 *
 * plan() adds this to the findings of make_plan(); convert() does without.
 * Sizes are from a sample of a thousand blocks at most, read by query_as() as
 * the table's owner.  Each part is on its own, so that one that cannot be told
 * here (no room for the sample, a standby, a statement timeout of the
 * session's apart) does not take the plan with it.
 */
CREATE FUNCTION partshift.hash_remainder(modulus integer, VARIADIC vals "any")
RETURNS integer
LANGUAGE c IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'partshift_hash_remainder';

COMMENT ON FUNCTION partshift.hash_remainder(integer, VARIADIC "any") IS
'the remainder that a table partitioned by hash would have for these values';

CREATE FUNCTION partshift.free_space(tablespace oid, OUT bytes bigint, OUT wal_bytes bigint,
	OUT one_disk boolean)
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'partshift_free_space';

COMMENT ON FUNCTION partshift.free_space(oid) IS
'what is free where a tablespace is, where the WAL is, and whether that is one file system';

CREATE FUNCTION partshift.calibrate(relid oid, OUT blocks bigint, OUT rows bigint,
	OUT read_ms double precision, OUT copied_blocks bigint, OUT copy_ms double precision,
	OUT copy_cost double precision)
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'partshift_calibrate';

COMMENT ON FUNCTION partshift.calibrate(oid) IS
'a timed copy of some blocks into a new table, which the caller must roll back';

CREATE FUNCTION partshift.row_blocks(relid oid) RETURNS bigint
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(sum(pg_relation_size(t)) / current_setting('block_size')::bigint, 0)::bigint
	FROM partshift.row_tables(relid) t
$$;

COMMENT ON FUNCTION partshift.row_blocks(oid) IS
'how many blocks of rows a table has';

CREATE FUNCTION partshift.sample_source(relid oid) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT partshift.scan_name(relid) || ' AS t'
		   || CASE WHEN blocks > 1000
				   THEN format(' TABLESAMPLE SYSTEM (%s) REPEATABLE (1)', 100000.0 / blocks)
				   ELSE '' END
	FROM partshift.row_blocks(relid) blocks
$$;

COMMENT ON FUNCTION partshift.sample_source(oid) IS
'the FROM clause for a thousand blocks of a table, or all of a smaller one';

/* Column no is the leaf's place in the plan, 0 for the default one, -1 for a null. */
CREATE FUNCTION partshift.sample_rows(relid oid, plan jsonb) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH value AS (
		SELECT k.position,
			   CASE WHEN plan->'computed'->>'column' = k.name
					THEN format('(%s)', plan->'computed'->>'value')
					ELSE format('t.%I', k.name) END AS expression,
			   (SELECT format_type(a.atttypid, -1) FROM pg_attribute a
				WHERE a.attrelid = relid AND a.attname::text = k.name) AS type
		FROM jsonb_array_elements_text(plan->'key_columns')
			 WITH ORDINALITY AS k(name, position)
	), one AS (
		SELECT expression, coalesce(type, format_type((plan->'computed'->>'type')::oid, -1)) AS type
		FROM value WHERE position = 1
	), leaf AS (
		SELECT l.no, l.leaf->>'bound' AS bound,
			   regexp_match(l.leaf->>'bound', '^FOR VALUES FROM \((.*)\) TO \((.*)\)$') AS ends
		FROM jsonb_array_elements(plan->'leaves') WITH ORDINALITY AS l(leaf, no)
		WHERE l.leaf->>'bound' <> 'DEFAULT'
	)
	SELECT CASE plan->>'strategy'
		WHEN 'hash' THEN
			(SELECT format('SELECT partshift.hash_remainder(%s, %s) + 1 AS no, concat_ws('', '', %2$s) AS v FROM %s',
						   jsonb_array_length(plan->'leaves'),
						   string_agg(expression, ', ' ORDER BY position),
						   partshift.sample_source(relid)) FROM value)
		WHEN 'list' THEN
			(SELECT format('SELECT CASE WHEN s.v IS NULL THEN -1 ELSE coalesce(l.no, 0) END AS no, s.v::text AS v '
						   'FROM (SELECT %s FROM %s) AS s(v) LEFT JOIN (%s) AS l(no, val) ON s.v = l.val',
						   one.expression, partshift.sample_source(relid),
						   (SELECT string_agg(format('SELECT %s, unnest(ARRAY[%s]::%s[])', no,
													 substr(bound, 16, length(bound) - 16), one.type),
											  ' UNION ALL ') FROM leaf)) FROM one)
		ELSE
			(SELECT format('SELECT CASE WHEN s.v IS NULL THEN -1 '
						   'WHEN s.place > 0 AND coalesce(s.v < s.his[s.place], true) THEN s.nos[s.place] ELSE 0 END AS no, s.v::text AS v '
						   'FROM (WITH l(no, lo, hi) AS (VALUES %s), a AS MATERIALIZED ('
						   'SELECT coalesce(array_agg(lo ORDER BY lo) FILTER (WHERE lo IS NOT NULL), ''{}'') AS los, '
						   'array_agg(no ORDER BY lo NULLS FIRST) AS nos, array_agg(hi ORDER BY lo NULLS FIRST) AS his, '
						   '(count(*) FILTER (WHERE lo IS NULL))::integer AS shift FROM l) '
						   'SELECT %s AS v, width_bucket(%2$s, a.los) + a.shift AS place, a.nos, a.his FROM %s, a) AS s',
						   (SELECT string_agg(format('(%s, %s::%s, %s::%3$s)', no,
													 CASE WHEN ends[1] = 'MINVALUE' THEN 'NULL' ELSE ends[1] END,
													 one.type,
													 CASE WHEN ends[2] = 'MAXVALUE' THEN 'NULL' ELSE ends[2] END), ', ')
							FROM leaf),
						   one.expression, partshift.sample_source(relid)) FROM one)
		END
$$;

COMMENT ON FUNCTION partshift.sample_rows(oid, jsonb) IS
'the query that assigns rows of a sample to the leaves of a plan';

CREATE FUNCTION partshift.sample_leaves(relid oid, plan jsonb) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT partshift.query_as((plan->>'owner')::oid, format($q$
		WITH g AS MATERIALIZED (
			SELECT no, left(v, 100) AS v, count(*) AS n FROM (%s) AS r GROUP BY 1, 2
		)
		SELECT jsonb_build_object(
			'rows', (SELECT sum(n) FROM g),
			'nulls', (SELECT sum(n) FROM g WHERE no = -1),
			'counts', (SELECT jsonb_object_agg(no, n)
					   FROM (SELECT no, sum(n) AS n FROM g GROUP BY no) AS c),
			'top', (SELECT to_jsonb(x) FROM (SELECT no, v, n FROM g WHERE no >= 0
											 ORDER BY n DESC, v LIMIT 1) AS x))::text
		$q$, partshift.sample_rows(relid, plan)))::jsonb
$$;

COMMENT ON FUNCTION partshift.sample_leaves(oid, jsonb) IS
'how many rows of a sample belong to each leaf of a plan, and the commonest key';

CREATE FUNCTION partshift.forecast_leaves(relid oid, plan jsonb) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH sample AS MATERIALIZED (
		SELECT s AS found, (s->>'rows')::numeric AS sampled
		FROM partshift.sample_leaves(relid, plan) s
	), sized AS (
		SELECT l.no, partshift.leaf_final_name(l.leaf) AS name,
			   coalesce((found->'counts'->>(CASE WHEN l.leaf->>'bound' = 'DEFAULT' THEN 0
												 ELSE l.no END)::text)::numeric, 0)
				/ nullif(sampled, 0) AS share
		FROM sample, jsonb_array_elements(plan->'leaves') WITH ORDINALITY AS l(leaf, no)
	), sizes AS (
		SELECT no, name, round(share, 4) AS share,
			   round(share * (plan->>'rows_estimate')::numeric) AS rows,
			   round(share * partshift.total_size(relid)) AS bytes
		FROM sized
	)
	SELECT jsonb_strip_nulls(jsonb_build_object(
		'sampled_rows', sampled,
		'null_rows', round((found->>'nulls')::numeric / nullif(sampled, 0)
						   * (plan->>'rows_estimate')::numeric),
		'leaves', (SELECT jsonb_agg(jsonb_build_object('name', name, 'rows', rows, 'bytes', bytes,
													   'share', share) ORDER BY no) FROM sizes),
		'used', (SELECT count(*) FROM sizes WHERE share > 0),
		'skew', (SELECT round(max(share) / nullif(avg(share), 0), 2) FROM sizes WHERE share > 0),
		'largest', (SELECT name FROM sizes ORDER BY share DESC, no LIMIT 1),
		'top_key', found->'top'->>'v',
		'top_share', round((found->'top'->>'n')::numeric / nullif(sampled, 0), 4)))
	FROM sample
$$;

COMMENT ON FUNCTION partshift.forecast_leaves(oid, jsonb) IS
'rows and bytes that each leaf of a plan will have, and how uneven they are';

/*
 * The cost model's settings as throttle.c takes them.
 */
CREATE FUNCTION partshift.cost_setting(given double precision, name text) RETURNS double precision
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT value
	FROM unnest(ARRAY[given,
		(SELECT setting::double precision FROM pg_settings s WHERE s.name = 'partshift.' || $2),
		(SELECT setting::double precision FROM pg_settings s WHERE s.name = 'autovacuum_vacuum_' || $2),
		(SELECT setting::double precision FROM pg_settings s WHERE s.name = 'vacuum_' || $2)])
		 WITH ORDINALITY AS u(value, position)
	WHERE value >= 0 AND NOT (value = 0 AND $2 = 'cost_limit')
	ORDER BY position LIMIT 1
$$;

COMMENT ON FUNCTION partshift.cost_setting(double precision, text) IS
'the first of a job''s, our, autovacuum''s and VACUUM''s setting that is one';

CREATE FUNCTION partshift.comparing_workers(options jsonb, plan jsonb) RETURNS integer
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN plan #>> '{computed,column}' IS NOT NULL
			OR coalesce((options->>'lock_writes')::boolean, false) THEN 1
		ELSE coalesce((options->>'workers')::integer, 2) END
$$;

COMMENT ON FUNCTION partshift.comparing_workers(jsonb, jsonb) IS
'how many processes compare both tables';

/*
 * A timed copy of some blocks, rolled back.  Every block of the table is
 * counted as read from disk.  Building an index is put down as reading the
 * table and writing the index.
 */
CREATE FUNCTION partshift.forecast_time(relid oid, options jsonb, plan jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	sample record;
	block numeric := current_setting('block_size')::numeric;
	blocks numeric := partshift.row_blocks(relid);
	workers numeric := coalesce((options->>'workers')::numeric, 2);
	miss numeric := current_setting('vacuum_cost_page_miss')::numeric;
	indexes numeric := jsonb_array_length(plan->'indexes');
	rate numeric := partshift.cost_setting((options->>'cost_delay')::double precision, 'cost_delay')
		/ partshift.cost_setting((options->>'cost_limit')::double precision, 'cost_limit');
	read numeric;
	copy numeric;
	throttled numeric;
BEGIN
	IF blocks = 0 OR current_setting('transaction_read_only')::boolean THEN
		RETURN NULL;
	END IF;
	BEGIN
		SELECT c.* INTO sample
		FROM (SELECT t FROM partshift.row_tables(relid) t ORDER BY pg_relation_size(t) DESC LIMIT 1) r,
			 partshift.calibrate(r.t) c;
		RAISE SQLSTATE 'PSHRB';
	EXCEPTION WHEN SQLSTATE 'PSHRB' THEN
		NULL;
	END;
	read := sample.read_ms / sample.blocks;
	copy := sample.copy_ms / sample.copied_blocks;
	throttled := blocks * rate * (sample.copy_cost / sample.copied_blocks
		+ miss - current_setting('vacuum_cost_page_hit')::numeric);
	RETURN jsonb_build_object(
		'copy_ms', round(blocks * copy / workers + throttled),
		'copy_throttled_ms', round(throttled),
		'index_ms', round((blocks * read * indexes
						   + ceil((partshift.total_size(relid) - partshift.table_size(relid)) / block) * copy) / workers),
		'verify_ms', CASE WHEN options->>'verify' = 'none' THEN 0
			ELSE round(2 * blocks * (read / partshift.comparing_workers(options, plan) + rate * miss)) END,
		'sampled_blocks', sample.copied_blocks);
END
$$;

COMMENT ON FUNCTION partshift.forecast_time(oid, jsonb, jsonb) IS
'how long the phases that read the whole table would take, from a timed copy of some blocks';

CREATE FUNCTION partshift.forecast_room(relid oid, plan jsonb) RETURNS jsonb
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT jsonb_strip_nulls(jsonb_build_object(
		'tablespace', coalesce(t.spcname, d.spcname),
		'needed', needed,
		'wal', wal,
		'wal_on_disk', least(wal, max_wal),
		'free', f.bytes,
		'wal_free', f.wal_bytes,
		'enough', f.bytes >= needed + CASE WHEN f.one_disk THEN least(wal, max_wal) ELSE 0 END
				  AND f.wal_bytes >= least(wal, max_wal)))
	FROM pg_class c
		 LEFT JOIN pg_tablespace t ON t.oid = c.reltablespace
		 JOIN pg_database b ON b.datname = current_database()
		 JOIN pg_tablespace d ON d.oid = b.dattablespace,
		 partshift.free_space(c.reltablespace) f,
		 partshift.total_size(relid) needed,
		 LATERAL (SELECT CASE WHEN c.relpersistence = 'p' THEN needed ELSE 0 END AS wal,
						 pg_size_bytes(current_setting('max_wal_size')) AS max_wal) w
	WHERE c.oid = partshift.storage_model(relid)
$$;

COMMENT ON FUNCTION partshift.forecast_room(oid, jsonb) IS
'bytes of disk and WAL that a conversion needs, and what is free';

/* The slots of the server's fast path for locks grow with a setting from 18 on. */
CREATE FUNCTION partshift.forecast_locks(plan jsonb) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT jsonb_build_object('unpruned_query', needed, 'fast_path', slots,
							  'lock_table', capacity,
							  'sessions', CASE WHEN needed > slots
											   THEN capacity / (needed - slots) END)
	FROM (SELECT jsonb_array_length(plan->'leaves') AS leaves,
				 1 + jsonb_array_length(plan->'indexes') AS relations) n,
		 LATERAL (SELECT relations * (1 + leaves)) AS q(needed),
		 LATERAL (SELECT CASE WHEN current_setting('server_version_num')::integer < 180000 THEN 16
					ELSE least(greatest((2 ^ ceil(log(2, current_setting('max_locks_per_transaction')::numeric)))::integer,
										16), 16384) END) AS s(slots),
		 partshift.lock_table_size() capacity
$$;

COMMENT ON FUNCTION partshift.forecast_locks(jsonb) IS
'locks of a query that reads every partition, and how many such the server has room for';
