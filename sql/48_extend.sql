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

/*
 * The column is named like the parent's, unless the table has such a column
 * or refers to the parent by several keys.
 */
CREATE FUNCTION partshift.extending_column(child oid, conid oid, parent_column name,
										   several boolean, options jsonb)
RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(
		options->'extend_columns'->con.conname->>parent_column,
		CASE WHEN several THEN
			partshift.clip_name((SELECT a.attname FROM pg_attribute a
								 WHERE a.attrelid = child AND a.attnum = con.conkey[1]) || '_'
								|| parent_column, 63) END,
		parent_column)
	FROM pg_constraint con WHERE con.oid = conid
$$;

COMMENT ON FUNCTION partshift.extending_column(oid, oid, name, boolean, jsonb) IS
'the name of a column by which a foreign key is extended';

CREATE FUNCTION partshift.plan_extended_keys(relid oid, options jsonb, plan jsonb)
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH lost AS (
		SELECT k.conname, k.child, k.conid,
			count(*) OVER (PARTITION BY k.child) > 1 AS several,
			(SELECT entry->'added' FROM jsonb_array_elements(plan->'indexes') entry
			 WHERE (entry->>'oid')::oid = con.conindid) AS added
		FROM partshift.incoming_keys(relid, plan) k
			 JOIN pg_constraint con ON con.oid = k.conid
		WHERE NOT k.carried AND options->>'foreign_keys' = 'extend' AND k.child <> relid
	)
	SELECT coalesce(jsonb_agg(jsonb_build_object(
		'oid', l.conid::bigint, 'name', l.conname, 'relation', l.child::bigint,
		'columns', (
			SELECT coalesce(jsonb_agg(jsonb_build_object(
				'parent', p.name, 'child', c.name,
				'add', NOT EXISTS (SELECT FROM pg_attribute x
								   WHERE x.attrelid = l.child AND x.attname = c.name
									 AND NOT x.attisdropped)) ORDER BY p.place), '[]')
			FROM jsonb_array_elements_text(l.added) WITH ORDINALITY AS p (name, place),
				 partshift.extending_column(l.child, l.conid, p.name::name, l.several,
											options) AS c (name)))
		ORDER BY l.child, l.conname), '[]')
	FROM lost l
$$;

COMMENT ON FUNCTION partshift.plan_extended_keys(oid, jsonb, jsonb) IS
'the foreign keys to extend, each with its new columns';

CREATE FUNCTION partshift.check_extended_columns(relid oid, options jsonb, plan jsonb)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT f.*
	FROM jsonb_array_elements(plan->'extended_keys') AS e (key)
		 CROSS JOIN LATERAL jsonb_array_elements(e.key->'columns') AS c (entry)
		 CROSS JOIN LATERAL (SELECT (e.key->>'relation')::oid AS child, e.key->>'name' AS name,
									c.entry->>'child' AS column_name) v
		 JOIN pg_class r ON r.oid = v.child
		 JOIN pg_attribute p ON p.attrelid = relid AND p.attname = c.entry->>'parent'
		 LEFT JOIN pg_attribute a ON a.attrelid = v.child AND a.attname = v.column_name
			  AND NOT a.attisdropped,
		 LATERAL (VALUES
			(octet_length(v.column_name) > 63, '42622',
			 format('name "%s" of a column for foreign key "%s" is too long', v.column_name, v.name),
			 NULL, 'Choose another with option "extend_columns".'),
			(a.attname IS NOT NULL
			 AND NOT coalesce(options->'extend_columns'->v.name ? (c.entry->>'parent'), false), '42701',
			 format('column "%s" of table %s exists already', v.column_name, v.child::regclass),
			 format('Foreign key "%s" is to be extended by a column of this name.', v.name),
			 format('Give option "extend_columns" as {"%s": {"%s": "%s"}} to use it, or name another.',
					v.name, c.entry->>'parent', v.column_name)),
			(a.attname IS NOT NULL AND (a.atttypid, a.atttypmod, a.attcollation)
									   <> (p.atttypid, p.atttypmod, p.attcollation), '42804',
			 format('column "%s" of table %s is not of type %s', v.column_name, v.child::regclass,
					format_type(p.atttypid, p.atttypmod)), NULL,
			 'Name another with option "extend_columns".'),
			(a.attgenerated <> '', '0A000',
			 format('column "%s" of table %s is generated', v.column_name, v.child::regclass), NULL,
			 'Name another with option "extend_columns".'),
			(NOT has_column_privilege(r.relowner, relid, p.attnum, 'REFERENCES'), '42501',
			 format('owner of table %s may not refer to column "%s"', v.child::regclass, p.attname),
			 format('Foreign key "%s" is to be extended by it.', v.name),
			 format('Use GRANT REFERENCES (%I) ON %s TO %I.', p.attname, relid::regclass,
					pg_get_userbyid(r.relowner))))
			AS rule(applies, sqlstate, message, detail, hint),
		 partshift.refused('foreign key', v.name, rule.sqlstate, rule.message, rule.detail, rule.hint) f
	WHERE rule.applies
	ORDER BY v.child::regclass::text COLLATE "C", v.name, rule.message COLLATE "C"
