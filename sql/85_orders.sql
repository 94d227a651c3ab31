/*
 * Orders to a job.  Each names the states in which it makes sense; in any
 * other it is refused, and nothing changes.
 */
CREATE FUNCTION partshift.refuse_order(job partshift.job, what text, hint text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	message text := format('cannot %s job %s', what, job.job_id);
	detail text := format('Its phase is %s and its status %s%s.', job.phase, job.status,
						  coalesce(', and it has been ordered to ' || job.request,
								   CASE WHEN job.phase = 'done' AND job.reverse AND job.status = 'active'
									THEN ', and it has been rolled back' END));
BEGIN
	IF hint IS NULL THEN
		RAISE EXCEPTION USING
			ERRCODE = 'object_not_in_prerequisite_state',
			MESSAGE = message, DETAIL = detail;
	END IF;
	RAISE EXCEPTION USING
		ERRCODE = 'object_not_in_prerequisite_state',
		MESSAGE = message, DETAIL = detail, HINT = hint;
END
$$;

COMMENT ON FUNCTION partshift.refuse_order(partshift.job, text, text) IS
'raises the error of an order that a job cannot follow in its state';

/*
 * Why the legacy table of a done job does not follow, or null.
 */
CREATE FUNCTION partshift.follow_obstacle(job partshift.job) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(
		CASE WHEN NOT coalesce((job.options ->> 'reverse_sync')::boolean, true)
			THEN 'It was converted with reverse_sync => false, so that the legacy table does not have what was written since the swap.'
		END,
		CASE WHEN NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = job.relid)
			THEN 'The legacy table was dropped.'
		END,
		CASE WHEN job.request = 'finalize'
			THEN 'It is being finalized, and the legacy table no longer follows.'
		END,
		(SELECT format('The legacy table no longer follows since %s: %s.',
					   d.dropped_at, d.reason)
		 FROM partshift.dropout d WHERE d.job_id = job.job_id
		 ORDER BY d.dropped_at LIMIT 1))
$$;

COMMENT ON FUNCTION partshift.follow_obstacle(partshift.job) IS
'why the legacy table of a swapped conversion does not follow the new one, or null when it does';

/*
 * What keeps a done job from being rolled back, or null.  A partition whose
 * detaching has begun is not followed any more.
 */
CREATE FUNCTION partshift.rollback_obstacle(job partshift.job) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(partshift.follow_obstacle(job),
		(SELECT 'A partition was detached or dropped, whose rows the legacy table still has.'
		 FROM jsonb_array_elements_text(job.plan -> 'new_leaves') AS l (leaf)
		 WHERE NOT EXISTS (SELECT FROM pg_inherits i
						   WHERE i.inhrelid = l.leaf::oid
							 AND i.inhparent = job.shadow AND NOT i.inhdetachpending)
		 LIMIT 1),
		(SELECT format('Table %s, which would get foreign key "%s" back, has been converted by job %s since.',
					   coalesce((d.def ->> 'relation')::oid::regclass::text, 'that is gone'),
					   d.def ->> 'name', o.job_id)
		 FROM jsonb_array_elements(job.plan -> 'dropped_keys') AS d (def)
			JOIN partshift.job o ON o.relid = (d.def ->> 'relation')::oid
				AND o.job_id > job.job_id AND o.status NOT IN ('aborted', 'rolled_back')
		 ORDER BY o.job_id LIMIT 1))
$$;

COMMENT ON FUNCTION partshift.rollback_obstacle(partshift.job) IS
'why a swapped conversion can no longer be rolled back, or null when it can';

