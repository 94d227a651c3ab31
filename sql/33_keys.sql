/*
 * The partition key's columns, the key that finds a row, and the indexes.
 */

CREATE FUNCTION partshift.base_type(type oid)
RETURNS oid
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH RECURSIVE below AS (
		SELECT t.oid, t.typtype, t.typbasetype FROM pg_type t WHERE t.oid = type
		UNION ALL
		SELECT t.oid, t.typtype, t.typbasetype
		FROM below JOIN pg_type t ON t.oid = below.typbasetype
		WHERE below.typtype = 'd'
	)
	SELECT oid FROM below WHERE typtype <> 'd'
$$;

COMMENT ON FUNCTION partshift.base_type(oid) IS
'the type that a domain is over, or the type itself';

/* As the server finds it: the type's own, else that of a type it can pass for. */
CREATE FUNCTION partshift.default_opclass(type oid, method name)
RETURNS oid
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT opc.oid
	FROM pg_opclass opc
		 JOIN pg_am am ON am.oid = opc.opcmethod
		 JOIN pg_type own ON own.oid = partshift.base_type(type)
		 JOIN pg_type input ON input.oid = opc.opcintype
	WHERE am.amname = method AND opc.opcdefault
	  AND (input.oid = own.oid
		   OR input.oid = 'anyenum'::regtype AND own.typtype = 'e'
		   OR EXISTS (SELECT FROM pg_cast
					  WHERE castsource = own.oid AND casttarget = input.oid
						AND castmethod = 'b' AND castcontext = 'i'))
	ORDER BY input.oid = own.oid DESC, input.typispreferred DESC, opc.oid
	LIMIT 1
$$;

COMMENT ON FUNCTION partshift.default_opclass(oid, name) IS
'the default operator class of a scalar type';

CREATE FUNCTION partshift.check_key_types(relid oid, strategy text, key_columns name[],
										  options jsonb)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT f.*
	FROM partshift.refused('key', array_to_string(key_columns, ', '), '42P17',
			format('cannot use strategy "%s" with more than one column', strategy), NULL,
			'Only hash takes several key columns.') f
	WHERE strategy IN ('range', 'list') AND cardinality(key_columns) > 1
	UNION ALL
	SELECT f.*
	FROM unnest(key_columns) WITH ORDINALITY AS u(attname, position)
		 CROSS JOIN LATERAL partshift.key_column(relid, u.attname, options->'computed') a
		 JOIN pg_type t ON t.oid = a.type
		 JOIN pg_type base ON base.oid = partshift.base_type(a.type),
		 LATERAL (SELECT CASE
			WHEN t.typtype = 'd' AND strategy <> 'hash' THEN 'Its type is a domain.'
			WHEN strategy = 'range'
				 AND base.oid NOT IN ('date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype,
									  'int2'::regtype, 'int4'::regtype, 'int8'::regtype,
									  'numeric'::regtype, 'uuid'::regtype)
				THEN 'Ranges are made of date, timestamp, timestamptz, smallint, integer, bigint, numeric and uuid.'
			WHEN base.typtype <> 'e'
				 AND (base.typtype <> 'b' OR base.typcategory = 'A' OR base.oid >= 16384)
				THEN 'Comparing its values may run code that is not the server''s own.'
			WHEN strategy = 'hash' AND partshift.default_opclass(base.oid, 'hash') IS NULL
				THEN 'Its type has no default operator class for hash.'
			WHEN partshift.default_opclass(base.oid, 'btree') IS NULL
				THEN 'Its type has no default operator class for btree.'
		 END) AS reason(detail),
		 partshift.refused('key', u.attname, '0A000',
			format('cannot partition by column "%s" of type %s with strategy "%s"',
				   u.attname, format_type(a.type, a.modifier), strategy),
			reason.detail,
			CASE WHEN strategy <> 'hash' AND partshift.default_opclass(base.oid, 'hash') IS NOT NULL
					  AND base.oid < 16384
				 THEN 'Partition by hash.' END) f
	WHERE reason.detail IS NOT NULL AND strategy IN ('hash', 'range', 'list')
