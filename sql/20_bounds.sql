/*
 * Names and bounds of the new partitions.
 *
 * The functions of this file and of the next two lay out the leaves; they
 * raise an error for an argument that cannot be met, and make_plan() turns it
 * into a finding.  They run with the settings of make_plan(): TimeZone is the
 * time zone of the bounds and DateStyle is ISO, so that every literal carries
 * its own offset and means the same in any session.
 */

CREATE TYPE partshift.leaf AS (
	label text,
	lower text,
	upper text,
	vals text[]
);

COMMENT ON TYPE partshift.leaf IS
'a partition to be: what distinguishes its name, and its bounds as literals or MINVALUE and MAXVALUE, or its values';

CREATE FUNCTION partshift.clip_name(name text, bytes integer)
RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT left(name, n)
	FROM generate_series(least(length(name), bytes), 0, -1) n
	WHERE octet_length(left(name, n)) <= bytes
	LIMIT 1
$$;

COMMENT ON FUNCTION partshift.clip_name(text, integer) IS
'the longest start of a name that fits in so many bytes, cut at a character';

CREATE FUNCTION partshift.shadow_name(name text, job_id integer,
									  ordinal integer DEFAULT NULL)
RETURNS name
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT partshift.clip_name(name, 63 - octet_length(suffix)) || suffix
	FROM concat('_ps', job_id, '_' || ordinal::text) suffix
$$;

COMMENT ON FUNCTION partshift.shadow_name(text, integer, integer) IS
'the name an object bears until the swap';

CREATE FUNCTION partshift.leaf_name(format text, table_name text, label text)
RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT string_agg(CASE part[1]
						WHEN '{table}' THEN table_name
						WHEN '{bound}' THEN label
						ELSE part[1]
					  END, '' ORDER BY position)
	FROM regexp_matches(format, '\{table\}|\{bound\}|\{|[^{]+', 'g')
		 WITH ORDINALITY AS parts(part, position)
$$;

COMMENT ON FUNCTION partshift.leaf_name(text, text, text) IS
'the name of a leaf: the format with both placeholders filled in';

CREATE FUNCTION partshift.bound_literal(value text)
RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN value IN ('MINVALUE', 'MAXVALUE') THEN value
				ELSE quote_literal(value)
		   END
$$;

COMMENT ON FUNCTION partshift.bound_literal(text) IS
'a boundary as it is written in a partition bound';

CREATE FUNCTION partshift.leaf_bound(strategy text, leaf partshift.leaf, leaves integer)
RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE strategy
			 WHEN 'hash' THEN
				format('FOR VALUES WITH (MODULUS %s, REMAINDER %s)',
					   leaves, leaf.label)
			 WHEN 'range' THEN
				format('FOR VALUES FROM (%s) TO (%s)',
					   partshift.bound_literal(leaf.lower),
					   partshift.bound_literal(leaf.upper))
			 ELSE
				format('FOR VALUES IN (%s)',
					   (SELECT string_agg(quote_literal(value), ', ' ORDER BY position)
						FROM unnest(leaf.vals) WITH ORDINALITY u(value, position)))
		   END
$$;

COMMENT ON FUNCTION partshift.leaf_bound(text, partshift.leaf, integer) IS
'the bound of a leaf as CREATE TABLE ... PARTITION OF takes it';

/*
 * A column that is literally named like the whole text wins over the list, so
 * that a name with capitals needs no quotes.
 */
CREATE FUNCTION partshift.key_names(relid oid, key text)
RETURNS text[]
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	pieces text[];
	names text[] := '{}';
	piece text;
	ident text[];
