/*
 * Foreign keys that are extended by the partition key.
 *
 * A key that refers to columns which are unique no longer gets the missing
 * columns: the referencing table gains a column for each, a trigger fills it
 * for applications that do not know it (reference.c), the rows there are have
 * it filled in short batches, and the composite key takes the place of the
 * original in the swap.  All of it happens in the phase rewire; abort and
 * rollback take it back.
 */

CREATE FUNCTION partshift.extended_keys(plan jsonb)
RETURNS TABLE (key oid, name name, relation oid, children name[], parents name[],
			   added name[], in_full boolean, trigger_name name, late_name name,
			   commit_name name)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT (e.key ->> 'oid')::oid, (e.key ->> 'name')::name, (e.key ->> 'relation')::oid,
		ARRAY(SELECT c ->> 'child' FROM jsonb_array_elements(e.key -> 'columns') c)::name[],
		ARRAY(SELECT c ->> 'parent' FROM jsonb_array_elements(e.key -> 'columns') c)::name[],
		ARRAY(SELECT c ->> 'child' FROM jsonb_array_elements(e.key -> 'columns') c
			  WHERE (c ->> 'add')::boolean)::name[],
		(e.key ->> 'full')::boolean,
		/* After other triggers, which may change the reference: by name. */
		('~' || partshift.clip_name('partshift_fill_' || (e.key ->> 'name'), 62))::name,
		/* Before the server's own, which are called RI_ConstraintTrigger. */
		partshift.clip_name('Partshift_fill_' || (e.key ->> 'name'), 63)::name,
		partshift.clip_name('Partshift_late_' || (e.key ->> 'name'), 63)::name
	FROM jsonb_array_elements(extended_keys.plan -> 'extended_keys') AS e (key)
$$;

COMMENT ON FUNCTION partshift.extended_keys(jsonb) IS
'the foreign keys that a plan extends';

/*
 * A single column is matched in full, so that a row cannot evade the key by a
 * null in the new column; a key of several columns whose original let parts
 * of it be null goes on to do so, and one with a column that is never null.
 */
CREATE FUNCTION partshift.extended_definition(plan jsonb, conid oid)
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT d.def || jsonb_build_object(
		'head', format('FOREIGN KEY (%s, %s) REFERENCES',
			partshift.foreign_key_columns(c.conrelid, c.conkey, false),
			(SELECT string_agg(quote_ident(n), ', ' ORDER BY p)
			 FROM unnest(x.children) WITH ORDINALITY AS u (n, p))),
		'tail', format('(%s, %s)%s ON UPDATE CASCADE ON DELETE %s%s',
			partshift.foreign_key_columns(c.confrelid, c.confkey, false),
			(SELECT string_agg(quote_ident(n), ', ' ORDER BY p)
			 FROM unnest(x.parents) WITH ORDINALITY AS u (n, p)),
			CASE WHEN x.in_full THEN ' MATCH FULL' ELSE '' END,
			partshift.foreign_key_action(c.confdeltype),
			CASE WHEN cardinality(c.conkey) > 1 OR NOT x.in_full THEN
				' (' || partshift.foreign_key_columns(c.conrelid, c.confdelsetcols, false)
					 || ')' END))
	FROM partshift.extended_keys(plan) AS x
		JOIN pg_constraint AS c ON c.oid = x.key,
		LATERAL (SELECT partshift.foreign_key_definition(c.oid) AS def) AS d
	WHERE x.key = conid
$$;

COMMENT ON FUNCTION partshift.extended_definition(jsonb, oid) IS
'a foreign key as foreign_key_definition() describes it, extended; empty for one that stays as it is';

/*
 * A domain's constraints would be checked for every row of the referencing
 * table, and its owner's functions called by whoever adds the column.
 */
