/*
 * What the library does inside other people's statements and for the
 * functions below.
 */
CREATE FUNCTION partshift.capture_row() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'partshift_capture_row';

COMMENT ON FUNCTION partshift.capture_row() IS
'trigger on the source while rows are copied: logs the identities that are touched';

CREATE FUNCTION partshift.mirror_row() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'partshift_mirror_row';

COMMENT ON FUNCTION partshift.mirror_row() IS
'trigger on the source until the swap: writes each change to the shadow';

CREATE FUNCTION partshift.mirror_truncate() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'partshift_mirror_truncate';

COMMENT ON FUNCTION partshift.mirror_truncate() IS
'trigger on the source until the swap: empties the shadow with the source';

CREATE FUNCTION partshift.reverse_row() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'partshift_reverse_row';

COMMENT ON FUNCTION partshift.reverse_row() IS
'trigger on the new table until finalize: writes each change to the legacy table';

CREATE FUNCTION partshift.reverse_truncate() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'partshift_reverse_truncate';

COMMENT ON FUNCTION partshift.reverse_truncate() IS
'trigger on the new table until finalize: empties the legacy table with it';

CREATE FUNCTION partshift.fill_reference() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'partshift_fill_reference';

COMMENT ON FUNCTION partshift.fill_reference() IS
'trigger on a referencing table: fills the columns by which a foreign key was extended';

CREATE FUNCTION partshift.fill_late() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'partshift_fill_late';

COMMENT ON FUNCTION partshift.fill_late() IS
'trigger on a referencing table: fills, at commit, a row that came before the one it refers to';

CREATE FUNCTION partshift.hold_reference() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'partshift_hold_reference';

COMMENT ON FUNCTION partshift.hold_reference() IS
'trigger on the source until the swap: keeps references from being filled while a partition key changes';

CREATE FUNCTION partshift.push_reference() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'partshift_push_reference';

COMMENT ON FUNCTION partshift.push_reference() IS
'trigger on the source until the swap: takes a changed partition key to the rows that refer to it';

CREATE FUNCTION partshift.watch_parent(job integer, parent oid, constraint_id oid,
	names text[]) RETURNS void
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'partshift_watch_parent';

COMMENT ON FUNCTION partshift.watch_parent(integer, oid, oid, text[]) IS
'puts the triggers of an extended foreign key on the referenced table';

CREATE FUNCTION partshift.query_as(run_as oid, query text) RETURNS text
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'partshift_query_as';

COMMENT ON FUNCTION partshift.query_as(oid, text) IS
'the first value that a query yields to another role; for superusers';

CREATE FUNCTION partshift.read_expression(relid oid, expression text, wanted oid,
	wanted_modifier integer, option text, OUT type oid, OUT modifier integer,
	OUT collid oid, OUT definition text, OUT tree text)
LANGUAGE c STABLE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'partshift_read_expression';

COMMENT ON FUNCTION partshift.read_expression(oid, text, oid, integer, text) IS
'an immutable expression over the columns of a table, of the type that is wanted unless that is 0';

CREATE FUNCTION partshift.create_job(relation regclass, strategy text,
	key text, options jsonb) RETURNS integer
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'partshift_create_job';

COMMENT ON FUNCTION partshift.create_job(regclass, text, text, jsonb) IS
'plans a conversion, records it and starts its worker: convert() with the options in one value';

CREATE FUNCTION partshift.plan_job(relation regclass, strategy text,
	key text, options jsonb) RETURNS jsonb
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'partshift_plan_job';

COMMENT ON FUNCTION partshift.plan_job(regclass, text, text, jsonb) IS
'what a conversion would do, as one value: plan() with the options in one value';

CREATE FUNCTION partshift.order_job(job integer, what text) RETURNS void
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'partshift_order_job';

COMMENT ON FUNCTION partshift.order_job(integer, text) IS
'gives a job one of the orders pause, resume, abort, swap, rollback, finalize, verify';

/*
 * Who seems to have kept a job from a lock that it could not have in time: a
 * prepared transaction, or the session with the oldest transaction that holds
 * a lock on one of its tables.  It may have let go since.
 */
CREATE FUNCTION partshift.record_blocker(job_id integer) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	found_pid integer;
	found_role oid;
	found_query text;
BEGIN
	SELECT l.pid, a.usesysid,
		coalesce(a.query, 'prepared transaction ' || quote_literal(p.gid))
	INTO found_pid, found_role, found_query
	FROM partshift.job j
		JOIN pg_locks l ON l.locktype = 'relation' AND l.granted
			AND l.database = (SELECT oid FROM pg_database
							  WHERE datname = current_database())
			AND (l.relation IN (j.relid, j.shadow)
				 OR l.relation IN (SELECT partshift.row_tables(j.relid))
				 OR l.relation IN (SELECT c.conrelid FROM pg_constraint c
								   WHERE c.confrelid = j.relid)
				 OR l.relation IN (SELECT c.confrelid FROM pg_constraint c
								   WHERE c.conrelid = j.relid))
		LEFT JOIN pg_stat_activity a ON a.pid = l.pid
		LEFT JOIN pg_locks x ON l.pid IS NULL AND x.pid IS NULL
			AND x.locktype = 'transactionid' AND x.granted
			AND x.virtualtransaction = l.virtualtransaction
		LEFT JOIN pg_prepared_xacts p ON p.transaction = x.transactionid
	WHERE j.job_id = record_blocker.job_id
		AND l.pid IS DISTINCT FROM pg_backend_pid()
		AND (a.backend_type IS DISTINCT FROM 'partshift worker')
	ORDER BY l.pid IS NULL DESC, a.xact_start
	LIMIT 1;

	UPDATE partshift.job j
	SET lock_tries = j.lock_tries + 1, blocker_pid = found_pid,
		blocker_role = found_role, blocker = found_query
	WHERE j.job_id = record_blocker.job_id;
END
$$;

COMMENT ON FUNCTION partshift.record_blocker(integer) IS
'notes on a job who was in the way of its last try for a lock';
