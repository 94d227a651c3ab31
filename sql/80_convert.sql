/*
 * What the user calls to start a conversion, and to see what it would do.
 */

CREATE FUNCTION partshift.first_error(findings jsonb)
RETURNS jsonb
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT errors->0
		   || jsonb_build_object('detail',
				concat_ws('  ', errors->0->>'detail',
						  (SELECT 'Further reasons: ' || string_agg(e->>'message', '; ') || '.'
						   FROM jsonb_array_elements(errors - 0) e)))
	FROM jsonb_path_query_array(findings, '$[*] ? (@.severity == "error")') errors
	WHERE errors <> '[]'
$$;

COMMENT ON FUNCTION partshift.first_error(jsonb) IS
'the first finding that refuses the conversion, the others in its detail';

/* RAISE would print an empty detail or hint as an empty line. */
CREATE FUNCTION partshift.raise_refusal(findings jsonb)
RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	refusal jsonb := partshift.first_error(findings);
	code text := refusal->>'sqlstate';
	message text := refusal->>'message';
	detail text := nullif(refusal->>'detail', '');
	hint text := nullif(refusal->>'hint', '');
BEGIN
	IF refusal IS NULL THEN
		RETURN;
	ELSIF detail IS NULL AND hint IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = code, MESSAGE = message;
	ELSIF detail IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = code, MESSAGE = message, HINT = hint;
	ELSIF hint IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = code, MESSAGE = message, DETAIL = detail;
	END IF;
	RAISE EXCEPTION USING ERRCODE = code, MESSAGE = message, DETAIL = detail, HINT = hint;
END
$$;

COMMENT ON FUNCTION partshift.raise_refusal(jsonb) IS
'raises the first error among the findings, if there is one';

CREATE FUNCTION partshift.new_job(relid oid, strategy text, key text, options jsonb)
RETURNS integer
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	job_id integer := nextval(pg_get_serial_sequence('partshift.job', 'job_id'));
	plan jsonb := partshift.make_plan(relid, strategy, key, options, job_id);
BEGIN
	PERFORM partshift.raise_refusal(plan->'findings');

	IF partshift.locks_writes(options) THEN
		RAISE NOTICE 'writers of table "%" wait from the beginning of the copy until the swap',
			plan->>'table';
		IF plan->>'key_index' IS NULL THEN
			RAISE NOTICE 'table "%" has no key, and there will be no rollback', plan->>'table';
			options := options || '{"reverse_sync": false}';
		END IF;
	END IF;

	INSERT INTO partshift.job
		(job_id, relid, schema_name, table_name, owner, strategy, key_columns,
		 identity_columns, key_index, options, plan, fingerprint, legacy_name,
		 swap_mode, verify_mode, workers, cost_delay, cost_limit, rows_estimate, bytes_total)
	OVERRIDING SYSTEM VALUE
	VALUES
		(job_id, relid, plan->>'schema', plan->>'table', (plan->>'owner')::oid, strategy,
		 array(SELECT jsonb_array_elements_text(plan->'key_columns')),
		 array(SELECT jsonb_array_elements_text(plan->'identity_columns')),
		 coalesce((plan->>'key_index')::oid, 0), options, plan, partshift.fingerprint(relid),
		 plan->>'legacy_name',
		 coalesce(options->>'swap', 'auto'),
		 coalesce(options->>'verify', 'full'),
		 coalesce((options->>'workers')::integer, 2),
		 coalesce((options->>'cost_delay')::double precision, -1),
		 coalesce((options->>'cost_limit')::integer, -1),
		 (plan->>'rows_estimate')::bigint, (plan->>'bytes_total')::bigint);
	RETURN job_id;
END
$$;

COMMENT ON FUNCTION partshift.new_job(oid, text, text, jsonb) IS
'records a job for a conversion; raises the first error that its plan found';

/*
 * Nulls are stripped from the scalars only: one within a list is for the plan
 * to refuse.
 */
CREATE FUNCTION partshift.convert(
	relation regclass,
	strategy text,
	key text,
	partitions integer DEFAULT NULL,
	every text DEFAULT NULL,
	premake integer DEFAULT NULL,
	bounds jsonb DEFAULT NULL,
	timezone text DEFAULT NULL,
	lists jsonb DEFAULT NULL,
	default_partition text DEFAULT NULL,
	name_format text DEFAULT NULL,
	swap text DEFAULT NULL,
	verify text DEFAULT NULL,
	workers integer DEFAULT NULL,
	foreign_keys text DEFAULT NULL,
	unique_keys text DEFAULT NULL,
	legacy_name text DEFAULT NULL,
	keep_legacy boolean DEFAULT NULL,
	reverse_sync boolean DEFAULT NULL,
	cost_delay double precision DEFAULT NULL,
	cost_limit integer DEFAULT NULL,
	extend_columns jsonb DEFAULT NULL,
	null_key text DEFAULT NULL,
	derive text DEFAULT NULL,
	lock_writes boolean DEFAULT NULL,
	publications text DEFAULT NULL)
