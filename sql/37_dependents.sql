/*
 * All that depends on the table.
 *
 * Each row of pg_depend that leads to the table, its row type, its indexes or
 * its constraints is looked at.  Objects of the table itself are carried, or
 * refused by the other checks.  Of the others, those that hold an expression
 * or a query over the table are made to mean the new one in the swap, see
 * 46_dependents.sql; every other object is refused by name, whatever it is, so
 * that nothing is lost that nobody thought of.
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
					 WHERE classid = 'pg_rewrite'::regclass AND oid = objid
					   AND rulename = '_RETURN'),
					pg_describe_object(classid, objid,
						CASE WHEN classid = 'pg_class'::regclass
								  AND EXISTS (SELECT FROM pg_class
											  WHERE oid = objid AND relkind IN ('v', 'm'))
							 THEN 0 ELSE objsubid END))
$$;

COMMENT ON FUNCTION partshift.dependent_name(oid, oid, integer) IS
'a dependent object in words; for a view''s rule, the view';

CREATE FUNCTION partshift.dependent_hint(classid oid, object text)
RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT format('Drop %s, and create it again after the conversion.', object)
$$;

COMMENT ON FUNCTION partshift.dependent_hint(oid, text) IS
'what to do about a dependent object';

/*
 * The kinds of objects that can be made to mean another table while they stay
 * what they are, with their OIDs, owners, privileges and all that is upon
 * them.  A trigger of a partition goes with that of its table.
 */
CREATE FUNCTION partshift.dependent_kind(classid oid, objid oid,
										 OUT kind text, OUT relation oid)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN r.rulename = '_RETURN' THEN 'view' ELSE 'rule' END, r.ev_class
	FROM pg_rewrite r
	WHERE classid = 'pg_rewrite'::regclass AND r.oid = objid
	UNION ALL
	SELECT 'function', NULL
	FROM pg_proc p
	WHERE classid = 'pg_proc'::regclass AND p.oid = objid AND p.prosqlbody IS NOT NULL
	UNION ALL
	SELECT 'policy', p.polrelid
	FROM pg_policy p
	WHERE classid = 'pg_policy'::regclass AND p.oid = objid
	UNION ALL
	SELECT 'default', d.adrelid
	FROM pg_attrdef d
		 JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
	WHERE classid = 'pg_attrdef'::regclass AND d.oid = objid AND a.attgenerated = ''
	UNION ALL
	SELECT CASE WHEN t.tgparentid = 0 THEN 'trigger' ELSE 'part' END, t.tgrelid
	FROM pg_trigger t
	WHERE classid = 'pg_trigger'::regclass AND t.oid = objid
	  AND NOT (t.tgisinternal AND t.tgparentid = 0) AND t.tgconstraint = 0
	UNION ALL
	SELECT 'publication', NULL
	FROM pg_publication_rel r
	WHERE classid = 'pg_publication_rel'::regclass AND r.oid = objid
	UNION ALL
	SELECT 'statistics', s.stxrelid
	FROM pg_statistic_ext s
	WHERE classid = 'pg_statistic_ext'::regclass AND s.oid = objid
$$;

COMMENT ON FUNCTION partshift.dependent_kind(oid, oid) IS
'what kind of dependent an object is, and the relation that it is a part of; empty if it cannot follow the table''s name';

/*
 * A sequence that belongs to a column and a partition depend by the types a or
 * i, and the parts of a partition on those of the table by P and S; any other
 * relation, and a rule of the table itself, is not the table's own.
 * What mentions the row type cannot be carried: the new table has another.
 */
CREATE FUNCTION partshift.dependents(relid oid,
	OUT classid oid, OUT objid oid, OUT kind text, OUT relation oid, OUT object text)
RETURNS SETOF record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT found.classid, found.objid, CASE WHEN NOT found.by_type THEN k.kind END,
		   k.relation, partshift.dependent_name(found.classid, found.objid, found.subid)
	FROM (SELECT d.classid, d.objid, min(d.objsubid) AS subid,
				 bool_or(d.refclassid = 'pg_type'::regclass) AS by_type
		  FROM partshift.referenced_objects(relid) r
			   JOIN pg_depend d ON d.refclassid = r.classid AND d.refobjid = r.objid
		  WHERE d.deptype NOT IN ('P', 'S')
			-- In the order of cost: there may be a thousand partitions.
			AND CASE
				WHEN d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
					 AND EXISTS (SELECT FROM pg_class
								 WHERE oid = d.objid AND (relkind = 'S' OR relispartition))
					THEN false
				WHEN d.classid = 'pg_rewrite'::regclass
					 AND EXISTS (SELECT FROM pg_rewrite WHERE oid = d.objid AND ev_class = relid)
					THEN false
				ELSE NOT (partshift.is_own_object(d.classid, d.objid, relid)
						  AND (d.refclassid <> 'pg_type'::regclass OR d.classid = 'pg_type'::regclass)) END
		  GROUP BY d.classid, d.objid) found
		 LEFT JOIN LATERAL partshift.dependent_kind(found.classid, found.objid) k ON true