CREATE FUNCTION partshift.check_order(job partshift.job, what text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	live boolean := job.status IN ('active', 'paused', 'failed');
	swapped boolean := job.phase = 'done' OR job.reverse;
	equal boolean := job.phase IN ('rewire', 'verify', 'ready', 'swap', 'done');
	fits boolean;
	hint text;
	obstacle text;
BEGIN
	CASE what
		WHEN 'pause' THEN
			fits := job.status = 'active' AND job.phase <> 'done';
		WHEN 'resume' THEN
			fits := live;
		WHEN 'abort' THEN
			fits := live AND (NOT swapped OR job.reverse AND job.phase <> 'done');
			hint := CASE WHEN swapped
				THEN 'After the swap, use partshift.rollback() or partshift.finalize().' END;
		WHEN 'swap' THEN
			fits := job.status = 'active' AND NOT swapped
				AND job.request IS DISTINCT FROM 'abort';
		WHEN 'rollback', 'finalize' THEN
			fits := job.status IN ('active', 'failed') AND job.phase = 'done'
				AND NOT job.reverse;
			hint := CASE WHEN live AND NOT swapped
				THEN 'Before the swap, use partshift.abort().' END;
		WHEN 'verify' THEN
			fits := job.status = 'active' AND equal AND coalesce(job.request = 'verify', true)
				AND NOT (job.phase = 'done' AND job.reverse);
			hint := CASE WHEN job.status = 'active' AND NOT equal
				THEN 'The shadow equals the table from phase rewire on.' END;
		ELSE
			RAISE EXCEPTION USING
				ERRCODE = 'invalid_parameter_value',
				MESSAGE = format('unrecognized order: %L', what);
	END CASE;
	IF NOT fits THEN
		PERFORM partshift.refuse_order(job, what, hint);
	END IF;
	obstacle := CASE WHEN what = 'rollback' THEN partshift.rollback_obstacle(job)
		WHEN what = 'verify' AND job.phase = 'done' THEN partshift.follow_obstacle(job) END;
	IF obstacle IS NOT NULL THEN
		RAISE EXCEPTION USING
			ERRCODE = 'object_not_in_prerequisite_state',
			MESSAGE = format('cannot %s job %s', what, job.job_id),
			DETAIL = obstacle;
	END IF;
END
$$;

COMMENT ON FUNCTION partshift.check_order(partshift.job, text) IS
'raises an error when a job cannot follow an order in its state';

CREATE FUNCTION partshift.change_job(job_id integer, what text)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	job partshift.job;
BEGIN
	SELECT j.* INTO STRICT job FROM partshift.job j
	WHERE j.job_id = change_job.job_id FOR UPDATE;
	PERFORM partshift.check_order(job, what);

	IF what = 'pause' THEN
		UPDATE partshift.job j SET status = 'paused'
		WHERE j.job_id = change_job.job_id;
		RETURN false;
	END IF;
	UPDATE partshift.job j
	SET status = 'active',
		request = CASE WHEN what IN ('abort', 'rollback', 'finalize', 'verify')
			THEN what ELSE j.request END,
		swap_requested = j.swap_requested OR what = 'swap',
		lock_tries = 0, blocker_pid = NULL, blocker_role = NULL, blocker = NULL,
		error_sqlstate = NULL, error_message = NULL, error_detail = NULL,
		error_hint = NULL
	WHERE j.job_id = change_job.job_id;
	RETURN true;
END
$$;

COMMENT ON FUNCTION partshift.change_job(integer, text) IS
'notes an order on a job, and says whether a worker is needed to follow it';

CREATE FUNCTION partshift.change_settings(job_id integer, workers integer,
	cost_delay double precision, cost_limit integer, swap text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF workers NOT BETWEEN 1 AND 64 OR cost_delay NOT BETWEEN -1 AND 100
		OR cost_limit NOT BETWEEN -1 AND 10000 OR cost_limit = 0
		OR swap NOT IN ('auto', 'manual')
	THEN
		RAISE EXCEPTION USING
			ERRCODE = 'invalid_parameter_value',
			MESSAGE = format('setting of job %s is out of range', job_id),
			HINT = 'workers is 1 to 64, cost_delay -1 to 100 milliseconds, cost_limit 1 to 10000 or -1, swap "auto" or "manual".';
	END IF;
	IF swap = 'manual' AND EXISTS (SELECT FROM partshift.job j
								   WHERE j.job_id = change_settings.job_id AND j.phase = 'swap')
	THEN
		RAISE EXCEPTION USING
			ERRCODE = 'object_not_in_prerequisite_state',
			MESSAGE = format('cannot have job %s wait with the swap', job_id),
			DETAIL = 'It is swapping already.',
			HINT = 'Use partshift.pause() or partshift.abort().';
	END IF;
	UPDATE partshift.job j
	SET workers = coalesce(change_settings.workers, j.workers),
		cost_delay = coalesce(change_settings.cost_delay, j.cost_delay),
		cost_limit = coalesce(change_settings.cost_limit, j.cost_limit),
		swap_mode = coalesce(change_settings.swap, j.swap_mode)
	WHERE j.job_id = change_settings.job_id;
END
$$;

COMMENT ON FUNCTION partshift.change_settings(integer, integer, double precision, integer, text) IS
'changes the settings of a job that are not null';

CREATE FUNCTION partshift.pause(job integer) RETURNS void
LANGUAGE sql VOLATILE STRICT
AS $$ SELECT partshift.order_job($1, 'pause') $$;

COMMENT ON FUNCTION partshift.pause(integer) IS
'stops a job after its present batch; capture or mirroring goes on';

CREATE FUNCTION partshift.resume(job integer) RETURNS void
LANGUAGE sql VOLATILE STRICT
AS $$ SELECT partshift.order_job($1, 'resume') $$;

COMMENT ON FUNCTION partshift.resume(integer) IS
'goes on with a paused or failed job, or with one that a restart of the server left without worker';

CREATE FUNCTION partshift.abort(job integer) RETURNS void
LANGUAGE sql VOLATILE STRICT
AS $$ SELECT partshift.order_job($1, 'abort') $$;

COMMENT ON FUNCTION partshift.abort(integer) IS
'gives up a conversion before the swap, or a rollback before the swap back, and removes all that was made for it';

CREATE FUNCTION partshift.swap(job integer) RETURNS void
LANGUAGE sql VOLATILE STRICT
AS $$ SELECT partshift.order_job($1, 'swap') $$;

COMMENT ON FUNCTION partshift.swap(integer) IS
'lets a job with swap => ''manual'' exchange the tables as soon as it is ready';

CREATE FUNCTION partshift.rollback(job integer) RETURNS void
LANGUAGE sql VOLATILE STRICT
AS $$ SELECT partshift.order_job($1, 'rollback') $$;

COMMENT ON FUNCTION partshift.rollback(integer) IS
'gives the name back to the legacy table, with every write since the swap';

CREATE FUNCTION partshift.finalize(job integer) RETURNS void
LANGUAGE sql VOLATILE STRICT
AS $$ SELECT partshift.order_job($1, 'finalize') $$;

COMMENT ON FUNCTION partshift.finalize(integer) IS
'ends the writing to the legacy table; there is no rollback afterwards';

CREATE FUNCTION partshift.verify(job integer) RETURNS void
LANGUAGE sql VOLATILE STRICT
AS $$ SELECT partshift.order_job($1, 'verify') $$;

COMMENT ON FUNCTION partshift.verify(integer) IS
'compares both tables row by row in one snapshot; the result is in partshift.verification';

CREATE FUNCTION partshift.alter_job(job integer, workers integer DEFAULT NULL,
	cost_delay double precision DEFAULT NULL, cost_limit integer DEFAULT NULL,
	swap text DEFAULT NULL) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'partshift_alter_job';

COMMENT ON FUNCTION partshift.alter_job(integer, integer, double precision, integer, text) IS
'changes the settings of a job while it runs';

/* As the caller, who sees the rows of the jobs that he may see. */
CREATE FUNCTION partshift.carried(job integer)
RETURNS TABLE (class text, object text, state text, reason text)
LANGUAGE sql STABLE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT c.class, c.object, c.state, c.reason
	FROM partshift.carried_object AS c
	WHERE c.job_id = $1
	ORDER BY array_position(ARRAY['left off', 'changed', 'new', 'same'], c.state),
		c.class, c.object
$$;

COMMENT ON FUNCTION partshift.carried(integer) IS
'what each object of the table became in the swap: same, changed, new or left off, and why';

CREATE VIEW partshift.waiting WITH (security_barrier) AS
SELECT j.job_id,
	j.swap_mode = 'manual' AND NOT j.swap_requested AND NOT j.reverse AS manual,
	j.reverse,
	j.plan ? 'inventory' AS reporting,
	partshift.acts_for(j.owner) AS own
FROM partshift.job j
WHERE partshift.can_see(j.owner);

COMMENT ON VIEW partshift.waiting IS
'whether a job that is ready waits for its operator, whether it is on its way back, whether carried() is yet to be filled, and whether the reader has the rights of the table''s owner';

/*
 * One look at a job for wait(): empty when there is none that the caller may
 * see.  The mark is what is worth a line of its own when it changes; the
 * report has more.  Its bar has twenty steps.
 */
CREATE FUNCTION partshift.watch(job_id integer, OUT is_over boolean,
	OUT report text, OUT mark text, OUT sqlstate text, OUT message text,
	OUT hint text)
RETURNS SETOF record
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT j.status <> 'active'
			OR j.request IS NULL AND (
				j.phase = 'ready' AND w.manual
				OR j.phase = 'done' AND NOT w.reverse
					AND NOT (w.reporting AND j.worker_pid IS NOT NULL)),
		format('job %s: ', j.job_id) || CASE WHEN s.bar IS NULL THEN s.state
			ELSE concat_ws(' ', rpad(s.state, 9), s.bar,
				p.done || ' of ' || p.total || ' ' || p.unit,
				p.time_left || ' left') END || s.obstacle,
		concat(s.state, b.steps, s.obstacle),
		j.error_sqlstate, j.error_message, j.error_hint
	FROM partshift.jobs j
		JOIN partshift.progress p USING (job_id)
		JOIN partshift.waiting w USING (job_id)
		CROSS JOIN LATERAL (
			SELECT floor(p.percent / 5)::integer) AS b (steps)
		CROSS JOIN LATERAL (
			SELECT CASE WHEN j.status <> 'active' THEN j.status
					WHEN j.request IS NOT NULL THEN j.request
					ELSE j.phase END AS state,
				CASE WHEN j.status = 'active' AND j.request IS NULL
						AND j.phase <> 'done' AND p.percent IS NOT NULL
					THEN format('[%s%s] %s %%', repeat('#', b.steps),
								repeat('.', 20 - b.steps), lpad(p.percent::text, 5))
					END AS bar,
				CASE WHEN p.blocker_pid IS NULL THEN ''
					ELSE format(' (waiting for process %s)', p.blocker_pid) END
					AS obstacle) AS s
	WHERE j.job_id = watch.job_id
$$;

COMMENT ON FUNCTION partshift.watch(integer) IS
'whether a job needs nobody any more, with a line that says how far it is';

CREATE PROCEDURE partshift.wait(job integer)
LANGUAGE c AS 'MODULE_PATHNAME', 'partshift_wait';

COMMENT ON PROCEDURE partshift.wait(integer) IS
'reports a job''s progress until it is done, ready, paused or ended, without holding a snapshot';
