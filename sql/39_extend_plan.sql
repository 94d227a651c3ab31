/*
 * The plan of foreign keys that are extended by the partition key: which
 * columns they get, and what stands in the way; see 48_extend.sql.
 */

/*
 * The column is named like the parent's, unless the table has such a column
 * because it is the parent, or refers to the parent by several keys.
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

/*
 * A key that is matched in full leaves no way round it by a null in one
 * column.  But a column that cannot be null has a value where there is no
 * reference.  It leaves no way round either.
 */
CREATE FUNCTION partshift.matches_in_full(conid oid, names text[])
RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT (con.confmatchtype = 'f' OR cardinality(con.conkey) = 1)
		   AND NOT (EXISTS (SELECT FROM pg_attribute a
							WHERE a.attrelid = con.conrelid AND a.attname = ANY (names)
							  AND NOT a.attisdropped AND a.attnotnull)
					AND EXISTS (SELECT FROM pg_attribute a
								WHERE a.attrelid = con.conrelid AND a.attnum = ANY (con.conkey)
								  AND NOT a.attnotnull))
	FROM pg_constraint con WHERE con.oid = conid
$$;

COMMENT ON FUNCTION partshift.matches_in_full(oid, text[]) IS
'whether a foreign key that is extended by these columns is to be MATCH FULL';