$$;

COMMENT ON FUNCTION partshift.dependents(oid) IS
'objects of others that depend on the table; the kind is null for those that would not follow its name';

/*
 * FROM ONLY would find no row in the new table.  In the stored tree it is a
 * range table entry without inheritance; so is the target of INSERT, which is
 * not in the FROM clause.
 */
CREATE FUNCTION partshift.mentions_only(tree pg_node_tree, relid oid)
RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(tree::text ~ format(
		':relid %s ((?!:rtekind ).)*:inh false ((?!:rtekind ).)*:inFromCl true', relid), false)
$$;

COMMENT ON FUNCTION partshift.mentions_only(pg_node_tree, oid) IS
'whether a query reads the table by FROM ONLY';

/*
 * Without the exact key a query that groups by it, or an INSERT that names it
 * in ON CONFLICT, cannot be stored again.
 */
CREATE FUNCTION partshift.missed_key(classid oid, objid oid, plan jsonb)
RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT o.conname
	FROM jsonb_array_elements(plan->'indexes') entry
		 JOIN pg_constraint o ON o.conindid = (entry->>'oid')::oid
		 JOIN pg_depend d ON d.refclassid = 'pg_constraint'::regclass AND d.refobjid = o.oid
	WHERE d.classid = missed_key.classid AND d.objid = missed_key.objid
	  AND ((entry->>'per_partition')::boolean OR jsonb_array_length(entry->'added') > 0)
	LIMIT 1
$$;

COMMENT ON FUNCTION partshift.missed_key(oid, oid, jsonb) IS
'a key that a dependent object relies on and that the new table will not have as it is';

/*
 * Definitions are read again as the object's owner, who needs to get at the
 * names in them as he did when he made the object.
 */
CREATE FUNCTION partshift.schema_out_of_reach(classid oid, objid oid, owner oid)
RETURNS name
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT n.nspname
	FROM pg_depend d
		 LEFT JOIN pg_class c ON d.refclassid = 'pg_class'::regclass AND c.oid = d.refobjid
		 LEFT JOIN pg_proc p ON d.refclassid = 'pg_proc'::regclass AND p.oid = d.refobjid
		 LEFT JOIN pg_type t ON d.refclassid = 'pg_type'::regclass AND t.oid = d.refobjid
		 LEFT JOIN pg_operator o ON d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid
		 LEFT JOIN pg_collation l ON d.refclassid = 'pg_collation'::regclass AND l.oid = d.refobjid
		 JOIN pg_namespace n ON n.oid IN (c.relnamespace, p.pronamespace, t.typnamespace,
										  o.oprnamespace, l.collnamespace)
	WHERE d.classid = schema_out_of_reach.classid AND d.objid = schema_out_of_reach.objid
	  AND NOT has_schema_privilege(owner, n.oid, 'USAGE')
	ORDER BY n.nspname
	LIMIT 1
$$;

COMMENT ON FUNCTION partshift.schema_out_of_reach(oid, oid, oid) IS
'a schema that an object refers to and that its owner may not use';

CREATE FUNCTION partshift.dependent_owner(classid oid, objid oid, relation oid)
RETURNS oid
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT relowner FROM pg_class WHERE oid = relation
	UNION ALL
	SELECT proowner FROM pg_proc WHERE classid = 'pg_proc'::regclass AND oid = objid
$$;

COMMENT ON FUNCTION partshift.dependent_owner(oid, oid, oid) IS
'as whom a dependent object is defined anew';

CREATE FUNCTION partshift.check_dependent_function(func oid)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT f.*
	FROM pg_proc p
		 JOIN pg_roles r ON r.oid = p.proowner
		 JOIN pg_namespace n ON n.oid = p.pronamespace,
		 LATERAL (VALUES
			(NOT has_schema_privilege(r.oid, n.oid, 'CREATE'),
			 format('owner of function %s cannot create functions in its schema', p.oid::regprocedure),
			 format('Use GRANT CREATE ON SCHEMA %I TO %I.', n.nspname, r.rolname)),
			(p.proleakproof AND NOT r.rolsuper,
			 format('owner of leakproof function %s is not a superuser', p.oid::regprocedure),
			 'Use ALTER FUNCTION ... NOT LEAKPROOF, or ALTER FUNCTION ... OWNER TO.'))
			AS rule(applies, message, hint),
		 partshift.refused('dependent', p.oid::regprocedure::text, '42501', rule.message,
			'A function with a parsed body is created again, as its owner, to mean the new table.',
			rule.hint) f
	WHERE p.oid = func AND rule.applies
	UNION ALL
	SELECT f.*
	FROM pg_depend d,
		 partshift.refused('dependent', func::regprocedure::text, '0A000',
			format('function %s depends on an extension', func::regprocedure), NULL,
			'Use ALTER FUNCTION ... NO DEPENDS ON EXTENSION.') f
	WHERE d.classid = 'pg_proc'::regclass AND d.objid = func AND d.deptype = 'x'
