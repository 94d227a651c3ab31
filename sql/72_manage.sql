/*
 * Taking a table into maintenance, and out of it.
 */

CREATE FUNCTION partshift.refuse_policy(message text, detail text DEFAULT NULL,
	hint text DEFAULT NULL, code text DEFAULT 'invalid_parameter_value')
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM partshift.raise_refusal(jsonb_build_array(jsonb_build_object(
		'severity', 'error', 'sqlstate', code, 'message', message,
		'detail', detail, 'hint', hint)));
END
$$;

COMMENT ON FUNCTION partshift.refuse_policy(text, text, text, text) IS
'raises the error of a policy that cannot be';

/*
 * The partition key of a table that can be maintained.  A key of built-in
 * type with its default operators runs nobody's code.
 */
CREATE FUNCTION partshift.managed_key(relid oid) RETURNS name
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	t record;
	message text;
BEGIN
	SELECT format('cannot manage table "%s"', c.relname) AS message, c.relkind,
		c.relispartition, p.partstrat, p.partnatts, p.partexprs, a.attname, a.atttypid,
		(SELECT o.opcdefault FROM pg_opclass o WHERE o.oid = p.partclass[0]) AS plain,
		(SELECT l.relname FROM pg_inherits i JOIN pg_class l ON l.oid = i.inhrelid
		 WHERE i.inhparent = c.oid AND l.relkind = 'p' LIMIT 1) AS nested
	INTO t
	FROM pg_class c
		LEFT JOIN pg_partitioned_table p ON p.partrelid = c.oid
		LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = p.partattrs[0]
	WHERE c.oid = managed_key.relid;
	message := t.message;

	IF t.relkind <> 'p' THEN
		PERFORM partshift.refuse_policy(message, 'It is not partitioned.',
			'Use partshift.convert() first.', '42809');
	ELSIF t.relispartition THEN
		PERFORM partshift.refuse_policy(message, 'It is a partition itself.', NULL, '0A000');
	ELSIF t.partstrat <> 'r' THEN
		PERFORM partshift.refuse_policy(message, 'It is not partitioned by range.', NULL, '0A000');
	ELSIF t.partnatts <> 1 OR t.partexprs IS NOT NULL OR NOT t.plain
		OR t.atttypid NOT IN ('date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype,
			'int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'numeric'::regtype, 'uuid'::regtype)
	THEN
		PERFORM partshift.refuse_policy(message,
			'Its partition key is not one column of type date, timestamp, timestamptz, smallint, integer, bigint, numeric or uuid, in the usual order.',
			NULL, '0A000');
	ELSIF t.nested IS NOT NULL THEN
		PERFORM partshift.refuse_policy(message,
			format('Its partition "%s" is partitioned.', t.nested), NULL, '0A000');
	END IF;
	RETURN t.attname;
END
$$;

COMMENT ON FUNCTION partshift.managed_key(oid) IS
'the partition key column of a table; raises an error if it cannot be managed';

/* What a conversion was told, for the table that came of it. */
CREATE FUNCTION partshift.converted_options(relid oid) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce((
		SELECT j.options FROM partshift.job j
		WHERE j.shadow = converted_options.relid AND j.phase = 'done'
			AND j.options ? 'every'
		ORDER BY j.job_id DESC LIMIT 1), '{}')
$$;

COMMENT ON FUNCTION partshift.converted_options(oid) IS
'the options of the conversion that made a table, if it was one with equal ranges';

CREATE FUNCTION partshift.check_retention(p partshift.managed, key partshift.key)
RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	origin CONSTANT timestamp := '2001-01-01';
	short boolean;
	age interval;
BEGIN
	IF p.retention IS NOT NULL AND p.retention_count IS NOT NULL THEN
		PERFORM partshift.refuse_policy('options "retention" and "retention_count" exclude each other');
	ELSIF p.retention_count < 1 THEN
		PERFORM partshift.refuse_policy(format('option "retention_count" is not greater than zero: %s', p.retention_count));
	ELSIF p.retention_action NOT IN ('drop', 'detach', 'move') THEN
		PERFORM partshift.refuse_policy(format('unrecognized value for option "retention_action": "%s"', p.retention_action),
			NULL, 'Valid values are drop, detach and move.');
	ELSIF (p.retention_action = 'move') <> (p.retention_schema IS NOT NULL) THEN
		PERFORM partshift.refuse_policy('option "retention_schema" goes with retention_action => ''move'', and only with that');
	ELSIF p.retention_schema IS NOT NULL
		AND NOT EXISTS (SELECT FROM pg_namespace n WHERE n.nspname = p.retention_schema)
	THEN
		PERFORM partshift.refuse_policy(format('schema "%s" does not exist', p.retention_schema), NULL, NULL, '3F000');
	ELSIF p.retention_schema IS NOT NULL
		AND NOT has_schema_privilege(key.owner, p.retention_schema::text, 'CREATE')
	THEN
		PERFORM partshift.refuse_policy(format('permission denied for schema %s', p.retention_schema),
			'The table''s owner must have CREATE on it.', NULL, '42501');
	END IF;

	IF p.retention IS NULL THEN
		RETURN;
	ELSIF partshift.is_number(key.type) THEN
		IF p.retention !~ '^\s*[0-9]+\s*$' THEN
			PERFORM partshift.refuse_policy(format('option "retention" is not a whole number: "%s"', p.retention),
				'The partition key is a number.');
		END IF;
		short := p.retention::numeric < p.every::numeric;
	ELSE
		BEGIN
			age := p.retention;
		EXCEPTION WHEN data_exception THEN
			age := NULL;
		END;
		IF age IS NULL OR p.retention ~ '^\s*[-+]?[0-9.]+\s*$' OR NOT isfinite(age) THEN
			PERFORM partshift.refuse_policy(format('option "retention" is not an interval with a unit: "%s"', p.retention),
				NULL, 'Write it like ''12 months'' or ''90 days''.');
		END IF;
		short := origin + age < origin + p.every::interval;
	END IF;
	IF short THEN
		PERFORM partshift.refuse_policy(format('retention "%s" is shorter than one partition, "%s"', p.retention, p.every));
	END IF;
END
$$;

COMMENT ON FUNCTION partshift.check_retention(partshift.managed, partshift.key) IS
'raises an error for a retention that cannot be meant';

CREATE FUNCTION partshift.check_policy(p partshift.managed, key partshift.key)
RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	taken text;
BEGIN
	IF strpos(p.name_format, '{bound}') = 0 THEN
		PERFORM partshift.refuse_policy(format('name format "%s" has no {bound}', p.name_format),
			NULL, 'Without it all partitions would have one name.');
	ELSIF p.premake NOT BETWEEN 0 AND 1000 THEN
		PERFORM partshift.refuse_policy(format('value %s of option "premake" is outside the valid range (0 .. 1000)', p.premake));
	ELSIF p.move_rows < 0 THEN
		PERFORM partshift.refuse_policy(format('option "move_rows" is negative: %s', p.move_rows));
	ELSIF p.analyze_every < interval '0' THEN
		PERFORM partshift.refuse_policy(format('option "analyze_every" is negative: %s', p.analyze_every));
	END IF;
	IF partshift.is_number(key.type) THEN
		PERFORM partshift.number_step(p.every);
	ELSIF key.type = 'date'::regtype AND extract(epoch FROM partshift.time_step(p.every))::bigint % 86400 <> 0
		AND partshift.step_months(p.every::interval) = 0
	THEN
		PERFORM partshift.refuse_policy(format('interval "%s" is not a whole number of days', p.every));
	ELSIF partshift.time_step(p.every) IS NULL THEN
		RETURN;
	END IF;
	PERFORM partshift.check_retention(p, key);

	SELECT m.name INTO taken
	FROM partshift.missing_leaves(p, key, now()) AS m, pg_class r
	WHERE r.oid = p.relid AND m.problem IS NOT NULL AND m.problem <> 'rows'
	LIMIT 1;
	IF FOUND THEN
		PERFORM partshift.check_new_name(p.relid, taken);
	END IF;
END
$$;

COMMENT ON FUNCTION partshift.check_policy(partshift.managed, partshift.key) IS
'raises an error for a policy that could not be followed';

/*
 * The policy that the options ask for.  What they leave open is as a
 * conversion by us was told, then as the table is, then a default.
 */
CREATE FUNCTION partshift.make_policy(relid oid, options jsonb) RETURNS partshift.managed
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET datestyle = 'ISO, YMD'
SET intervalstyle = 'postgres'
SET timezone = 'UTC'
SET jit = off
AS $$
DECLARE
	column_name name := partshift.managed_key(relid);
	key partshift.key := partshift.key_of(relid, column_name, '{}');
	p partshift.managed;
	last_bound text;
BEGIN
	options := partshift.converted_options(relid)
		- '{partitions,bounds,retention,move_rows}'::text[] || options;
	p.relid := relid;
	p.row_type := (SELECT c.reltype FROM pg_class c WHERE c.oid = make_policy.relid);
	p.key_column := column_name;
	p.timezone := coalesce(options ->> 'timezone', 'UTC');
	IF NOT partshift.is_time_zone(p.timezone) THEN
		PERFORM partshift.refuse_policy(format('time zone "%s" not recognized', p.timezone));
	END IF;
	PERFORM set_config('timezone', p.timezone, true);
	p.every := coalesce(options ->> 'every', partshift.infer_every(relid, key.type));
	IF p.every IS NULL THEN
		PERFORM partshift.refuse_policy('cannot tell how wide the partitions are to be',
			format('Those that there are have no common width in time zone %s.', p.timezone),
			'Give it as option "every", for example every => ''1 month'', or the time zone of the boundaries as option "timezone".');
	END IF;
	IF partshift.is_number(key.type) THEN
		p.every := partshift.number_step(p.every)::text;
	ELSE
		p.every := partshift.time_step(p.every)::text;
	END IF;

	SELECT s.upper INTO last_bound
	FROM partshift.stretches(relid, key.type) s
	WHERE s.beyond < 'Infinity' ORDER BY s.beyond DESC LIMIT 1;
	p.shift := partshift.shift_of(p.every, key.type, last_bound);
	p.premake := coalesce((options ->> 'premake')::integer, 3);
	p.name_format := coalesce(options ->> 'name_format', '{table}_p{bound}');
	p.retention := options ->> 'retention';
	p.retention_count := options ->> 'retention_count';
	p.retention_action := coalesce(options ->> 'retention_action', 'drop');
	p.retention_schema := options ->> 'retention_schema';
	p.move_rows := coalesce((options ->> 'move_rows')::integer, 10000);
	p.analyze_every := coalesce(options ->> 'analyze_every', '1 day')::interval;
	PERFORM partshift.check_policy(p, key);
	RETURN p;
END
$$;

COMMENT ON FUNCTION partshift.make_policy(oid, jsonb) IS
'the policy that options ask for; raises an error if there cannot be one';

/*
 * pg_partman's configuration is read as whoever owns it, which need not be
 * somebody who may have us run his code.  It has names without quotes.
 */
CREATE FUNCTION partshift.partman_config(relid oid) RETURNS text
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	config record;
BEGIN
	SELECT c.relowner, format('%I.%I', n.nspname, c.relname) AS name INTO config
	FROM pg_extension e
		JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
			AND d.classid = 'pg_class'::regclass AND d.deptype = 'e'
		JOIN pg_class c ON c.oid = d.objid AND c.relname = 'part_config'
		JOIN pg_namespace n ON n.oid = c.relnamespace
	WHERE e.extname = 'pg_partman';
	RETURN CASE WHEN config.name IS NOT NULL AND partshift.query_as(config.relowner,
		(SELECT format('SELECT count(*)::text FROM %s p WHERE p.parent_table = %L',
					   config.name, concat(n.nspname, '.', c.relname))
		 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		 WHERE c.oid = partman_config.relid)) <> '0' THEN config.name END;
END
$$;

COMMENT ON FUNCTION partshift.partman_config(oid) IS
'the table of pg_partman''s in which a table is registered, or null';

CREATE FUNCTION partshift.check_partman_idle(relid oid) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	config text := partshift.partman_config(relid);
BEGIN
	IF config IS NOT NULL THEN
		PERFORM partshift.refuse_policy(
			format('table "%s" is maintained by pg_partman already', c.relname),
			format('It is registered in table %s.', config),
			'Delete its row there first: both would make its partitions.', '42710')
		FROM pg_class c WHERE c.oid = relid;
	END IF;
END
$$;

COMMENT ON FUNCTION partshift.check_partman_idle(oid) IS
'raises an error for a table that pg_partman maintains';

CREATE FUNCTION partshift.record_policy(relid oid, options jsonb) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	p partshift.managed := partshift.make_policy(relid, options);
BEGIN
	PERFORM partshift.check_partman_idle(relid);
	DELETE FROM partshift.managed m
	WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = m.relid AND c.reltype = m.row_type);

	INSERT INTO partshift.managed AS m (relid, row_type, key_column, every, shift, timezone,
		premake, name_format, retention, retention_count, retention_action,
		retention_schema, move_rows, analyze_every)
	VALUES (p.relid, p.row_type, p.key_column, p.every, p.shift, p.timezone,
		p.premake, p.name_format, p.retention, p.retention_count, p.retention_action,
		p.retention_schema, p.move_rows, p.analyze_every)
	ON CONFLICT ON CONSTRAINT managed_pkey DO UPDATE
	SET row_type = excluded.row_type, key_column = excluded.key_column, every = excluded.every,
		shift = excluded.shift, timezone = excluded.timezone,
		premake = excluded.premake, name_format = excluded.name_format,
		retention = excluded.retention,
		retention_count = excluded.retention_count,
		retention_action = excluded.retention_action,
		retention_schema = excluded.retention_schema,
		move_rows = excluded.move_rows, analyze_every = excluded.analyze_every;
