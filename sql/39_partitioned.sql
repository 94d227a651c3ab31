/*
 * Checks of a source that is partitioned already.
 *
 * What belongs to the table as a whole is checked as for any other.  Here is
 * what single partitions may have beside it: the new ones have other bounds,
 * so nothing of one partition alone can be carried.  What enforces or shows
 * something refuses the conversion; what is only stored is named and left off.
 */

/* The first three of many say enough. */
CREATE FUNCTION partshift.some_names(names text[]) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT array_to_string(names[1:3], ', ')
		|| CASE WHEN cardinality(names) > 3
			THEN format(' and %s more', cardinality(names) - 3) ELSE '' END
$$;

COMMENT ON FUNCTION partshift.some_names(text[]) IS
'a list of names, cut short';

CREATE FUNCTION partshift.check_tree(relid oid)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT f.*
	FROM pg_class r
		 JOIN pg_inherits i ON i.inhparent = r.oid
		 JOIN pg_class c ON c.oid = i.inhrelid
		 JOIN pg_class m ON m.oid = partshift.storage_model(relid),
		 LATERAL (VALUES
			(c.relkind = 'p', '0A000',
			 format('partition %s is partitioned itself', c.oid::regclass), NULL,
			 'Only tables with partitions of one level can be converted.'),
			(c.relkind NOT IN ('r', 'p'), '0A000',
			 format('partition %s is not a table', c.oid::regclass),
			 format('It is one of the %s.', partshift.kind_words(c.relkind)),
			 'Detach it first.'),
			(i.inhdetachpending, '55000',
			 format('partition %s is being detached', c.oid::regclass), NULL,
			 format('Run ALTER TABLE %s DETACH PARTITION %s FINALIZE.', relid::regclass, c.oid::regclass)),
			(c.relowner <> r.relowner, '0A000',
			 format('partition %s has another owner than table "%s"', c.oid::regclass, r.relname),
			 format('Its owner is %s.', pg_get_userbyid(c.relowner)),
			 'Use ALTER TABLE ... OWNER TO.'),
			(c.relkind = 'r' AND c.relam <> (SELECT oid FROM pg_am WHERE amname = 'heap'), '0A000',
			 format('partition %s does not use the access method heap', c.oid::regclass),
			 format('Its access method is %s.', (SELECT amname FROM pg_am WHERE oid = c.relam)), NULL),
			(c.relpersistence <> m.relpersistence, '0A000',
			 format('some partitions of table "%s" are unlogged and some are not', r.relname), NULL,
			 'Use ALTER TABLE ... SET LOGGED or SET UNLOGGED.'),
			(c.relreplident <> m.relreplident, '0A000',
			 format('partitions of table "%s" have different replica identities', r.relname),
			 format('That of %s is not that of %s.', c.oid::regclass, m.oid::regclass),
			 'Use ALTER TABLE ... REPLICA IDENTITY.'))
			AS rule(applies, sqlstate, message, detail, hint),
		 partshift.refused('table', c.relname, rule.sqlstate, rule.message, rule.detail, rule.hint) f
	WHERE r.oid = relid AND r.relkind = 'p' AND rule.applies
	ORDER BY c.oid
$$;

COMMENT ON FUNCTION partshift.check_tree(oid) IS
'refuses partitioned tables whose partitions cannot be read as one table';

/*
 * What belongs to a partition and has no parent among what belongs to the
 * table.  The severity says whether it enforces or shows something.
 */
