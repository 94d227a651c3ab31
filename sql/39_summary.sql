/*
 * What plan() says about sizes, room, time, locks and statements.  The numbers
 * are in the plan as "estimate", for programs.
 */
CREATE FUNCTION partshift.describe_sizes(estimate jsonb)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH leaf AS (
		SELECT * FROM jsonb_to_recordset(estimate->'leaves') AS l(rows numeric, bytes bigint, share numeric)
	), sizes AS (
		SELECT (estimate->>'skew')::numeric AS skew,
			   (estimate->>'sampled_rows')::numeric AS sampled,
			   (estimate->>'top_share')::numeric AS top_share,
			   avg(rows) FILTER (WHERE share > 0) AS mean, max(rows) AS most, max(bytes) AS bytes,
			   count(*) FILTER (WHERE share > 0) AS used, count(*) AS leaves
		FROM leaf
	), said AS (
		SELECT skew > 4 AND used >= 4 AND sampled >= 5000 AS uneven,
			   format('%s of %s partitions have rows, about %s each; the largest, "%s", has %s, %s with its indexes',
					  used, leaves, round(mean), estimate->>'largest', most,
					  pg_size_pretty(bytes)) AS sizes,
			   concat_ws('  ', format('From a sample of %s rows.', sampled),
				CASE WHEN top_share >= 0.05
					 THEN format('The commonest key, %s, is that of %s %% of them.',
								 estimate->>'top_key', round(top_share * 100, 1)) END,
				CASE WHEN (estimate->>'null_rows')::numeric > 0
					 THEN format('About %s rows have no key.', estimate->>'null_rows') END) AS origin,
			   skew
		FROM sizes WHERE skew IS NOT NULL
	)
	SELECT w.*
	FROM said, partshift.warned('distribution', NULL,
			format('partition "%s" has about %s times the rows of the average one',
				   estimate->>'largest', skew),
			concat_ws('  ', sizes || '.', origin),
			'Choose another key, or other bounds, unless that is how it shall be.') w
	WHERE uneven
	UNION ALL
	SELECT i.*
	FROM said, partshift.informed('distribution', NULL, sizes, origin) i
	WHERE NOT uneven
$$;

COMMENT ON FUNCTION partshift.describe_sizes(jsonb) IS
'what the plan says about how even the partitions will be';

/* Of more than fifty, the twenty largest. */
CREATE FUNCTION partshift.describe_each(estimate jsonb)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH leaf AS (
		SELECT l.*, row_number() OVER (ORDER BY l.rows DESC, l.no) AS place, count(*) OVER () AS leaves
		FROM ROWS FROM (jsonb_to_recordset(estimate->'leaves')
						AS (name text, rows numeric, bytes bigint, share numeric))
			 WITH ORDINALITY AS l(name, rows, bytes, share, no)
		WHERE l.rows IS NOT NULL
	)
	SELECT i.*
	FROM (SELECT * FROM leaf WHERE leaves <= 50 OR place <= 20 ORDER BY no) AS l,
		 partshift.informed('partition', name,
			format('about %s rows (%s %%), %s', rows, round(share * 100, 1), pg_size_pretty(bytes))) i
	UNION ALL
	SELECT i.*
	FROM leaf, partshift.informed('partition', NULL,
			format('%s smaller partitions', leaves - 20)) i
	WHERE leaves > 50 AND place = 1
$$;

COMMENT ON FUNCTION partshift.describe_each(jsonb) IS
'what the plan says about how many rows each partition will have';

/* How much is free is for monitoring roles; whether it is enough, for all. */
CREATE FUNCTION partshift.describe_room(estimate jsonb, seen boolean)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH room AS (
		SELECT r->>'tablespace' AS tablespace, pg_size_pretty((r->>'needed')::bigint) AS needed,
			   (r->>'wal')::bigint AS wal, (r->>'enough')::boolean AS enough,
			   CASE WHEN seen THEN
				format('Free are %s, and %s for WAL.', pg_size_pretty((r->>'free')::bigint),
					   pg_size_pretty((r->>'wal_free')::bigint)) END AS free
		FROM (SELECT estimate->'room') AS e(r) WHERE r IS NOT NULL
	)
	SELECT w.*
	FROM room, partshift.warned('disk', tablespace, 'the new table may not fit into what is free',
			concat_ws('  ', format('It needs about %s.', needed), free),
			'Make room, or convert to another tablespace.') w
	WHERE NOT enough
	UNION ALL
	SELECT i.*
	FROM room, partshift.informed('disk', tablespace, format('the new table needs about %s', needed),
			concat_ws('  ', CASE WHEN enough THEN 'That much is free.' END, free)) i
	WHERE enough IS NOT FALSE
	UNION ALL
	SELECT i.*
	FROM room, partshift.informed('wal', NULL, format('about %s of WAL are written', pg_size_pretty(wal)),
			format('Checkpoints remove it beyond max_wal_size (%s), unless standbys, slots or the archive are behind.',
				   current_setting('max_wal_size'))) i
	WHERE wal > 0
