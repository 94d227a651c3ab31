/*
 * Legacy tables as backups.  A conversion that is finalized leaves the table
 * as it was until then; it expires, and is dropped when it has, if the
 * comparison of both tables has proven that it is no longer needed.
 *
 * A backup is a table with its OID, its row type and its name.  Whoever gives
 * it another name means to keep it.
 */
CREATE TABLE partshift.backup (
	relid oid PRIMARY KEY,
	row_type oid NOT NULL,
	schema_name name NOT NULL,
	name name NOT NULL,
	owner oid NOT NULL,
	job_id integer NOT NULL,
	current_relid oid NOT NULL,
	relation text NOT NULL,
	kept_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	expires_at timestamptz,
	verified_at timestamptz,
	verified_by text,
	rows bigint,
	missing bigint,
	dropped_at timestamptz
);

COMMENT ON TABLE partshift.backup IS
'tables that conversions have left';
COMMENT ON COLUMN partshift.backup.missing IS
'rows that the current table did not have when verify_backup() looked';

CREATE FUNCTION partshift.keep_backup(job_id integer) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	INSERT INTO partshift.backup (relid, row_type, schema_name, name, owner, job_id,
		current_relid, relation, kept_at, expires_at, verified_at, verified_by)
	SELECT c.oid, c.reltype, n.nspname, c.relname, c.relowner, j.job_id,
		j.shadow, format('%I.%I', j.schema_name, j.table_name),
		s.moment, s.moment + CASE WHEN s.setting !~ '^-' THEN s.setting::interval END,
		v.verified_at, CASE WHEN v.verified_at IS NOT NULL THEN 'conversion' END
	FROM partshift.job j
		JOIN pg_class c ON c.oid = j.relid
		JOIN pg_namespace n ON n.oid = c.relnamespace,
		(SELECT current_setting('partshift.backup_retention'), clock_timestamp()) AS s (setting, moment),
		LATERAL (SELECT CASE WHEN bool_and(v.equal AND (v.mode = 'full' OR j.verify_mode <> 'none')) THEN max(v.verified_at) END AS verified_at
				 FROM partshift.verification v WHERE v.job_id = j.job_id) AS v
	WHERE j.job_id = keep_backup.job_id
	ON CONFLICT (relid) DO NOTHING
$$;

COMMENT ON FUNCTION partshift.keep_backup(integer) IS
'records what a finalized conversion leaves as a backup';

/*
 * What is known of a table that a conversion has left or will leave.
 */
CREATE FUNCTION partshift.backup_states(OUT relid oid, OUT backup text, OUT relation text,
	OUT job_id integer, OUT owner oid, OUT state text, OUT kept_at timestamptz,
	OUT expires_at timestamptz, OUT verified_at timestamptz, OUT rows bigint, OUT missing bigint,
	OUT dropped_at timestamptz)
RETURNS SETOF record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT b.relid, format('%I.%I', b.schema_name, b.name), b.relation, b.job_id,
		coalesce(c.relowner, b.owner), CASE
			WHEN b.dropped_at IS NOT NULL THEN 'dropped'
			WHEN c.oid IS NULL THEN 'gone'
			WHEN c.relname <> b.name OR n.nspname <> b.schema_name THEN 'renamed'
			WHEN EXISTS (SELECT FROM partshift.job j
						 WHERE b.relid IN (j.relid, j.shadow)
							AND j.status IN ('active', 'paused', 'failed')) THEN 'in use'
			WHEN b.expires_at IS NULL OR b.expires_at > clock_timestamp() THEN 'kept'
			WHEN b.verified_at IS NULL THEN 'unverified'
			ELSE 'expired' END,
		b.kept_at, b.expires_at, b.verified_at, b.rows, b.missing, b.dropped_at
	FROM partshift.backup b
		LEFT JOIN pg_class c ON c.oid = b.relid AND c.reltype = b.row_type
		LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
	UNION ALL
	SELECT c.oid, format('%I.%I', n.nspname, c.relname),
		format('%I.%I', j.schema_name, j.table_name), j.job_id, c.relowner, 'mirrored',
		j.swapped_at, NULL, NULL, NULL, NULL, NULL
	FROM partshift.job j
		JOIN pg_class c ON c.oid = j.relid
		JOIN pg_namespace n ON n.oid = c.relnamespace
	WHERE j.phase = 'done' AND NOT j.reverse AND j.status IN ('active', 'failed')
$$;

COMMENT ON FUNCTION partshift.backup_states() IS
'the tables that conversions have left, and whether they can be dropped';

CREATE FUNCTION partshift.backup_reason(state text) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE state
		WHEN 'expired' THEN 'its time is over'
		WHEN 'unverified' THEN 'its time is over, but the tables were never compared: use verify_backup()'
		WHEN 'kept' THEN 'its time is not over'
		WHEN 'mirrored' THEN 'it follows the table until the conversion is finalized'
		WHEN 'in use' THEN 'another conversion works with it'
		WHEN 'renamed' THEN 'it was given another name'
		END
$$;