CREATE FUNCTION partshift.partition_objects(relid oid)
RETURNS TABLE (severity text, partition oid, object text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH leaf AS MATERIALIZED (
		SELECT t AS oid FROM partshift.row_tables(relid) t WHERE t <> relid
	)
	SELECT CASE WHEN i.indisunique OR i.indisexclusion THEN 'error' ELSE 'warning' END,
		l.oid, format('index %s', i.indexrelid::regclass)
	FROM leaf l JOIN pg_index i ON i.indrelid = l.oid
	WHERE NOT EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = i.indexrelid)
	UNION ALL
	SELECT CASE o.contype WHEN 'c' THEN 'warning' ELSE 'error' END,
		l.oid, format('constraint %I', o.conname)
	FROM leaf l JOIN pg_constraint o ON o.conrelid = l.oid
	WHERE o.conparentid = 0 AND o.conislocal AND o.coninhcount = 0
		AND o.contype IN ('c', 'f')
	UNION ALL
	SELECT 'error', l.oid, format('foreign key %I of table %s', o.conname, o.conrelid::regclass)
	FROM leaf l JOIN pg_constraint o ON o.confrelid = l.oid
	WHERE o.contype = 'f' AND o.conparentid = 0
	UNION ALL
	SELECT 'error', l.oid, format('trigger %I', t.tgname)
	FROM leaf l JOIN pg_trigger t ON t.tgrelid = l.oid
	WHERE NOT t.tgisinternal AND t.tgparentid = 0
	UNION ALL
	SELECT 'error', l.oid, format('another firing state of trigger %I', t.tgname)
	FROM leaf l JOIN pg_trigger t ON t.tgrelid = l.oid
		JOIN pg_trigger p ON p.oid = t.tgparentid
	WHERE NOT p.tgisinternal AND t.tgenabled <> p.tgenabled
	UNION ALL
	SELECT 'error', l.oid, format('policy %I', p.polname)
	FROM leaf l JOIN pg_policy p ON p.polrelid = l.oid
	UNION ALL
	SELECT 'error', l.oid, format('rule %I', w.rulename)
	FROM leaf l JOIN pg_rewrite w ON w.ev_class = l.oid
	UNION ALL
	SELECT 'error', l.oid, format('publication %I', p.pubname)
	FROM leaf l JOIN pg_publication_rel r ON r.prrelid = l.oid
		JOIN pg_publication p ON p.oid = r.prpubid
	UNION ALL
	SELECT 'error', l.oid, format('subscription %I', s.subname)
	FROM leaf l JOIN pg_subscription_rel r ON r.srrelid = l.oid
		JOIN pg_subscription s ON s.oid = r.srsubid
	UNION ALL
	SELECT 'error', l.oid, format('security label of provider %I', b.provider)
	FROM leaf l JOIN pg_seclabel b ON b.classoid = 'pg_class'::regclass AND b.objoid = l.oid
	UNION ALL
	SELECT 'error', l.oid, 'row security'
	FROM leaf l JOIN pg_class c ON c.oid = l.oid WHERE c.relrowsecurity
	UNION ALL
	SELECT 'warning', l.oid, 'privileges'
	FROM leaf l JOIN pg_class c ON c.oid = l.oid
	WHERE EXISTS (SELECT FROM aclexplode(c.relacl) a WHERE a.grantee <> c.relowner)
	UNION ALL
	SELECT 'warning', l.oid, format('extended statistics %I', s.stxname)
	FROM leaf l JOIN pg_statistic_ext s ON s.stxrelid = l.oid
	UNION ALL
	SELECT 'error', l.oid, pg_describe_object(d.classid, d.objid, 0)
	FROM leaf l JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = l.oid
		JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid
	WHERE d.deptype IN ('a', 'i') AND (c.relkind = 'S' OR c.relkind = 'r' AND NOT c.relispartition)
$$;

COMMENT ON FUNCTION partshift.partition_objects(oid) IS
'what single partitions of a table have that the table has not';

