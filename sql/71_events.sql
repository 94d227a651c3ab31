/*
 * What happened to a job, and when.
 *
 * Triggers on the job's row write it down, so that whoever changes a job, an
 * operator's function or a step of a worker, writes its event in the same
 * transaction: what was rolled back has not happened.  They fire in workers
 * too, whose session_replication_role is replica.  A batch changes only
 * columns that their conditions do not look at.
 *
 * Rows are added and never changed.  That the legacy table has dropped out is
 * noticed in a user's statement, which shall not pay for a second note of it:
 * the view takes it from partshift.dropout.
 */
CREATE TABLE partshift.event (
	event_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	job_id integer NOT NULL,
	happened_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	kind text NOT NULL,
	phase text NOT NULL,
	given_by name,
	detail text,
	counters jsonb
);

COMMENT ON TABLE partshift.event IS
'what happened to each job, and when; rows are added and never changed';
COMMENT ON COLUMN partshift.event.given_by IS
'who gave the order';
COMMENT ON COLUMN partshift.event.counters IS
'what the server''s statistics had counted until then, when a phase or the job ended';

CREATE INDEX event_job_idx ON partshift.event (job_id);

/*
 * Rows captured are rows inserted into the log.  Rows mirrored, and those of
 * them that had to be looked up again, are counted in the statistics of the
 * partitioned table itself, which the server leaves at zero: see mirror.c.
 */
CREATE FUNCTION partshift.counted(log oid, shadow oid) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT jsonb_strip_nulls(jsonb_build_object(
		'captured', CASE WHEN log IS NOT NULL THEN pg_stat_get_tuples_inserted(log) END,
		'mirrored', CASE WHEN shadow IS NOT NULL THEN pg_stat_get_tuples_returned(shadow) END,
		'fallbacks', CASE WHEN shadow IS NOT NULL THEN pg_stat_get_numscans(shadow) END))
$$;

COMMENT ON FUNCTION partshift.counted(oid, oid) IS
'what the server''s statistics have counted for a job';

CREATE FUNCTION partshift.record_creation() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	INSERT INTO partshift.event (job_id, kind, phase, given_by, detail)
	VALUES (NEW.job_id, 'created', NEW.phase, session_user,
			format('%I.%I by %s (%s)', NEW.schema_name, NEW.table_name, NEW.strategy,
				   array_to_string(NEW.key_columns, ', ')));
	RETURN NULL;
END
$$;

COMMENT ON FUNCTION partshift.record_creation() IS
'trigger on partshift.job: writes down that a job was made';

CREATE TRIGGER job_created AFTER INSERT ON partshift.job
	FOR EACH ROW EXECUTE FUNCTION partshift.record_creation();
ALTER TABLE partshift.job ENABLE ALWAYS TRIGGER job_created;

/* A job that fails or is ordered about may change in several ways at once. */
CREATE FUNCTION partshift.events_of_change(was partshift.job, job partshift.job)
RETURNS TABLE (kind text, given_by name, detail text, counters jsonb)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT 'ordered', session_user::name, job.request, NULL::jsonb
	WHERE job.request IS DISTINCT FROM was.request AND job.request IS NOT NULL
	UNION ALL
	SELECT 'ordered', session_user, 'swap', NULL
	WHERE job.swap_requested AND NOT was.swap_requested
	UNION ALL
	SELECT CASE WHEN job.status = 'active' THEN 'resumed' ELSE 'paused' END,
		session_user, NULL, NULL
	WHERE job.status IS DISTINCT FROM was.status AND job.request IS NULL
		AND job.status IN ('active', 'paused')
	UNION ALL
	SELECT 'altered', session_user,
		concat_ws(', ',
			CASE WHEN job.workers <> was.workers THEN 'workers ' || job.workers END,
			CASE WHEN job.cost_delay <> was.cost_delay THEN 'cost_delay ' || job.cost_delay END,
			CASE WHEN job.cost_limit <> was.cost_limit THEN 'cost_limit ' || job.cost_limit END,
			CASE WHEN job.swap_mode <> was.swap_mode THEN 'swap ' || job.swap_mode END), NULL
	WHERE (job.workers, job.cost_delay, job.cost_limit, job.swap_mode)
		IS DISTINCT FROM (was.workers, was.cost_delay, was.cost_limit, was.swap_mode)
	UNION ALL
	SELECT 'worker', NULL, 'process ' || job.worker_pid, NULL
	WHERE job.worker_pid IS DISTINCT FROM was.worker_pid
	UNION ALL
	SELECT 'waiting', NULL,
		concat_ws(', ', 'try ' || nullif(job.lock_tries, 0) || ' for a lock',
				  coalesce('process ' || job.blocker_pid,
						   CASE WHEN job.blocker_role IS NULL THEN job.blocker END)
					|| ' is in the way'), NULL
	WHERE job.phase = was.phase
		AND (job.lock_tries > was.lock_tries
			 OR job.blocker_pid IS NOT NULL AND was.blocker_pid IS NULL)
	UNION ALL
	SELECT 'failed', NULL, job.error_sqlstate || ': ' || job.error_message, NULL
	WHERE job.status = 'failed' AND was.status <> 'failed'
	UNION ALL
	SELECT CASE WHEN job.phase = 'prepare' THEN 'restarted'
				WHEN was.phase = 'swap' AND job.reverse THEN 'swapped back'
				WHEN was.phase = 'swap' THEN 'swapped'
				ELSE 'phase' END,
		NULL,
		CASE WHEN job.phase = 'prepare' THEN 'the table has another file: its rows are copied again'
			 ELSE was.phase || ' to ' || job.phase END,
		partshift.counted(was.log, was.shadow)
	WHERE job.phase <> was.phase
	UNION ALL
	SELECT job.status, NULL, NULL, partshift.counted(was.log, was.shadow)
	WHERE job.status <> was.status
		AND job.status IN ('aborted', 'rolled_back', 'finalized')
