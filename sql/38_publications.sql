/*
 * Publications, subscriptions, security labels and memberships in extensions,
 * which no row of pg_depend to the table tells of.
 */

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
	FROM pg_publication_rel r
		 JOIN pg_publication p ON p.oid = r.prpubid
		 JOIN pg_class c ON c.oid = r.prrelid,
		 partshift.refused('publication', p.pubname, '55000',
			format('publication "%s" would publish the partitions of table "%s" under their own names',
				   p.pubname, c.relname),
			'Subscribers would need tables of these names.',
			format('Use ALTER PUBLICATION %I SET (publish_via_partition_root = true).', p.pubname)) f
	WHERE r.prrelid = relid AND NOT p.pubviaroot
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
'refuses publications that would not publish the new table as they do the old one, and subscriptions';

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
