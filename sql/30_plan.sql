/*
 * The plan of a conversion: what is built, what is carried, what is refused.
 *
 * A finding of severity error refuses the conversion.  The checks of the
 * following files each return findings and change nothing; make_plan() calls
 * them in a fixed order, those that read the table's rows last, so that the
 * first error is the same every time.
 *
 * All of it runs as the extension's owner.  No expression of the user is
 * evaluated: rows are read by query_as() as the table's owner, and values are
 * given only to built-in types.
 */

CREATE TYPE partshift.finding AS (
	severity text,
	topic text,
	object text,
	message text,
	detail text,
	hint text,
	sqlstate text
);

COMMENT ON TYPE partshift.finding IS
'one thing that the plan has to say';

CREATE FUNCTION partshift.refused(topic text, object text, sqlstate text, message text,
								  detail text DEFAULT NULL, hint text DEFAULT NULL)
RETURNS partshift.finding
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT 'error', topic, object, message, nullif(detail, ''), nullif(hint, ''), sqlstate
$$;

COMMENT ON FUNCTION partshift.refused(text, text, text, text, text, text) IS
'a finding that refuses the conversion';

CREATE FUNCTION partshift.warned(topic text, object text, message text,
								 detail text DEFAULT NULL, hint text DEFAULT NULL)
RETURNS partshift.finding
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT 'warning', topic, object, message, detail, hint, NULL
$$;

COMMENT ON FUNCTION partshift.warned(text, text, text, text, text) IS
'a finding about what the application will notice';

CREATE FUNCTION partshift.informed(topic text, object text, message text,
								   detail text DEFAULT NULL)
RETURNS partshift.finding
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT 'info', topic, object, message, detail, NULL, NULL
$$;

COMMENT ON FUNCTION partshift.informed(text, text, text, text) IS
'a finding about what is built or carried';

CREATE FUNCTION partshift.has_error(findings partshift.finding[], VARIADIC topics text[] DEFAULT NULL)
RETURNS boolean
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT EXISTS (SELECT FROM unnest(findings) f
				   WHERE f.severity = 'error'
					 AND (topics IS NULL OR f.topic = ANY (topics)))
$$;

COMMENT ON FUNCTION partshift.has_error(partshift.finding[], text[]) IS
'whether there are errors, of these topics if any are given';

/* What the functions that resolve arguments raise becomes a finding. */
CREATE FUNCTION partshift.try_key(relid oid, key text, options jsonb,
								  OUT columns name[], OUT refusal partshift.finding)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF options ? 'derive' THEN
		columns := partshift.derived_column(relid, coalesce(key, ''));
	ELSE
		columns := partshift.key_columns(relid, coalesce(key, ''));
	END IF;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS refusal.sqlstate = RETURNED_SQLSTATE,
		refusal.message = MESSAGE_TEXT,
		refusal.detail = PG_EXCEPTION_DETAIL,
		refusal.hint = PG_EXCEPTION_HINT;
	refusal := partshift.refused('key', key, refusal.sqlstate, refusal.message,
								 refusal.detail, refusal.hint);
END
$$;

COMMENT ON FUNCTION partshift.try_key(oid, text, jsonb) IS
'the partition key columns, or why there are none';

CREATE FUNCTION partshift.try_leaves(relid oid, strategy text, key_columns name[], options jsonb,
									 OUT leaves partshift.leaf[], OUT refusal partshift.finding)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	leaves := array(SELECT l FROM partshift.lay_leaves(relid, strategy, key_columns, options) l);
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS refusal.sqlstate = RETURNED_SQLSTATE,
		refusal.message = MESSAGE_TEXT,
		refusal.detail = PG_EXCEPTION_DETAIL,
		refusal.hint = PG_EXCEPTION_HINT;
	IF refusal.sqlstate = '22008' THEN
		refusal.hint := 'A stray value may be the cause; option "bounds" leaves it to the default partition.';
	END IF;
	refusal := partshift.refused('bounds', key_columns[1], refusal.sqlstate, refusal.message,
								 refusal.detail, refusal.hint);