$$;

COMMENT ON FUNCTION partshift.events_of_change(partshift.job, partshift.job) IS
'what a change of a job''s row means';

CREATE FUNCTION partshift.record_change() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	INSERT INTO partshift.event (job_id, kind, phase, given_by, detail, counters)
	SELECT NEW.job_id, e.kind, NEW.phase, e.given_by, e.detail, e.counters
	FROM partshift.events_of_change(OLD, NEW) AS e;
	RETURN NULL;
END
$$;

COMMENT ON FUNCTION partshift.record_change() IS
'trigger on partshift.job: writes down what happened to a job';

/* Of tries for a lock that go on for hours the 1st, 2nd, 4th, 8th ... count. */
CREATE TRIGGER job_changed AFTER UPDATE ON partshift.job
	FOR EACH ROW WHEN (
		(OLD.phase, OLD.status, OLD.request, OLD.swap_requested, OLD.worker_pid,
		 OLD.workers, OLD.cost_delay, OLD.cost_limit, OLD.swap_mode)
		IS DISTINCT FROM
		(NEW.phase, NEW.status, NEW.request, NEW.swap_requested, NEW.worker_pid,
		 NEW.workers, NEW.cost_delay, NEW.cost_limit, NEW.swap_mode)
		OR NEW.lock_tries > OLD.lock_tries
			AND (NEW.lock_tries & (NEW.lock_tries - 1)) = 0
		OR NEW.blocker_pid IS NOT NULL AND OLD.blocker_pid IS NULL
			AND NEW.lock_tries = OLD.lock_tries)
	EXECUTE FUNCTION partshift.record_change();
ALTER TABLE partshift.job ENABLE ALWAYS TRIGGER job_changed;

CREATE VIEW partshift.events WITH (security_barrier) AS
SELECT e.job_id, e.happened_at, e.kind, e.phase, e.given_by, e.detail, e.counters
FROM (SELECT e.event_id, e.job_id, e.happened_at, e.kind, e.phase, e.given_by,
		  e.detail, e.counters
	  FROM partshift.event e
	  UNION ALL
	  SELECT NULL, d.job_id, d.dropped_at, 'dropped out', 'done', NULL, d.reason, NULL
	  FROM partshift.dropout d) AS e
	JOIN partshift.job j USING (job_id)
WHERE partshift.can_see(j.owner)
ORDER BY e.happened_at, e.event_id;

COMMENT ON VIEW partshift.events IS
'what happened to each job, and when: orders, phases, waits, failures, swap, drop-out, end';
COMMENT ON COLUMN partshift.events.phase IS
'the phase afterwards';
COMMENT ON COLUMN partshift.events.given_by IS
'the role that had logged in when the order was given';
COMMENT ON COLUMN partshift.events.counters IS
'rows captured, rows mirrored and mirrored rows that were looked up again, until then';
