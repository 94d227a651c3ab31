/*
 * All that depends on the table.
 *
 * Each row of pg_depend that leads to the table, its row type, its indexes or
 * its constraints is looked at.  Objects of the table itself are carried, or
 * refused by the other checks; every other object is refused by name, whatever
 * it is, so that nothing is lost that nobody thought of.
 */

CREATE FUNCTION partshift.referenced_objects(relid oid)
RETURNS TABLE(classid oid, objid oid)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT 'pg_class'::regclass::oid, relid
	UNION ALL
	SELECT 'pg_class'::regclass, indexrelid FROM pg_index WHERE indrelid = relid
	UNION ALL
	SELECT 'pg_constraint'::regclass, oid FROM pg_constraint WHERE conrelid = relid
	UNION ALL
	SELECT 'pg_type'::regclass, t.oid
	FROM pg_class c JOIN pg_type t ON t.oid = c.reltype OR t.typelem = c.reltype
	WHERE c.oid = relid
$$;

COMMENT ON FUNCTION partshift.referenced_objects(oid) IS
'the table and the objects that belong to it and can be referred to';

CREATE FUNCTION partshift.is_own_object(classid oid, objid oid, relid oid)
RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE classid
			 WHEN 'pg_attrdef'::regclass THEN
				EXISTS (SELECT FROM pg_attrdef WHERE oid = objid AND adrelid = relid)
			 WHEN 'pg_constraint'::regclass THEN
				EXISTS (SELECT FROM pg_constraint
						WHERE oid = objid AND (conrelid = relid OR confrelid = relid AND contype = 'f'))
			 WHEN 'pg_trigger'::regclass THEN
				EXISTS (SELECT FROM pg_trigger
						WHERE oid = objid
						  AND (tgrelid = relid
							   OR tgisinternal AND tgconstraint IN
									(SELECT oid FROM pg_constraint
									 WHERE conrelid = relid OR confrelid = relid)))
			 WHEN 'pg_policy'::regclass THEN
				EXISTS (SELECT FROM pg_policy WHERE oid = objid AND polrelid = relid)
			 WHEN 'pg_class'::regclass THEN
				objid = relid
				OR EXISTS (SELECT FROM pg_index WHERE indexrelid = objid AND indrelid = relid)
				OR EXISTS (SELECT FROM pg_class WHERE oid = relid AND reltoastrelid = objid)
			 WHEN 'pg_type'::regclass THEN
				EXISTS (SELECT FROM pg_class c JOIN pg_type t ON t.oid = c.reltype
						WHERE c.oid = relid AND objid IN (t.oid, t.typarray))
			 ELSE false
		   END
$$;

COMMENT ON FUNCTION partshift.is_own_object(oid, oid, oid) IS
'whether a dependent object is a part of the table, or a foreign key to it';

CREATE FUNCTION partshift.dependent_name(classid oid, objid oid, objsubid integer)
RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce((SELECT pg_describe_object('pg_class'::regclass, ev_class, 0)
					 FROM pg_rewrite
					 WHERE classid = 'pg_rewrite'::regclass AND oid = objid),
					pg_describe_object(classid, objid, objsubid))
$$;

COMMENT ON FUNCTION partshift.dependent_name(oid, oid, integer) IS
'a dependent object in words; for a view''s rule, the view';

CREATE FUNCTION partshift.dependent_hint(classid oid, object text)
RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE classid
			 WHEN 'pg_publication_rel'::regclass THEN
				'Use ALTER PUBLICATION ... DROP TABLE, and add the table again after the conversion.'
			 ELSE format('Drop %s, and create it again after the conversion.', object)
		   END
$$;

COMMENT ON FUNCTION partshift.dependent_hint(oid, text) IS
'what to do about a dependent object';

/*
 * A sequence that belongs to a column depends on it by the types a or i; any
 * other relation, and a rule of the table itself, is not the table's own.
 */