$$;

COMMENT ON FUNCTION partshift.check_extended_columns(oid, jsonb, jsonb) IS
'refuses columns that a foreign key cannot be extended by';

CREATE FUNCTION partshift.check_extended_keys(relid oid, options jsonb, plan jsonb)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT * FROM partshift.check_extended_columns(relid, options, plan)
	UNION ALL
	SELECT f.*
	FROM partshift.incoming_keys(relid, plan) k
		 JOIN pg_constraint con ON con.oid = k.conid
		 JOIN jsonb_array_elements(plan->'indexes') entry ON (entry->>'oid')::oid = con.conindid,
		 LATERAL (VALUES
			(k.child = relid,
			 format('foreign key "%s" of the table to itself cannot be extended', k.conname),
			 'Leave it off with foreign_keys => ''drop'', or partition by a column that it refers to.'),
			((entry->>'per_partition')::boolean,
			 format('foreign key "%s" of table %s refers to a key that each partition enforces alone',
					k.conname, k.child::regclass),
			 'Give option "unique_keys" as "extend".'))
			AS rule(applies, message, hint),
		 partshift.refused('foreign key', k.conname, '0A000', rule.message, NULL, rule.hint) f
	WHERE options->>'foreign_keys' = 'extend' AND NOT k.carried AND rule.applies
	UNION ALL
	SELECT f.*
	FROM jsonb_array_elements(plan->'extended_keys') AS e (key),
		 LATERAL (SELECT string_agg(entry->>'child', ', ') AS names
				  FROM jsonb_array_elements(e.key->'columns') entry) c,
		 partshift.warned('foreign key', e.key->>'name',
			format('foreign key "%s" of table %s is extended by column %s', e.key->>'name',
				   (e.key->>'relation')::oid::regclass, c.names),
			'A trigger fills the column for applications that do not give it, at the price of a look-up in each partition.') f
$$;

COMMENT ON FUNCTION partshift.check_extended_keys(oid, jsonb, jsonb) IS
'findings about foreign keys to be extended';

CREATE FUNCTION partshift.extended_keys(plan jsonb)
RETURNS TABLE (key oid, name name, relation oid, children name[], parents name[],
			   added name[], trigger_name name, late_name name)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT (e.key ->> 'oid')::oid, (e.key ->> 'name')::name, (e.key ->> 'relation')::oid,
		ARRAY(SELECT c ->> 'child' FROM jsonb_array_elements(e.key -> 'columns') c)::name[],
		ARRAY(SELECT c ->> 'parent' FROM jsonb_array_elements(e.key -> 'columns') c)::name[],
		ARRAY(SELECT c ->> 'child' FROM jsonb_array_elements(e.key -> 'columns') c
			  WHERE (c ->> 'add')::boolean)::name[],
		/* After other triggers, which may change the reference: by name. */
		('~' || partshift.clip_name('partshift_fill_' || (e.key ->> 'name'), 62))::name,
		/* Before the server's own, which are called RI_ConstraintTrigger. */
		partshift.clip_name('Partshift_fill_' || (e.key ->> 'name'), 63)::name
	FROM jsonb_array_elements(extended_keys.plan -> 'extended_keys') AS e (key)
$$;

COMMENT ON FUNCTION partshift.extended_keys(jsonb) IS
'the foreign keys that a plan extends';