$$;

COMMENT ON FUNCTION partshift.describe_room(jsonb, boolean) IS
'what the plan says about disk and WAL';

CREATE FUNCTION partshift.duration(ms numeric) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN ms < 1000 THEN 'less than a second'
				ELSE make_interval(secs => round(ms / 1000)::double precision)::text END
$$;

COMMENT ON FUNCTION partshift.duration(numeric) IS
'milliseconds for people';

CREATE FUNCTION partshift.describe_time(estimate jsonb)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT i.*
	FROM (SELECT (t->>'copy_ms')::numeric AS copy, (t->>'copy_throttled_ms')::numeric AS throttled,
				 (t->>'index_ms')::numeric AS index, (t->>'verify_ms')::numeric AS verify,
				 t->>'sampled_blocks' AS sampled
		  FROM (SELECT estimate->'time') AS e(t)) AS t,
		 partshift.informed('time', NULL,
			format('about %s: copy %s, indexes %s, comparison %s', partshift.duration(copy + index + verify),
				   partshift.duration(copy), partshift.duration(index), partshift.duration(verify)),
			format('Of the copy %s is the throttle (cost_delay, cost_limit).  From %s blocks copied just now, and not kept.',
				   partshift.duration(throttled), sampled)) i
	WHERE copy IS NOT NULL
$$;

COMMENT ON FUNCTION partshift.describe_time(jsonb) IS
'what the plan says about how long it takes';

CREATE FUNCTION partshift.describe_lock_table(estimate jsonb)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT f.*
	FROM (SELECT (l->>'sessions')::bigint AS sessions, l->>'fast_path' AS slots,
				 l->>'unpruned_query' AS needed, l->>'lock_table' AS capacity
		  FROM (SELECT estimate->'locks') AS e(l)) AS l,
		 LATERAL (
			SELECT w.*
			FROM partshift.warned('lock table', NULL,
					format('%s sessions fill the lock table with queries that do not name the partition key', sessions),
					format('Each takes %s locks, of which %s need no place there; it has room for %s.',
						   needed, slots, capacity),
					'Raise max_locks_per_transaction, or make fewer partitions.') w
			WHERE sessions < current_setting('max_connections')::bigint / 10
			UNION ALL
			SELECT i.*
			FROM partshift.informed('lock table', NULL,
					coalesce('the server has room for ' || sessions || ' sessions that run such queries at the same time',
							 'such a query needs no place in the server''s lock table'),
					format('%s of its %s locks take the fast path.', least(slots::bigint, needed::bigint), needed)) i
			WHERE sessions >= current_setting('max_connections')::bigint / 10 OR sessions IS NULL) f
	WHERE needed IS NOT NULL
$$;

COMMENT ON FUNCTION partshift.describe_lock_table(jsonb) IS
'what the plan says about locks of queries that read every partition';

CREATE FUNCTION partshift.check_replication()
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT w.*
	FROM pg_replication_slots s, partshift.warned('replication', s.slot_name,
			format('replication slot "%s" is not in use and keeps all WAL', s.slot_name), NULL,
			'Have it used again, or drop it, before the conversion writes its WAL.') w
	WHERE NOT s.active AND s.restart_lsn IS NOT NULL
	UNION ALL
	SELECT w.*
	FROM (SELECT max(pg_wal_lsn_diff(pg_current_wal_lsn(), coalesce(r.replay_lsn, r.sent_lsn))) AS lag
		  FROM pg_stat_replication r
		  WHERE NOT pg_is_in_recovery() AND r.state IN ('streaming', 'catchup')) AS r,
		 (SELECT setting::numeric AS most FROM pg_settings
		  WHERE name = 'partshift.max_replica_lag') AS m,
		 partshift.warned('replication', NULL,
			format('a standby is behind by %s', pg_size_pretty(lag)),
			'The conversion pauses until it has come within partshift.max_replica_lag.') w
	WHERE most >= 0 AND lag > most * 1024 * 1024
	UNION ALL
	SELECT w.*
	FROM pg_stat_archiver a, partshift.warned('wal', NULL,
			'archiving fails, so that WAL is kept', NULL, 'Mend archive_command first.') w
	WHERE a.last_failed_time > coalesce(a.last_archived_time, '-infinity')
$$;

COMMENT ON FUNCTION partshift.check_replication() IS
'warnings about slots, standbys and an archive that keep WAL or hold up the conversion';