END
$$;

COMMENT ON FUNCTION partshift.try_leaves(oid, text, name[], jsonb) IS
'the leaves, or why they cannot be laid out';

CREATE FUNCTION partshift.plan_leaves(strategy text, table_name text, options jsonb,
									  leaves partshift.leaf[])
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(jsonb_agg(jsonb_build_object('name', name, 'bound', bound)
							  ORDER BY position), '[]')
	FROM (SELECT partshift.leaf_name(partshift.name_format(strategy, options), table_name,
									 l.label) AS name,
				 partshift.leaf_bound(strategy,
									  (l.label, l.lower, l.upper, l.vals)::partshift.leaf,
									  cardinality(leaves)) AS bound,
				 position
		  FROM unnest(leaves) WITH ORDINALITY AS l(label, lower, upper, vals, position)
		  UNION ALL
		  SELECT partshift.default_leaf(strategy, table_name, options), 'DEFAULT',
				 cardinality(leaves) + 1
		  WHERE strategy <> 'hash') named
$$;

COMMENT ON FUNCTION partshift.plan_leaves(text, text, jsonb, partshift.leaf[]) IS
'the leaves of a plan with their names, the default one last';

CREATE FUNCTION partshift.legacy_name(table_name text, options jsonb)
RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(options->>'legacy_name',
					partshift.clip_name(table_name, 63 - octet_length(suffix)) || suffix)
	FROM to_char(now() AT TIME ZONE 'UTC', '"_legacy_"YYYYMMDD') suffix
$$;

COMMENT ON FUNCTION partshift.legacy_name(text, jsonb) IS
'what the source is called after the swap';

