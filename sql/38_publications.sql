/*
 * Publications, subscriptions and memberships in extensions, which no row of
 * pg_depend to the table tells of.
 */

CREATE FUNCTION partshift.publications_of(relid oid)
RETURNS TABLE (pub oid, name name, by_name boolean, scope text, as_root boolean)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT p.oid, p.pubname,
		EXISTS (SELECT FROM pg_publication_rel r WHERE r.prpubid = p.oid AND r.prrelid = relid),
		CASE WHEN p.puballtables THEN 'ALL TABLES'
			 WHEN n.pnpubid IS NOT NULL
			 THEN format('TABLES IN SCHEMA %I', c.relnamespace::regnamespace::text) END,
		p.pubviaroot
	FROM pg_class c
		 CROSS JOIN pg_publication p
		 LEFT JOIN pg_publication_namespace n ON n.pnpubid = p.oid AND n.pnnspid = c.relnamespace
	WHERE c.oid = relid
	  AND (c.relpersistence = 'p' AND (p.puballtables OR n.pnpubid IS NOT NULL)
		   OR EXISTS (SELECT FROM pg_publication_rel r
					  WHERE r.prpubid = p.oid AND r.prrelid = relid))
$$;

COMMENT ON FUNCTION partshift.publications_of(oid) IS
'the publications that publish a table: because they list it, or because of their scope, or both';

/*
 * A publication whose scope is more than a list publishes what the conversion
 * makes as well.  There is no way to take a table out of such a scope.
 */
CREATE FUNCTION partshift.check_publications(relid oid, options jsonb)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT f.*
	FROM pg_class c,
		 partshift.publications_of(relid) p,
		 CAST(options->>'publications' = 'accept' AS boolean) accepted,
		 LATERAL (
			SELECT r.*
			FROM partshift.refused('publication', p.name, '0A000',
					format('publication "%s" publishes table "%s"', p.name, c.relname),
					format('It is FOR %s and would publish the copy while it is made.', p.scope),
					'List the tables of the publication instead, or give option "publications" as "accept" when every subscriber is prepared.') r
			WHERE p.scope IS NOT NULL AND accepted IS NOT TRUE
			UNION ALL
			SELECT w.*
			FROM partshift.warned('publication', p.name,
					format('publication "%s" publishes what the conversion makes', p.name),
					format('It is FOR %s.  A subscriber stops with an error at the first change of a table that it does not have.',
						   p.scope),
					'Create these tables on every subscriber before the conversion, and do not refresh its subscription until the end.') w
			WHERE p.scope IS NOT NULL AND accepted
			UNION ALL
			SELECT r.*
			FROM partshift.refused('publication', p.name, '55000',
					format('publication "%s" would publish the partitions of table "%s" under their own names',
						   p.name, c.relname),
					'Subscribers would need tables of these names.',
					format('Use ALTER PUBLICATION %I SET (publish_via_partition_root = true).', p.name)) r
			WHERE (p.by_name OR accepted) AND NOT p.as_root) f
	WHERE c.oid = relid
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

COMMENT ON FUNCTION partshift.check_publications(oid, jsonb) IS
'findings about publications that would not publish the new table as they do the old one, and about subscriptions';

CREATE FUNCTION partshift.check_extensions(relid oid)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
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

COMMENT ON FUNCTION partshift.check_extensions(oid) IS
'refuses membership in extensions';

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
