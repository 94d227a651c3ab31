/*
 * The health of partitioned tables: each partition, each table, and what is
 * amiss, with the statement that mends it.
 *
 * All of it is from statistics, but for a look whether DEFAULT is empty.
 */
CREATE FUNCTION partshift.may_inspect(role oid, owner oid) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT pg_has_role(role, 'pg_monitor', 'USAGE')
		OR EXISTS (SELECT FROM pg_roles r WHERE r.oid = owner)
			AND pg_has_role(role, owner, 'USAGE')
$$;

COMMENT ON FUNCTION partshift.may_inspect(oid, oid) IS
'whether a role may know of the tables of an owner';

CREATE FUNCTION partshift.has_left(relid oid) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT EXISTS (SELECT FROM partshift.job j
				   WHERE j.relid = has_left.relid AND j.status IN ('active', 'paused', 'failed')
					AND (j.phase = 'done' OR j.reverse))
		OR EXISTS (SELECT FROM partshift.backup b WHERE b.relid = has_left.relid)
$$;

COMMENT ON FUNCTION partshift.has_left(oid) IS
'whether a table is what a conversion has left, and nobody maintains it';

/* Those that are maintained, and those that conversions made. */
CREATE FUNCTION partshift.inspected_tables(relid oid, role oid)
RETURNS TABLE (relation oid, name text, managed boolean)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT c.oid, format('%I.%I', n.nspname, c.relname),
		EXISTS (SELECT FROM partshift.managed m
				WHERE m.relid = c.oid AND m.row_type = c.reltype) AND NOT partshift.has_left(c.oid)
	FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
	WHERE c.relkind = 'p'
		AND CASE WHEN inspected_tables.relid IS NOT NULL THEN c.oid = inspected_tables.relid
			ELSE c.oid IN (SELECT m.relid FROM partshift.managed m
						   WHERE NOT partshift.has_left(m.relid)
						   UNION
						   SELECT j.shadow FROM partshift.job j
						   WHERE j.phase = 'done' AND NOT j.reverse
							AND j.status IN ('active', 'failed', 'finalized')) END
		AND partshift.may_inspect(inspected_tables.role, c.relowner)
$$;

COMMENT ON FUNCTION partshift.inspected_tables(oid, oid) IS
'the partitioned tables that a role is shown the health of';

/*
 * A partition is oversize at three times the mean of the others that are not
 * empty, and a gigabyte; hot if it takes more than half of all writes and
 * there were a thousand.
 */