BEGIN
	IF EXISTS (SELECT FROM pg_attribute a
			   WHERE a.attrelid = relid AND a.attname::text = key
				 AND NOT a.attisdropped) THEN
		RETURN ARRAY[key];
	END IF;

	SELECT array_agg(m[1]) INTO pieces
	FROM regexp_matches(',' || key, ',((?:"(?:[^"]|"")*"|[^",])*)', 'g') m;

	FOREACH piece IN ARRAY coalesce(pieces, ARRAY['']) LOOP
		BEGIN
			ident := parse_ident(piece);
		EXCEPTION WHEN invalid_parameter_value THEN
			ident := NULL;
		END;
		IF ident IS NULL OR cardinality(ident) <> 1
		   OR ',' || key <> ',' || array_to_string(pieces, ',') THEN
			RAISE EXCEPTION 'partition key "%" is not a list of column names', key
				USING ERRCODE = 'invalid_name',
					  DETAIL = 'Expressions cannot be the partition key.',
					  HINT = 'Name the columns, separated by commas, with double quotes where SQL needs them.';
		END IF;
		names := names || ident;
	END LOOP;
	RETURN names;
END
$$;

COMMENT ON FUNCTION partshift.key_names(oid, text) IS
'the column names that the text of a partition key stands for';

CREATE FUNCTION partshift.key_columns(relid oid, key text)
RETURNS name[]
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	names text[] := partshift.key_names(relid, key);
	column_name text;
	col record;
BEGIN
	FOREACH column_name IN ARRAY names LOOP
		SELECT a.attnum, a.attgenerated <> '' AS generated INTO col
		FROM pg_attribute a
		WHERE a.attrelid = relid AND a.attname::text = column_name
		  AND NOT a.attisdropped;

		IF NOT FOUND THEN
			RAISE EXCEPTION 'column "%" of relation "%" does not exist', column_name,
				(SELECT relname FROM pg_class WHERE oid = relid)
				USING ERRCODE = 'undefined_column',
					  HINT = (SELECT coalesce('Perhaps you meant the column '
											 || min(quote_ident(a.attname)) || '.', '')
							  FROM pg_attribute a
							  WHERE a.attrelid = relid AND a.attnum > 0
								AND NOT a.attisdropped
								AND lower(a.attname) = lower(column_name));
		ELSIF col.attnum < 0 THEN
			RAISE EXCEPTION 'cannot use system column "%" in partition key', column_name
				USING ERRCODE = 'invalid_object_definition';
		ELSIF col.generated THEN
			RAISE EXCEPTION 'cannot use generated column "%" in partition key', column_name
				USING ERRCODE = 'invalid_object_definition';
		ELSIF cardinality(array_positions(names, column_name)) > 1 THEN
			RAISE EXCEPTION 'column "%" appears more than once in partition key', column_name
				USING ERRCODE = 'duplicate_column';
		END IF;
	END LOOP;

	IF cardinality(names) > 32 THEN
		RAISE EXCEPTION 'cannot partition by more than 32 columns'
			USING ERRCODE = 'too_many_columns';
	END IF;
	RETURN names::name[];
END
$$;

COMMENT ON FUNCTION partshift.key_columns(oid, text) IS
'the partition key columns; raises an error for a column that cannot be one';

/*
 * The type of a key column, in the two spellings needed to see whether a
 * literal fits it: with its length or precision, and without.
 */
CREATE TYPE partshift.key AS (
	type oid,
	exact text,
	loose text,
	modifier integer,
	collate_clause text,
	owner oid,
	expression text
);

COMMENT ON TYPE partshift.key IS
'the type of a partition key column, and what it is in a query of the table as "t"';