CREATE FUNCTION partshift.plan_extended_keys(relid oid, options jsonb, plan jsonb)
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH lost AS (
		SELECT k.conname, k.child, k.conid,
			k.child = relid OR count(*) OVER (PARTITION BY k.child) > 1 AS several,
			(SELECT entry->'added' FROM jsonb_array_elements(plan->'indexes') entry
			 WHERE (entry->>'oid')::oid = con.conindid) AS added
		FROM partshift.incoming_keys(relid, plan) k
			 JOIN pg_constraint con ON con.oid = k.conid
		WHERE NOT k.carried AND options->>'foreign_keys' = 'extend'
	)
	SELECT coalesce(jsonb_agg(jsonb_build_object(
		'oid', l.conid::bigint, 'name', l.conname, 'relation', l.child::bigint,
		'full', partshift.matches_in_full(l.conid, ARRAY(
			SELECT partshift.extending_column(l.child, l.conid, p.name::name, l.several, options)
			FROM jsonb_array_elements_text(l.added) AS p (name))),
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

/*
 * A column that can be null belongs to its key alone: it is made null where
 * the reference is.
 */
CREATE FUNCTION partshift.other_key(plan jsonb, child oid, conid oid, column_name text)
RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT min(name) FROM (
		SELECT con.conname::text AS name
		FROM pg_constraint con
			 JOIN pg_attribute a ON a.attrelid = child AND a.attnum = ANY (con.conkey)
		WHERE con.conrelid = child AND con.contype = 'f' AND a.attname = column_name
		  AND NOT a.attnotnull
		UNION ALL
		SELECT e.key->>'name'
		FROM jsonb_array_elements(plan->'extended_keys') AS e (key),
			 jsonb_array_elements(e.key->'columns') AS c (entry)
			 LEFT JOIN pg_attribute a ON a.attrelid = child AND a.attname = column_name
				  AND NOT a.attisdropped
		WHERE (e.key->>'relation')::oid = child AND (e.key->>'oid')::oid <> conid
		  AND c.entry->>'child' = column_name AND a.attnotnull IS NOT TRUE) AS others
$$;

COMMENT ON FUNCTION partshift.other_key(jsonb, oid, oid, text) IS
'a foreign key that has a column, or is to be extended by it, besides the one that is extended by it';

/* Such rows would not match in full. */
CREATE FUNCTION partshift.count_loose(conid oid, column_name text)
RETURNS bigint
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT partshift.query_as(r.relowner, format(
			'SELECT count(*) FROM %s t WHERE t.%I IS NOT NULL AND (%s)',
			partshift.relation_name(r.oid), column_name,
			(SELECT string_agg(format('t.%I IS NULL', a.attname), ' OR ')
			 FROM pg_attribute a
			 WHERE a.attrelid = con.conrelid AND a.attnum = ANY (con.conkey))))::bigint
	FROM pg_constraint con JOIN pg_class r ON r.oid = con.conrelid
	WHERE con.oid = conid
$$;

COMMENT ON FUNCTION partshift.count_loose(oid, text) IS
'how many rows have a value in a column and no reference that it belongs to';

CREATE FUNCTION partshift.check_extended_columns(relid oid, options jsonb, plan jsonb)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT f.*
	FROM jsonb_array_elements(plan->'extended_keys') AS e (key)
		 CROSS JOIN LATERAL jsonb_array_elements(e.key->'columns') AS c (entry)
		 CROSS JOIN LATERAL (SELECT (e.key->>'relation')::oid AS child, e.key->>'name' AS name,
									(e.key->>'oid')::oid AS conid,
									c.entry->>'child' AS column_name) v
		 JOIN pg_class r ON r.oid = v.child
		 JOIN pg_attribute p ON p.attrelid = relid AND p.attname = c.entry->>'parent'
		 CROSS JOIN LATERAL partshift.extending_type(relid, p.attname) t
		 LEFT JOIN pg_attribute a ON a.attrelid = v.child AND a.attname = v.column_name
			  AND NOT a.attisdropped
		 CROSS JOIN LATERAL (
			SELECT coalesce(options->'extend_columns'->v.name ? (c.entry->>'parent'), false) AS named,
				   partshift.other_key(plan, v.child, v.conid, v.column_name) AS other,
				   a.attnum IS NOT NULL AND (a.atttypid, a.atttypmod, a.attcollation)
					   <> (t.type, t.typmod, t.collid) AS unlike) w,
		 LATERAL (VALUES
			(octet_length(v.column_name) > 63, '42622',
			 format('name "%s" of a column for foreign key "%s" is too long', v.column_name, v.name),
			 NULL, 'Choose another with option "extend_columns".'),
			(a.attname IS NOT NULL AND NOT w.named, '42701',
			 format('column "%s" of table %s exists already', v.column_name, v.child::regclass),
			 format('Foreign key "%s" is to be extended by a column of this name.', v.name),
			 CASE WHEN v.child = relid THEN 'Name another with option "extend_columns".' ELSE
				format('Give option "extend_columns" as {"%s": {"%s": "%s"}} to use it, or name another.',
					   v.name, c.entry->>'parent', v.column_name) END),
			(a.attname IS NOT NULL AND w.named AND v.child = relid, '42701',
			 format('column "%s" of table %s exists already', v.column_name, v.child::regclass),
			 'A foreign key from the table to itself is extended by a new column.',
			 'Name another with option "extend_columns".'),
			(w.unlike, '42804',
			 format('column "%s" of table %s is not of type %s', v.column_name, v.child::regclass,
					format_type(t.type, t.typmod)), NULL,
			 'Name another with option "extend_columns".'),
			(a.attgenerated <> '', '0A000',
			 format('column "%s" of table %s is generated', v.column_name, v.child::regclass), NULL,
			 'Name another with option "extend_columns".'),
			(w.other IS NOT NULL, '0A000',
			 format('column "%s" of table %s serves foreign key "%s" as well', v.column_name,
					v.child::regclass, w.other),
			 format('Foreign key "%s" is to be extended by it, and it can be null.', v.name),
			 'Make it NOT NULL, or name another with option "extend_columns".'),
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

CREATE FUNCTION partshift.check_extended_rows(plan jsonb)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT f.*
	FROM jsonb_array_elements(plan->'extended_keys') AS e (key)
		 CROSS JOIN LATERAL jsonb_array_elements(e.key->'columns') AS c (entry)
		 CROSS JOIN LATERAL (SELECT (e.key->>'relation')::oid AS child,
									c.entry->>'child' AS name) v
		 CROSS JOIN LATERAL partshift.count_loose((e.key->>'oid')::oid, v.name) n,
		 partshift.refused('foreign key', e.key->>'name', '55000',
			format('column "%s" of table %s has a value in rows without a reference', v.name,
				   v.child::regclass),
			format('Foreign key "%s" is to be extended by it; %s.', e.key->>'name',
				   CASE n WHEN 1 THEN 'one row is so' ELSE format('%s rows are so', n) END),
			'Set it to null there, make it NOT NULL, or name another with option "extend_columns".') f
	WHERE NOT (c.entry->>'add')::boolean AND (e.key->>'full')::boolean AND n > 0
$$;

COMMENT ON FUNCTION partshift.check_extended_rows(jsonb) IS
'refuses columns by which a foreign key cannot be extended because of the rows there are';

/* Another conversion counts as long as it has something to follow or to undo. */
CREATE FUNCTION partshift.check_extended_tables(plan jsonb)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT f.*
	FROM jsonb_array_elements(plan->'extended_keys') AS e (key)
		 JOIN pg_class r ON r.oid = (e.key->>'relation')::oid
		 LEFT JOIN partshift.job j ON r.oid IN (j.relid, j.shadow) AND j.phase = 'done'
			  AND j.status IN ('active', 'paused', 'failed')
		 CROSS JOIN LATERAL (SELECT e.key->>'name' AS name) v,
		 LATERAL (VALUES
			(r.relispartition, '0A000',
			 format('foreign key "%s" is one of partition %s alone', v.name, r.oid::regclass),
			 'A partition cannot have a column that its table lacks.',
			 'Make it a foreign key of the table, or leave it off with foreign_keys => ''drop''.'),
			(r.reloftype <> 0, '0A000',
			 format('foreign key "%s" is of typed table %s', v.name, r.oid::regclass),
			 'A typed table cannot have further columns.',
			 format('Use ALTER TABLE %s NOT OF.', r.oid::regclass)),
			(j.job_id IS NOT NULL, '55006',
			 format('table %s, whose foreign key "%s" is to be extended, was converted by job %s',
					r.oid::regclass, v.name, j.job_id),
			 'It would no longer be possible to roll that job back.',
			 format('Use partshift.finalize(%s) first.', j.job_id)),
			(cardinality(ARRAY(SELECT jsonb_array_elements(e.key->'columns')))
			 + (SELECT cardinality(con.conkey) FROM pg_constraint con
				WHERE con.oid = (e.key->>'oid')::oid)
			 > current_setting('max_index_keys')::integer, '54011',
			 format('foreign key "%s" of table %s would have too many columns', v.name,
					r.oid::regclass), NULL, NULL))
			AS rule(applies, sqlstate, message, detail, hint),
		 partshift.refused('foreign key', v.name, rule.sqlstate, rule.message, rule.detail, rule.hint) f
	WHERE rule.applies
$$;

COMMENT ON FUNCTION partshift.check_extended_tables(jsonb) IS
'refuses tables whose foreign keys cannot be extended';

CREATE FUNCTION partshift.warn_extended_keys(relid oid, plan jsonb)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT f.*
	FROM jsonb_array_elements(plan->'extended_keys') AS e (key)
		 JOIN pg_constraint con ON con.oid = (e.key->>'oid')::oid
		 CROSS JOIN LATERAL (
			SELECT (e.key->>'relation')::oid AS child, e.key->>'name' AS name,
				   string_agg(entry->>'child', ', ') AS columns
			FROM jsonb_array_elements(e.key->'columns') entry) v,
		 LATERAL (
			SELECT 1, format('foreign key "%s" of table %s is extended by column %s', v.name,
							 v.child::regclass, v.columns),
				   'A trigger fills the column for applications that do not give it, at the price of a look-up in each partition.'
			UNION ALL
			SELECT 2, format('foreign key "%s" of table %s will be ON UPDATE CASCADE', v.name,
							 v.child::regclass),
				   format('It is ON UPDATE %s.', partshift.foreign_key_action(con.confupdtype))
			WHERE con.confupdtype IN ('n', 'd')
			UNION ALL
			SELECT 3, format('publication "%s" publishes the new column %s of table %s', p.pubname,
							 v.columns, v.child::regclass),
				   'Subscribers must have it before rows with it arrive.'
			FROM pg_publication p
			WHERE EXISTS (SELECT
						  FROM pg_publication_tables t
							   JOIN pg_namespace n ON n.nspname = t.schemaname
							   JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename
						  WHERE t.pubname = p.pubname
							AND (c.oid = v.child
								 OR c.oid IN (SELECT d.relid FROM pg_partition_tree(v.child) d)))
			  AND NOT EXISTS (SELECT FROM pg_publication_rel x
							  WHERE x.prpubid = p.oid AND x.prrelid = v.child AND x.prattrs IS NOT NULL)
			UNION ALL
			SELECT 4, format('table %s has no index that begins with the columns of foreign key "%s"',
							 v.child::regclass, v.name),
				   'A row that goes to another partition has the whole table searched for those that refer to it.'
			WHERE v.child = relid
			  AND NOT EXISTS (SELECT FROM pg_index i
							  WHERE i.indrelid = relid AND i.indisvalid AND i.indpred IS NULL
								AND i.indkey[0] = con.conkey[1])
			UNION ALL
			SELECT 5, format('foreign key "%s" of table %s will be checked at commit for rows without column %s',
							 v.name, v.child::regclass, v.columns),
				   'It is INITIALLY IMMEDIATE, but a trigger does not know whether it has been deferred.'
			WHERE con.condeferrable AND NOT con.condeferred AND NOT (e.key->>'full')::boolean)
			AS said(place, message, detail),
		 partshift.warned('foreign key', v.name, said.message, said.detail) f
	ORDER BY v.child::regclass::text COLLATE "C", v.name, said.place, said.message COLLATE "C"
$$;

COMMENT ON FUNCTION partshift.warn_extended_keys(oid, jsonb) IS
'what there is to say about foreign keys that are extended';

CREATE FUNCTION partshift.check_extended_keys(relid oid, options jsonb, plan jsonb)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT * FROM partshift.check_extended_columns(relid, options, plan)
	UNION ALL
	SELECT * FROM partshift.check_extended_tables(plan)
	UNION ALL
	SELECT * FROM partshift.check_extended_rows(plan)
	UNION ALL
	SELECT f.*
	FROM partshift.incoming_keys(relid, plan) k
		 JOIN pg_constraint con ON con.oid = k.conid
		 JOIN jsonb_array_elements(plan->'indexes') entry ON (entry->>'oid')::oid = con.conindid
		 JOIN pg_class r ON r.oid = relid,
		 LATERAL (VALUES
			((entry->>'per_partition')::boolean,
			 format('foreign key "%s" of table %s refers to a key that each partition enforces alone',
					k.conname, k.child::regclass),
			 'Give option "unique_keys" as "extend".'),
			(options->>'null_key' IS NOT NULL OR options->>'derive' IS NOT NULL,
			 format('foreign key "%s" of table %s cannot be extended by a key that is computed',
					k.conname, k.child::regclass),
			 'The table does not have the value that a row referring to it would need until it is converted.'),
			(r.relkind = 'p' OR coalesce((options->>'lock_writes')::boolean, false),
			 format('foreign key "%s" of table %s cannot be extended in this kind of conversion',
					k.conname, k.child::regclass),
			 'The triggers that take a changed partition key to it are on the rows of a table that is not partitioned.'))
			AS rule(applies, message, hint),
		 partshift.refused('foreign key', k.conname, '0A000', rule.message, NULL, rule.hint) f
	WHERE options->>'foreign_keys' = 'extend' AND NOT k.carried AND rule.applies
	UNION ALL
	SELECT * FROM partshift.warn_extended_keys(relid, plan)
$$;

COMMENT ON FUNCTION partshift.check_extended_keys(oid, jsonb, jsonb) IS
'findings about foreign keys to be extended';
