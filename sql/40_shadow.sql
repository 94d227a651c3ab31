/*
 * The shadow: the statements that make the partitioned table, its leaves and
 * the two logs, in one transaction.
 *
 * The definitions are read from the catalogs and deparsed; nothing of the
 * source's data is looked at.  Creating a table and all that may evaluate an
 * expression is done as the table's owner: generated columns, bounds,
 * defaults, CHECK constraints, policies.  It has to be all of it.  Names stand
 * in the statements, and the owner can give the name of a type or, in code
 * that one statement evaluates, of the new table to something else before the
 * next one runs.  What is left to a superuser evaluates nothing, whatever the
 * names mean by then.
 *
 * The owner may lack the right to create a relation in the table's schema, so
 * the tables are made in a schema of the owner's that lives as long as the
 * transaction.  There the parent can bear the source's name, which the text
 * of a policy may mention.  They move under a short name and are renamed
 * then: for a long name that of the array type is cut, and only a renaming
 * finds another when it is taken.
 *
 * The order matters: what leaves inherit when they are created comes before
 * them, what they would inherit wrongly (constraints that are NOT VALID)
 * comes after.
 */

CREATE FUNCTION partshift.shadow_columns(relation oid, computed jsonb) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT string_agg(
		format('%I %s', a.attname, format_type(a.atttypid, a.atttypmod))
		|| CASE WHEN a.attcollation <> 0 AND a.attcollation <> t.typcollation
			THEN format(' COLLATE %I.%I', n.nspname, c.collname)
			ELSE '' END
		|| CASE a.attgenerated
			WHEN '' THEN ''
			ELSE format(' GENERATED ALWAYS AS (%s) %s',
						pg_get_expr(d.adbin, d.adrelid),
						CASE a.attgenerated WHEN 's' THEN 'STORED'
							ELSE 'VIRTUAL' END) END
		|| CASE WHEN a.attname = computed ->> 'column'
				THEN coalesce(' CONSTRAINT ' || quote_ident(o.conname), '') || ' NOT NULL'
			WHEN NOT a.attnotnull THEN ''
			WHEN o.oid IS NULL THEN ' NOT NULL'
			WHEN NOT o.convalidated THEN ''
			ELSE format(' CONSTRAINT %I NOT NULL', o.conname) END,
		E',\n\t' ORDER BY a.attnum)
		|| coalesce(E',\n\t' || partshift.derived_definition(computed), '')
	FROM pg_attribute a
		JOIN pg_type t ON t.oid = a.atttypid
		LEFT JOIN pg_collation c ON c.oid = a.attcollation
		LEFT JOIN pg_namespace n ON n.oid = c.collnamespace
		LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid
			AND d.adnum = a.attnum
		LEFT JOIN pg_constraint o ON o.conrelid = a.attrelid
			AND o.contype = 'n' AND o.conkey = ARRAY[a.attnum]
	WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped
$$;

COMMENT ON FUNCTION partshift.shadow_columns(oid, jsonb) IS
'the column definitions of a copy of the table, without defaults and identities, and a derived column';

CREATE FUNCTION partshift.shadow_key(job partshift.job) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT format('%s (%s)', upper(job.strategy),
				  string_agg(quote_ident(k.name), ', ' ORDER BY k.place))
	FROM unnest(job.key_columns) WITH ORDINALITY AS k(name, place)
$$;

COMMENT ON FUNCTION partshift.shadow_key(partshift.job) IS
'what follows PARTITION BY';

CREATE FUNCTION partshift.shadow_tablespace(relation oid) RETURNS name
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT t.spcname
	FROM pg_class c, pg_tablespace t
	WHERE c.oid = partshift.storage_model(relation)
		AND t.oid = CASE c.reltablespace
			WHEN 0 THEN (SELECT d.dattablespace FROM pg_database d
						 WHERE d.datname = current_database())
			ELSE c.reltablespace END
$$;

COMMENT ON FUNCTION partshift.shadow_tablespace(oid) IS
'the tablespace of a table, by name, the database''s own included';

/*
 * The source's storage parameters and those of its TOAST table.  While a leaf
 * is being filled autovacuum keeps away from both; a TOAST table with
 * parameters of its own does not look at its table's.
 */
