/*
 * What mentions the table and stands in no row of pg_depend that leads to it.
 *
 * The server itself lists which columns of its catalogs refer to which, so a
 * catalog of a later server that nobody thought of is found as well.  Those
 * that are known are carried, refused or looked at elsewhere; another one that
 * mentions the table refuses the conversion.
 */
CREATE FUNCTION partshift.known_references()
RETURNS text[]
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT ARRAY[
		/* parts of the table */
		'pg_attribute.attrelid', 'pg_attrdef.adrelid', 'pg_class.reltoastrelid', 'pg_type.typrelid',
		'pg_index.indrelid', 'pg_index.indexrelid', 'pg_constraint.conrelid',
		'pg_constraint.conindid', 'pg_trigger.tgrelid', 'pg_trigger.tgconstrindid',
		'pg_policy.polrelid', 'pg_statistic_ext.stxrelid', 'pg_statistic.starelid',
		/* others that refer to it */
		'pg_constraint.confrelid', 'pg_trigger.tgconstrrelid', 'pg_rewrite.ev_class',
		'pg_publication_rel.prrelid', 'pg_subscription_rel.srrelid',
		/* what it would be if it were something else */
		'pg_inherits.inhrelid', 'pg_inherits.inhparent', 'pg_foreign_table.ftrelid',
		'pg_partitioned_table.partrelid', 'pg_partitioned_table.partdefid', 'pg_sequence.seqrelid',
		/* the catalog that an object is in */
		'pg_depend.classid', 'pg_depend.refclassid', 'pg_shdepend.classid', 'pg_shdepend.refclassid',
		'pg_description.classoid', 'pg_shdescription.classoid', 'pg_seclabel.classoid',
		'pg_shseclabel.classoid', 'pg_init_privs.classoid',
		/* members of extensions */
		'pg_extension.extconfig',
		/* for a moment, in a transaction that rewrites it */
		'pg_class.relrewrite']
$$;

COMMENT ON FUNCTION partshift.known_references() IS
'columns of catalogs that refer to relations and are looked at by some check';

CREATE FUNCTION partshift.check_references(relid oid, known text[])
RETURNS SETOF partshift.finding
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	ref record;
	found_it boolean;
BEGIN
	FOR ref IN
		SELECT k.fktable, k.fkcols[1] AS name, k.is_array
		FROM pg_get_catalog_foreign_keys() k
		WHERE k.pktable = 'pg_class'::regclass AND k.pkcols = '{oid}' AND cardinality(k.fkcols) = 1
			AND format('%s.%s', k.fktable, k.fkcols[1]) <> ALL (known)
		ORDER BY k.fktable::text COLLATE "C", k.fkcols[1]
	LOOP
		EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE $1 = %s)', ref.fktable,
					   format(CASE WHEN ref.is_array THEN 'ANY (%I)' ELSE '%I' END, ref.name))
			INTO found_it USING relid;
		IF found_it THEN
			RETURN NEXT partshift.refused('dependent', ref.fktable::text, '0A000',
				format('catalog %s mentions table "%s"', ref.fktable,
					   (SELECT c.relname FROM pg_class c WHERE c.oid = relid)),
				format('It is in its column %s, and it is not known how to carry it.', ref.name));
		END IF;
	END LOOP;
END
$$;

COMMENT ON FUNCTION partshift.check_references(oid, text[]) IS
'refuses mentions of the table in columns of catalogs other than these';

/*
 * A table depends on its owner, on grantees, on roles of its policies and on
 * its tablespace.  Privileges of an extension's script are an extension's.
 */
CREATE FUNCTION partshift.check_shared(relid oid)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT f.*
	FROM pg_class c
		 JOIN pg_shdepend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid
			AND d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database()),
		 partshift.refused('dependent', c.relname, '0A000',
			format('table "%s" depends on %s in a way that is not known', c.relname,
				   CASE d.refclassid WHEN 'pg_authid'::regclass THEN 'role ' || pg_get_userbyid(d.refobjid)
					   ELSE format('object %s of %s', d.refobjid, d.refclassid::regclass) END),
			format('The type of the dependency is "%s".', d.deptype)) f
	WHERE c.oid = relid AND d.deptype NOT IN ('o', 'a', 'r', 't')
	UNION ALL
	SELECT f.*
	FROM pg_init_privs p,
		 partshift.refused('privilege', NULL, '0A000',
			format('%s has privileges that an extension gave it', pg_describe_object(p.classoid, p.objoid, 0)),
			NULL, 'Drop them with ALTER EXTENSION ... DROP TABLE.') f
	WHERE (p.classoid, p.objoid) IN (SELECT * FROM partshift.referenced_objects(relid))
$$;

COMMENT ON FUNCTION partshift.check_shared(oid) IS
'refuses dependencies on shared objects that are not known, and privileges of extensions';

CREATE FUNCTION partshift.check_sweep(relid oid)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT * FROM partshift.check_references(relid, partshift.known_references())
	UNION ALL
	SELECT * FROM partshift.check_shared(relid)
$$;

COMMENT ON FUNCTION partshift.check_sweep(oid) IS
'refuses what mentions the table and is not known';
