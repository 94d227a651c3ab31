/*
 * Statements that make a partition of a managed table.
 *
 * Columns, defaults and constraints are the parent's; what a parent does not
 * hand down is that of the partition with the last range.  Its own CHECK
 * constraints are left out: as a rule they say what its range is.  Indexes,
 * foreign keys and triggers come with ATTACH.
 *
 * It is made by itself and attached then, because CREATE TABLE ... PARTITION
 * OF would lock the whole table against readers.  The rules about who runs
 * what, and the schema that lives as long as the transaction, are those of
 * the shadow.
 */
CREATE FUNCTION partshift.sibling(relid oid, type oid) RETURNS oid
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT s.leaf FROM partshift.stretches(relid, type) s
	WHERE s.is_plain AND NOT s.is_pending
	ORDER BY s.is_default, s.beyond < 'Infinity' DESC, s.beyond DESC
	LIMIT 1
$$;

COMMENT ON FUNCTION partshift.sibling(oid, oid) IS
'the partition that a new one is to resemble';

CREATE FUNCTION partshift.sibling_options(leaf oid) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT string_agg(format('%s%I=%L', s.prefix,
		split_part(e.entry, '=', 1),
		substr(e.entry, strpos(e.entry, '=') + 1)), ', ' ORDER BY s.prefix, e.entry)
	FROM (
		SELECT '', c.reloptions FROM pg_class c WHERE c.oid = leaf
		UNION ALL
		SELECT 'toast.', t.reloptions
		FROM pg_class c JOIN pg_class t ON t.oid = c.reltoastrelid
		WHERE c.oid = leaf) AS s (prefix, options),
		unnest(s.options) AS e (entry)
$$;

COMMENT ON FUNCTION partshift.sibling_options(oid) IS
'the storage parameters of a partition and its TOAST table';