CREATE FUNCTION partshift.extending_type(relid oid, column_name name, OUT type oid,
										 OUT typmod integer, OUT collid oid)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH RECURSIVE below AS (
		SELECT t.typtype, t.oid AS type, a.atttypmod AS typmod, a.attcollation AS collid,
			t.typbasetype, t.typtypmod
		FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
		WHERE a.attrelid = relid AND a.attname = column_name
		UNION ALL
		SELECT t.typtype, t.oid, b.typtypmod, b.collid, t.typbasetype, t.typtypmod
		FROM below AS b JOIN pg_type AS t ON t.oid = b.typbasetype
		WHERE b.typtype = 'd'
	)
	SELECT b.type, b.typmod, b.collid FROM below AS b WHERE b.typtype <> 'd'
$$;

COMMENT ON FUNCTION partshift.extending_type(oid, name) IS
'the type of a column that is to have the values of another: of a domain, the type it is over';

CREATE FUNCTION partshift.extending_columns(relid oid, children name[], parents name[], added name[])
RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT string_agg(format('ADD COLUMN %I %s%s', u.child, format_type(e.type, e.typmod),
			CASE WHEN e.collid <> 0 AND e.collid <> t.typcollation
				THEN ' COLLATE ' || e.collid::regcollation ELSE '' END), ', ' ORDER BY u.n)
	FROM unnest(children, parents) WITH ORDINALITY AS u (child, parent, n),
		LATERAL partshift.extending_type(relid, u.parent) AS e
		JOIN pg_type AS t ON t.oid = e.type
	WHERE u.child = ANY (added)
$$;

COMMENT ON FUNCTION partshift.extending_columns(oid, name[], name[], name[]) IS
'what adds the new columns to a referencing table, or null';

/*
 * One trigger fills rows before they are written, one sees to those whose
 * parent was written later by the same statement, and for keys that can be
 * deferred one more looks again at commit.
 */
