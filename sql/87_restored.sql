/*
 * What a dump taken during a conversion brings to the database in which it is
 * restored.
 *
 * The job is not there, since its row is the extension's and no dump has it;
 * neither are its logs, nor the triggers on the source, which are internal.
 * The copy is an ordinary table then that nobody writes.  What would not stay
 * out of everybody's way are the foreign keys to it and from it, and the
 * trigger by which the old table followed the new one: an event trigger drops
 * them when the dump makes them.
 *
 * A table that is not in use bears a comment by which it is known, because
 * comments are in a dump, before foreign keys are.
 */
CREATE FUNCTION partshift.unused_mark(job_id integer)
RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT format('Belongs to conversion job %s and is not in use.', job_id)
$$;

COMMENT ON FUNCTION partshift.unused_mark(integer) IS
'the comment on a table of a job that no application uses yet, or no longer';

CREATE FUNCTION partshift.is_restored(relid oid)
RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT obj_description(relid, 'pg_class')
			~ '^Belongs to conversion job \d+ and is not in use\.$'
		AND NOT EXISTS (SELECT FROM partshift.job j
						WHERE is_restored.relid IN (j.relid, j.shadow)
							AND j.status IN ('active', 'paused', 'failed'))
$$;

COMMENT ON FUNCTION partshift.is_restored(oid) IS
'whether a table was made by a conversion that is not in this database';

/*
 * ALTER TABLE ... ENABLE ALWAYS is what a dump does to the trigger last.
 */
CREATE FUNCTION partshift.restored_commands(classes oid[], objects oid[],
	OUT command text, OUT message text)
RETURNS SETOF record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH touched AS (
		SELECT DISTINCT t.objid AS relid
		FROM unnest(classes, objects) AS t (classid, objid)
		WHERE t.classid = 'pg_class'::regclass
	)
	SELECT format('ALTER TABLE %s DROP CONSTRAINT %I',
				  partshift.relation_name(o.conrelid), o.conname),
		format('foreign key "%s" of table %s is not kept', o.conname, o.conrelid::regclass)
	FROM touched t
		JOIN pg_constraint o ON o.conrelid = t.relid
	WHERE o.contype = 'f' AND o.conparentid = 0
		AND (partshift.is_restored(o.confrelid) OR partshift.is_restored(o.conrelid)
			 OR EXISTS (SELECT FROM pg_inherits i
						WHERE i.inhrelid = o.conrelid AND partshift.is_restored(i.inhparent)))
	UNION ALL
	SELECT format('DROP TRIGGER %I ON %s', g.tgname, partshift.relation_name(g.tgrelid)),
		format('trigger "%s" of table %s is not kept', g.tgname, g.tgrelid::regclass)
	FROM touched t
		JOIN pg_trigger g ON g.tgrelid = t.relid
	WHERE g.tgfoid = 'partshift.reverse_row()'::regprocedure
		AND NOT g.tgisinternal AND g.tgparentid = 0 AND g.tgenabled = 'A'
		AND NOT EXISTS (SELECT FROM partshift.job j
						WHERE j.shadow = g.tgrelid
							AND j.status IN ('active', 'paused', 'failed'))
$$;

COMMENT ON FUNCTION partshift.restored_commands(oid[], oid[]) IS
'statements that rid altered tables of what belongs to a conversion that is not in this database';