CREATE FUNCTION partshift.foreign_dependents(relid oid)
RETURNS TABLE(classid oid, object text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT DISTINCT d.classid, partshift.dependent_name(d.classid, d.objid, d.objsubid)
	FROM partshift.referenced_objects(relid) r
		 JOIN pg_depend d ON d.refclassid = r.classid AND d.refobjid = r.objid
	WHERE NOT (partshift.is_own_object(d.classid, d.objid, relid)
			   AND (d.refclassid <> 'pg_type'::regclass OR d.classid = 'pg_type'::regclass))
	  AND NOT (d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
			   AND EXISTS (SELECT FROM pg_class WHERE oid = d.objid AND relkind = 'S'))
	  AND NOT (d.classid = 'pg_rewrite'::regclass
			   AND EXISTS (SELECT FROM pg_rewrite WHERE oid = d.objid AND ev_class = relid))
$$;

COMMENT ON FUNCTION partshift.foreign_dependents(oid) IS
'objects that depend on the table and would not follow its name';

CREATE FUNCTION partshift.check_dependents(relid oid)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT f.*
	FROM pg_class c,
		 partshift.foreign_dependents(relid) d,
		 partshift.refused('dependent', d.object, '0A000',
			format('%s depends on table "%s"', d.object, c.relname),
			'It would not follow the table''s name to the new table.',
			partshift.dependent_hint(d.classid, d.object)) f
	WHERE c.oid = relid
	ORDER BY d.object
$$;

COMMENT ON FUNCTION partshift.check_dependents(oid) IS
'refuses every object that depends on the table and is not carried';

CREATE FUNCTION partshift.self_references(relid oid)
RETURNS TABLE(object text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT pg_describe_object('pg_policy'::regclass, p.oid, 0)
	FROM pg_policy p
	WHERE p.polrelid = relid
	  AND (partshift.mentions_table(p.polqual, relid)
		   OR partshift.mentions_table(p.polwithcheck, relid))
	UNION
	SELECT pg_describe_object('pg_attrdef'::regclass, a.oid, 0)
	FROM pg_attrdef a
	WHERE a.adrelid = relid AND partshift.mentions_table(a.adbin, relid)
	UNION
	SELECT pg_describe_object(d.classid, d.objid, d.objsubid)
	FROM pg_depend d
	WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = relid
	  AND d.refobjsubid = 0 AND d.deptype = 'n'
	  AND (d.classid = 'pg_attrdef'::regclass
		   AND d.objid IN (SELECT oid FROM pg_attrdef WHERE adrelid = relid)
		   OR d.classid = 'pg_policy'::regclass
		   AND d.objid IN (SELECT oid FROM pg_policy WHERE polrelid = relid)
		   OR d.classid = 'pg_constraint'::regclass
		   AND d.objid IN (SELECT oid FROM pg_constraint WHERE conrelid = relid AND contype = 'c'))
$$;

COMMENT ON FUNCTION partshift.self_references(oid) IS
'defaults, policies and constraints of the table that mention more of it than its columns';

/* A trigger's condition may: OLD.* and NEW.* mean the new table there. */
CREATE FUNCTION partshift.check_self_references(relid oid)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT f.*
	FROM partshift.self_references(relid) s,
		 partshift.refused('dependent', s.object, '0A000',
			format('%s mentions the table itself', s.object),
			'On the new table it would go on to mean the old one.',
			'Name columns instead of whole rows, and look the table up in a function.') f
	ORDER BY s.object
$$;

COMMENT ON FUNCTION partshift.check_self_references(oid) IS
'refuses expressions of the table that mention the table itself';

CREATE FUNCTION partshift.check_publications(relid oid)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT f.*
	FROM pg_class c,
		 pg_publication p,
		 partshift.refused('publication', p.pubname, '0A000',
			format('publication "%s" publishes table "%s"', p.pubname, c.relname),
			CASE WHEN p.puballtables THEN 'It is FOR ALL TABLES and would publish the copy while it is made.'
				 ELSE format('It is FOR TABLES IN SCHEMA %I and would publish the copy while it is made.',
							 c.relnamespace::regnamespace::text) END,
			'List the tables of the publication instead, without this one.') f
	WHERE c.oid = relid AND c.relpersistence = 'p'
	  AND (p.puballtables
		   OR EXISTS (SELECT FROM pg_publication_namespace n
					  WHERE n.pnpubid = p.oid AND n.pnnspid = c.relnamespace))
	UNION ALL
	SELECT f.*
	FROM pg_subscription_rel r
		 JOIN pg_subscription s ON s.oid = r.srsubid
		 JOIN pg_class c ON c.oid = r.srrelid,
		 partshift.refused('subscription', s.subname, '0A000',
			format('subscription "%s" writes to table "%s"', s.subname, c.relname),
			NULL, 'Take the table out of the publication and refresh the subscription.') f
	WHERE r.srrelid = relid
$$;

COMMENT ON FUNCTION partshift.check_publications(oid) IS
'refuses publications and subscriptions that do not depend on the table by name';

CREATE FUNCTION partshift.check_labels(relid oid)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT f.*
	FROM pg_seclabel l,
		 partshift.refused('label', l.provider, '0A000',
			format('%s has a security label of provider "%s"',
				   pg_describe_object(l.classoid, l.objoid, l.objsubid), l.provider),
			'Security labels are not carried.', 'Use SECURITY LABEL ... IS NULL.') f
	WHERE (l.classoid, l.objoid) IN (SELECT * FROM partshift.referenced_objects(relid))
	UNION ALL
	SELECT f.*
	FROM (SELECT DISTINCT d.classid, d.objid, e.extname, d.deptype
		  FROM pg_depend d
			   JOIN pg_extension e ON e.oid = d.refobjid
		  WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype IN ('e', 'x')
			AND ((d.classid, d.objid) IN (SELECT * FROM partshift.referenced_objects(relid))
				 OR d.classid = 'pg_trigger'::regclass
					AND d.objid IN (SELECT oid FROM pg_trigger WHERE tgrelid = relid))) d,
		 partshift.refused('extension', d.extname, '0A000',
			format(CASE d.deptype WHEN 'e' THEN '%s belongs to extension "%s"'
								  ELSE '%s depends on extension "%s"' END,
				   pg_describe_object(d.classid, d.objid, 0), d.extname),
			NULL,
			CASE d.deptype WHEN 'x' THEN 'Use ALTER ... NO DEPENDS ON EXTENSION.' END) f
$$;

COMMENT ON FUNCTION partshift.check_labels(oid) IS
'refuses security labels and membership in extensions';

CREATE FUNCTION partshift.check_activity()
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT f.*
	FROM pg_prepared_xacts x,
		 partshift.warned('activity', x.gid,
			format('prepared transaction "%s" is open', x.gid),
			'The conversion waits for it if it has written to the table, and the swap waits for it.',
			'Use COMMIT PREPARED or ROLLBACK PREPARED.') f
	WHERE x.database = current_database()
	UNION ALL
	SELECT f.*
	FROM pg_stat_activity a,
		 partshift.warned('activity', a.pid::text,
			format('a transaction of process %s has been open for more than five minutes', a.pid),
			'The swap waits for transactions with old snapshots.') f
	WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
	  AND a.backend_xmin IS NOT NULL AND a.xact_start < now() - interval '5 minutes'
$$;

COMMENT ON FUNCTION partshift.check_activity() IS
'warnings about transactions that hold up the conversion';