CREATE FUNCTION partshift.identity_columns(key_index oid, key_columns name[])
RETURNS name[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT array_agg(attname ORDER BY part, place)
	FROM (SELECT 1 AS part, attname, place
		  FROM partshift.index_columns(key_index)
		  UNION ALL
		  SELECT 2, u.attname, u.position
		  FROM unnest(key_columns) WITH ORDINALITY AS u(attname, position)
		  WHERE u.attname NOT IN (SELECT attname FROM partshift.index_columns(key_index))) parts
$$;

COMMENT ON FUNCTION partshift.identity_columns(oid, name[]) IS
'columns of the key, then the partition key columns that it lacks';

/*
 * The part of the plan that does not depend on the table's rows.  Where the
 * key is refused there is nothing to say about indexes.
 */
CREATE FUNCTION partshift.plan_frame(relid oid, strategy text, key_columns name[], options jsonb,
									 job_id integer)
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT jsonb_build_object(
		'schema', n.nspname,
		'table', c.relname,
		'owner', c.relowner::bigint,
		'persistence', m.relpersistence,
		'strategy', strategy,
		'key_columns', to_jsonb(key_columns),
		'key_index', key_index::bigint,
		'identity_columns', to_jsonb(partshift.identity_columns(key_index, key_columns)),
		'shadow_name', partshift.shadow_name(c.relname, coalesce(job_id, 0)),
		'legacy_name', partshift.legacy_name(c.relname, options),
		'log_name', 'log_' || coalesce(job_id, 0),
		'postponed_name', 'postponed_' || coalesce(job_id, 0),
		'default_leaf', partshift.default_leaf(strategy, c.relname, options),
		'default_partition', coalesce(options->>'default_partition', 'keep'),
		'indexes', partshift.plan_indexes(relid, key_columns, key_index,
										  options->>'unique_keys', job_id),
		'statistics', partshift.plan_statistics(relid, job_id),
		'rows_estimate', partshift.rows_estimate(relid),
		'bytes_total', partshift.table_size(relid),
		'source_leaves', (SELECT coalesce(jsonb_agg(t::bigint), '[]')
						  FROM partshift.row_tables(relid) t WHERE t <> relid),
		'extended_keys', '[]'::jsonb,
		'leaves', '[]'::jsonb)
		|| CASE WHEN options ? 'computed'
				THEN jsonb_build_object('computed', options->'computed') ELSE '{}' END
	FROM pg_class c
		 JOIN pg_namespace n ON n.oid = c.relnamespace
		 JOIN pg_class m ON m.oid = partshift.storage_model(c.oid),
		 partshift.find_key(relid) key_index
	WHERE c.oid = relid
$$;

COMMENT ON FUNCTION partshift.plan_frame(oid, text, name[], jsonb, integer) IS
'the plan without leaves and findings';

CREATE FUNCTION partshift.rows_estimate(relid oid)
RETURNS bigint
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(sum(CASE
			 WHEN c.reltuples >= 0 AND c.relpages > 0 THEN
				(c.reltuples / c.relpages * pages)::bigint
			 ELSE (pages * 60)::bigint
		   END), 0)::bigint
	FROM pg_class c,
		 CAST(pg_relation_size(c.oid) / current_setting('block_size')::bigint AS double precision) pages
	WHERE c.oid IN (SELECT partshift.row_tables(relid))
$$;

COMMENT ON FUNCTION partshift.rows_estimate(oid) IS
'how many rows the table may have, as the planner would guess';

CREATE FUNCTION partshift.check_definition(relid oid, strategy text, key_columns name[],
										   options jsonb, plan jsonb)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT * FROM partshift.check_key_types(relid, strategy, key_columns, options)
	UNION ALL
	SELECT * FROM partshift.check_key_index(relid)
	WHERE NOT partshift.locks_writes(options)
	UNION ALL
	SELECT * FROM partshift.check_lock_writes(relid, options)
	UNION ALL
	SELECT * FROM partshift.check_key_nulls(relid, key_columns, options)
	UNION ALL
	SELECT * FROM partshift.check_computed(relid, key_columns, plan)
	UNION ALL
	SELECT * FROM partshift.check_columns(relid)
	UNION ALL
	SELECT * FROM partshift.check_constraints(relid)
	UNION ALL
	SELECT * FROM partshift.check_indexes(relid, options, plan)
	UNION ALL
	SELECT * FROM partshift.check_outgoing_keys(relid)
	UNION ALL
	SELECT * FROM partshift.check_incoming_keys(relid, options, plan)
	UNION ALL
	SELECT * FROM partshift.check_triggers(relid, key_columns)
	UNION ALL
	SELECT * FROM partshift.check_self_references(relid)
	UNION ALL
	SELECT * FROM partshift.check_dependents(relid, plan)
	UNION ALL
	SELECT * FROM partshift.check_partitions(relid, options)
	UNION ALL
	SELECT * FROM partshift.check_maintenance(relid, strategy, key_columns, options)
	UNION ALL
	SELECT * FROM partshift.check_publications(relid, options)
	UNION ALL
	SELECT * FROM partshift.check_labels(relid)
	UNION ALL
	SELECT * FROM partshift.check_extensions(relid)
	UNION ALL
	SELECT * FROM partshift.check_sweep(relid)
	UNION ALL
	SELECT * FROM partshift.check_event_triggers()
	UNION ALL
	SELECT * FROM partshift.check_activity()
$$;

COMMENT ON FUNCTION partshift.check_definition(oid, text, name[], jsonb, jsonb) IS
'findings about the table''s definition and all that depends on it';

CREATE FUNCTION partshift.check_leaves(relid oid, strategy text, key_columns name[], options jsonb,
									   leaves partshift.leaf[], plan jsonb)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT * FROM partshift.check_locks(plan)
	UNION ALL
	SELECT * FROM partshift.check_outside(relid, strategy, key_columns[1], options, leaves)
	UNION ALL
	SELECT * FROM partshift.describe_leaves(strategy, leaves, plan)
$$;

COMMENT ON FUNCTION partshift.check_leaves(oid, text, name[], jsonb, partshift.leaf[], jsonb) IS
'findings about the leaves and the rows they are for';

CREATE FUNCTION partshift.finished_plan(plan jsonb, findings partshift.finding[])
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(plan, '{}')
		   || jsonb_build_object('findings',
				(SELECT coalesce(jsonb_agg(to_jsonb(f) - 'position'
								 ORDER BY array_position(ARRAY['error', 'warning', 'info'], f.severity),
										  f.position), '[]')
				 FROM unnest(findings) WITH ORDINALITY
					  AS f(severity, topic, object, message, detail, hint, sqlstate, position)))
$$;

COMMENT ON FUNCTION partshift.finished_plan(jsonb, partshift.finding[]) IS
'the plan with its findings, errors first';

/*
 * The settings decide how values are read and written as text; TimeZone is
 * then set to the zone of the bounds, until the function ends.
 */
CREATE FUNCTION partshift.make_plan(relid oid, strategy text, key text, options jsonb,
									job_id integer)
RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
SET datestyle = 'ISO, YMD'
SET intervalstyle = 'postgres'
SET bytea_output = 'hex'
SET extra_float_digits = 1
AS $$
DECLARE
	findings partshift.finding[];
	resolved record;
	computed record;
	laid record;
	plan jsonb;
BEGIN
	options := coalesce(options, '{}') - 'computed';
	findings := array(SELECT f FROM partshift.check_arguments(strategy, options) f)
				|| array(SELECT f FROM partshift.check_table(relid) f);
	IF partshift.has_error(findings, 'table') THEN
		RETURN partshift.finished_plan(NULL, findings);
	END IF;

	SELECT * INTO resolved FROM partshift.try_key(relid, key, options);
	IF resolved.columns IS NULL THEN
		RETURN partshift.finished_plan(NULL, findings || resolved.refusal);
	END IF;
	SELECT * INTO computed FROM partshift.try_computed(relid, resolved.columns, options);
	IF computed.failed THEN
		RETURN partshift.finished_plan(NULL, findings || computed.refusal);
	ELSIF computed.column_value IS NOT NULL THEN
		options := options || jsonb_build_object('computed', computed.column_value);
	END IF;

	plan := partshift.plan_frame(relid, strategy, resolved.columns, options, job_id);
	plan := plan || jsonb_build_object('extended_keys',
		partshift.plan_extended_keys(relid, options, plan));
	findings := findings
		|| array(SELECT f FROM partshift.check_definition(relid, strategy, resolved.columns,
														  options, plan) f);

	IF NOT partshift.has_error(findings, 'argument', 'key') THEN
		PERFORM set_config('timezone', coalesce(options->>'timezone', 'UTC'), true);
		SELECT * INTO laid
		FROM partshift.try_leaves(relid, strategy, resolved.columns, options);
		IF laid.leaves IS NULL THEN
			findings := findings || laid.refusal;
		ELSE
			plan := plan || jsonb_build_object('leaves',
				partshift.plan_leaves(strategy, plan->>'table', options, laid.leaves));
			plan := partshift.settle_leaf_names(relid, plan, job_id);
			findings := findings
				|| array(SELECT f FROM partshift.check_leaves(relid, strategy, resolved.columns,
															  options, laid.leaves, plan) f);
		END IF;
		findings := findings || array(SELECT f FROM partshift.check_names(relid, plan) f)
							 || array(SELECT f FROM partshift.describe_carried(relid, plan) f);
	END IF;
	RETURN partshift.finished_plan(plan, findings);
END
$$;

COMMENT ON FUNCTION partshift.make_plan(oid, text, text, jsonb, integer) IS
'the plan of a conversion as jsonb; what refuses it is among its findings';
