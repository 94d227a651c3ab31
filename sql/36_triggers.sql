/*
 * Checks of triggers.  Those with a condition over whole rows are carried:
 * OLD.* and NEW.* mean the new table there.
 */

/*
 * Assignments are looked for in the text of the function, without its
 * comments: NEW.column := ..., NEW.column = ... at the start of a statement,
 * and INTO NEW.column.  Execution is not followed; a column changed through a
 * record variable is found only when a row would have to move.
 */
CREATE FUNCTION partshift.assigned_columns(source text)
RETURNS TABLE(column_name text)
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH stripped AS (
		SELECT regexp_replace(regexp_replace(source, '--[^\n\r]*', ' ', 'g'),
							  '/\*.*?\*/', ' ', 'g') AS text
	), pattern AS (
		SELECT '\mnew\s*\.\s*("(?:[^"]|"")+"|[^[:space:]".;:=(),]+)' AS field
	), found AS (
		SELECT m[1] AS name
		FROM stripped, pattern, regexp_matches(text, field || '\s*:=', 'gi') m
		UNION
		SELECT m[1]
		FROM stripped, pattern,
			 regexp_matches(text, '(?:;|\mbegin\M|\mthen\M|\melse\M|\mloop\M|>>)\s*' || field || '\s*=',
							'gi') m
		UNION
		SELECT m[1]
		FROM stripped, pattern,
			 regexp_matches(text, '\minto\s+(?:strict\s+)?(?:[^[:space:],;()]+\s*,\s*)*?' || field,
							'gi') m
	)
	SELECT CASE WHEN name LIKE '"%' THEN replace(btrim(name, '"'), '""', '"')
				ELSE lower(name) END
	FROM found
$$;

COMMENT ON FUNCTION partshift.assigned_columns(text) IS
'the columns of NEW that a PL/pgSQL function assigns to';

CREATE FUNCTION partshift.changed_key_column(func oid, key_columns name[])
RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT min(a.column_name)
	FROM pg_proc p
		 JOIN pg_language l ON l.oid = p.prolang,
		 partshift.assigned_columns(p.prosrc) a
	WHERE p.oid = func AND l.lanname = 'plpgsql'
	  AND a.column_name = ANY (key_columns::text[])
$$;

COMMENT ON FUNCTION partshift.changed_key_column(oid, name[]) IS
'a partition key column that a trigger function assigns to';

/* Its arguments are the key's name, and pairs of columns: the child's first. */
CREATE FUNCTION partshift.filled_columns(trigger oid)
RETURNS SETOF name
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT a.attname
	FROM pg_trigger t
		 CROSS JOIN LATERAL string_to_table(encode(t.tgargs, 'escape'), '\000')
			WITH ORDINALITY AS u(argument, position)
		 JOIN pg_attribute a ON a.attrelid = t.tgrelid AND NOT a.attisdropped
			  AND encode(convert_to(a.attname, getdatabaseencoding()), 'escape') = u.argument
	WHERE t.oid = trigger AND t.tgfoid = 'partshift.fill_reference()'::regprocedure
	  AND u.position % 2 = 0
$$;

COMMENT ON FUNCTION partshift.filled_columns(oid) IS
'the columns of a table that a trigger of an extended foreign key fills';

