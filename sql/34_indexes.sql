/*
 * Checks of indexes and constraints.
 */

/*
 * A row of the table as a whole cannot be mapped to another table, a system
 * column means something else there, and a subquery over the table would go on
 * to read the old one.  pg_depend does not always tell: a reference to a column
 * hides one to the whole table.
 */
CREATE FUNCTION partshift.mentions_table(tree pg_node_tree, relid oid)
RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(tree::text ~ format(':(varattno (0 :vartype %s|-\d+)|relid %s)\M',
										c.reltype, c.oid), false)
	FROM pg_class c WHERE c.oid = relid
$$;

COMMENT ON FUNCTION partshift.mentions_table(pg_node_tree, oid) IS
'whether an expression mentions more of the table than its columns';

CREATE FUNCTION partshift.extension_detail()
RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT 'ON CONFLICT must name the longer list of columns, and uniqueness of the shorter one is not enforced.'
$$;

COMMENT ON FUNCTION partshift.extension_detail() IS
'what it means for the application that a unique index is extended';

CREATE FUNCTION partshift.check_unique_index(relid oid, entry jsonb, key_index oid, unique_keys text)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT f.*
	FROM CAST(entry->>'name' AS text) name,
		 CAST((SELECT string_agg(quote_ident(c), ', ')
			   FROM jsonb_array_elements_text(entry->'added') c) AS text) columns,
		 LATERAL (
			SELECT w.*
			FROM partshift.warned('key', name,
					format('key "%s" is extended by partition key column %s', name, columns),
					partshift.extension_detail()) w
			WHERE (entry->>'oid')::oid = key_index AND columns IS NOT NULL
			UNION ALL
			SELECT r.*
			FROM partshift.refused('unique', name, '0A000',
					format('unique index "%s" lacks partition key column %s', name, columns),
					'A partitioned table cannot enforce it as it is.',
					'Give option "unique_keys": with "extend" the column is appended, with "per_partition" each partition enforces it alone.') r
			WHERE (entry->>'oid')::oid IS DISTINCT FROM key_index AND columns IS NOT NULL
			  AND unique_keys = 'error'
			UNION ALL
			SELECT w.*
			FROM partshift.warned('unique', name,
					format('unique index "%s" is extended by partition key column %s', name, columns),
					partshift.extension_detail()) w
			WHERE (entry->>'oid')::oid IS DISTINCT FROM key_index AND columns IS NOT NULL
			  AND unique_keys = 'extend'
			UNION ALL
			SELECT w.*
			FROM partshift.warned('unique', name,
					format('unique index "%s" is enforced by each partition alone', name),
					'The table as a whole does not have it: ON CONFLICT cannot use it, and equal values may be in different partitions.') w
			WHERE (entry->>'per_partition')::boolean) f
$$;

COMMENT ON FUNCTION partshift.check_unique_index(oid, jsonb, oid, text) IS
'findings about an index of the plan that lacks partition key columns';

CREATE FUNCTION partshift.check_index_details(relid oid, plan jsonb)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT f.*
	FROM pg_index i
		 JOIN pg_class c ON c.oid = i.indexrelid
		 JOIN pg_class r ON r.oid = i.indrelid
		 LEFT JOIN jsonb_array_elements(plan->'indexes') entry
			ON (entry->>'oid')::oid = i.indexrelid,
		 LATERAL (VALUES
			(i.indisexclusion, '0A000',
			 format('index "%s" enforces an exclusion constraint', c.relname),
			 'Exclusion constraints are not carried.', NULL),
			(entry IS NOT NULL AND (partshift.mentions_table(i.indexprs, relid)
									OR partshift.mentions_table(i.indpred, relid)), '0A000',
			 format('index "%s" mentions whole rows or system columns', c.relname), NULL,
			 'Name the columns instead.'),
			((entry->>'per_partition')::boolean AND i.indisreplident AND r.relreplident = 'i', '0A000',
			 format('index "%s" is the replica identity and cannot be enforced by each partition alone', c.relname),
			 NULL, 'Use ALTER TABLE ... REPLICA IDENTITY, or give option "unique_keys" as "extend".'),
			(entry IS NOT NULL AND i.indnatts + jsonb_array_length(entry->'added') > 32, '54011',
			 format('index "%s" would have more than 32 columns', c.relname), NULL, NULL))
			AS rule(applies, sqlstate, message, detail, hint),
		 partshift.refused('index', c.relname, rule.sqlstate, rule.message, rule.detail, rule.hint) f
	WHERE i.indrelid = relid AND rule.applies
	ORDER BY i.indexrelid, rule.message
$$;

COMMENT ON FUNCTION partshift.check_index_details(oid, jsonb) IS
'refuses indexes of kinds that are not carried';

CREATE FUNCTION partshift.check_indexes(relid oid, options jsonb, plan jsonb)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT * FROM partshift.check_index_details(relid, plan)
	UNION ALL
	SELECT f.*
	FROM jsonb_array_elements(plan->'indexes') entry,
		 partshift.check_unique_index(relid, entry, (plan->>'key_index')::oid,
									  coalesce(options->>'unique_keys', 'error')) f
	UNION ALL
	SELECT f.*
	FROM pg_index i
		 JOIN pg_class c ON c.oid = i.indexrelid,
		 partshift.warned('index', c.relname,
			format('index "%s" is not valid and is left out', c.relname), NULL,
			'Use REINDEX INDEX CONCURRENTLY or DROP INDEX.') f
	WHERE i.indrelid = relid AND NOT (i.indisvalid AND i.indisready AND i.indislive)
$$;

COMMENT ON FUNCTION partshift.check_indexes(oid, jsonb, jsonb) IS
'findings about the indexes';

/* Column conenforced came with PostgreSQL 18; before, every constraint was. */
CREATE FUNCTION partshift.is_enforced(con pg_constraint)
RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce((to_jsonb(con)->>'conenforced')::boolean, true)
$$;

COMMENT ON FUNCTION partshift.is_enforced(pg_constraint) IS
'whether a constraint is enforced';

CREATE FUNCTION partshift.check_constraints(relid oid)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT f.*
	FROM pg_constraint con,
		 LATERAL (VALUES
			(con.contype = 'f' AND partshift.is_enforced(con) AND NOT con.convalidated,
			 format('constraint "%s" is not valid', con.conname),
			 format('Run ALTER TABLE %s VALIDATE CONSTRAINT %I.', con.conrelid::regclass, con.conname)),
			(con.connoinherit AND con.contype IN ('c', 'n'),
			 format('constraint "%s" is NO INHERIT', con.conname),
			 'A partitioned table cannot have it; add it without NO INHERIT.'),
			(con.contype = 'c' AND partshift.mentions_table(con.conbin, relid),
			 format('constraint "%s" mentions whole rows or system columns', con.conname),
			 'Name the columns instead.'))
			AS rule(applies, message, hint),
		 partshift.refused('constraint', con.conname, '0A000', rule.message, NULL, rule.hint) f
	WHERE con.conrelid = relid AND con.contype IN ('c', 'f', 'n') AND con.conparentid = 0
	  AND rule.applies
	ORDER BY con.conname, rule.message
$$;

COMMENT ON FUNCTION partshift.check_constraints(oid) IS
'refuses constraints that a partitioned table cannot have, or not yet';
