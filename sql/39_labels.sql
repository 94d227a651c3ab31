/*
 * Security labels of the table and its columns.
 *
 * They are copied as catalog rows, like privileges, in the worker: no provider
 * has to be loaded there, and none is asked as a superuser about a text that
 * the table's owner may have written.  Leaves have them too, because a
 * provider may look at the relation that is read and not at the one that was
 * named, and they have them before they have rows.
 */
CREATE FUNCTION partshift.labels_of(relid oid)
RETURNS TABLE (provider text, attname name, label text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT l.provider, coalesce(a.attname, ''), l.label
	FROM pg_seclabel l
		LEFT JOIN pg_attribute a ON a.attrelid = l.objoid AND a.attnum = l.objsubid
			AND l.objsubid <> 0
	WHERE l.classoid = 'pg_class'::regclass AND l.objoid = relid
$$;

COMMENT ON FUNCTION partshift.labels_of(oid) IS
'security labels of a table, whose column is then empty, and of its columns';

CREATE FUNCTION partshift.missing_labels(source oid, target oid)
RETURNS TABLE (relation oid, attnum integer, provider text, label text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH relation AS (
		SELECT target AS oid
		UNION ALL
		SELECT i.inhrelid FROM pg_inherits i WHERE i.inhparent = target
	)
	SELECT r.oid, coalesce(a.attnum, 0), l.provider, l.label
	FROM relation r
		CROSS JOIN LATERAL (
			SELECT provider, attname, w.label
			FROM partshift.labels_of(source) w
				FULL JOIN partshift.labels_of(r.oid) h USING (provider, attname)
			WHERE w.label IS DISTINCT FROM h.label) l
		LEFT JOIN pg_attribute a ON a.attrelid = r.oid AND a.attname = l.attname
			AND NOT a.attisdropped
	WHERE l.attname = '' OR a.attnum IS NOT NULL
$$;

COMMENT ON FUNCTION partshift.missing_labels(oid, oid) IS
'labels that a table and its partitions lack to have those of another; a null label is one too many';

CREATE FUNCTION partshift.copy_labels(source oid, target oid) RETURNS void
LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'partshift_copy_labels';

COMMENT ON FUNCTION partshift.copy_labels(oid, oid) IS
'makes the security labels of a table and its partitions those of another table';

/* The label of its row type would be on another type afterwards. */
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
			'Labels are carried for the table and its columns only.',
			'Use SECURITY LABEL ... IS NULL.') f
	WHERE (l.classoid, l.objoid) IN (SELECT * FROM partshift.referenced_objects(relid))
	  AND (l.classoid <> 'pg_class'::regclass OR l.objoid <> relid)
$$;

COMMENT ON FUNCTION partshift.check_labels(oid) IS
'refuses security labels that are not carried';