COMMENT ON FUNCTION partshift.backup_reason(text) IS
'why a backup is dropped or not';

/*
 * Counts the rows of a backup, and those of them that the table of today does
 * not have; by the text of the key, which takes no operator of anybody's.
 */
CREATE FUNCTION partshift.compare_backup(b partshift.backup, OUT rows bigint, OUT missing bigint)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	owner oid;
	query text;
	answer text;
BEGIN
	SELECT c.relowner, format(
		'SELECT count(*) || '' '' || count(*) FILTER (WHERE NOT EXISTS (SELECT FROM %s n WHERE %s)) FROM %s%s b',
		format('%I.%I', dn.nspname, d.relname),
		(SELECT string_agg(format('n.%1$I::text = b.%1$I::text', k.name), ' AND ')
		 FROM partshift.job j, unnest(j.identity_columns) AS k (name) WHERE j.job_id = b.job_id),
		CASE c.relkind WHEN 'r' THEN 'ONLY ' ELSE '' END, format('%I.%I', n.nspname, c.relname))
	INTO owner, query
	FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
		pg_class d JOIN pg_namespace dn ON dn.oid = d.relnamespace
	WHERE c.oid = b.relid AND d.oid = b.current_relid AND d.relowner = c.relowner;
	IF query IS NULL THEN
		RAISE EXCEPTION 'cannot compare backup "%" with table "%"', b.name, b.relation
			USING ERRCODE = 'object_not_in_prerequisite_state',
				  DETAIL = 'One of them is gone, or they have different owners.';
	END IF;
	answer := partshift.query_as(owner, query);
	rows := split_part(answer, ' ', 1)::bigint;
	missing := split_part(answer, ' ', 2)::bigint;
END
$$;

COMMENT ON FUNCTION partshift.compare_backup(partshift.backup) IS
'the rows of a backup, and how many of them its table no longer has';

CREATE FUNCTION partshift.change_backup(relid oid, what text, extra interval, accept boolean)
RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	b partshift.backup;
	found_rows bigint;
	found_missing bigint;
BEGIN
	SELECT t.* INTO b FROM partshift.backup t
		JOIN pg_class c ON c.oid = t.relid AND c.reltype = t.row_type
	WHERE t.relid = change_backup.relid AND t.dropped_at IS NULL
	FOR UPDATE OF t;
	IF NOT FOUND THEN
		PERFORM partshift.refuse_policy(format('table "%s" is not a backup',
				(SELECT c.relname FROM pg_class c WHERE c.oid = change_backup.relid)),
			(SELECT format('It is mirrored by conversion job %s.', s.job_id)
			 FROM partshift.backup_states() s
			 WHERE s.relid = change_backup.relid AND s.state = 'mirrored'),
			'The view partshift.backups lists them.', '42704');
	END IF;

	IF what = 'extend' THEN
		IF extra IS NULL OR NOT isfinite(extra) THEN
			PERFORM partshift.refuse_policy('a backup can be extended by a finite interval only');
		END IF;
		UPDATE partshift.backup t
		SET expires_at = greatest(t.expires_at, clock_timestamp()) + extra
		WHERE t.relid = change_backup.relid
		RETURNING t.* INTO b;
		RETURN jsonb_build_object('expires_at', b.expires_at);
	END IF;

	SELECT c.rows, c.missing INTO found_rows, found_missing
	FROM partshift.compare_backup(b) c;
	UPDATE partshift.backup t
	SET rows = found_rows, missing = found_missing,
		verified_at = CASE WHEN found_missing = 0 OR accept THEN clock_timestamp() END,
		verified_by = CASE WHEN found_missing = 0 OR accept THEN 'verify_backup' END
	WHERE t.relid = change_backup.relid
	RETURNING t.* INTO b;
	RETURN jsonb_build_object('rows', b.rows, 'missing', b.missing,
		'verified', b.verified_at IS NOT NULL);
END
$$;

COMMENT ON FUNCTION partshift.change_backup(oid, text, interval, boolean) IS
'verifies a backup, or puts its end off';

CREATE FUNCTION partshift.order_backup(backup regclass, what text, extra interval,
	accept boolean) RETURNS jsonb
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'partshift_order_backup';

COMMENT ON FUNCTION partshift.order_backup(regclass, text, interval, boolean) IS
'verify_backup() and extend_backup() in one';

CREATE FUNCTION partshift.verify_backup(backup regclass, accept_missing boolean DEFAULT false,
	OUT rows bigint, OUT missing bigint, OUT verified boolean)
RETURNS record
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT r.*
	FROM jsonb_to_record(partshift.order_backup(backup, 'verify', NULL, accept_missing))
		AS r (rows bigint, missing bigint, verified boolean)
$$;

COMMENT ON FUNCTION partshift.verify_backup(regclass, boolean) IS
'looks whether every row of a backup is in the table of today';

CREATE FUNCTION partshift.extend_backup(backup regclass, extra interval) RETURNS timestamptz
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT (partshift.order_backup(backup, 'extend', extra, false) ->> 'expires_at')::timestamptz
$$;

