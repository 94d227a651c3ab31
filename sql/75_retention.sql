/*
 * Partitions that a managed table has outlived, and the statements that take
 * them out of it.
 */

/*
 * A conversion that can be rolled back needs every partition that it made:
 * until it is finalized none is taken away, whatever its age.
 */
CREATE FUNCTION partshift.promised_rollback(relid oid) RETURNS integer
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT j.job_id FROM partshift.job j
	WHERE promised_rollback.relid IN (j.shadow, j.relid)
		AND j.status IN ('active', 'paused', 'failed')
	ORDER BY j.job_id LIMIT 1
$$;

COMMENT ON FUNCTION partshift.promised_rollback(oid) IS
'the job of a table that has not ended: while there is one nothing is taken from the table';

/*
 * DEFAULT never expires, nor does what has no upper boundary, nor the present
 * partition: whatever the retention, its range is not over.
 */
CREATE FUNCTION partshift.expired_leaves(p partshift.managed, key partshift.key, moment timestamptz)
RETURNS SETOF partshift.stretch
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	present numeric;
	expired numeric;
BEGIN
	IF p.retention IS NULL AND p.retention_count IS NULL
		OR partshift.promised_rollback(p.relid) IS NOT NULL
	THEN
		RETURN;
	END IF;
	IF partshift.is_number(key.type) THEN
		present := partshift.last_step(p, key, 'Infinity');
	ELSE
		present := partshift.policy_step(p, key,
			partshift.from_local(moment::timestamp, key.type));
	END IF;
	IF present IS NULL THEN
		RETURN;
	END IF;
	expired := least(partshift.expiry(p, key, present, moment),
		partshift.bound_rank(partshift.policy_bound(p, key, present), key.type));
	RETURN QUERY
		SELECT s.* FROM partshift.stretches(p.relid, key.type) s
		WHERE NOT s.is_default AND s.is_plain AND s.beyond <= expired
		ORDER BY s.beyond;
END
$$;

COMMENT ON FUNCTION partshift.expired_leaves(partshift.managed, partshift.key, timestamptz) IS
'partitions whose time is over, the oldest first';

/*
 * How a partition can leave.  DETACH ... CONCURRENTLY holds nobody up, but it
 * is not for a table with a DEFAULT partition.  What foreign keys refer to is
 * searched for references by whoever detaches, and so as the owner of both.
 */
CREATE FUNCTION partshift.detach_way(relid oid) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE
		WHEN EXISTS (SELECT FROM pg_constraint o JOIN pg_class c ON c.oid = o.conrelid
					 WHERE o.confrelid = r.oid AND o.contype = 'f' AND c.relowner <> r.relowner)
			THEN 'refused'
		WHEN EXISTS (SELECT FROM pg_partitioned_table p
					 WHERE p.partrelid = r.oid AND p.partdefid <> 0)
			OR EXISTS (SELECT FROM pg_constraint o WHERE o.confrelid = r.oid AND o.contype = 'f')
			THEN 'plain'
		ELSE 'concurrently'
		END
	FROM pg_class r WHERE r.oid = detach_way.relid
$$;

COMMENT ON FUNCTION partshift.detach_way(oid) IS
'how partitions of a table can be detached: plain, concurrently, or refused';

CREATE FUNCTION partshift.detach_command(relid oid, leaf oid, way text,
	OUT run_as oid, OUT command text)
RETURNS record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN way = 'plain' THEN c.relowner END,
		format('ALTER TABLE %I.%I DETACH PARTITION %I.%I%s', n.nspname, c.relname,
			ln.nspname, l.relname, CASE
			WHEN i.inhdetachpending THEN ' FINALIZE'
			WHEN way = 'concurrently' THEN ' CONCURRENTLY' ELSE '' END)
	FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		JOIN pg_inherits i ON i.inhparent = c.oid
		JOIN pg_class l ON l.oid = i.inhrelid
		JOIN pg_namespace ln ON ln.oid = l.relnamespace
	WHERE c.oid = detach_command.relid AND l.oid = detach_command.leaf
$$;

COMMENT ON FUNCTION partshift.detach_command(oid, oid, text) IS
'the statement that detaches a partition';

CREATE FUNCTION partshift.retire(relid oid, leaf oid) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	INSERT INTO partshift.retired
		(leaf, relid, owner, row_type, schema_name, name, action, to_schema)
	SELECT c.oid, m.relid, p.relowner, c.reltype, n.nspname, c.relname,
		m.retention_action, m.retention_schema
	FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
		partshift.managed m JOIN pg_class p ON p.oid = m.relid
	WHERE c.oid = retire.leaf AND m.relid = retire.relid
	ON CONFLICT (leaf) DO NOTHING
$$;

COMMENT ON FUNCTION partshift.retire(oid, oid) IS
'notes what is to become of a partition when it is detached';

/*
 * What is left to do to a detached partition: empty if it is not the table
 * that was detached.  An OID can be another table's by now, a name too.
 */
CREATE FUNCTION partshift.retired_command(leaf oid, OUT run_as oid, OUT command text)
RETURNS SETOF record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE t.action WHEN 'move' THEN c.relowner END,
		CASE t.action WHEN 'move'
			THEN format('ALTER TABLE %I.%I SET SCHEMA %I', n.nspname, c.relname, t.to_schema)
			ELSE format('DROP TABLE %I.%I', n.nspname, c.relname) END
	FROM partshift.retired t
		JOIN pg_class c ON c.oid = t.leaf AND c.relname = t.name AND c.reltype = t.row_type
			AND c.relowner = t.owner AND c.relkind = 'r' AND NOT c.relispartition
		JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = t.schema_name
	WHERE t.leaf = retired_command.leaf AND t.action <> 'detach'
$$;

COMMENT ON FUNCTION partshift.retired_command(oid) IS
'the statement that drops or moves a partition that was detached';