CREATE FUNCTION partshift.fill_trigger_commands(plan jsonb, conid oid)
RETURNS SETOF text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT c.command
	FROM partshift.extended_keys(plan) AS x
		JOIN pg_constraint AS k ON k.oid = x.key,
		LATERAL (
			SELECT partshift.relation_name(x.relation) AS relname,
				(SELECT string_agg(format('NEW.%I IS NOT NULL', a.attname), ' AND ' ORDER BY a.attnum)
				 FROM pg_attribute AS a
				 WHERE a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey)) AS given,
				(SELECT format('(%s)', string_agg(format('NEW.%I IS NULL', u.child), ' OR '))
				 FROM unnest(x.children) AS u (child)) AS lacking,
				(SELECT string_agg(format('%L, %L', u.child, u.parent), ', ' ORDER BY u.n)
				 FROM unnest(x.children, x.parents) WITH ORDINALITY AS u (child, parent, n)) AS pairs
		) AS v,
		LATERAL (VALUES
			(x.trigger_name, format('CREATE TRIGGER %I BEFORE INSERT OR UPDATE ON %s FOR EACH ROW '
				'EXECUTE FUNCTION partshift.fill_reference(%L, %s)',
				x.trigger_name, v.relname, x.name, v.pairs)),
			(x.late_name, format('CREATE TRIGGER %I AFTER INSERT OR UPDATE ON %s FOR EACH ROW '
				'WHEN (%s) EXECUTE FUNCTION partshift.fill_late(%L, %s)',
				x.late_name, v.relname,
				/* Of a table that refers to itself it may be moved as well. */
				CASE WHEN k.conrelid = k.confrelid THEN v.given
					ELSE concat_ws(' AND ', v.given, v.lacking) END,
				x.name, v.pairs)),
			(x.commit_name, CASE WHEN k.condeferrable THEN
				format('CREATE CONSTRAINT TRIGGER %I AFTER INSERT OR UPDATE ON %s '
					'DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (%s AND %s) '
					'EXECUTE FUNCTION partshift.fill_late(%L, %s)',
					x.commit_name, v.relname, v.given, v.lacking, x.name, v.pairs) END))
			AS t (name, command),
		LATERAL (VALUES (1, t.command),
			(2, format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', v.relname, t.name)))
			AS c (part, command)
	WHERE x.key = conid AND t.command IS NOT NULL
	ORDER BY t.name, c.part
$$;

COMMENT ON FUNCTION partshift.fill_trigger_commands(jsonb, oid) IS
'statements that create the triggers which fill the columns of an extended key';

CREATE FUNCTION partshift.watch_reference(job_id integer, conid oid)
RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT partshift.watch_parent(j.job_id, j.relid, conid,
		ARRAY(SELECT v.name::text
			  FROM unnest(x.children, x.parents) WITH ORDINALITY AS u (child, parent, n),
				LATERAL (VALUES (1, u.child), (2, u.parent)) AS v (part, name)
			  ORDER BY u.n, v.part))
	FROM partshift.job AS j, partshift.extended_keys(j.plan) AS x
	WHERE j.job_id = watch_reference.job_id AND x.key = conid
$$;

COMMENT ON FUNCTION partshift.watch_reference(integer, oid) IS
'puts the triggers of an extended foreign key on the referenced table, from the job''s plan';

/*
 * The definition of a table that refers to itself is another from here on; it
 * is recorded in the transaction that changes it.
 */
CREATE FUNCTION partshift.begin_extension(job_id integer, conid oid)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	job partshift.job;
	ext record;
	relname text;
	columns text;
	command text;
BEGIN
	SELECT j.* INTO STRICT job FROM partshift.job AS j
	WHERE j.job_id = begin_extension.job_id;
	SELECT x.* INTO STRICT ext FROM partshift.extended_keys(job.plan) AS x
	WHERE x.key = conid;
	relname := partshift.relation_name(ext.relation);

	PERFORM partshift.lock_together(job.relid, ext.relation = job.relid, ext.relation, true);
	IF ext.relation = job.relid AND partshift.has_changed(job) THEN
		RAISE EXCEPTION USING
			ERRCODE = 'object_not_in_prerequisite_state',
			MESSAGE = format('definition of table "%s" has changed since the conversion was planned',
							 job.table_name),
			HINT = format('Abort job %s and convert the table again.', job.job_id);
	END IF;
	columns := partshift.extending_columns(job.relid, ext.children, ext.parents, ext.added);
	IF columns IS NOT NULL THEN
		EXECUTE format('ALTER TABLE %s %s', relname, columns);
	END IF;
	FOR command IN SELECT c FROM partshift.fill_trigger_commands(job.plan, conid) AS c LOOP
		EXECUTE command;
	END LOOP;
	PERFORM partshift.watch_reference(job.job_id, conid);
	IF ext.relation = job.relid THEN
		UPDATE partshift.job AS j SET fingerprint = partshift.fingerprint(j.relid)
		WHERE j.job_id = begin_extension.job_id;
	END IF;
END
$$;

COMMENT ON FUNCTION partshift.begin_extension(integer, oid) IS
'gives a referencing table its new columns, and the triggers that keep them';

CREATE FUNCTION partshift.watch_itself(job_id integer)
RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT partshift.watch_reference(j.job_id, x.key)
	FROM partshift.job AS j, partshift.extended_keys(j.plan) AS x
		JOIN pg_trigger AS t ON t.tgrelid = x.relation AND t.tgname = x.trigger_name
	WHERE j.job_id = watch_itself.job_id AND x.relation = j.relid
$$;

COMMENT ON FUNCTION partshift.watch_itself(integer) IS
'puts the triggers of keys from the table to itself back, when it is copied again';

/*
 * An update that changes nothing lets the trigger fill the column.  It yields
 * how many rows it had to leave, because somebody else had them locked.  The
 * last range is open: rows may have been added behind it before the trigger.
 */
CREATE FUNCTION partshift.fill_commands(leaf oid, reference name[], missing name[])
RETURNS TABLE (run_as oid, command text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT c.relowner, format('WITH missing AS MATERIALIZED (SELECT x.ctid FROM ONLY %1$s AS x WHERE %2$s), '
		'free AS MATERIALIZED (SELECT x.ctid FROM ONLY %1$s AS x WHERE %2$s FOR NO KEY UPDATE SKIP LOCKED), '
		'filled AS (UPDATE ONLY %1$s AS x SET %3$I = x.%3$I WHERE x.ctid = ANY (ARRAY(SELECT f.ctid FROM free AS f)) RETURNING 1) '
		'SELECT (SELECT count(*) FROM missing) - (SELECT count(*) FROM filled)',
		partshift.relation_name(leaf),
		format('x.ctid >= %L::tid%s AND %s AND (%s)', format('(%s,0)', b.first),
			CASE WHEN b.first + 32 < v.blocks
				THEN format(' AND x.ctid < %L::tid', format('(%s,0)', b.first + 32)) ELSE '' END,
			(SELECT string_agg(format('x.%I IS NOT NULL', r), ' AND ') FROM unnest(reference) AS r),
			(SELECT string_agg(format('x.%I IS NULL', m), ' OR ') FROM unnest(missing) AS m)),
		reference[1])
	FROM pg_class AS c,
		LATERAL (SELECT pg_relation_size(leaf) / current_setting('block_size')::bigint AS blocks) AS v,
		generate_series(0, greatest(v.blocks - 1, 0), 32) AS b (first)
	WHERE c.oid = leaf
	ORDER BY b.first
$$;

COMMENT ON FUNCTION partshift.fill_commands(oid, name[], name[]) IS
'statements that fill the columns of a table or partition, some blocks at a time; each yields how many rows it had to leave';

/* An index that begins with the reference finds the rows of a parent well enough. */
CREATE FUNCTION partshift.extension_index_commands(key oid, children name[])
RETURNS TABLE (run_as oid, command text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH con AS (
		SELECT c.oid, c.conrelid, c.conkey, r.relkind
		FROM pg_constraint AS c JOIN pg_class AS r ON r.oid = c.conrelid
		WHERE c.oid = key
			AND NOT EXISTS (SELECT FROM pg_index AS i
							WHERE i.indrelid = c.conrelid AND i.indisvalid AND i.indpred IS NULL
								AND i.indkey[0] = c.conkey[1])
	), target AS (
		SELECT t.relid, t.isleaf, t.level
		FROM con, pg_partition_tree(con.conrelid) AS t
		UNION
		SELECT con.conrelid, true, 0 FROM con WHERE con.relkind = 'r'
	)
	SELECT NULL::oid, format('CREATE INDEX %sIF NOT EXISTS %I ON %s (%s)',
		CASE WHEN t.isleaf THEN 'CONCURRENTLY ' ELSE '' END,
		partshift.clip_name(concat_ws('_', r.relname, children[1], 'fkey'), 50) || '_' || con.oid,
		partshift.relation_name(t.relid),
		concat_ws(', ', partshift.foreign_key_columns(con.conrelid, con.conkey, false),
			(SELECT string_agg(quote_ident(n), ', ' ORDER BY p)
			 FROM unnest(children) WITH ORDINALITY AS u (n, p))))
	FROM con, target AS t JOIN pg_class AS r ON r.oid = t.relid
	/* The index of a table takes those of its partitions over. */
	ORDER BY t.level DESC, t.relid
$$;

COMMENT ON FUNCTION partshift.extension_index_commands(oid, name[]) IS
'statements for an index over an extended foreign key, if the table has none that serves';

CREATE FUNCTION partshift.extension_commands(job_id integer, of_itself boolean)
RETURNS TABLE (run_as oid, command text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT c.run_as, c.command
	FROM partshift.job AS j,
		partshift.extended_keys(j.plan) AS x
		JOIN pg_constraint AS k ON k.oid = x.key,
		LATERAL (
			SELECT 1 AS part, 0::bigint AS leaf, 0::bigint AS n, NULL::oid AS run_as,
				format('SELECT partshift.begin_extension(%s, %s)', j.job_id, x.key) AS command
			UNION ALL
			SELECT 2, t.relid::oid::bigint, f.n, f.run_as, f.command
			FROM (SELECT p.relid FROM pg_partition_tree(x.relation) AS p WHERE p.isleaf
				  UNION
				  SELECT x.relation::regclass) AS t
				JOIN pg_class AS r ON r.oid = t.relid AND r.relkind = 'r',
				partshift.fill_commands(t.relid, ARRAY(
						SELECT a.attname FROM unnest(k.conkey) WITH ORDINALITY AS u (attnum, n)
							JOIN pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = u.attnum
						ORDER BY u.n), x.children)
					WITH ORDINALITY AS f (run_as, command, n)
			UNION ALL
			SELECT 3, 0, i.n, i.run_as, i.command
			FROM partshift.extension_index_commands(x.key, x.children)
				WITH ORDINALITY AS i (run_as, command, n)
			WHERE NOT of_itself) AS c
	WHERE j.job_id = extension_commands.job_id AND (x.relation = j.relid) = of_itself
	ORDER BY c.part, x.key, c.leaf, c.n
$$;

COMMENT ON FUNCTION partshift.extension_commands(integer, boolean) IS
'everything that extends the foreign keys to a job''s table, but the keys themselves: those from the table itself, or the others';

CREATE FUNCTION partshift.retract_triggers(job_id integer)
RETURNS TABLE (relation oid, key oid, command text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT x.relation, x.key, format('DROP TRIGGER IF EXISTS %I ON %s', n.name,
									 partshift.relation_name(x.relation))
	FROM partshift.job AS j,
		partshift.extended_keys(j.plan) AS x
		JOIN pg_trigger AS t ON t.tgrelid = x.relation AND t.tgname = x.trigger_name
			AND t.tgfoid = 'partshift.fill_reference()'::regprocedure,
		LATERAL (VALUES (x.trigger_name), (x.late_name), (x.commit_name)) AS n (name)
	WHERE j.job_id = retract_triggers.job_id
$$;

COMMENT ON FUNCTION partshift.retract_triggers(integer) IS
'statements that drop the triggers of extended keys, of each key whose first trigger is there';

CREATE FUNCTION partshift.retract_commands(job_id integer)
RETURNS TABLE (run_as oid, command text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT NULL::oid, c.command
	FROM (
		SELECT t.relation, t.key, 1 AS part, t.command
		FROM partshift.retract_triggers(retract_commands.job_id) AS t
		UNION ALL
		SELECT x.relation, x.key, 2, format('ALTER TABLE %s %s', partshift.relation_name(x.relation),
			(SELECT string_agg(format('DROP COLUMN IF EXISTS %I', n), ', ') FROM unnest(x.added) AS n))
		FROM partshift.job AS j, partshift.extended_keys(j.plan) AS x
		WHERE j.job_id = retract_commands.job_id AND x.added <> '{}'
			AND x.key IN (SELECT t.key FROM partshift.retract_triggers(j.job_id) AS t)
	) AS c
	ORDER BY c.relation, c.key, c.part, c.command COLLATE "C"
$$;

COMMENT ON FUNCTION partshift.retract_commands(integer) IS
'statements that take from referencing tables what an extension gave them';

CREATE FUNCTION partshift.retire_commands(job_id integer)
RETURNS TABLE (run_as oid, command text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT NULL::oid, t.command
	FROM partshift.job AS j, partshift.retract_triggers(j.job_id) AS t
	WHERE j.job_id = retire_commands.job_id AND t.relation = j.relid
	ORDER BY t.command COLLATE "C"
$$;

COMMENT ON FUNCTION partshift.retire_commands(integer) IS
'statements that drop the triggers which a legacy table has of keys to itself';

CREATE FUNCTION partshift.drop_unfinished_indexes(job_id integer)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	unfinished oid;
BEGIN
	FOR unfinished IN
		SELECT i.indexrelid
		FROM partshift.job AS j,
			partshift.extended_keys(j.plan) AS x
			JOIN pg_class AS c ON c.relname LIKE '%\_' || x.key
			JOIN pg_index AS i ON i.indexrelid = c.oid AND NOT i.indisvalid
		WHERE j.job_id = drop_unfinished_indexes.job_id
			AND (i.indrelid = x.relation
				 OR i.indrelid IN (SELECT t.relid FROM pg_partition_tree(x.relation) AS t))
	LOOP
		EXECUTE format('DROP INDEX %s', partshift.relation_name(unfinished));
	END LOOP;
END
$$;

COMMENT ON FUNCTION partshift.drop_unfinished_indexes(integer) IS
'drops what an interrupted CREATE INDEX CONCURRENTLY of a job has left';
