/*
 * The fingerprint: everything about the source that the plan relied on, in
 * one hash.  It is taken when the job is made and compared under the swap's
 * locks, so it reads catalogs by index only.
 *
 * Names are used instead of OIDs where another conversion may put a new
 * object of the same name in the place of an old one: foreign keys and views
 * do not change their meaning by that.  Our own objects must not count:
 * internal triggers, and foreign keys that a conversion is preparing.  Nor do
 * the partitions of the new table, which come and go in its daily life.
 */
CREATE FUNCTION partshift.prepared_tables() RETURNS SETOF oid
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT t.oid
	FROM partshift.job j, LATERAL (
		SELECT CASE WHEN j.phase = 'done' OR j.reverse
			THEN j.relid ELSE j.shadow END
		UNION ALL
		SELECT i.inhrelid FROM pg_inherits i
		WHERE i.inhparent = j.shadow
			AND NOT (j.phase = 'done' OR j.reverse)) AS t(oid)
	WHERE j.status IN ('active', 'paused', 'failed') AND t.oid IS NOT NULL
$$;

COMMENT ON FUNCTION partshift.prepared_tables() IS
'tables of live jobs that no application knows: shadows with their leaves, legacy tables';

CREATE FUNCTION partshift.fingerprint_table(relid oid) RETURNS SETOF text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT format('table %s', (n.nspname, c.relname, c.relowner, c.relacl,
		c.reloptions, t.reloptions, c.relpersistence, c.relkind, c.relam,
		c.relrowsecurity, c.relforcerowsecurity, c.relreplident,
		c.reltablespace, c.relispartition, c.reloftype)::text)
	FROM pg_class c
		JOIN pg_namespace n ON n.oid = c.relnamespace
		LEFT JOIN pg_class t ON t.oid = c.reltoastrelid
	WHERE c.oid = fingerprint_table.relid
	UNION ALL
	SELECT format('column %s', (a.attnum, a.attname, a.atttypid,
		a.atttypmod, a.attcollation, a.attnotnull, a.attisdropped,
		a.attidentity, a.attgenerated, a.attislocal, a.attinhcount,
		a.attstorage, a.attcompression, a.attstattarget, a.attacl,
		partshift.column_options(a.attoptions), pg_get_expr(d.adbin, d.adrelid))::text)
	FROM pg_attribute a
		LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid
			AND d.adnum = a.attnum
	WHERE a.attrelid = fingerprint_table.relid AND a.attnum > 0
	UNION ALL
	SELECT format('sequence %s', (p.refobjsubid, p.deptype, s.relname,
		n.nspname, s.relowner, s.relacl, q.seqtypid, q.seqstart,
		q.seqincrement, q.seqmin, q.seqmax, q.seqcache, q.seqcycle)::text)
	FROM pg_depend p
		JOIN pg_class s ON s.oid = p.objid AND s.relkind = 'S'
		JOIN pg_namespace n ON n.oid = s.relnamespace
		JOIN pg_sequence q ON q.seqrelid = s.oid
	WHERE p.refclassid = 'pg_class'::regclass
		AND p.refobjid = fingerprint_table.relid
		AND p.classid = 'pg_class'::regclass AND p.deptype IN ('a', 'i')
	UNION ALL
	/* One that is not valid is not carried: REINDEX CONCURRENTLY may be at work. */
	SELECT format('index %s', (pg_get_indexdef(i.indexrelid),
		i.indisprimary, i.indisunique, i.indimmediate, i.indisreplident,
		i.indisclustered, c.reltablespace)::text)
	FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
	WHERE i.indrelid = fingerprint_table.relid AND i.indisvalid
	UNION ALL
	SELECT format('parent %s', i.inhparent)
	FROM pg_inherits i WHERE i.inhrelid = fingerprint_table.relid
	UNION ALL
	SELECT format('child %s', i.inhrelid)
	FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhparent
	WHERE i.inhparent = fingerprint_table.relid AND c.relkind <> 'p'
$$;

COMMENT ON FUNCTION partshift.fingerprint_table(oid) IS
'the lines of a fingerprint for the table, its columns, sequences, indexes and inheritance';

CREATE FUNCTION partshift.fingerprint_rules(relid oid) RETURNS SETOF text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT format('constraint %s', (o.conname, o.contype, o.convalidated,
		pg_get_constraintdef(o.oid))::text)
	FROM pg_constraint o
	WHERE o.conrelid = fingerprint_rules.relid AND o.conparentid = 0
		AND o.contype <> 't'
		AND NOT (o.contype = 'f'
			AND o.confrelid IN (SELECT partshift.prepared_tables()))
	UNION ALL
	SELECT format('reference %s', (n.nspname, c.relname, o.conname,
		o.convalidated, pg_get_constraintdef(o.oid))::text)
	FROM pg_constraint o
		JOIN pg_class c ON c.oid = o.conrelid
		JOIN pg_namespace n ON n.oid = c.relnamespace
	WHERE o.contype = 'f' AND o.confrelid = fingerprint_rules.relid
		AND o.conparentid = 0
		AND o.conrelid NOT IN (SELECT partshift.prepared_tables())
	UNION ALL
	SELECT format('trigger %s', (t.tgenabled, pg_get_triggerdef(t.oid))::text)
	FROM pg_trigger t
	WHERE NOT t.tgisinternal AND t.tgrelid = fingerprint_rules.relid
	UNION ALL
	SELECT format('policy %s', (p.polname, p.polcmd, p.polpermissive,
		p.polroles, pg_get_expr(p.polqual, p.polrelid),
		pg_get_expr(p.polwithcheck, p.polrelid))::text)
	FROM pg_policy p WHERE p.polrelid = fingerprint_rules.relid
	UNION ALL
	SELECT format('rule %s', (r.ev_enabled, pg_get_ruledef(r.oid))::text)
	FROM pg_rewrite r WHERE r.ev_class = fingerprint_rules.relid
	UNION ALL
	SELECT format('publication %s', (p.pubname, p.pubviaroot, r.prattrs,
		pg_get_expr(r.prqual, r.prrelid))::text)
	FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
	WHERE r.prrelid = fingerprint_rules.relid
	UNION ALL
	SELECT format('publication %s', (p.name, p.scope, p.as_root)::text)
	FROM partshift.publications_of(fingerprint_rules.relid) p
	WHERE p.scope IS NOT NULL
	UNION ALL
	SELECT format('label %s', l::text)
	FROM partshift.labels_of(fingerprint_rules.relid) l
	UNION ALL
	SELECT format('statistics %s', pg_get_statisticsobjdef(s.oid))
	FROM pg_statistic_ext s WHERE s.stxrelid = fingerprint_rules.relid