CREATE FUNCTION partshift.leaf_options(relation oid) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT string_agg(o.setting, ', ' ORDER BY o.setting COLLATE "C")
	FROM (
		SELECT format('%s%I=%L', s.prefix,
					  split_part(e.entry, '=', 1),
					  substr(e.entry, strpos(e.entry, '=') + 1))
		FROM (
			SELECT '', c.reloptions FROM pg_class c
			WHERE c.oid = partshift.storage_model(relation)
			UNION ALL
			SELECT 'toast.', t.reloptions
			FROM pg_class c JOIN pg_class t ON t.oid = c.reltoastrelid
			WHERE c.oid = partshift.storage_model(relation)) AS s(prefix, options),
			unnest(s.options) AS e(entry)
		WHERE split_part(e.entry, '=', 1) <> 'autovacuum_enabled'
		UNION ALL
		SELECT 'autovacuum_enabled=''off'''
		UNION ALL
		SELECT 'toast.autovacuum_enabled=''off'''
		FROM pg_class c JOIN pg_class t ON t.oid = c.reltoastrelid
		WHERE c.oid = partshift.storage_model(relation) AND t.reloptions IS NOT NULL) AS o(setting)
$$;

COMMENT ON FUNCTION partshift.leaf_options(oid) IS
'the storage parameters of a leaf while it is being filled';

