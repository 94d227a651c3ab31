/*
 * What an operator looks at.  A job is shown to whoever has the rights of the
 * table's owner, and to monitoring roles; the views' barrier keeps a reader's
 * own functions from seeing the other rows.  Monitoring roles cannot read the
 * table, so what quotes its rows is not for them; nor is the owner shown
 * the statement of another role, as in pg_stat_activity.
 */
CREATE FUNCTION partshift.acts_for(role oid) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT EXISTS (SELECT FROM pg_roles r
				   WHERE r.oid = acts_for.role AND pg_has_role(r.oid, 'USAGE'))
$$;

COMMENT ON FUNCTION partshift.acts_for(oid) IS
'whether the current user has the rights of a role that there is';

CREATE FUNCTION partshift.can_see(owner oid) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT pg_has_role('pg_monitor', 'USAGE')
		OR partshift.acts_for(can_see.owner)
$$;

COMMENT ON FUNCTION partshift.can_see(oid) IS
'whether the current user may see the jobs of that owner';

CREATE VIEW partshift.jobs WITH (security_barrier) AS
SELECT j.job_id,
	format('%I.%I', j.schema_name, j.table_name) AS relation,
	j.strategy,
	array_to_string(j.key_columns, ', ') AS key,
	j.phase,
	j.status,
	j.request,
	pg_get_userbyid(j.owner) AS owner,
	(SELECT format('%I.%I', n.nspname, c.relname)
	 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
	 WHERE c.oid = j.relid AND (j.phase = 'done' OR j.reverse)
		AND j.status <> 'rolled_back') AS legacy,
	j.swap_mode,
	j.verify_mode,
	j.workers,
	(SELECT a.pid FROM pg_stat_activity a WHERE a.pid = j.worker_pid)
		AS worker_pid,
	j.phase = 'done' AND j.status = 'active' AND NOT j.reverse
		AND j.request IS DISTINCT FROM 'finalize'
		AND coalesce((j.options ->> 'reverse_sync')::boolean, true)
		AND d.reason IS NULL
		AND EXISTS (SELECT FROM pg_class c WHERE c.oid = j.relid)
		AND NOT EXISTS (
			SELECT FROM jsonb_array_elements_text(j.plan -> 'new_leaves') AS l (leaf)
			WHERE NOT EXISTS (SELECT FROM pg_inherits i
							  WHERE i.inhrelid = l.leaf::oid
								AND i.inhparent = j.shadow AND NOT i.inhdetachpending))
		AS rollback_possible,
	d.dropped_at AS rollback_lost_at,
	d.reason AS rollback_lost_reason,
	j.created_at,
	j.phase_started_at,
	j.swapped_at,
	j.ended_at,
	coalesce(j.ended_at, clock_timestamp()) - j.created_at AS elapsed,
	j.error_sqlstate,
	j.error_message,
	CASE WHEN partshift.acts_for(j.owner) THEN j.error_detail END AS error_detail,
	j.error_hint
FROM partshift.job j
	LEFT JOIN LATERAL (
		SELECT o.dropped_at, o.reason FROM partshift.dropout o
		WHERE o.job_id = j.job_id
		ORDER BY o.dropped_at LIMIT 1) AS d ON true
WHERE partshift.can_see(j.owner);

COMMENT ON VIEW partshift.jobs IS
'conversions of tables whose owner''s rights the reader has';
COMMENT ON COLUMN partshift.jobs.legacy IS
'the table as it was before the swap';
COMMENT ON COLUMN partshift.jobs.rollback_possible IS
'the legacy table has followed every change since the swap';

/*
 * Work done and to do is that of the present phase, in its own unit.  Ranges
 * of blocks of one table follow one another, so a range begins where the one
 * before it ends.  All is in the view itself: a function would read the tables with the
 * reader's rights.
 */