CREATE FUNCTION partshift.sibling_changes(leaf oid) RETURNS TABLE (change text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT format('ALTER COLUMN %I SET (%s)', a.attname,
		(SELECT string_agg(format('%I=%L', split_part(e.entry, '=', 1),
				substr(e.entry, strpos(e.entry, '=') + 1)), ', ')
		 FROM unnest(partshift.column_options(a.attoptions)) AS e (entry)))
	FROM pg_attribute a
	WHERE a.attrelid = leaf AND a.attnum > 0 AND NOT a.attisdropped
		AND partshift.column_options(a.attoptions) IS NOT NULL
	UNION ALL
	SELECT format('ALTER COLUMN %I SET STATISTICS %s', a.attname, a.attstattarget)
	FROM pg_attribute a
	WHERE a.attrelid = leaf AND a.attnum > 0 AND NOT a.attisdropped
		AND a.attstattarget >= 0
	UNION ALL
	SELECT format('ALTER COLUMN %I SET STORAGE %s', a.attname, CASE a.attstorage
		WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL'
		WHEN 'm' THEN 'MAIN' ELSE 'EXTENDED' END)
	FROM pg_attribute a
		JOIN pg_inherits i ON i.inhrelid = a.attrelid
		JOIN pg_attribute p ON p.attrelid = i.inhparent AND p.attname = a.attname
	WHERE a.attrelid = leaf AND a.attnum > 0 AND NOT a.attisdropped
		AND p.attstorage <> a.attstorage
	UNION ALL
	SELECT format('ALTER COLUMN %I SET COMPRESSION %s', a.attname,
		CASE a.attcompression WHEN 'p' THEN 'pglz' WHEN 'l' THEN 'lz4' ELSE 'default' END)
	FROM pg_attribute a
		JOIN pg_inherits i ON i.inhrelid = a.attrelid
		JOIN pg_attribute p ON p.attrelid = i.inhparent AND p.attname = a.attname
	WHERE a.attrelid = leaf AND a.attnum > 0 AND NOT a.attisdropped
		AND p.attcompression <> a.attcompression
	UNION ALL
	SELECT format('SET TABLESPACE %I', partshift.shadow_tablespace(leaf))
	UNION ALL
	SELECT CASE c.relreplident WHEN 'f' THEN 'REPLICA IDENTITY FULL'
		ELSE 'REPLICA IDENTITY NOTHING' END
	FROM pg_class c WHERE c.oid = leaf AND c.relreplident IN ('f', 'n')
	UNION ALL
	SELECT v.change
	FROM pg_class c, LATERAL (VALUES ('ENABLE ROW LEVEL SECURITY', c.relrowsecurity),
		('FORCE ROW LEVEL SECURITY', c.relforcerowsecurity)) AS v (change, set)
	WHERE c.oid = leaf AND c.relkind = 'r' AND v.set
$$;

COMMENT ON FUNCTION partshift.sibling_changes(oid) IS
'clauses of ALTER TABLE that give a new partition the settings of another, or of the parent';

CREATE FUNCTION partshift.leaf_scratch(relid oid) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT 'partshift_build_m' || relid $$;

COMMENT ON FUNCTION partshift.leaf_scratch(oid) IS
'the schema in which a partition of a managed table is made';

CREATE FUNCTION partshift.create_leaf_commands(relid oid, name text)
RETURNS TABLE (run_as oid, command text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
SET datestyle = 'ISO, YMD'
SET intervalstyle = 'iso_8601'
SET extra_float_digits = 1
AS $$
	WITH it AS (
		SELECT partshift.leaf_scratch(c.oid) AS scratch, c.relowner AS owner,
			format('%I.%I', n.nspname, c.relname) AS parent, n.nspname AS place,
			format('%I.%I', n.nspname, name) AS leaf, s.oid AS sibling,
			coalesce(s.relpersistence, c.relpersistence) = 'u' AS unlogged,
			partshift.sibling_options(s.oid) AS options
		FROM pg_class c
			JOIN pg_namespace n ON n.oid = c.relnamespace
			JOIN partshift.managed m ON m.relid = c.oid
			LEFT JOIN pg_class s ON s.oid = partshift.sibling(c.oid,
				(partshift.key_of(c.oid, m.key_column, '{}')).type)
		WHERE c.oid = create_leaf_commands.relid
	), part (place, run_as, command) AS (
		SELECT 1, NULL::oid, format('CREATE SCHEMA %I AUTHORIZATION %s', scratch, owner::regrole)
		FROM it
		UNION ALL
		SELECT 2, owner, format('CREATE %sTABLE %2$I.%2$I (LIKE %3$s INCLUDING ALL '
			'EXCLUDING INDEXES EXCLUDING IDENTITY EXCLUDING STATISTICS) USING heap%4$s',
			CASE WHEN unlogged THEN 'UNLOGGED ' ELSE '' END, scratch, parent,
			' WITH (' || options || ')')
		FROM it
		UNION ALL
		SELECT 3, NULL, format('ALTER TABLE %1$I.%1$I SET SCHEMA %2$I', scratch, it.place)
		FROM it
		UNION ALL
		SELECT 4, NULL, format('ALTER TABLE %I.%I RENAME TO %I', it.place, scratch, name)
		FROM it
		UNION ALL
		SELECT 5, NULL, format('ALTER TABLE %s %s', leaf,
			(SELECT string_agg(c.change, ', ') FROM partshift.sibling_changes(coalesce(sibling, create_leaf_commands.relid)) c))
		FROM it
		WHERE EXISTS (SELECT FROM partshift.sibling_changes(coalesce(sibling, create_leaf_commands.relid)))
		UNION ALL
		SELECT 6, owner, format('CREATE POLICY %I ON %s AS %s FOR %s TO %s', p.polname, leaf,
			CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
			CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT'
				WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
			(SELECT string_agg(CASE r.role WHEN 0 THEN 'PUBLIC'
				ELSE r.role::regrole::text END, ', ')
			 FROM unnest(p.polroles) AS r (role)))
			|| coalesce(' USING (' || pg_get_expr(p.polqual, p.polrelid) || ')', '')
			|| coalesce(' WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')', '')
		FROM it JOIN pg_policy p ON p.polrelid = sibling
	)
	SELECT part.run_as, part.command FROM part ORDER BY part.place
$$;

COMMENT ON FUNCTION partshift.create_leaf_commands(oid, text) IS
'statements that make a table that is to become a partition';

CREATE FUNCTION partshift.attach_leaf_command(relid oid, name text, lower text, upper text,
	OUT run_as oid, OUT command text)
RETURNS record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT c.relowner, format('ALTER TABLE %I.%I ATTACH PARTITION %I.%I FOR VALUES FROM (%s) TO (%s)',
		n.nspname, c.relname, n.nspname, name,
		partshift.bound_literal(lower), partshift.bound_literal(upper))
	FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
	WHERE c.oid = relid
$$;

COMMENT ON FUNCTION partshift.attach_leaf_command(oid, text, text, text) IS
'the statement that makes a table a partition';

/* Statistics objects are named after their table if those of the sibling are. */
CREATE FUNCTION partshift.leaf_statistics(sibling oid, leaf oid)
RETURNS TABLE (statistics oid, name text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT s.oid, CASE WHEN octet_length(v.wanted) > 63 OR v.wanted = s.stxname
			OR EXISTS (SELECT FROM pg_statistic_ext o
					   WHERE o.stxname::text = v.wanted AND o.stxnamespace = l.relnamespace)
		THEN partshift.clip_name(l.relname::text, 40) || '_stat' || l.oid || '_'
			|| row_number() OVER (ORDER BY s.oid)
		ELSE v.wanted END
	FROM pg_statistic_ext s
		JOIN pg_class c ON c.oid = s.stxrelid
		JOIN pg_class l ON l.oid = leaf,
		LATERAL (SELECT replace(s.stxname::text, c.relname::text, l.relname::text)) AS v (wanted)
	WHERE s.stxrelid = sibling
$$;

COMMENT ON FUNCTION partshift.leaf_statistics(oid, oid) IS
'the statistics objects that a new partition is to have, after those of another';

CREATE FUNCTION partshift.finish_leaf_commands(relid oid, sibling oid, leaf oid)
RETURNS TABLE (run_as oid, command text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
SET datestyle = 'ISO, YMD'
SET intervalstyle = 'iso_8601'
SET extra_float_digits = 1
AS $$
	WITH it AS (
		SELECT partshift.leaf_scratch(c.oid) AS scratch, c.relowner AS owner,
			n.nspname AS place, l.oid AS leaf, format('%I.%I', n.nspname, l.relname) AS name,
			l.relacl
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
			pg_class l
		WHERE c.oid = finish_leaf_commands.relid AND l.oid = finish_leaf_commands.leaf
	), part (place, run_as, command) AS (
		SELECT 1, NULL::oid, format('ALTER TABLE %s REPLICA IDENTITY USING INDEX %I', it.name, x.relname)
		FROM it
			JOIN pg_index i ON i.indrelid = finish_leaf_commands.sibling AND i.indisreplident
			JOIN pg_inherits up ON up.inhrelid = i.indexrelid
			JOIN pg_inherits down ON down.inhparent = up.inhparent
			JOIN pg_index j ON j.indexrelid = down.inhrelid AND j.indrelid = it.leaf
			JOIN pg_class x ON x.oid = j.indexrelid
			JOIN pg_class c ON c.oid = i.indrelid AND c.relreplident = 'i'
		UNION ALL
		SELECT 2, NULL, format('ALTER TABLE %s CLUSTER ON %I', it.name, x.relname)
		FROM it
			JOIN pg_index i ON i.indrelid = finish_leaf_commands.sibling AND i.indisclustered
			JOIN pg_inherits up ON up.inhrelid = i.indexrelid
			JOIN pg_inherits down ON down.inhparent = up.inhparent
			JOIN pg_index j ON j.indexrelid = down.inhrelid AND j.indrelid = it.leaf
			JOIN pg_class x ON x.oid = j.indexrelid
		UNION ALL
		SELECT v.place, v.run_as, v.command
		FROM it, partshift.leaf_statistics(finish_leaf_commands.sibling, it.leaf) AS t
			JOIN pg_statistic_ext s ON s.oid = t.statistics,
			LATERAL (VALUES
				(3, it.owner, format('CREATE STATISTICS %I.%I (%s) ON %s FROM %s', it.scratch, t.name,
					(SELECT string_agg(CASE k.kind WHEN 'd' THEN 'ndistinct'
						WHEN 'f' THEN 'dependencies' ELSE 'mcv' END, ', ')
					 FROM unnest(s.stxkind) AS k (kind) WHERE k.kind IN ('d', 'f', 'm')),
					pg_get_statisticsobjdef_columns(s.oid), it.name)),
				(3, it.owner, CASE WHEN s.stxkind = ARRAY['e'::"char"] THEN
					format('CREATE STATISTICS %I.%I ON %s FROM %s', it.scratch, t.name,
						pg_get_statisticsobjdef_columns(s.oid), it.name) END),
				(4, NULL, format('ALTER STATISTICS %I.%I SET SCHEMA %I', it.scratch, t.name, it.place)),
				(5, NULL, CASE WHEN s.stxstattarget >= 0 THEN
					format('ALTER STATISTICS %I.%I SET STATISTICS %s', it.place, t.name, s.stxstattarget) END)
				) AS v (place, run_as, command)
		WHERE v.command IS NOT NULL
		UNION ALL
		SELECT 6, NULL, format('REVOKE ALL ON TABLE %s FROM %s CASCADE', it.name,
			string_agg(DISTINCT CASE g.grantee WHEN 0 THEN 'PUBLIC'
				ELSE g.grantee::regrole::text END, ', '))
		FROM it, aclexplode(it.relacl) AS g
		WHERE g.grantee <> it.owner AND NOT EXISTS (
			SELECT FROM pg_class s
			WHERE s.oid = finish_leaf_commands.sibling AND s.relowner = it.owner)
		GROUP BY it.name
		UNION ALL
		SELECT 7, NULL, format('DROP SCHEMA %I', it.scratch) FROM it
	)
	SELECT part.run_as, part.command FROM part ORDER BY part.place
$$;

COMMENT ON FUNCTION partshift.finish_leaf_commands(oid, oid, oid) IS
'statements that give a new partition what another has, and attaching it has not given it';

/*
 * Whatever code ran meanwhile: the table that was made is the partition, and
 * it is the owner's.
 */
CREATE FUNCTION partshift.check_new_leaf(relid oid, leaf oid, name text) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT EXISTS (
		SELECT FROM pg_class c
			JOIN pg_class p ON p.oid = check_new_leaf.relid AND p.relowner = c.relowner
				AND p.relnamespace = c.relnamespace
			JOIN pg_inherits i ON i.inhparent = p.oid AND i.inhrelid = c.oid
		WHERE c.oid = check_new_leaf.leaf AND c.relname::text = check_new_leaf.name)
	THEN
		RAISE EXCEPTION 'partition "%" was not created', name
			USING ERRCODE = 'object_not_in_prerequisite_state';
	END IF;
END
$$;

COMMENT ON FUNCTION partshift.check_new_leaf(oid, oid, text) IS
'raises an error unless a table is the partition that was made';
