/*
 * Numbers for a monitoring system, a row for each series; doc/monitoring has
 * the queries of postgres_exporter for them.
 *
 * Nothing is counted for these views alone but the rows that are mirrored,
 * and those in memory.  What the server's statistics have counted is missing
 * what a session has not reported yet, contains what was rolled back, and
 * begins anew after a crash or pg_stat_reset(); so do these numbers.
 */
CREATE VIEW partshift.counters WITH (security_barrier) AS
SELECT j.job_id,
	format('%I.%I', j.schema_name, j.table_name) AS relation,
	t.copied,
	t.skipped,
	t.unsure,
	greatest(pg_stat_get_tuples_inserted(j.log), s.captured) AS captured,
	j.reconciled AS settled,
	j.postponed_rows AS busy,
	greatest(pg_stat_get_tuples_returned(j.shadow), s.mirrored) AS mirrored,
	greatest(pg_stat_get_numscans(j.shadow), s.fallbacks) AS mirror_fallbacks
FROM partshift.job j
	CROSS JOIN LATERAL (
		SELECT coalesce(sum(t.rows), 0)::bigint AS copied,
			coalesce(sum(t.skipped), 0)::bigint AS skipped,
			coalesce(sum(t.unsure), 0)::bigint AS unsure
		FROM partshift.task t
		WHERE t.job_id = j.job_id AND t.phase = 'copy') AS t
	CROSS JOIN LATERAL (
		SELECT coalesce(max((e.counters ->> 'captured')::bigint), 0) AS captured,
			coalesce(max((e.counters ->> 'mirrored')::bigint), 0) AS mirrored,
			coalesce(max((e.counters ->> 'fallbacks')::bigint), 0) AS fallbacks
		FROM partshift.event e
		WHERE e.job_id = j.job_id) AS s
WHERE partshift.can_see(j.owner);

COMMENT ON VIEW partshift.counters IS
'how many rows each conversion copied, captured, settled and mirrored';
COMMENT ON COLUMN partshift.counters.skipped IS
'rows that the copy passed over, because their writers were captured';
COMMENT ON COLUMN partshift.counters.unsure IS
'rows that the copy logged to be settled, because their age could not be told';
COMMENT ON COLUMN partshift.counters.captured IS
'rows logged by writers and by the copy before mirroring began';
COMMENT ON COLUMN partshift.counters.busy IS
'rows that wait to be settled, because another transaction held them';
COMMENT ON COLUMN partshift.counters.mirrored IS
'rows written to the other table by triggers, before the swap and after it';
COMMENT ON COLUMN partshift.counters.mirror_fallbacks IS
'of those, how many were looked up again because the event was not the last word about the row';

CREATE VIEW partshift.metrics WITH (security_barrier) AS
SELECT p.job_id,
	p.relation,
	j.strategy,
	p.phase,
	p.status,
	array_position(ARRAY['prepare', 'copy', 'index', 'mirror', 'reconcile',
						 'rewire', 'verify', 'ready', 'swap', 'done'], p.phase) AS phase_number,
	(p.status = 'active')::integer AS active,
	(p.status = 'failed')::integer AS failed,
	(j.worker_pid IS NOT NULL)::integer AS worker,
	coalesce(p.percent / 100, 0)::double precision AS phase_ratio,
	extract(epoch FROM clock_timestamp() - p.phase_started_at)::double precision
		AS phase_seconds,
	p.bytes_copied,
	p.bytes_total,
	c.copied AS rows_copied,
	c.captured AS rows_captured,
	c.settled AS rows_settled,
	c.busy AS rows_busy,
	c.mirrored AS rows_mirrored,
	c.mirror_fallbacks,
	p.lock_tries,
	(p.blocker_pid IS NOT NULL)::integer AS blocked,
	extract(epoch FROM p.throttled)::double precision AS throttled_seconds,
	p.replica_lag AS replica_lag_bytes,
	coalesce(p.swap_lock_ms / 1000, 0) AS swap_lock_seconds,
	j.rollback_possible::integer AS rollback_possible,
	(j.rollback_lost_at IS NOT NULL)::integer AS dropped_out
FROM partshift.progress p
	JOIN partshift.jobs j USING (job_id)
	JOIN partshift.counters c USING (job_id)
WHERE j.ended_at IS NULL OR j.ended_at > clock_timestamp() - interval '1 hour';

COMMENT ON VIEW partshift.metrics IS
'numbers for a monitoring system: a row for each job that lives or ended within the hour';

/*
 * All partitioned tables that the reader may see, ours or not.  rows is what
 * the last VACUUM or ANALYZE found, -1 where there was none.
 */
CREATE VIEW partshift.partition_metrics WITH (security_barrier) AS
SELECT format('%I.%I', n.nspname, t.relname) AS relation,
	format('%I.%I', ln.nspname, l.relname) AS partition,
	l.reltuples::bigint AS rows,
	pg_total_relation_size(l.oid) AS bytes,
	(pg_get_expr(l.relpartbound, l.oid) = 'DEFAULT')::integer AS is_default
FROM pg_class t
	JOIN pg_namespace n ON n.oid = t.relnamespace
	JOIN pg_inherits i ON i.inhparent = t.oid
	JOIN pg_class l ON l.oid = i.inhrelid AND l.relkind = 'r'
	JOIN pg_namespace ln ON ln.oid = l.relnamespace
WHERE t.relkind = 'p' AND t.relpersistence <> 't'
	AND partshift.can_see(t.relowner);

COMMENT ON VIEW partshift.partition_metrics IS
'rows and bytes of each partition of partitioned tables';

/*
 * How far the partitions of tables by ranges of time reach.  Bounds are read
 * back from their text, which the date style of the reader forms.
 */
CREATE VIEW partshift.range_metrics WITH (security_barrier) AS
SELECT r.relation,
	count(*)::integer AS partitions,
	extract(epoch FROM max(r.upper) - clock_timestamp())::double precision AS seconds_ahead,
	extract(epoch FROM (array_agg(r.upper - r.lower ORDER BY r.upper DESC))[1])::double precision
		AS seconds_wide
FROM (
	SELECT t.oid, format('%I.%I', n.nspname, t.relname) AS relation,
		nullif(nullif(b.ends[1], 'MINVALUE'), '-infinity')::timestamptz AS lower,
		nullif(nullif(b.ends[2], 'MAXVALUE'), 'infinity')::timestamptz AS upper
	FROM pg_class t
		JOIN pg_namespace n ON n.oid = t.relnamespace
		JOIN pg_partitioned_table p ON p.partrelid = t.oid
			AND p.partstrat = 'r' AND p.partnatts = 1
		JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = p.partattrs[0]
			AND a.atttypid IN ('date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype)
		JOIN pg_inherits i ON i.inhparent = t.oid
		JOIN pg_class l ON l.oid = i.inhrelid
		CROSS JOIN LATERAL regexp_match(pg_get_expr(l.relpartbound, l.oid),
			$re$^FOR VALUES FROM \('?([^']*)'?\) TO \('?([^']*)'?\)$$re$) AS b (ends)
	WHERE b.ends IS NOT NULL AND t.relpersistence <> 't'
		AND partshift.can_see(t.relowner)) AS r
GROUP BY r.oid, r.relation
HAVING every(r.upper IS NOT NULL);

COMMENT ON VIEW partshift.range_metrics IS
'how far the partitions of tables by ranges of time reach into the future';
COMMENT ON COLUMN partshift.range_metrics.seconds_ahead IS
'until the last partition ends; negative when it has';
COMMENT ON COLUMN partshift.range_metrics.seconds_wide IS
'width of the last partition';