CREATE VIEW partshift.progress WITH (security_barrier) AS
SELECT j.job_id,
	format('%I.%I', j.schema_name, j.table_name) AS relation,
	j.phase,
	j.status,
	CASE WHEN j.phase = 'done' OR j.status = 'finalized' THEN 100.0
		ELSE round(100.0 * p.done / nullif(p.total, 0), 1) END AS percent,
	CASE WHEN p.total > 0 THEN p.unit END AS unit,
	CASE WHEN p.total > 0 THEN p.done END AS done,
	nullif(p.total, 0) AS total,
	w.rows AS rows_copied,
	j.rows_estimate,
	w.bytes AS bytes_copied,
	j.bytes_total,
	CASE WHEN r.active THEN round((CASE j.phase WHEN 'copy' THEN w.rows
			WHEN 'reconcile' THEN j.reconciled END
		/ nullif(r.seconds, 0))::numeric) END AS rows_per_second,
	CASE WHEN r.active AND p.done > 0
		THEN make_interval(secs => round(r.seconds
			* (p.total - p.done) / p.done)) END AS time_left,
	make_interval(secs => (j.throttled_ms + w.throttled_ms) / 1000)
		AS throttled,
	j.replica_lag,
	j.reconciled,
	j.postponed_rows AS busy_rows,
	j.lock_tries,
	j.blocker_pid,
	CASE WHEN j.blocker IS NULL OR j.blocker_role IS NULL
			OR partshift.acts_for(j.blocker_role)
			OR pg_has_role('pg_read_all_stats', 'USAGE')
		THEN j.blocker ELSE '<insufficient privilege>' END AS blocker,
	j.error_sqlstate,
	j.error_message,
	CASE WHEN partshift.acts_for(j.owner) THEN j.error_detail END AS error_detail,
	j.error_hint,
	j.phase_started_at,
	(SELECT jsonb_object_agg(l.phase, l.took)
	 FROM (SELECT l.phase, sum(l.ended_at - l.started_at) AS took
		   FROM partshift.phase_log l
		   WHERE l.job_id = j.job_id
		   GROUP BY l.phase) AS l) AS phase_times,
	j.swap_lock_ms
FROM partshift.job j
	CROSS JOIN LATERAL (
		SELECT coalesce(sum(t.rows), 0)::bigint AS rows,
			coalesce(sum(t.bytes), 0)::bigint AS bytes,
			coalesce(sum(t.throttled_ms), 0) AS throttled_ms,
			sum(t.next_block - t.start_block)::bigint AS blocks_done,
			sum(t.end_block - t.start_block)::bigint AS blocks
		FROM (SELECT t.*, lag(t.end_block, 1, 0::bigint)
					OVER (PARTITION BY t.object ORDER BY t.end_block) AS start_block
			  FROM partshift.task t
			  WHERE t.job_id = j.job_id AND t.phase = 'copy') AS t) AS w
	CROSS JOIN LATERAL (
		SELECT 'blocks' AS unit, w.blocks_done AS done, w.blocks AS total
		WHERE j.phase = 'copy'
		UNION ALL
		SELECT 'log blocks', least(j.log_block, s.blocks), s.blocks
		FROM (SELECT pg_relation_size(j.log)
				/ current_setting('block_size')::bigint) AS s(blocks)
		WHERE j.phase = 'reconcile'
		UNION ALL
		SELECT CASE j.phase WHEN 'index' THEN 'indexes'
				WHEN 'rewire' THEN 'statements' ELSE 'steps' END,
			(SELECT count(*) FROM partshift.task t
			 WHERE t.job_id = j.job_id AND t.phase = j.phase AND t.done),
			(SELECT count(*) FROM partshift.task t
			 WHERE t.job_id = j.job_id AND t.phase = j.phase)
		WHERE j.phase NOT IN ('copy', 'reconcile')) AS p
	CROSS JOIN LATERAL (
		SELECT j.status = 'active' AND j.phase IN ('copy', 'index',
				'reconcile', 'rewire', 'verify') AS active,
			extract(epoch FROM clock_timestamp() - j.phase_started_at)
				::double precision AS seconds) AS r
WHERE partshift.can_see(j.owner);

COMMENT ON VIEW partshift.progress IS
'how far each conversion has come, what holds it up, and how long its phases took';
COMMENT ON COLUMN partshift.progress.percent IS
'of the present phase';
COMMENT ON COLUMN partshift.progress.unit IS
'what done and total count in the present phase';
COMMENT ON COLUMN partshift.progress.busy_rows IS
'identities that were put off because another transaction held them';
COMMENT ON COLUMN partshift.progress.swap_lock_ms IS
'how long the swap held its locks, in milliseconds';