RETURNS integer
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT partshift.create_job(relation, strategy, key,
		jsonb_strip_nulls(jsonb_build_object(
			'partitions', partitions, 'every', every, 'premake', premake,
			'timezone', timezone, 'default_partition', default_partition,
			'name_format', name_format, 'swap', swap, 'verify', verify,
			'workers', workers, 'foreign_keys', foreign_keys,
			'unique_keys', unique_keys, 'legacy_name', legacy_name,
			'keep_legacy', keep_legacy, 'reverse_sync', reverse_sync,
			'cost_delay', cost_delay, 'cost_limit', cost_limit,
			'extend_columns', extend_columns, 'null_key', null_key,
			'derive', derive, 'lock_writes', lock_writes,
			'publications', publications))
		|| CASE WHEN bounds IS NULL THEN '{}' ELSE jsonb_build_object('bounds', bounds) END
		|| CASE WHEN lists IS NULL THEN '{}' ELSE jsonb_build_object('lists', lists) END)
$$;

COMMENT ON FUNCTION partshift.convert(regclass, text, text, integer, text, integer, jsonb, text, jsonb, text, text, text, text, integer, text, text, text, boolean, boolean, double precision, integer, jsonb, text, text, boolean, text) IS
'starts to convert a table to a partitioned one and returns the number of the job';

/* The arguments are those of convert(). */
CREATE FUNCTION partshift.plan(
	relation regclass,
	strategy text,
	key text,
	partitions integer DEFAULT NULL,
	every text DEFAULT NULL,
	premake integer DEFAULT NULL,
	bounds jsonb DEFAULT NULL,
	timezone text DEFAULT NULL,
	lists jsonb DEFAULT NULL,
	default_partition text DEFAULT NULL,
	name_format text DEFAULT NULL,
	swap text DEFAULT NULL,
	verify text DEFAULT NULL,
	workers integer DEFAULT NULL,
	foreign_keys text DEFAULT NULL,
	unique_keys text DEFAULT NULL,
	legacy_name text DEFAULT NULL,
	keep_legacy boolean DEFAULT NULL,
	reverse_sync boolean DEFAULT NULL,
	cost_delay double precision DEFAULT NULL,
	cost_limit integer DEFAULT NULL,
	extend_columns jsonb DEFAULT NULL,
	null_key text DEFAULT NULL,
	derive text DEFAULT NULL,
	lock_writes boolean DEFAULT NULL,
	publications text DEFAULT NULL)
RETURNS TABLE(severity text, topic text, object text, detail text, hint text)
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT finding->>'severity', finding->>'topic', finding->>'object',
		   concat_ws(E'\n', finding->>'message', finding->>'detail'), finding->>'hint'
	FROM jsonb_array_elements(partshift.plan_job(relation, strategy, key,
			jsonb_strip_nulls(jsonb_build_object(
				'partitions', partitions, 'every', every, 'premake', premake,
				'timezone', timezone, 'default_partition', default_partition,
				'name_format', name_format, 'swap', swap, 'verify', verify,
				'workers', workers, 'foreign_keys', foreign_keys,
				'unique_keys', unique_keys, 'legacy_name', legacy_name,
				'keep_legacy', keep_legacy, 'reverse_sync', reverse_sync,
				'cost_delay', cost_delay, 'cost_limit', cost_limit,
				'extend_columns', extend_columns, 'null_key', null_key,
				'derive', derive, 'lock_writes', lock_writes,
				'publications', publications))
			|| CASE WHEN bounds IS NULL THEN '{}' ELSE jsonb_build_object('bounds', bounds) END
			|| CASE WHEN lists IS NULL THEN '{}' ELSE jsonb_build_object('lists', lists) END)->'findings')
		 WITH ORDINALITY AS f(finding, position)
	ORDER BY position
$$;

COMMENT ON FUNCTION partshift.plan(regclass, text, text, integer, text, integer, jsonb, text, jsonb, text, text, text, text, integer, text, text, text, boolean, boolean, double precision, integer, jsonb, text, text, boolean, text) IS
'what convert() with the same arguments would build, carry and refuse; changes nothing';