CREATE FUNCTION partshift.key_of(relid oid, column_name name, options jsonb)
RETURNS partshift.key
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT a.type,
		   format_type(a.type, a.modifier),
		   format_type(a.type, -1),
		   a.modifier,
		   coalesce((SELECT format(' COLLATE %I.%I', n.nspname, c.collname)
					 FROM pg_collation c
						  JOIN pg_namespace n ON n.oid = c.collnamespace
					 WHERE c.oid = a.collid), ''),
		   r.relowner,
		   coalesce(options #>> '{computed,value}', format('t.%I', column_name))
	FROM partshift.key_column(relid, column_name, options->'computed') a
		 JOIN pg_class r ON r.oid = relid
$$;

COMMENT ON FUNCTION partshift.key_of(oid, name, jsonb) IS
'the type of a partition key column';

/*
 * Only built-in types and enums reach this function (see check_key_types()),
 * so that no input function but the server's own should be called.  But an
 * enum is named, and by now its owner may have given the name to a domain:
 * hence as the table's owner.
 */
CREATE FUNCTION partshift.key_value(key partshift.key, value text, place text)
RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	result text;
BEGIN
	BEGIN
		result := partshift.query_as(key.owner,
			format('SELECT CASE WHEN %1$L::%2$s = %1$L::%3$s THEN %1$L::%2$s::text END',
				   value, key.exact, key.loose));
	EXCEPTION WHEN data_exception THEN
		RAISE EXCEPTION 'value "%" of % is not valid for type %', value, place, key.loose
			USING ERRCODE = 'invalid_parameter_value';
	END;
	IF result IS NULL THEN
		RAISE EXCEPTION 'value "%" of % does not fit type %', value, place, key.exact
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	RETURN result;
END
$$;

COMMENT ON FUNCTION partshift.key_value(partshift.key, text, text) IS
'a literal in the canonical spelling of its type; raises an error if the type does not take it as it is';

CREATE FUNCTION partshift.hash_leaves(options jsonb)
RETURNS SETOF partshift.leaf
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	modulus integer := options->>'partitions';
BEGIN
	IF modulus IS NULL THEN
		RAISE EXCEPTION 'the number of partitions is missing'
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'Give the modulus as option "partitions", for example partitions => 32.';
	ELSIF modulus < 2 THEN
		RAISE EXCEPTION 'hash partitioning needs at least two partitions, not %', modulus
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	PERFORM partshift.check_leaf_count(modulus);
	RETURN QUERY SELECT r::text, NULL, NULL, NULL::text[]
				 FROM generate_series(0, modulus - 1) r;
END
$$;

COMMENT ON FUNCTION partshift.hash_leaves(jsonb) IS
'the leaves of a table partitioned by hash';

/*
 * Called before leaves are laid out, with a number that may come from one
 * stray value in the data; the locks they need are counted later.
 */
CREATE FUNCTION partshift.check_leaf_count(leaves numeric)
RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF leaves > 10000 THEN
		RAISE EXCEPTION 'cannot make % partitions', leaves
			USING ERRCODE = 'configuration_limit_exceeded',
				  DETAIL = 'More than 10000 partitions are not sensible.',
				  HINT = 'Choose fewer or wider partitions; option "bounds" leaves stray values to the default partition.';
	END IF;
END
$$;

COMMENT ON FUNCTION partshift.check_leaf_count(numeric) IS
'raises an error for a number of leaves that no server can handle';

CREATE FUNCTION partshift.lay_leaves(relid oid, strategy text, key_columns name[], options jsonb)
RETURNS SETOF partshift.leaf
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	CASE strategy
		WHEN 'hash' THEN
			RETURN QUERY SELECT * FROM partshift.hash_leaves(options);
		WHEN 'range' THEN
			RETURN QUERY SELECT * FROM partshift.range_leaves(relid, key_columns[1], options);
		WHEN 'list' THEN
			RETURN QUERY SELECT * FROM partshift.list_leaves(relid, key_columns[1], options);
	END CASE;
END
$$;

COMMENT ON FUNCTION partshift.lay_leaves(oid, text, name[], jsonb) IS
'all leaves but the default one, in order of their bounds';

CREATE FUNCTION partshift.name_format(strategy text, options jsonb)
RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(options->>'name_format',
					CASE WHEN strategy = 'list'
							  OR jsonb_typeof(options->'bounds') = 'object'
						 THEN '{table}_{bound}' ELSE '{table}_p{bound}'
					END)
$$;

COMMENT ON FUNCTION partshift.name_format(text, jsonb) IS
'the format of the leaves'' names';

CREATE FUNCTION partshift.default_leaf(strategy text, table_name text, options jsonb)
RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT partshift.leaf_name(coalesce(options->>'name_format', '{table}_{bound}'),
							   table_name, 'default')
	WHERE strategy <> 'hash'
$$;

COMMENT ON FUNCTION partshift.default_leaf(text, text, jsonb) IS
'the name of the default partition; hash has none';