$$;

COMMENT ON FUNCTION partshift.check_key_types(oid, text, name[], jsonb) IS
'refuses partition key columns of types that the strategy cannot have';

/* Since 18 attnotnull is set for a constraint that is NOT VALID, too. */
CREATE FUNCTION partshift.has_no_nulls(attribute pg_attribute)
RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT attribute.attnotnull
		AND NOT EXISTS (SELECT FROM pg_constraint o
						WHERE o.conrelid = attribute.attrelid AND o.contype = 'n'
						  AND o.conkey = ARRAY[attribute.attnum] AND NOT o.convalidated)
$$;

COMMENT ON FUNCTION partshift.has_no_nulls(pg_attribute) IS
'whether every row has a value in the column';

CREATE FUNCTION partshift.index_columns(index oid)
RETURNS TABLE(attname name, attnum int2, place bigint)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT a.attname, a.attnum, k.position
	FROM pg_index i
		 CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k(attnum, position)
		 JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
	WHERE i.indexrelid = index AND k.position <= i.indnkeyatts
$$;

COMMENT ON FUNCTION partshift.index_columns(oid) IS
'the columns by which an index is ordered, without expressions and included columns';

CREATE FUNCTION partshift.find_key(relid oid)
RETURNS oid
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT i.indexrelid
	FROM pg_index i
		 JOIN pg_class c ON c.oid = i.indexrelid
		 JOIN pg_am am ON am.oid = c.relam
		 JOIN pg_class r ON r.oid = i.indrelid
	WHERE i.indrelid = relid AND am.amname = 'btree'
	  AND i.indisunique AND i.indimmediate
	  AND i.indisvalid AND i.indisready AND i.indislive
	  AND i.indpred IS NULL AND i.indexprs IS NULL
	  AND NOT EXISTS (SELECT
					  FROM partshift.index_columns(i.indexrelid) k
						   JOIN pg_attribute a ON a.attrelid = relid AND a.attnum = k.attnum
					  WHERE NOT partshift.has_no_nulls(a))
	ORDER BY i.indisprimary DESC, i.indisreplident AND r.relreplident = 'i' DESC, i.indexrelid
	LIMIT 1
$$;

COMMENT ON FUNCTION partshift.find_key(oid) IS
'the index by which rows are found: the primary key, else the replica identity, else the first that can serve';

CREATE FUNCTION partshift.why_no_key(index oid)
RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT format('Its index "%s" %s.', c.relname,
				  CASE
					WHEN NOT (i.indisvalid AND i.indisready AND i.indislive) THEN 'is not valid'
					WHEN i.indpred IS NOT NULL THEN 'is partial'
					WHEN i.indexprs IS NOT NULL THEN 'has expressions'
					WHEN NOT i.indimmediate THEN 'is deferrable'
					WHEN am.amname <> 'btree' THEN 'is not a B-tree'
					ELSE 'has a column that is not NOT NULL'
				  END)
	FROM pg_index i
		 JOIN pg_class c ON c.oid = i.indexrelid
		 JOIN pg_am am ON am.oid = c.relam
	WHERE i.indexrelid = index
$$;

COMMENT ON FUNCTION partshift.why_no_key(oid) IS
'why a unique index cannot be the key';

CREATE FUNCTION partshift.check_key_index(relid oid)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT f.*
	FROM pg_class c,
		 LATERAL (SELECT string_agg(partshift.why_no_key(i.indexrelid), '  ' ORDER BY i.indexrelid)
				  FROM pg_index i
				  WHERE i.indrelid = relid AND i.indisunique) AS reasons(detail),
		 partshift.refused('key', c.relname, '55000',
			format('table "%s" has no key that finds a row', c.relname),
			coalesce(reasons.detail, 'It has no unique index.'),
			format('Add one, for example ALTER TABLE %s ADD COLUMN id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY; or keep writers waiting with lock_writes => true.',
				   c.oid::regclass)) f
	WHERE c.oid = relid AND partshift.find_key(relid) IS NULL
