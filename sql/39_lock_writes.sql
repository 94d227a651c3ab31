/*
 * Tables that are locked against writing instead of being followed, which
 * needs no key.
 */
CREATE FUNCTION partshift.locks_writes(options jsonb)
RETURNS boolean
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(jsonb_typeof(options->'lock_writes') = 'boolean'
					AND (options->>'lock_writes')::boolean, false)
$$;

COMMENT ON FUNCTION partshift.locks_writes(jsonb) IS
'whether writers are to wait for the whole conversion';

CREATE FUNCTION partshift.check_lock_writes(relid oid, options jsonb)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT f.*
	FROM pg_class c,
		 LATERAL (SELECT partshift.find_key(c.oid) IS NULL) AS k(keyless),
		 LATERAL (
			SELECT r.*
			FROM (VALUES
					(options->>'foreign_keys' = 'extend', '22023',
					 'option "lock_writes" and "extend" for option "foreign_keys" exclude each other',
					 'Columns of extended foreign keys are kept by triggers on the table.', NULL),
					(keyless AND (options->>'reverse_sync')::boolean, '55000',
					 format('the legacy table of table "%s" cannot follow', c.relname),
					 'The table has no key that finds a row.',
					 'Leave "reverse_sync" out; there will be no rollback.'))
					AS rule(applies, sqlstate, message, detail, hint),
				 partshift.refused('writers', c.relname, rule.sqlstate, rule.message,
								   rule.detail, rule.hint) r
			WHERE rule.applies
			UNION ALL
			SELECT r.*
			FROM unnest(ARRAY['null_key', 'derive']) AS o(name),
				 partshift.refused('argument', 'lock_writes', '22023',
					format('options "lock_writes" and "%s" exclude each other', o.name)) r
			WHERE options ? o.name
			UNION ALL
			SELECT w.*
			FROM partshift.warned('writers', c.relname,
					format('writers of table "%s" wait from the beginning of the copy until the swap', c.relname),
					'So do those who delete rows that the table refers to, or change their keys.  A transaction that holds what the swap needs, even if it has only read the table, and then waits to write to it is canceled at the swap.',
					CASE WHEN NOT keyless
						THEN 'The table has a key: without option "lock_writes" nobody waits.' END) w
			UNION ALL
			SELECT w.*
			FROM partshift.warned('writers', c.relname,
					format('writers of table "%s" wait until partshift.swap() is called', c.relname),
					NULL, 'Use swap => ''auto''.') w
			WHERE options->>'swap' = 'manual'
			UNION ALL
			SELECT w.*
			FROM partshift.warned('key', c.relname,
					'the conversion cannot be rolled back after the swap',
					'Without a key that finds a row the legacy table cannot follow.  It stays as it was at the swap.') w
			WHERE keyless) f
	WHERE c.oid = relid AND partshift.locks_writes(options)
$$;

COMMENT ON FUNCTION partshift.check_lock_writes(oid, jsonb) IS
'what it means that a table is locked against writing';

/*
 * One who waits for the keeper's lock ends only after the swap.  If the swap
 * cannot have its locks before he ends, or before somebody who waits for him
 * does, one of the two has to go.
 *
 * Before the swap only if a try for a lock was in vain: then it may be for a
 * foreign key.
 */
CREATE FUNCTION partshift.break_circles(job_id integer) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$
DECLARE
	doomed integer;
BEGIN
	IF NOT EXISTS (SELECT FROM partshift.job AS j
				   WHERE j.job_id = break_circles.job_id
					AND (j.phase = 'swap' OR j.lock_tries > 0)) THEN
		RETURN;
	END IF;
	FOR doomed IN
		WITH RECURSIVE stuck(root, pid) AS (
			SELECT l.pid, l.pid
			FROM partshift.job AS j
				JOIN pg_locks AS l ON l.relation = j.relid
					AND l.locktype = 'relation' AND NOT l.granted
				JOIN pg_stat_activity AS a ON a.pid = l.pid
			WHERE j.job_id = break_circles.job_id
				AND l.database = (SELECT d.oid FROM pg_database AS d
								  WHERE d.datname = current_database())
				AND a.backend_type <> 'partshift worker'
				AND j.keeper_pid = ANY (pg_blocking_pids(l.pid))
			UNION
			SELECT s.root, a.pid
			FROM stuck AS s
				JOIN pg_stat_activity AS a ON a.wait_event_type = 'Lock'
					AND a.backend_type <> 'partshift worker'
			WHERE s.pid = ANY (pg_blocking_pids(a.pid))
		)
		SELECT DISTINCT s.root
		FROM stuck AS s
			JOIN pg_locks AS h ON h.pid = s.pid
				AND h.locktype = 'relation' AND h.granted
				AND h.database = (SELECT d.oid FROM pg_database AS d
								  WHERE d.datname = current_database())
		WHERE h.relation IN (SELECT r FROM partshift.swap_relations(
								break_circles.job_id, true) AS r)
	LOOP
		RAISE LOG 'canceling process %, which holds a lock that conversion job % needs and waits for the swap',
			doomed, job_id;
		PERFORM pg_cancel_backend(doomed);
	END LOOP;
END
$$;

COMMENT ON FUNCTION partshift.break_circles(integer) IS
'cancels those who wait for the swap of a locked table and keep it from its locks';