/*
 * A single column is matched in full, so that a row cannot evade the key by a
 * null in the new column; a key of several columns whose original let parts
 * of it be null goes on to do so.
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
			CASE WHEN c.confmatchtype = 'f' OR cardinality(c.conkey) = 1
				THEN ' MATCH FULL' ELSE '' END,
			partshift.foreign_key_action(c.confdeltype),
			CASE WHEN cardinality(c.conkey) > 1 THEN
				' (' || partshift.foreign_key_columns(c.conrelid, c.confdelsetcols, false)
					 || ')' END))
	FROM partshift.extended_keys(plan) AS x
		JOIN pg_constraint AS c ON c.oid = x.key,
		LATERAL (SELECT partshift.foreign_key_definition(c.oid) AS def) AS d
	WHERE x.key = conid
$$;

COMMENT ON FUNCTION partshift.extended_definition(jsonb, oid) IS
'a foreign key as foreign_key_definition() describes it, extended; empty for one that stays as it is';

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
	pairs text;
BEGIN
	SELECT j.* INTO STRICT job FROM partshift.job AS j
	WHERE j.job_id = begin_extension.job_id;
	SELECT x.* INTO STRICT ext FROM partshift.extended_keys(job.plan) AS x
	WHERE x.key = conid;
	relname := partshift.relation_name(ext.relation);

	EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE',
				   partshift.relation_name(job.relid));
	EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', relname);
	SELECT string_agg(format('ADD COLUMN %I %s%s', u.child,
			format_type(a.atttypid, a.atttypmod),
			CASE WHEN a.attcollation <> 0 AND a.attcollation <> t.typcollation
				THEN ' COLLATE ' || a.attcollation::regcollation ELSE '' END), ', ')
	INTO columns
	FROM unnest(ext.children, ext.parents) AS u (child, parent)
		JOIN pg_attribute AS a ON a.attrelid = job.relid AND a.attname = u.parent
		JOIN pg_type AS t ON t.oid = a.atttypid
	WHERE u.child = ANY (ext.added);
	IF columns IS NOT NULL THEN
		EXECUTE format('ALTER TABLE %s %s', relname, columns);
	END IF;
	SELECT string_agg(format('%L, %L', u.child, u.parent), ', ') INTO pairs
	FROM unnest(ext.children, ext.parents) AS u (child, parent);
	EXECUTE format('CREATE TRIGGER %I BEFORE INSERT OR UPDATE ON %s FOR EACH ROW '
				   'EXECUTE FUNCTION partshift.fill_reference(%L, %s)',
				   ext.trigger_name, relname, ext.name, pairs);
	EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', relname, ext.trigger_name);
	IF (SELECT c.condeferrable FROM pg_constraint AS c WHERE c.oid = conid) THEN
		EXECUTE format('CREATE CONSTRAINT TRIGGER %I AFTER INSERT OR UPDATE ON %s '
					   'DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (%s) '
					   'EXECUTE FUNCTION partshift.fill_late(%L, %s)',
					   ext.late_name, relname,
					   (SELECT string_agg(format('NEW.%I IS NULL', u.child), ' OR ')
						FROM unnest(ext.children) AS u (child)),
					   ext.name, pairs);
		EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', relname, ext.late_name);
	END IF;
	PERFORM partshift.watch_parent(job.job_id, job.relid, conid,
		ARRAY(SELECT v.name::text
			  FROM unnest(ext.children, ext.parents) WITH ORDINALITY AS u (child, parent, n),
				LATERAL (VALUES (1, u.child), (2, u.parent)) AS v (part, name)
			  ORDER BY u.n, v.part));
END
$$;

COMMENT ON FUNCTION partshift.begin_extension(integer, oid) IS
'gives a referencing table its new columns, and the triggers that keep them';

/*
 * An update that changes nothing lets the trigger fill the column.  It yields
 * how many rows it had to leave, because somebody else had them locked.  The
 * last range is open: rows may have been added behind it before the trigger.
 */
