/*
 * Checks of foreign keys.  A key from the table to itself is both.
 */

CREATE FUNCTION partshift.busy_neighbour(relid oid)
RETURNS integer
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT min(j.job_id)
	FROM partshift.job j
	WHERE busy_neighbour.relid IN (j.relid, j.shadow)
	  AND j.status IN ('active', 'paused', 'failed') AND j.phase <> 'done'
$$;

COMMENT ON FUNCTION partshift.busy_neighbour(oid) IS
'the job that a foreign key added to a table would disturb';

CREATE FUNCTION partshift.check_neighbour(relid oid, constraint_name name)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT f.*
	FROM partshift.busy_neighbour(relid) job_id,
		 partshift.refused('foreign key', constraint_name, '55006',
			format('table %s at the other end of foreign key "%s" is being converted by job %s',
				   relid::regclass, constraint_name, job_id),
			NULL, 'Wait for it to end.') f
	WHERE job_id IS NOT NULL
$$;

COMMENT ON FUNCTION partshift.check_neighbour(oid, name) IS
'refuses foreign keys to and from tables whose definition another job relies on';

CREATE FUNCTION partshift.check_outgoing_keys(relid oid)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT f.*
	FROM pg_constraint con,
		 partshift.check_neighbour(con.confrelid, con.conname) f
	WHERE con.conrelid = relid AND con.contype = 'f' AND con.confrelid <> relid
	  AND con.conparentid = 0
	ORDER BY con.conname
$$;

COMMENT ON FUNCTION partshift.check_outgoing_keys(oid) IS
'findings about foreign keys of the table';

/* A foreign key is carried if what it refers to is still unique by itself. */
CREATE FUNCTION partshift.incoming_keys(relid oid, plan jsonb)
RETURNS TABLE(conname name, child oid, conid oid, carried boolean)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT con.conname, con.conrelid, con.oid,
		   coalesce((SELECT entry->'added' = '[]' AND NOT (entry->>'per_partition')::boolean
					 FROM jsonb_array_elements(plan->'indexes') entry
					 WHERE (entry->>'oid')::oid = con.conindid), false)
	FROM pg_constraint con
	WHERE con.confrelid = relid AND con.contype = 'f' AND con.conparentid = 0
	ORDER BY con.conrelid::regclass::text, con.conname
$$;

COMMENT ON FUNCTION partshift.incoming_keys(oid, jsonb) IS
'foreign keys that refer to the table, and whether the new table can be what they refer to';

CREATE FUNCTION partshift.check_lost_keys(relid oid, foreign_keys text, plan jsonb)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT f.*
	FROM (SELECT string_agg(format('%I of table %s', conname, child::regclass), ', ') AS names
		  FROM partshift.incoming_keys(relid, plan)
		  WHERE NOT carried) lost,
		 partshift.refused('foreign key', lost.names, '0A000',
			'foreign keys refer to columns that lack the partition key',
			format('The new table has no unique key over what they refer to: %s.', lost.names),
			'Partition by a column that they refer to, extend them by the partition key with foreign_keys => ''extend'', or leave them off with foreign_keys => ''drop''.') f
	WHERE lost.names IS NOT NULL AND foreign_keys = 'error'
	UNION ALL
	SELECT f.*
	FROM partshift.incoming_keys(relid, plan) k,
		 partshift.warned('foreign key', k.conname,
			format('foreign key "%s" of table %s is left off', k.conname, k.child::regclass),
			'What it refers to is no longer unique by itself.') f
	WHERE NOT k.carried AND foreign_keys = 'drop'
$$;

COMMENT ON FUNCTION partshift.check_lost_keys(oid, text, jsonb) IS
'findings about foreign keys that cannot refer to the new table';

CREATE FUNCTION partshift.check_incoming_keys(relid oid, options jsonb, plan jsonb)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT * FROM partshift.check_lost_keys(relid, coalesce(options->>'foreign_keys', 'error'), plan)
	UNION ALL
	SELECT * FROM partshift.check_extended_keys(relid, options, plan)
	UNION ALL
	SELECT f.*
	FROM partshift.incoming_keys(relid, plan) k
		 JOIN pg_constraint con ON con.oid = k.conid,
		 partshift.refused('foreign key', k.conname, '0A000',
			format('foreign key "%s" of table %s is not %s', k.conname, k.child::regclass,
				   CASE WHEN partshift.is_enforced(con) THEN 'valid' ELSE 'enforced' END),
			NULL,
			CASE WHEN partshift.is_enforced(con) THEN
				format('Run ALTER TABLE %s VALIDATE CONSTRAINT %I.', k.child::regclass, k.conname)
			ELSE 'Make it ENFORCED, or drop it.' END) f
	WHERE k.child <> relid AND NOT con.convalidated
	  AND (partshift.is_enforced(con)
		   OR NOT k.carried AND coalesce(options->>'foreign_keys', 'error') = 'extend')
	UNION ALL
	SELECT f.*
	FROM partshift.incoming_keys(relid, plan) k,
		 partshift.check_neighbour(k.child, k.conname) f
	WHERE k.child <> relid
$$;

COMMENT ON FUNCTION partshift.check_incoming_keys(oid, jsonb, jsonb) IS
'findings about foreign keys that refer to the table';