$$;

COMMENT ON FUNCTION partshift.check_dependent_function(oid) IS
'refuses functions with parsed bodies that their owners could not replace';

CREATE FUNCTION partshift.check_dependent_queries(relid oid)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT f.*
	FROM pg_class c,
		 LATERAL (
			SELECT d.object, w.ev_action, w.ev_qual
			FROM partshift.dependents(relid) d JOIN pg_rewrite w ON w.oid = d.objid
			WHERE d.kind IN ('view', 'rule')
			UNION ALL
			SELECT d.object, p.prosqlbody, NULL
			FROM partshift.dependents(relid) d JOIN pg_proc p ON p.oid = d.objid
			WHERE d.kind = 'function'
			UNION ALL
			SELECT pg_describe_object('pg_policy'::regclass, p.oid, 0), p.polqual, p.polwithcheck
			FROM pg_policy p
			WHERE p.polrelid = relid
			   OR p.oid IN (SELECT d.objid FROM partshift.dependents(relid) d
							WHERE d.kind = 'policy')) AS d (object, tree, other_tree),
		 partshift.refused('dependent', d.object, '0A000',
			format('%s reads table "%s" by FROM ONLY', d.object, c.relname),
			'In a partitioned table ONLY finds no row.', 'Define it without ONLY.') f
	WHERE c.oid = relid
	  AND (partshift.mentions_only(d.tree, relid)
		   OR partshift.mentions_only(d.other_tree, relid))
	UNION ALL
	SELECT DISTINCT f.*
	FROM partshift.dependents(relid) d,
		 partshift.schema_out_of_reach(d.classid, d.objid,
			partshift.dependent_owner(d.classid, d.objid, d.relation)) AS schema_name,
		 partshift.refused('dependent', d.object, '42501',
			format('owner of %s cannot use schema "%s"', d.object, schema_name),
			'It is defined again, as its owner, to mean the new table.',
			format('Use GRANT USAGE ON SCHEMA %I TO %I.', schema_name,
				   pg_get_userbyid(partshift.dependent_owner(d.classid, d.objid, d.relation)))) f
	WHERE d.kind IN ('view', 'rule', 'function', 'policy', 'default', 'trigger')
	  AND schema_name IS NOT NULL
$$;

COMMENT ON FUNCTION partshift.check_dependent_queries(oid) IS
'refuses queries over the table that could not be stored again for the new one';

CREATE FUNCTION partshift.check_dependents(relid oid, plan jsonb)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT found.*
	FROM (
		SELECT f.*
		FROM pg_class c,
			 partshift.dependents(relid) d,
			 partshift.refused('dependent', d.object, '0A000',
				format('%s depends on table "%s"', d.object, c.relname),
				'It would not follow the table''s name to the new table.',
				partshift.dependent_hint(d.classid, d.object)) f
		WHERE c.oid = relid AND d.kind IS NULL
		UNION ALL
		SELECT f.*
		FROM partshift.dependents(relid) d,
			 partshift.missed_key(d.classid, d.objid, plan) key,
			 partshift.refused('dependent', d.object, '0A000',
				format('%s relies on key "%s", which the new table will not have as it is', d.object, key),
				'It groups by the key, or names it in ON CONFLICT ON CONSTRAINT.',
				'List the columns that it needs in its GROUP BY.') f
		WHERE d.kind IS NOT NULL AND key IS NOT NULL
		UNION ALL
		SELECT f.*
		FROM partshift.dependents(relid) d,
			 partshift.check_dependent_function(d.objid) f
		WHERE d.kind = 'function'
		UNION ALL
		SELECT * FROM partshift.check_dependent_queries(relid)
		UNION ALL
		SELECT * FROM partshift.check_partition_dependents(relid)) found
	ORDER BY found.object
$$;

COMMENT ON FUNCTION partshift.check_dependents(oid, jsonb) IS
'refuses every object that depends on the table and cannot be carried';

CREATE FUNCTION partshift.self_references(relid oid)
RETURNS TABLE(object text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
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
		   OR d.classid = 'pg_constraint'::regclass
		   AND d.objid IN (SELECT oid FROM pg_constraint WHERE conrelid = relid AND contype = 'c'))
$$;

COMMENT ON FUNCTION partshift.self_references(oid) IS
'defaults and constraints of the table that mention more of it than its columns';

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