CREATE FUNCTION partshift.fill_commands(leaf oid, reference name, missing name[])
RETURNS TABLE (run_as oid, command text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT c.relowner, format('WITH missing AS MATERIALIZED (SELECT x.ctid FROM ONLY %1$s AS x WHERE %2$s), '
		'free AS MATERIALIZED (SELECT x.ctid FROM ONLY %1$s AS x WHERE %2$s FOR NO KEY UPDATE SKIP LOCKED), '
		'filled AS (UPDATE ONLY %1$s AS x SET %3$I = x.%3$I WHERE x.ctid = ANY (ARRAY(SELECT f.ctid FROM free AS f)) RETURNING 1) '
		'SELECT (SELECT count(*) FROM missing) - (SELECT count(*) FROM filled)',
		partshift.relation_name(leaf),
		format('x.ctid >= %L::tid%s AND x.%I IS NOT NULL AND (%s)', format('(%s,0)', b.first),
			CASE WHEN b.first + 32 < v.blocks
				THEN format(' AND x.ctid < %L::tid', format('(%s,0)', b.first + 32)) ELSE '' END,
			reference,
			(SELECT string_agg(format('x.%I IS NULL', m), ' OR ') FROM unnest(missing) AS m)),
		reference)
	FROM pg_class AS c,
		LATERAL (SELECT pg_relation_size(leaf) / current_setting('block_size')::bigint AS blocks) AS v,
		generate_series(0, greatest(v.blocks - 1, 0), 32) AS b (first)
	WHERE c.oid = leaf
	ORDER BY b.first
$$;

COMMENT ON FUNCTION partshift.fill_commands(oid, name, name[]) IS
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
		SELECT t.relid, t.isleaf
		FROM con, pg_partition_tree(con.conrelid) AS t
		UNION
		SELECT con.conrelid, true FROM con WHERE con.relkind = 'r'
	)
	SELECT NULL::oid, format('CREATE INDEX %sIF NOT EXISTS %I ON %s (%s)',
		CASE WHEN t.isleaf THEN 'CONCURRENTLY ' ELSE '' END,
		partshift.clip_name(concat_ws('_', r.relname, children[1], 'fkey'), 50) || '_' || con.oid,
		partshift.relation_name(t.relid),
		concat_ws(', ', partshift.foreign_key_columns(con.conrelid, con.conkey, false),
			(SELECT string_agg(quote_ident(n), ', ' ORDER BY p)
			 FROM unnest(children) WITH ORDINALITY AS u (n, p))))
	FROM con, target AS t JOIN pg_class AS r ON r.oid = t.relid
	ORDER BY t.isleaf DESC, t.relid
$$;

COMMENT ON FUNCTION partshift.extension_index_commands(oid, name[]) IS
'statements for an index over an extended foreign key, if the table has none that serves';

CREATE FUNCTION partshift.extension_commands(job_id integer)
RETURNS TABLE (run_as oid, command text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT c.run_as, c.command
	FROM partshift.job AS j,
		partshift.extended_keys(j.plan) AS x
		JOIN pg_constraint AS k ON k.oid = x.key
		JOIN pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1],
		LATERAL (
			SELECT 1 AS part, 0::bigint AS leaf, 0::bigint AS n, NULL::oid AS run_as,
				format('SELECT partshift.begin_extension(%s, %s)', j.job_id, x.key) AS command
			UNION ALL
			SELECT 2, t.relid::oid::bigint, f.n, f.run_as, f.command
			FROM (SELECT p.relid FROM pg_partition_tree(x.relation) AS p WHERE p.isleaf
				  UNION
				  SELECT x.relation::regclass) AS t
				JOIN pg_class AS r ON r.oid = t.relid AND r.relkind = 'r',
				partshift.fill_commands(t.relid, a.attname, x.children)
					WITH ORDINALITY AS f (run_as, command, n)
			UNION ALL
			SELECT 3, 0, i.n, i.run_as, i.command
			FROM partshift.extension_index_commands(x.key, x.children)
				WITH ORDINALITY AS i (run_as, command, n)) AS c
	WHERE j.job_id = extension_commands.job_id
	ORDER BY c.part, x.key, c.leaf, c.n
$$;

COMMENT ON FUNCTION partshift.extension_commands(integer) IS
'everything that extends the foreign keys of a job, but the keys themselves';

CREATE FUNCTION partshift.retract_commands(job_id integer)
RETURNS TABLE (run_as oid, command text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT NULL::oid, c.command
	FROM partshift.job AS j,
		partshift.extended_keys(j.plan) AS x
		JOIN pg_trigger AS t ON t.tgrelid = x.relation AND t.tgname = x.trigger_name
			AND t.tgfoid = 'partshift.fill_reference()'::regprocedure,
		LATERAL (VALUES
			(1, format('DROP TRIGGER %I ON %s', x.trigger_name,
					   partshift.relation_name(x.relation))),
			(1, format('DROP TRIGGER IF EXISTS %I ON %s', x.late_name,
					   partshift.relation_name(x.relation))),
			(2, (SELECT format('ALTER TABLE %s %s', partshift.relation_name(x.relation),
						string_agg(format('DROP COLUMN IF EXISTS %I', n), ', '))
				 FROM unnest(x.added) AS n HAVING count(*) > 0))) AS c (part, command)
	WHERE j.job_id = retract_commands.job_id AND c.command IS NOT NULL
	ORDER BY x.relation, x.key, c.part
$$;

COMMENT ON FUNCTION partshift.retract_commands(integer) IS
'statements that take from referencing tables what an extension gave them';

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