CREATE FUNCTION partshift.check_triggers(relid oid, key_columns name[])
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT f.*
	FROM (SELECT t.oid, t.tgname, t.tgfoid, t.tgconstrrelid,
				 t.tgtype & 1 <> 0 AS for_row,
				 t.tgtype & 2 <> 0 AND t.tgtype & 20 <> 0 AS before_write,
				 t.tgoldtable IS NOT NULL OR t.tgnewtable IS NOT NULL AS with_tables,
				 t.tgqual IS NOT NULL
					AND t.tgfoid <> 'partshift.fill_late()'::regprocedure
					AND NOT has_function_privilege(c.relowner, t.tgfoid, 'EXECUTE')
					AS owner_cannot_create
		  FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
		  WHERE t.tgrelid = relid AND NOT t.tgisinternal) t,
		 LATERAL (
			SELECT r.*
			FROM partshift.refused('trigger', t.tgname, '0A000',
					format('trigger "%s" is a row trigger with transition tables', t.tgname),
					'A partitioned table cannot have it.', 'Make it a statement trigger.') r
			WHERE t.for_row AND t.with_tables
			UNION ALL
			SELECT r.*
			FROM partshift.refused('trigger', t.tgname, '0A000',
					format('constraint trigger "%s" refers to another table', t.tgname),
					format('It is FROM table %s.', t.tgconstrrelid::regclass), NULL) r
			WHERE t.tgconstrrelid <> 0
			UNION ALL
			SELECT r.*
			FROM partshift.refused('trigger', t.tgname, '42501',
					format('owner of the table cannot execute the function of trigger "%s"', t.tgname),
					'A trigger with a WHEN condition is created as the table''s owner.',
					format('Use GRANT EXECUTE ON FUNCTION %s TO the owner.', t.tgfoid::regprocedure)) r
			WHERE t.owner_cannot_create
			UNION ALL
			SELECT r.*
			FROM partshift.changed_key_column(t.tgfoid, key_columns) changed,
				 partshift.refused('trigger', t.tgname, '0A000',
					format('trigger "%s" assigns to partition key column "%s"', t.tgname, changed),
					'A BEFORE trigger of a partitioned table cannot move a row to another partition.',
					'Compute the value elsewhere, or drop the trigger.') r
			WHERE t.for_row AND t.before_write AND changed IS NOT NULL
			UNION ALL
			SELECT r.*
			FROM partshift.filled_columns(t.oid) filled,
				 partshift.refused('trigger', t.tgname, '0A000',
					format('trigger "%s" fills partition key column "%s"', t.tgname, filled),
					'A BEFORE trigger of a partitioned table cannot move a row to another partition.',
					'Let applications give the column, then drop the trigger.') r
			WHERE filled = ANY (key_columns)
			UNION ALL
			SELECT w.*
			FROM partshift.warned('trigger', t.tgname,
					format('trigger "%s" runs before rows are written', t.tgname),
					'If it changes a partition key column so that the row belongs to another partition, the statement fails.') w
			WHERE t.for_row AND t.before_write
			  AND partshift.changed_key_column(t.tgfoid, key_columns) IS NULL) f
	ORDER BY t.tgname
$$;

COMMENT ON FUNCTION partshift.check_triggers(oid, name[]) IS
'findings about triggers of the table';

/*
 * Ordinary event triggers rest while a worker runs its statements; these do
 * not.  They may refuse them, or change what was made.
 */
CREATE FUNCTION partshift.check_event_triggers()
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT f.*
	FROM pg_event_trigger e,
		 partshift.warned('event trigger', e.evtname,
			format('event trigger "%s" fires for the statements of the conversion', e.evtname),
			'It is enabled for replicas, as which the workers run: if it refuses a statement, the job fails.',
			format('Use ALTER EVENT TRIGGER %I ENABLE to spare the conversion.', e.evtname)) f
	WHERE e.evtenabled IN ('A', 'R') AND e.evtevent <> 'login'
	ORDER BY e.evtname
$$;

COMMENT ON FUNCTION partshift.check_event_triggers() IS
'findings about event triggers that fire in workers';

/* An error that an event trigger raises mentions its function as the context. */
CREATE FUNCTION partshift.event_trigger_hint(context text)
RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT format('Event trigger "%s" fires for the statements of the conversion.  Disable it and resume or abort the job.', e.evtname)
	FROM pg_event_trigger e
	WHERE e.evtenabled IN ('A', 'R')
	  AND position('PL/pgSQL function ' || e.evtfoid::regprocedure || ' ' IN context) > 0
	ORDER BY e.evtname LIMIT 1
$$;

COMMENT ON FUNCTION partshift.event_trigger_hint(text) IS
'what to do about the event trigger that raised an error with this context';