CREATE FUNCTION partshift.describe_statements(estimate jsonb)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT f.*
	FROM (SELECT estimate->'statements') AS e(found),
		 LATERAL (
			SELECT i.*
			FROM partshift.informed('statement', NULL,
					format('%s statements are known: %s look into all partitions, %s have an ON CONFLICT without the partition key',
						   found->>'seen', jsonb_array_length(found->'unpruned'),
						   jsonb_array_length(found->'conflicts')),
					CASE WHEN (found->>'unread')::integer > 0
						 THEN format('%s could not be read.', found->>'unread') END) i
			UNION ALL
			SELECT w.*
			FROM jsonb_array_elements(found->'conflicts') WITH ORDINALITY AS s(s, position),
				 partshift.warned('statement', NULL, 'ON CONFLICT without the partition key',
					format('%s calls: %s', s->>'calls', left(s->>'query', 500)),
					'Name the partition key among the columns of ON CONFLICT.') w
			WHERE position <= 20
			UNION ALL
			SELECT w.*
			FROM jsonb_array_elements(found->'unpruned') WITH ORDINALITY AS s(s, position),
				 partshift.warned('statement', NULL, 'statement looks into all partitions',
					format('%s calls, %s ms: %s', s->>'calls', s->>'ms', left(s->>'query', 500))) w
			WHERE position <= 20) f
	WHERE found IS NOT NULL
$$;

COMMENT ON FUNCTION partshift.describe_statements(jsonb) IS
'what the plan says about the application''s statements';

/* One part of the estimate; when it cannot be told, why. */
CREATE FUNCTION partshift.forecast_part(part text, relid oid, options jsonb, plan jsonb,
										caller oid, OUT value jsonb, OUT problem partshift.finding)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	value := CASE part
		WHEN 'sizes' THEN partshift.forecast_leaves(relid, plan)
		WHEN 'room' THEN partshift.forecast_room(relid, plan)
		WHEN 'time' THEN partshift.forecast_time(relid, options, plan)
		WHEN 'locks' THEN partshift.forecast_locks(plan)
		ELSE partshift.forecast_statements(relid, plan, caller)
	END;
EXCEPTION WHEN OTHERS THEN
	problem := partshift.informed('estimate', part,
		format('no estimate of this can be given: %s', SQLERRM));
END
$$;

COMMENT ON FUNCTION partshift.forecast_part(text, oid, jsonb, jsonb, oid) IS
'one part of what a plan estimates, or why it cannot be told';

CREATE FUNCTION partshift.plan_page(relid oid, strategy text, key text, options jsonb, caller oid)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET extra_float_digits = 1
AS $$
DECLARE
	plan jsonb := partshift.make_plan(relid, strategy, key, options, 0);
	findings partshift.finding[] := array(
		SELECT jsonb_populate_record(NULL::partshift.finding, f)
		FROM jsonb_array_elements(plan->'findings') f);
	estimate jsonb := '{}';
	part text;
	told record;
BEGIN
	options := coalesce(options, '{}');
	IF plan->'leaves' IS NULL OR plan->'leaves' = '[]' THEN
		RETURN plan;
	END IF;
	FOREACH part IN ARRAY ARRAY['sizes', 'room', 'time', 'locks', 'statements'] LOOP
		CONTINUE WHEN part = 'time' AND partshift.has_error(findings);
		SELECT * INTO told FROM partshift.forecast_part(part, relid, options, plan, caller);
		IF (told.problem).severity IS NOT NULL THEN
			findings := findings || told.problem;
		ELSIF told.value IS NOT NULL THEN
			estimate := estimate || CASE part WHEN 'sizes' THEN told.value
				ELSE jsonb_build_object(part, told.value) END;
		END IF;
	END LOOP;
	findings := findings
		|| array(SELECT f FROM partshift.describe_sizes(estimate) f)
		|| array(SELECT f FROM partshift.describe_room(estimate,
					pg_has_role(caller, 'pg_monitor', 'USAGE')) f)
		|| array(SELECT f FROM partshift.describe_time(estimate) f)
		|| array(SELECT f FROM partshift.describe_lock_table(estimate) f)
		|| array(SELECT f FROM partshift.check_replication() f)
		|| array(SELECT f FROM partshift.describe_statements(estimate) f)
		|| array(SELECT f FROM partshift.describe_each(estimate) f);
	IF NOT pg_has_role(caller, 'pg_monitor', 'USAGE') THEN
		estimate := estimate #- '{room,free}' #- '{room,wal_free}';
	END IF;
	RETURN partshift.finished_plan(plan || jsonb_build_object('estimate', estimate), findings);
END
$$;

COMMENT ON FUNCTION partshift.plan_page(oid, text, text, jsonb, oid) IS
'the plan of a conversion with estimates of its sizes, room and time';