/* What depends on a partition by its name goes on to mean that partition. */
CREATE FUNCTION partshift.partition_dependents(relid oid)
RETURNS TABLE (partition oid, object text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH leaf AS MATERIALIZED (
		SELECT c.oid, v.refclassid, v.refobjid
		FROM partshift.row_tables(relid) t
			JOIN pg_class c ON c.oid = t
			JOIN pg_type y ON y.oid = c.reltype,
			LATERAL (VALUES ('pg_class'::regclass::oid, c.oid), ('pg_type'::regclass, y.oid),
				('pg_type'::regclass, y.typarray)) AS v (refclassid, refobjid)
		WHERE t <> relid
	)
	SELECT DISTINCT l.oid, partshift.dependent_name(d.classid, d.objid, 0)
	FROM leaf l
		JOIN pg_depend d ON d.refclassid = l.refclassid AND d.refobjid = l.refobjid
	WHERE d.classid NOT IN ('pg_constraint'::regclass, 'pg_type'::regclass, 'pg_class'::regclass,
			'pg_publication_rel'::regclass, 'pg_statistic_ext'::regclass)
		AND NOT EXISTS (SELECT FROM pg_attrdef a
						WHERE d.classid = 'pg_attrdef'::regclass AND a.oid = d.objid
							AND a.adrelid = l.oid)
		AND NOT EXISTS (SELECT FROM pg_trigger t
						WHERE d.classid = 'pg_trigger'::regclass AND t.oid = d.objid
							AND (t.tgrelid = l.oid OR t.tgisinternal))
		AND NOT EXISTS (SELECT FROM pg_policy p
						WHERE d.classid = 'pg_policy'::regclass AND p.oid = d.objid
							AND p.polrelid = l.oid)
		AND NOT EXISTS (SELECT FROM pg_rewrite w
						WHERE d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid
							AND w.ev_class = l.oid)
	UNION
	SELECT l.oid, pg_describe_object('pg_class'::regclass, d.objid, d.objsubid)
	FROM leaf l
		JOIN pg_depend d ON d.refclassid = l.refclassid AND d.refobjid = l.refobjid
	WHERE l.refclassid = 'pg_type'::regclass AND d.classid = 'pg_class'::regclass
		AND d.objid <> l.oid
$$;

COMMENT ON FUNCTION partshift.partition_dependents(oid) IS
'views and the like that mention single partitions of a table';

CREATE FUNCTION partshift.check_partition_dependents(relid oid)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT f.*
	FROM partshift.partition_dependents(relid) d,
		 partshift.refused('dependent', d.object, '0A000',
			format('%s depends on partition %s', d.object, d.partition::regclass),
			'The new table has other partitions.',
			'Let it refer to the table, or drop it.') f
	ORDER BY d.object
$$;

COMMENT ON FUNCTION partshift.check_partition_dependents(oid) IS
'refuses what depends on single partitions of the table';

CREATE FUNCTION partshift.check_partition_storage(relid oid)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH leaf AS (
		SELECT c.oid, c.reloptions, c.reltablespace, t.reloptions AS toast_options
		FROM partshift.row_tables(relid) r
			JOIN pg_class c ON c.oid = r
			LEFT JOIN pg_class t ON t.oid = c.reltoastrelid
		WHERE r <> relid
	)
	SELECT f.*
	FROM (SELECT m.oid, array_agg(l.oid::regclass::text ORDER BY l.oid) AS others
		  FROM leaf m JOIN leaf l ON (l.reloptions, l.reltablespace, l.toast_options)
				IS DISTINCT FROM (m.reloptions, m.reltablespace, m.toast_options)
		  WHERE m.oid = partshift.storage_model(relid)
		  GROUP BY m.oid) d,
		 partshift.warned('partitions', d.oid::regclass::text,
			format('all new partitions get the storage parameters and the tablespace of partition %s', d.oid::regclass),
			format('Those of %s are different.', partshift.some_names(d.others))) f
$$;

COMMENT ON FUNCTION partshift.check_partition_storage(oid) IS
'warns where the partitions of the table are not stored alike';

CREATE FUNCTION partshift.check_partitions(relid oid, options jsonb)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT f.*
	FROM partshift.partition_objects(relid) o,
		 partshift.refused('partitions', o.partition::regclass::text, '0A000',
			format('partition %s has %s by itself', o.partition::regclass, o.object),
			'The new table has other partitions.',
			'Give it to the table, or drop it.') f
	WHERE o.severity = 'error'
	UNION ALL
	SELECT f.*
	FROM (SELECT o.partition, array_agg(o.object ORDER BY o.object) AS objects
		  FROM partshift.partition_objects(relid) o
		  WHERE o.severity = 'warning' GROUP BY o.partition) o,
		 partshift.warned('partitions', o.partition::regclass::text,
			format('what partition %s has by itself is left off', o.partition::regclass),
			format('It is %s.', partshift.some_names(o.objects))) f
	UNION ALL
	SELECT * FROM partshift.check_partition_storage(relid)
	UNION ALL
	SELECT f.*
	FROM (VALUES ('lock_writes', NULL), ('foreign_keys', 'extend')) AS v (name, value),
		 partshift.refused('argument', v.name, '0A000',
			format('option "%s"%s does not apply to partitioned table "%s"', v.name,
				   ' as "' || v.value || '"', (SELECT relname FROM pg_class WHERE oid = relid))) f
	WHERE partshift.is_partitioned(relid) AND options ? v.name AND options ->> v.name <> 'false'
		AND options ->> v.name IS NOT DISTINCT FROM coalesce(v.value, options ->> v.name)
$$;

COMMENT ON FUNCTION partshift.check_partitions(oid, jsonb) IS
'findings about the partitions of a table that is partitioned already';