COMMENT ON FUNCTION partshift.extend_backup(regclass, interval) IS
'keeps a backup longer; returns until when';

/* Dry, the list of all of them; else a worker drops what has expired. */
CREATE FUNCTION partshift.list_backups(relid oid, role oid) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(jsonb_agg(jsonb_build_object('backup', s.backup,
		'action', CASE s.state WHEN 'expired' THEN 'drop' ELSE 'keep' END,
		'status', CASE s.state WHEN 'expired' THEN 'to do' END,
		'detail', partshift.backup_reason(s.state)) ORDER BY s.backup), '[]')
	FROM partshift.backup_states() s
	WHERE s.state NOT IN ('dropped', 'gone')
		AND (list_backups.relid IS NULL OR s.relid = list_backups.relid)
		AND pg_has_role(role, s.owner, 'USAGE')
$$;

COMMENT ON FUNCTION partshift.list_backups(oid, oid) IS
'what cleanup() would do';

CREATE FUNCTION partshift.expired_backups(relid oid, role oid)
RETURNS TABLE (relation oid, owner oid, name text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT s.relid, s.owner, s.backup
	FROM partshift.backup_states() s
	WHERE s.state = 'expired'
		AND (expired_backups.relid IS NULL OR s.relid = expired_backups.relid)
		AND pg_has_role(expired_backups.role, s.owner, 'USAGE')
	ORDER BY s.relid
$$;

COMMENT ON FUNCTION partshift.expired_backups(oid, oid) IS
'backups that a role may have dropped, and whose time is over';

/* Asked for under a lock on the table, whose name cannot change then. */
CREATE FUNCTION partshift.drop_backup_command(relid oid, OUT run_as oid, OUT command text)
RETURNS SETOF record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT NULL::oid, format('DROP TABLE %s', s.backup)
	FROM partshift.backup_states() s
	WHERE s.relid = drop_backup_command.relid AND s.state = 'expired'
$$;

COMMENT ON FUNCTION partshift.drop_backup_command(oid) IS
'the statement that drops a backup, if it may be dropped';

CREATE FUNCTION partshift.run_cleanup(backup regclass, dry_run boolean) RETURNS jsonb
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'partshift_run_cleanup';

COMMENT ON FUNCTION partshift.run_cleanup(regclass, boolean) IS
'cleanup() with its result in one value';

CREATE FUNCTION partshift.cleanup(dry_run boolean DEFAULT true, backup regclass DEFAULT NULL)
RETURNS TABLE (table_name text, action text, status text, detail text)
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(r.backup, r.table_name), r.action, r.status, r.detail
	FROM jsonb_to_recordset(partshift.run_cleanup(backup, dry_run))
		AS r (backup text, table_name text, action text, status text, detail text)
$$;

COMMENT ON FUNCTION partshift.cleanup(boolean, regclass) IS
'drops the backups whose time is over, or only says so';

CREATE VIEW partshift.backups WITH (security_barrier) AS
SELECT format('%I.%I', b.schema_name, b.name) AS backup, b.relation, b.job_id,
	pg_get_userbyid(coalesce(c.relowner, b.owner)) AS owner,
	CASE WHEN b.dropped_at IS NOT NULL THEN 'dropped'
		WHEN c.oid IS NULL THEN 'gone'
		WHEN c.relname <> b.name OR n.nspname <> b.schema_name THEN 'renamed'
		WHEN b.expires_at IS NULL OR b.expires_at > clock_timestamp() THEN 'kept'
		WHEN b.verified_at IS NULL THEN 'unverified'
		ELSE 'expired' END AS state,
	b.kept_at, b.expires_at, b.verified_at, b.verified_by, b.rows, b.missing,
	CASE c.relkind WHEN 'r' THEN pg_total_relation_size(c.oid)
		WHEN 'p' THEN (SELECT sum(pg_total_relation_size(t.relid))::bigint
					   FROM pg_partition_tree(c.oid) t) END AS bytes,
	b.dropped_at
FROM partshift.backup b
	LEFT JOIN pg_class c ON c.oid = b.relid AND c.reltype = b.row_type
	LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE partshift.can_see(coalesce(c.relowner, b.owner))
UNION ALL
SELECT format('%I.%I', n.nspname, c.relname), format('%I.%I', j.schema_name, j.table_name),
	j.job_id, pg_get_userbyid(c.relowner), 'mirrored', j.swapped_at, NULL, NULL, NULL, NULL, NULL,
	CASE c.relkind WHEN 'r' THEN pg_total_relation_size(c.oid)
		WHEN 'p' THEN (SELECT sum(pg_total_relation_size(t.relid))::bigint
					   FROM pg_partition_tree(c.oid) t) END, NULL
FROM partshift.job j
	JOIN pg_class c ON c.oid = j.relid
	JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE j.phase = 'done' AND NOT j.reverse AND j.status IN ('active', 'failed')
	AND partshift.can_see(c.relowner);

COMMENT ON VIEW partshift.backups IS
'the tables that conversions have left, and until when they are kept';