$$;

COMMENT ON FUNCTION partshift.fingerprint_rules(oid) IS
'the lines of a fingerprint for constraints, triggers, policies, rules, publications, labels and statistics';

/* What follows the name to the other table may come and go meanwhile. */
CREATE FUNCTION partshift.fingerprint_dependents(relid oid) RETURNS SETOF text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT format('dependent %s', d.object)
	FROM partshift.dependents(relid) d
	WHERE d.kind IS NULL
$$;

COMMENT ON FUNCTION partshift.fingerprint_dependents(oid) IS
'the lines of a fingerprint for what depends on the table and would not follow its name';

/*
 * The partitions of a source that is partitioned already, by what the job
 * relies on: they are as many as there are, so nothing is deparsed but their
 * bounds.  Those of a new table come and go.
 */
CREATE FUNCTION partshift.fingerprint_partitions(relid oid) RETURNS SETOF text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH leaf AS MATERIALIZED (
		SELECT c.*, i.inhdetachpending
		FROM pg_inherits i
			JOIN pg_class r ON r.oid = i.inhparent AND r.relkind = 'p'
			JOIN pg_class c ON c.oid = i.inhrelid
		WHERE i.inhparent = fingerprint_partitions.relid
			AND NOT EXISTS (SELECT FROM partshift.job j
				WHERE j.shadow = fingerprint_partitions.relid
					AND j.status IN ('active', 'paused', 'failed'))
	)
	SELECT format('partition %s', (l.oid, l.relnamespace, l.relname, l.relowner,
		l.relkind, l.relpersistence, l.relam, l.relreplident, l.relrowsecurity,
		l.inhdetachpending, pg_get_expr(l.relpartbound, l.oid))::text)
	FROM leaf l
	UNION ALL
	SELECT format('partition column %s', (a.attrelid, a.attnum, a.attname,
		a.atttypid, a.atttypmod, a.attcollation, a.attnotnull, a.attisdropped,
		a.attgenerated)::text)
	FROM leaf l JOIN pg_attribute a ON a.attrelid = l.oid
	WHERE a.attnum > 0
	UNION ALL
	SELECT format('partition index %s', (i.indrelid, c.relname, i.indisunique,
		i.indimmediate, h.inhparent)::text)
	FROM leaf l
		JOIN pg_index i ON i.indrelid = l.oid AND i.indisvalid
		JOIN pg_class c ON c.oid = i.indexrelid
		LEFT JOIN pg_inherits h ON h.inhrelid = i.indexrelid
	UNION ALL
	SELECT format('partition constraint %s', (o.conrelid, o.conname, o.contype,
		o.convalidated)::text)
	FROM leaf l JOIN pg_constraint o ON o.conrelid = l.oid
	WHERE o.conparentid = 0 AND o.contype IN ('c', 'f')
	UNION ALL
	SELECT format('partition trigger %s', (t.tgrelid, t.tgname, t.tgenabled)::text)
	FROM leaf l JOIN pg_trigger t ON t.tgrelid = l.oid
	WHERE NOT t.tgisinternal
$$;

COMMENT ON FUNCTION partshift.fingerprint_partitions(oid) IS
'the lines of a fingerprint for the partitions of a table that is not the new one of a live job';

CREATE FUNCTION partshift.fingerprint(relid oid) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
SET datestyle = 'ISO, YMD'
SET intervalstyle = 'iso_8601'
SET timezone = 'UTC'
SET extra_float_digits = 1
SET bytea_output = 'hex'
SET quote_all_identifiers = off
SET lc_messages = 'C'
SET lc_monetary = 'C'
AS $$
	SELECT md5(string_agg(f.line, E'\n' ORDER BY f.line COLLATE "C"))
	FROM (
		SELECT * FROM partshift.fingerprint_table(fingerprint.relid)
		UNION ALL
		SELECT * FROM partshift.fingerprint_rules(fingerprint.relid)
		UNION ALL
		SELECT * FROM partshift.fingerprint_dependents(fingerprint.relid)
		UNION ALL
		SELECT * FROM partshift.fingerprint_partitions(fingerprint.relid)
	) AS f(line)
$$;

COMMENT ON FUNCTION partshift.fingerprint(oid) IS
'a hash of the table''s definition and of what depends on it; NULL if there is no such table';