END
$$;

COMMENT ON FUNCTION partshift.record_policy(oid, jsonb) IS
'takes a table into maintenance, or gives it another policy';

CREATE FUNCTION partshift.forget_policy(relid oid) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	p partshift.managed := partshift.policy(relid);
BEGIN
	DELETE FROM partshift.managed m WHERE m.relid = p.relid;
END
$$;

COMMENT ON FUNCTION partshift.forget_policy(oid) IS
'takes a table out of maintenance';

CREATE FUNCTION partshift.manage_table(relation regclass, options jsonb) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'partshift_manage_table';

COMMENT ON FUNCTION partshift.manage_table(regclass, jsonb) IS
'manage() with the options in one value; null: unmanage()';

CREATE FUNCTION partshift.manage(
	relation regclass,
	every text DEFAULT NULL,
	premake integer DEFAULT NULL,
	retention text DEFAULT NULL,
	retention_count integer DEFAULT NULL,
	retention_action text DEFAULT NULL,
	retention_schema name DEFAULT NULL,
	timezone text DEFAULT NULL,
	name_format text DEFAULT NULL,
	move_rows integer DEFAULT NULL,
	analyze_every interval DEFAULT NULL)
RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT partshift.manage_table(relation, jsonb_strip_nulls(jsonb_build_object(
		'every', every, 'premake', premake, 'retention', retention,
		'retention_count', retention_count, 'retention_action', retention_action,
		'retention_schema', retention_schema, 'timezone', timezone,
		'name_format', name_format, 'move_rows', move_rows,
		'analyze_every', analyze_every)))
$$;

COMMENT ON FUNCTION partshift.manage(regclass, text, integer, text, integer, text, name, text, text, integer, interval) IS
'has the partitions of a range table maintained from now on, or differently';

CREATE FUNCTION partshift.unmanage(relation regclass) RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT partshift.manage_table(relation, NULL) $$;

COMMENT ON FUNCTION partshift.unmanage(regclass) IS
'leaves the partitions of a table to somebody else from now on';