$$;

COMMENT ON FUNCTION partshift.check_key_index(oid) IS
'refuses a table without a key';

CREATE FUNCTION partshift.count_nulls(relid oid, column_name name)
RETURNS bigint
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT partshift.query_as(c.relowner,
			format('SELECT count(*) FROM %s t WHERE t.%I IS NULL',
				   partshift.scan_name(c.oid), column_name))::bigint
	FROM pg_class c WHERE c.oid = relid
$$;

COMMENT ON FUNCTION partshift.count_nulls(oid, name) IS
'how many rows have no value in a column';

CREATE FUNCTION partshift.check_key_nulls(relid oid, key_columns name[], options jsonb)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT f.*
	FROM unnest(key_columns) WITH ORDINALITY AS u(attname, position)
		 JOIN pg_attribute a ON a.attrelid = relid AND a.attname = u.attname
		 CROSS JOIN LATERAL partshift.count_nulls(relid, u.attname) nulls
		 CROSS JOIN LATERAL partshift.refused('key', u.attname, '55000',
			format('partition key column "%s" can be null', u.attname),
			CASE nulls WHEN 0 THEN 'No row has a null in it.'
					   WHEN 1 THEN 'One row has a null in it.'
					   ELSE format('%s rows have a null in it.', nulls) END,
			CASE WHEN nulls > 0 THEN
				format('Run UPDATE %s SET %I = ... WHERE %2$I IS NULL; then ALTER TABLE %1$s ALTER COLUMN %2$I SET NOT NULL.',
					   relid::regclass, u.attname)
			ELSE
				format('Run ALTER TABLE %s ALTER COLUMN %I SET NOT NULL.', relid::regclass, u.attname)
			END || CASE WHEN cardinality(key_columns) = 1
						THEN '  Or give option "null_key": an expression for the nulls.' ELSE '' END) f
	WHERE NOT partshift.has_no_nulls(a) AND NOT options ? 'computed'
	ORDER BY u.position
$$;

COMMENT ON FUNCTION partshift.check_key_nulls(oid, name[], jsonb) IS
'refuses partition key columns that can be null';

CREATE FUNCTION partshift.check_columns(relid oid)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT f.*
	FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid,
		 LATERAL (VALUES
			(a.attgenerated NOT IN ('', 's', 'v'), '0A000',
			 format('column "%s" is generated in a way that is not carried', a.attname), NULL, NULL),
			(NOT has_type_privilege(c.relowner, a.atttypid, 'USAGE'), '42501',
			 format('owner of table "%s" cannot use the type of column "%s"', c.relname, a.attname),
			 'The partitioned table is created as the owner.',
			 format('Use GRANT USAGE ON TYPE %s TO %I.', format_type(a.atttypid, NULL),
					pg_get_userbyid(c.relowner))))
			AS rule(applies, sqlstate, message, detail, hint),
		 partshift.refused('column', a.attname, rule.sqlstate, rule.message, rule.detail,
						   rule.hint) f
	WHERE a.attrelid = relid AND a.attnum > 0 AND NOT a.attisdropped AND rule.applies
	ORDER BY a.attnum
$$;

COMMENT ON FUNCTION partshift.check_columns(oid) IS
'refuses columns of kinds that are not carried, or that the owner could not make';

/*
 * A partitioned index enforces uniqueness only if it has each partition key
 * column, compared as the partitions are: with the column's collation and the
 * default equality of its type.
 */