CREATE FUNCTION partshift.leaf_states(relid oid, role oid)
RETURNS TABLE (relation text, leaf text, bound text, rows bigint, bytes bigint,
	share numeric, writes bigint, status text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
SET datestyle = 'ISO, YMD'
AS $$
	WITH leaf AS (
		SELECT t.name AS relation, format('%I.%I', n.nspname, c.relname) AS leaf,
			pg_get_expr(c.relpartbound, c.oid) AS bound,
			greatest(c.reltuples::bigint, s.n_live_tup, 0) AS rows,
			pg_total_relation_size(c.oid) AS bytes, pg_relation_size(c.oid) AS heap,
			coalesce(s.n_tup_ins + s.n_tup_upd + s.n_tup_del, 0) AS writes
		FROM partshift.inspected_tables(relid, role) AS t
			JOIN pg_partition_tree(t.relation) AS p ON p.isleaf
			JOIN pg_class c ON c.oid = p.relid AND c.oid <> t.relation
			JOIN pg_namespace n ON n.oid = c.relnamespace
			LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid
	), total AS (
		SELECT l.*, sum(l.bytes) OVER w AS all_bytes, sum(l.writes) OVER w AS all_writes,
			sum(l.bytes) FILTER (WHERE l.heap > 0) OVER w - l.bytes AS other_bytes,
			count(*) FILTER (WHERE l.heap > 0) OVER w - 1 AS others, count(*) OVER w AS leaves
		FROM leaf l
		WINDOW w AS (PARTITION BY l.relation)
	)
	SELECT t.relation, t.leaf, t.bound, t.rows, t.bytes,
		round(t.bytes / nullif(t.all_bytes, 0), 4), t.writes, CASE
			WHEN t.heap = 0 THEN 'empty'
			WHEN t.bytes > 1073741824 AND t.others > 0 AND t.bytes > 3 * t.other_bytes / t.others
				THEN 'oversize'
			WHEN t.leaves > 1 AND t.all_writes >= 1000 AND t.writes > t.all_writes / 2 THEN 'hot'
			ELSE 'normal' END
	FROM total t
	ORDER BY t.relation, t.leaf
$$;

COMMENT ON FUNCTION partshift.leaf_states(oid, oid) IS
'size, share and state of the partitions that a role may know of';

CREATE FUNCTION partshift.table_states(relid oid, role oid)
RETURNS TABLE (relation text, partitions bigint, used bigint, rows numeric, bytes numeric,
	avg_bytes numeric, min_bytes bigint, max_bytes bigint, stddev_bytes numeric)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT l.relation, count(*), count(*) FILTER (WHERE l.status <> 'empty'), sum(l.rows),
		sum(l.bytes), round(avg(l.bytes) FILTER (WHERE l.status <> 'empty')),
		min(l.bytes) FILTER (WHERE l.status <> 'empty'),
		max(l.bytes) FILTER (WHERE l.status <> 'empty'),
		round(stddev_pop(l.bytes) FILTER (WHERE l.status <> 'empty'))
	FROM partshift.leaf_states(relid, role) AS l
	GROUP BY l.relation
	ORDER BY l.relation
$$;

COMMENT ON FUNCTION partshift.table_states(oid, oid) IS
'how rows are spread over the partitions of the tables that a role may know of';

CREATE TYPE partshift.ailment AS (
	severity text,
	topic text,
	relation text,
	object text,
	detail text,
	mend text
);

COMMENT ON TYPE partshift.ailment IS
'something that is amiss, and the statement that mends it';

CREATE FUNCTION partshift.partition_ailments(relid oid, role oid)
RETURNS SETOF partshift.ailment
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	t record;
	c partshift.chore;
	call text;
	has_default boolean;
BEGIN
	FOR t IN SELECT i.* FROM partshift.inspected_tables(relid, role) i WHERE i.managed LOOP
		SELECT format('SELECT partshift.abort(%s) -- or wait: nothing is made until the job has ended', j.job_id)
		INTO call
		FROM partshift.job j
		WHERE j.relid = t.relation AND j.status IN ('active', 'paused', 'failed');
		call := coalesce(call, format('SELECT partshift.maintain(%L)', t.name));
		has_default := EXISTS (SELECT FROM pg_partitioned_table p
							   WHERE p.partrelid = t.relation AND p.partdefid <> 0);
		BEGIN
			FOR c IN SELECT * FROM partshift.list_chores(t.relation, now()) LOOP
				CONTINUE WHEN c.action = 'analyze';
				RETURN NEXT ROW(
					CASE WHEN c.problem IS NOT NULL OR c.action = 'create' AND NOT has_default
							AND partshift.covers_now(t.relation, c.lower, c.upper) THEN 'critical'
						ELSE 'warning' END,
					CASE c.action WHEN 'create' THEN 'missing partition' ELSE 'expired partition' END,
					t.name, c.object,
					coalesce((SELECT w.message FROM partshift.managed m,
								partshift.why_not(c.problem, m, c.rows) w WHERE m.relid = t.relation),
						'from ' || c.lower || ' to ' || c.upper),
					CASE c.problem
						WHEN 'rows' THEN format('SELECT partshift.manage(%L, ..., move_rows => %s); %s',
							t.name, c.rows, call)
						WHEN 'reference' THEN format('ALTER TABLE %s DETACH PARTITION %s', t.name, c.object)
						ELSE call END)::partshift.ailment;
			END LOOP;
		EXCEPTION WHEN OTHERS THEN
			RETURN NEXT ROW('critical', 'maintenance', t.name, NULL, SQLERRM,
				format('SELECT partshift.manage(%L, ...)', t.name))::partshift.ailment;
		END;
	END LOOP;
END
$$;

COMMENT ON FUNCTION partshift.partition_ailments(oid, oid) IS
'partitions that are missing or have expired';

CREATE FUNCTION partshift.covers_now(relid oid, lower text, upper text) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $$
	SELECT CASE WHEN partshift.is_number(k.type) THEN true
		ELSE partshift.bound_rank(lower, k.type) <= n.rank
			AND n.rank < partshift.bound_rank(upper, k.type) END
	FROM partshift.managed m, partshift.key_of(m.relid, m.key_column, '{}') AS k,
		LATERAL (SELECT partshift.bound_rank(partshift.from_local(
			now() AT TIME ZONE CASE WHEN k.type IN ('timestamptz'::regtype, 'uuid'::regtype)
				THEN 'UTC' ELSE m.timezone END, k.type), k.type)) AS n (rank)
	WHERE m.relid = covers_now.relid
$$;

COMMENT ON FUNCTION partshift.covers_now(oid, text, text) IS
'whether a range is that of the present; of numbers each may be';

CREATE FUNCTION partshift.table_ailments(relid oid, role oid)
RETURNS SETOF partshift.ailment
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH t AS MATERIALIZED (SELECT * FROM partshift.inspected_tables(relid, role))
	SELECT 'critical', 'maintenance', t.name, NULL::text,
		'It failed at ' || m.failed_at || ': ' || m.error,
		format('SELECT partshift.maintain(%L)', t.name)
	FROM t JOIN partshift.managed m ON m.relid = t.relation
	WHERE m.failed_at IS NOT NULL
	UNION ALL
	SELECT 'warning', 'maintenance', t.name, NULL,
		coalesce('It ran last at ' || m.maintained_at, 'It never ran') || '.',
		'SELECT partshift.maintain()'
	FROM t JOIN partshift.managed m ON m.relid = t.relation
	WHERE coalesce(m.maintained_at, m.managed_at) < now() - interval '2 days'
	UNION ALL
	SELECT 'info', 'maintenance', t.name, NULL, 'Nobody makes its next partitions.',
		format('SELECT partshift.manage(%L)', t.name)
	FROM t
	WHERE NOT t.managed AND partshift.converted_options(t.relation) ? 'every'
	UNION ALL
	SELECT 'warning', 'maintenance', t.name, NULL,
		format('The policy that it had before job %s does not fit it: nobody makes its next partitions.', j.job_id),
		format('SELECT partshift.manage(%L)', t.name)
	FROM t JOIN partshift.job j ON j.shadow = t.relation AND j.strategy = 'range'
			AND j.status IN ('active', 'paused', 'failed')
		JOIN partshift.managed m ON m.relid = j.relid AND m.successor IS NULL
	WHERE NOT t.managed AND NOT j.options ? 'every'
	UNION ALL
	SELECT 'warning', 'maintenance', t.name, NULL, 'pg_partman maintains it as well.',
		format('SELECT partshift.unmanage(%L)', t.name)
	FROM t
	WHERE t.managed AND partshift.partman_config(t.relation) IS NOT NULL
	UNION ALL
	SELECT 'warning', 'default partition', t.name, d.oid::regclass::text,
		'It has rows: each new partition is checked against them.',
		CASE WHEN t.managed THEN format('SELECT partshift.maintain(%L)', t.name)
			ELSE format('SELECT * FROM %s', d.oid::regclass) END
	FROM t JOIN pg_partitioned_table p ON p.partrelid = t.relation
		JOIN pg_class d ON d.oid = p.partdefid AND d.relkind = 'r'
	WHERE pg_relation_size(d.oid) > 0 AND partshift.has_rows(d.oid)
	UNION ALL
	SELECT 'warning', 'statistics', t.name, NULL,
		coalesce('It was last analyzed as a whole at ' || a.last || '.',
			'It was never analyzed as a whole.'), 'ANALYZE ' || t.name
	FROM t, LATERAL (SELECT greatest(s.last_analyze, s.last_autoanalyze) AS last
					 FROM pg_stat_all_tables s WHERE s.relid = t.relation) AS a
	WHERE a.last IS NULL OR a.last < now() - interval '7 days'
	UNION ALL
	SELECT 'warning', 'detach', t.name, i.inhrelid::regclass::text,
		'Its DETACH was interrupted: its rows are not seen any more.',
		format('ALTER TABLE %s DETACH PARTITION %s FINALIZE', t.name, i.inhrelid::regclass)
	FROM t JOIN pg_inherits i ON i.inhparent = t.relation AND i.inhdetachpending
	UNION ALL
	SELECT CASE l.status WHEN 'hot' THEN 'info' ELSE 'warning' END, l.status || ' partition',
		l.relation, l.leaf, format('It has %s of the table, %s.', l.share, pg_size_pretty(l.bytes)),
		'-- narrower partitions: partshift.manage(..., every => ...)'
	FROM partshift.leaf_states(relid, role) l
	WHERE l.status = 'oversize'
		OR l.status = 'hot' AND l.bound NOT LIKE 'FOR VALUES FROM%'
$$;

COMMENT ON FUNCTION partshift.table_ailments(oid, oid) IS
'what is amiss with tables as a whole';

CREATE FUNCTION partshift.job_ailments(relid oid, role oid)
RETURNS SETOF partshift.ailment
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH j AS (
		SELECT j.*, format('%I.%I', j.schema_name, j.table_name) AS name
		FROM partshift.job j
		WHERE (job_ailments.relid IS NULL OR job_ailments.relid IN (j.relid, j.shadow))
			AND partshift.may_inspect(job_ailments.role, j.owner)
			AND j.status IN ('active', 'paused', 'failed')
	)
	SELECT 'critical', 'failed job', j.name, 'job ' || j.job_id,
		format('%s: %s', j.error_sqlstate, j.error_message),
		format('SELECT partshift.resume(%s)', j.job_id)
			|| CASE WHEN j.phase <> 'done' THEN format(' -- or partshift.abort(%s)', j.job_id)
				WHEN NOT j.reverse THEN format(' -- or partshift.finalize(%s)', j.job_id) ELSE '' END
	FROM j WHERE j.status = 'failed'
	UNION ALL
	SELECT 'warning', 'stuck job', j.name, 'job ' || j.job_id,
		format('Nobody works on it in phase %s.', j.phase),
		format('SELECT partshift.resume(%s)', j.job_id)
	FROM j
	WHERE j.status = 'active'
		AND (j.request IS NOT NULL OR j.reverse OR j.phase NOT IN ('ready', 'done'))
		AND NOT EXISTS (SELECT FROM pg_stat_activity a
						WHERE a.pid = j.worker_pid AND a.backend_type = 'partshift worker')
		AND j.created_at < now() - interval '1 minute'
	UNION ALL
	SELECT 'critical', 'rollback lost', j.name, 'job ' || j.job_id,
		format('The old table no longer follows since %s: %s.', d.dropped_at, d.reason),
		format('SELECT partshift.%s(%s)', CASE WHEN j.reverse THEN 'abort' ELSE 'finalize' END, j.job_id)
	FROM j JOIN LATERAL (SELECT o.dropped_at, o.reason FROM partshift.dropout o
						 WHERE o.job_id = j.job_id ORDER BY o.dropped_at LIMIT 1) AS d ON true
	WHERE (j.phase = 'done') <> j.reverse
	UNION ALL
	SELECT 'info', 'unfinished job', j.name, 'job ' || j.job_id,
		CASE WHEN coalesce((j.options ->> 'reverse_sync')::boolean, true)
			THEN format('Each write costs twice since %s.', j.swapped_at)
			ELSE format('It has been done since %s.', j.swapped_at) END,
		format('SELECT partshift.finalize(%s)', j.job_id)
	FROM j
	WHERE j.status = 'active' AND j.phase = 'done' AND j.swapped_at < now() - interval '7 days'
$$;

COMMENT ON FUNCTION partshift.job_ailments(oid, oid) IS
'conversions that have failed, are stuck, or are not what they should be';

CREATE FUNCTION partshift.backup_ailments(relid oid, role oid)
RETURNS SETOF partshift.ailment
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT 'warning', CASE s.state WHEN 'expired' THEN 'expired backup' ELSE 'unverified backup' END,
		s.relation, s.backup, format('%s it takes: %s.', pg_size_pretty(
			greatest(pg_total_relation_size(s.relid),
				(SELECT sum(pg_total_relation_size(t.relid))::bigint FROM pg_partition_tree(s.relid) t))),
			partshift.backup_reason(s.state)),
		CASE s.state WHEN 'expired' THEN format('SELECT partshift.cleanup(dry_run => false, backup => %L)', s.backup)
			ELSE format('SELECT partshift.verify_backup(%L)', s.backup) END
	FROM partshift.backup_states() s
	WHERE s.state IN ('expired', 'unverified')
		AND (backup_ailments.relid IS NULL OR s.relid = backup_ailments.relid
			 OR s.relation = (SELECT format('%I.%I', n.nspname, c.relname)
							  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
							  WHERE c.oid = backup_ailments.relid))
		AND partshift.may_inspect(role, s.owner)
$$;

COMMENT ON FUNCTION partshift.backup_ailments(oid, oid) IS
'backups that wait to be dropped or verified';

CREATE FUNCTION partshift.inspect_as(relid oid, role oid, what text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$
DECLARE
	answer jsonb;
BEGIN
	IF relid IS NOT NULL AND NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = relid) THEN
		RAISE EXCEPTION 'relation with OID % does not exist', relid
			USING ERRCODE = 'undefined_table';
	END IF;
	CASE what
		WHEN 'leaves' THEN
			SELECT jsonb_agg(to_jsonb(l)) INTO answer FROM partshift.leaf_states(relid, role) l;
		WHEN 'distribution' THEN
			SELECT jsonb_agg(to_jsonb(t)) INTO answer FROM partshift.table_states(relid, role) t;
		WHEN 'health' THEN
			SELECT jsonb_agg(to_jsonb(a) ORDER BY array_position(
					ARRAY['critical', 'warning', 'info'], a.severity), a.relation, a.topic, a.object)
			INTO answer
			FROM (SELECT * FROM partshift.partition_ailments(relid, role)
				  UNION ALL SELECT * FROM partshift.table_ailments(relid, role)
				  UNION ALL SELECT * FROM partshift.job_ailments(relid, role)
				  UNION ALL SELECT * FROM partshift.backup_ailments(relid, role)) AS a;
	END CASE;
	RETURN coalesce(answer, '[]');
END
$$;

COMMENT ON FUNCTION partshift.inspect_as(oid, oid, text) IS
'what a role may know of the health of tables';

CREATE FUNCTION partshift.inspect(relation regclass, what text) RETURNS jsonb
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'partshift_inspect';

COMMENT ON FUNCTION partshift.inspect(regclass, text) IS
'health(), leaves() and distribution() as one value';

CREATE FUNCTION partshift.health(relation regclass DEFAULT NULL)
RETURNS TABLE (severity text, topic text, table_name text, object text, detail text, mend text)
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT a.severity, a.topic, a.relation, a.object, a.detail, a.mend
	FROM jsonb_populate_recordset(NULL::partshift.ailment,
		partshift.inspect(relation, 'health')) AS a
$$;

COMMENT ON FUNCTION partshift.health(regclass) IS
'what is amiss with partitioned tables, conversions and backups, and what mends it';

CREATE FUNCTION partshift.leaves(relation regclass DEFAULT NULL)
RETURNS TABLE (table_name text, leaf text, bound text, rows bigint, bytes bigint,
	share numeric, writes bigint, status text)
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT l.relation, l.leaf, l.bound, l.rows, l.bytes, l.share, l.writes, l.status
	FROM jsonb_to_recordset(partshift.inspect(relation, 'leaves')) AS l (relation text,
		leaf text, bound text, rows bigint, bytes bigint, share numeric, writes bigint, status text)
$$;

COMMENT ON FUNCTION partshift.leaves(regclass) IS
'the partitions of a table: rows, bytes, share and state';

CREATE FUNCTION partshift.distribution(relation regclass DEFAULT NULL)
RETURNS TABLE (table_name text, partitions bigint, used bigint, rows numeric, bytes numeric,
	avg_bytes numeric, min_bytes bigint, max_bytes bigint, stddev_bytes numeric)
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT t.relation, t.partitions, t.used, t.rows, t.bytes, t.avg_bytes, t.min_bytes,
		t.max_bytes, t.stddev_bytes
	FROM jsonb_to_recordset(partshift.inspect(relation, 'distribution')) AS t (relation text,
		partitions bigint, used bigint, rows numeric, bytes numeric, avg_bytes numeric,
		min_bytes bigint, max_bytes bigint, stddev_bytes numeric)
$$;

COMMENT ON FUNCTION partshift.distribution(regclass) IS
'how evenly a table is spread over its partitions';