CREATE FUNCTION partshift.shadow_policy_commands(job partshift.job)
RETURNS TABLE (run_as oid, command text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT job.owner, format('CREATE POLICY %I ON partshift_build_%s.%I '
		'AS %s FOR %s TO %s', p.polname, job.job_id, job.table_name,
		CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
		CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT'
			WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
		(SELECT string_agg(CASE r.role WHEN 0 THEN 'PUBLIC'
								ELSE r.role::regrole::text END, ', ')
		 FROM unnest(p.polroles) AS r(role)))
		|| coalesce(' USING (' || pg_get_expr(p.polqual, p.polrelid) || ')',
					'')
		|| coalesce(' WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid)
					|| ')', '')
	FROM pg_policy p
	WHERE p.polrelid = job.relid
$$;

COMMENT ON FUNCTION partshift.shadow_policy_commands(partshift.job) IS
'statements that create the source''s policies on the table that is being built';

CREATE FUNCTION partshift.shadow_parent_commands(job partshift.job)
RETURNS TABLE (run_as oid, command text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	scratch text := format('partshift_build_%s', job.job_id);
	shadow text := job.plan ->> 'shadow_name';
	owner text := job.owner::regrole;
	unlogged boolean;
BEGIN
	/* 18 has no unlogged partitioned tables, only unlogged leaves. */
	SELECT c.relpersistence = 'u'
		AND current_setting('server_version_num')::integer < 180000
	INTO unlogged
	FROM pg_class c WHERE c.oid = job.relid;

	RETURN QUERY VALUES
		(NULL::oid,
		 format('CREATE SCHEMA %I AUTHORIZATION %s', scratch, owner)),
		(job.owner,
		 format(E'CREATE %sTABLE %I.%I (\n\t%s\n) PARTITION BY %s',
				CASE WHEN unlogged THEN 'UNLOGGED ' ELSE '' END,
				scratch, job.table_name,
				partshift.shadow_columns(job.relid, job.plan -> 'computed'),
				partshift.shadow_key(job)));

	RETURN QUERY SELECT * FROM partshift.shadow_policy_commands(job);

	RETURN QUERY VALUES
		(NULL::oid,
		 format('ALTER TABLE %I.%I RENAME TO %I', scratch, job.table_name,
				scratch)),
		(NULL,
		 format('ALTER TABLE %I.%I SET SCHEMA %I', scratch, scratch,
				job.schema_name)),
		(NULL,
		 format('ALTER TABLE %I.%I RENAME TO %I', job.schema_name, scratch,
				shadow)),
		(NULL,
		 format('ALTER TABLE %I.%I SET TABLESPACE %I', job.schema_name,
				shadow, partshift.shadow_tablespace(job.relid)));
END
$$;

COMMENT ON FUNCTION partshift.shadow_parent_commands(partshift.job) IS
'statements that create the bare partitioned table and its policies';

CREATE FUNCTION partshift.shadow_column_commands(job partshift.job)
RETURNS TABLE (run_as oid, command text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH col AS (
		SELECT a.*, t.typstorage,
			format('%I.%I', job.schema_name, job.plan ->> 'shadow_name')
				AS shadow
		FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
		WHERE a.attrelid = job.relid AND a.attnum > 0
			AND NOT a.attisdropped
	), part(place, run_as, command) AS (
		SELECT 1, NULL::oid, format('ALTER TABLE %s %s', col.shadow,
			string_agg(format('ALTER COLUMN %I SET %s', col.attname,
							  s.setting), ', ' ORDER BY col.attnum))
		FROM col, LATERAL (
			SELECT 'STORAGE ' || CASE col.attstorage
				WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL'
				WHEN 'm' THEN 'MAIN' ELSE 'EXTENDED' END
			WHERE col.attstorage <> col.typstorage
			UNION ALL
			SELECT 'COMPRESSION ' || CASE col.attcompression
				WHEN 'p' THEN 'pglz' ELSE 'lz4' END
			WHERE col.attcompression <> '') AS s(setting)
		GROUP BY col.shadow
		UNION ALL
		SELECT 2, job.owner, format('ALTER TABLE %s %s', col.shadow,
			string_agg(format('ALTER COLUMN %I SET DEFAULT %s', col.attname,
							  pg_get_expr(d.adbin, d.adrelid)),
					   ', ' ORDER BY col.attnum))
		FROM col JOIN pg_attrdef d ON d.adrelid = col.attrelid
			AND d.adnum = col.attnum
		WHERE col.attgenerated = ''
		GROUP BY col.shadow
		UNION ALL
		SELECT 3, NULL::oid, format(
			'ALTER TABLE %s ALTER COLUMN %I ADD GENERATED %s AS IDENTITY '
			'(SEQUENCE NAME %I.%I START WITH %s INCREMENT BY %s '
			'MINVALUE %s MAXVALUE %s CACHE %s %s)',
			col.shadow, col.attname,
			CASE col.attidentity WHEN 'a' THEN 'ALWAYS' ELSE 'BY DEFAULT' END,
			job.schema_name,
			partshift.shadow_name(s.relname::text, job.job_id,
								  col.attnum::integer),
			q.seqstart, q.seqincrement, q.seqmin, q.seqmax, q.seqcache,
			CASE WHEN q.seqcycle THEN 'CYCLE' ELSE 'NO CYCLE' END)
		FROM col
			JOIN pg_depend p ON p.refclassid = 'pg_class'::regclass
				AND p.refobjid = col.attrelid AND p.refobjsubid = col.attnum
				AND p.classid = 'pg_class'::regclass AND p.deptype = 'i'
			JOIN pg_class s ON s.oid = p.objid AND s.relkind = 'S'
			JOIN pg_sequence q ON q.seqrelid = s.oid
		WHERE col.attidentity <> ''
	)
	SELECT part.run_as, part.command FROM part ORDER BY part.place
$$;

COMMENT ON FUNCTION partshift.shadow_column_commands(partshift.job) IS
'statements for storage, compression, defaults and identities of the shadow''s columns';

/*
 * NO INHERIT is left off: a partitioned table cannot have it, and where every
 * row is in a leaf it would mean no constraint at all.
 */
CREATE FUNCTION partshift.shadow_constraint_commands(job partshift.job,
													 valid boolean)
RETURNS TABLE (run_as oid, command text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT job.owner, format('ALTER TABLE %I.%I %s', job.schema_name,
		job.plan ->> 'shadow_name',
		string_agg(format('ADD CONSTRAINT %I %s', o.conname,
			regexp_replace(pg_get_constraintdef(o.oid),
				' NO INHERIT(( NOT VALID| NOT ENFORCED)*)$', '\1')),
			', ' ORDER BY o.conname COLLATE "C"))
	FROM pg_constraint o
	WHERE o.conrelid = job.relid
		AND (o.contype = 'c'
			OR o.contype = 'n' AND NOT o.convalidated
				AND NOT EXISTS (SELECT FROM pg_attribute a
								WHERE a.attrelid = job.relid AND a.attnum = ANY (o.conkey)
									AND a.attname = job.plan -> 'computed' ->> 'column'))
		AND o.convalidated = valid
	HAVING count(*) > 0
$$;

COMMENT ON FUNCTION partshift.shadow_constraint_commands(partshift.job, boolean) IS
'the statement that adds the CHECK constraints that are valid, or those that are not';

/*
 * The options of a column that a user can set.  Late minor releases of the
 * server keep a stamp of their own, pg_attver, among them.
 */
CREATE FUNCTION partshift.column_options(attoptions text[]) RETURNS text[]
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT array_agg(o.entry ORDER BY o.place)
	FROM unnest(column_options.attoptions) WITH ORDINALITY AS o (entry, place)
	WHERE o.entry NOT LIKE 'pg\_%'
$$;

COMMENT ON FUNCTION partshift.column_options(text[]) IS
'options of a column without the server''s own';

CREATE FUNCTION partshift.shadow_leaf_commands(job partshift.job)
RETURNS TABLE (run_as oid, command text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH source AS (
		SELECT format('partshift_build_%s', job.job_id) AS scratch,
			format('%I.%I', job.schema_name, job.plan ->> 'shadow_name')
				AS shadow,
			m.relpersistence, c.relreplident,
			m.relreplident AS leaf_replident,
			partshift.leaf_options(job.relid) AS options,
			partshift.shadow_tablespace(job.relid) AS tablespace,
			(SELECT string_agg(format('ALTER COLUMN %I SET (%s)', a.attname,
					(SELECT string_agg(format('%I=%L',
							split_part(e.entry, '=', 1),
							substr(e.entry, strpos(e.entry, '=') + 1)), ', ')
					 FROM unnest(partshift.column_options(a.attoptions)) AS e(entry))),
					', ' ORDER BY a.attnum)
			 FROM pg_attribute a
			 WHERE a.attrelid = c.oid AND a.attnum > 0
				AND NOT a.attisdropped
				AND partshift.column_options(a.attoptions) IS NOT NULL)
				AS column_options
		FROM pg_class c
			JOIN pg_class m ON m.oid = partshift.storage_model(c.oid)
		WHERE c.oid = job.relid
	), leaf AS (
		SELECT l.place, l.entry ->> 'bound' AS bound,
			l.entry ->> 'name' AS name,
			format('partshift_build_%s_%s', job.job_id, l.place) AS first_name,
			format('%I.%I', job.schema_name, l.entry ->> 'name') AS qualified
		FROM jsonb_array_elements(job.plan -> 'leaves')
			WITH ORDINALITY AS l(entry, place)
	), part(place, step, run_as, command) AS (
		SELECT l.place, 1, job.owner,
			format('CREATE %sTABLE %I.%I PARTITION OF %s %s USING heap '
				   'WITH (%s)',
				   CASE s.relpersistence WHEN 'u' THEN 'UNLOGGED '
						ELSE '' END,
				   s.scratch, l.first_name, s.shadow, l.bound, s.options)
		FROM leaf l, source s
		UNION ALL
		SELECT l.place, 2, NULL::oid,
			format('ALTER TABLE %I.%I SET SCHEMA %I', s.scratch, l.first_name,
				   job.schema_name)
		FROM leaf l, source s
		UNION ALL
		SELECT l.place, 3, NULL::oid,
			format('ALTER TABLE %I.%I RENAME TO %I', job.schema_name,
				   l.first_name, l.name)
		FROM leaf l
		UNION ALL
		SELECT l.place, 4, NULL::oid, format('ALTER TABLE %s %s',
			l.qualified, c.change)
		FROM leaf l, source s, LATERAL (
			SELECT string_agg(v.change, ', ')
			FROM (VALUES (s.column_options),
				(format('SET TABLESPACE %I', s.tablespace)),
				(CASE s.leaf_replident WHEN 'f' THEN 'REPLICA IDENTITY FULL'
					WHEN 'n' THEN 'REPLICA IDENTITY NOTHING' END)) AS v(change)
			) AS c(change)
		WHERE c.change IS NOT NULL
		UNION ALL
		SELECT NULL, 5, NULL::oid, format('ALTER TABLE %s %s', s.shadow,
			c.change)
		FROM source s, LATERAL (
			SELECT string_agg(v.change, ', ')
			FROM (VALUES (s.column_options),
				(CASE s.relreplident WHEN 'f' THEN 'REPLICA IDENTITY FULL'
					WHEN 'n' THEN 'REPLICA IDENTITY NOTHING' END)) AS v(change)
			) AS c(change)
		WHERE c.change IS NOT NULL
	)
	SELECT part.run_as, part.command FROM part
	ORDER BY part.place NULLS LAST, part.step
$$;

COMMENT ON FUNCTION partshift.shadow_leaf_commands(partshift.job) IS
'statements that create the leaves';

CREATE FUNCTION partshift.shadow_statistics_commands(job partshift.job)
RETURNS TABLE (run_as oid, command text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT NULL::oid, format('ALTER TABLE %I.%I %s', job.schema_name,
		job.plan ->> 'shadow_name',
		string_agg(format('ALTER COLUMN %I SET STATISTICS %s', a.attname,
						  a.attstattarget), ', ' ORDER BY a.attnum))
	FROM pg_attribute a
	WHERE a.attrelid = job.relid AND a.attnum > 0 AND NOT a.attisdropped
		AND a.attstattarget >= 0
	HAVING count(*) > 0
$$;

COMMENT ON FUNCTION partshift.shadow_statistics_commands(partshift.job) IS
'the statement for the statistics targets of the columns of the shadow and its leaves';