CREATE FUNCTION partshift.index_covers(index oid, relid oid, column_name name)
RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT EXISTS (
		SELECT
		FROM pg_index i
			 CROSS JOIN LATERAL unnest(i.indkey, i.indclass, i.indcollation)
				WITH ORDINALITY AS k(attnum, opclass, collid, position)
			 JOIN pg_attribute a ON a.attrelid = relid AND a.attnum = k.attnum
			 JOIN pg_opclass used ON used.oid = k.opclass
			 JOIN pg_opclass usual ON usual.oid = partshift.default_opclass(a.atttypid, 'btree')
			 JOIN pg_amop ours ON ours.amopfamily = used.opcfamily
				  AND ours.amoplefttype = used.opcintype
				  AND ours.amoprighttype = used.opcintype AND ours.amopstrategy = 3
			 JOIN pg_amop theirs ON theirs.amopfamily = usual.opcfamily
				  AND theirs.amoplefttype = usual.opcintype
				  AND theirs.amoprighttype = usual.opcintype AND theirs.amopstrategy = 3
		WHERE i.indexrelid = index AND k.position <= i.indnkeyatts
		  AND a.attname = column_name AND k.collid = a.attcollation
		  AND ours.amopopr = theirs.amopopr)
$$;

COMMENT ON FUNCTION partshift.index_covers(oid, oid, name) IS
'whether a unique index can be enforced across partitions by this column';

CREATE FUNCTION partshift.lacking_columns(index oid, relid oid, key_columns name[])
RETURNS name[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(array_agg(u.attname ORDER BY u.position), '{}')
	FROM pg_index i,
		 unnest(key_columns) WITH ORDINALITY AS u(attname, position)
	WHERE i.indexrelid = index AND i.indisunique
	  AND NOT partshift.index_covers(index, relid, u.attname)
$$;

COMMENT ON FUNCTION partshift.lacking_columns(oid, oid, name[]) IS
'the partition key columns that a unique index lacks';

/*
 * Ordinals make the shadow names differ where long names are cut.  They begin
 * above the number of columns a table can have: those number its sequences.
 */
CREATE FUNCTION partshift.plan_indexes(relid oid, key_columns name[], key_index oid,
									   unique_keys text, job_id integer)
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(jsonb_agg(jsonb_build_object(
				'oid', indexrelid::bigint,
				'name', relname,
				'shadow_name', partshift.shadow_name(relname, coalesce(job_id, 0),
													 1600 + ordinal::integer),
				'added', CASE WHEN per_partition THEN '[]' ELSE to_jsonb(lacking) END,
				'per_partition', per_partition)
			ORDER BY ordinal), '[]')
	FROM (SELECT i.indexrelid, c.relname, lacking,
				 cardinality(lacking) > 0 AND i.indexrelid IS DISTINCT FROM key_index
				 AND coalesce(unique_keys = 'per_partition', false) AS per_partition,
				 row_number() OVER (ORDER BY (i.indexrelid = key_index) IS TRUE DESC,
									i.indexrelid) AS ordinal
		  FROM pg_index i
			   JOIN pg_class c ON c.oid = i.indexrelid
			   CROSS JOIN LATERAL partshift.lacking_columns(i.indexrelid, relid, key_columns) lacking
		  WHERE i.indrelid = relid AND i.indisvalid AND i.indisready AND i.indislive) listed
$$;

COMMENT ON FUNCTION partshift.plan_indexes(oid, name[], oid, text, integer) IS
'the indexes to build on every leaf, that of the key first';

CREATE FUNCTION partshift.plan_statistics(relid oid, job_id integer)
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(jsonb_agg(jsonb_build_object(
				'oid', s.oid::bigint,
				'schema', n.nspname,
				'name', s.stxname,
				'shadow_name', partshift.shadow_name(s.stxname, coalesce(job_id, 0),
													 s.ordinal::integer))
			ORDER BY s.ordinal), '[]')
	FROM (SELECT e.*, row_number() OVER (ORDER BY e.oid) AS ordinal
		  FROM pg_statistic_ext e WHERE e.stxrelid = relid) s
		 JOIN pg_namespace n ON n.oid = s.stxnamespace
$$;

COMMENT ON FUNCTION partshift.plan_statistics(oid, integer) IS
'the extended statistics to make for the new table';
