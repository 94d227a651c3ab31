/*
 * Checks of the strategy and the options.
 */

CREATE FUNCTION partshift.known_options()
RETURNS TABLE(name text, kinds text[], strategies text[], choices text[])
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	VALUES ('partitions', '{number}'::text[], '{hash,list}'::text[], NULL::text[]),
		   ('every', '{string}', '{range}', NULL),
		   ('premake', '{number}', '{range}', NULL),
		   ('bounds', '{array,object}', '{range}', NULL),
		   ('timezone', '{string}', '{range}', NULL),
		   ('lists', '{object}', '{list}', NULL),
		   ('default_partition', '{string}', '{range,list}', '{keep,drop}'),
		   ('name_format', '{string}', '{hash,range,list}', NULL),
		   ('swap', '{string}', '{hash,range,list}', '{auto,manual}'),
		   ('verify', '{string}', '{hash,range,list}', '{full,count,none}'),
		   ('workers', '{number}', '{hash,range,list}', NULL),
		   ('foreign_keys', '{string}', '{hash,range,list}', '{error,drop,extend}'),
		   ('extend_columns', '{object}', '{hash,range,list}', NULL),
		   ('null_key', '{string}', '{hash,range,list}', NULL),
		   ('derive', '{string}', '{list}', NULL),
		   ('lock_writes', '{boolean}', '{hash,range,list}', NULL),
		   ('publications', '{string}', '{hash,range,list}', '{error,accept}'),
		   ('unique_keys', '{string}', '{hash,range,list}', '{error,extend,per_partition}'),
		   ('legacy_name', '{string}', '{hash,range,list}', NULL),
		   ('keep_legacy', '{boolean}', '{hash,range,list}', NULL),
		   ('reverse_sync', '{boolean}', '{hash,range,list}', NULL),
		   ('cost_delay', '{number}', '{hash,range,list}', NULL),
		   ('cost_limit', '{number}', '{hash,range,list}', NULL)
$$;

COMMENT ON FUNCTION partshift.known_options() IS
'the options, the kinds of JSON values they are, the strategies they are for, and the words they take';

CREATE FUNCTION partshift.check_option_names(strategy text, options jsonb)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT f.*
	FROM jsonb_object_keys(options) given(name)
		 LEFT JOIN partshift.known_options() known USING (name),
		 partshift.refused('argument', name, '22023',
			CASE WHEN known.strategies IS NULL
				 THEN format('unrecognized option "%s"', name)
				 ELSE format('option "%s" does not apply to strategy "%s"', name, strategy)
			END) f
	WHERE known.strategies IS NULL OR NOT strategy = ANY (known.strategies)
	ORDER BY name
$$;

COMMENT ON FUNCTION partshift.check_option_names(text, jsonb) IS
'refuses options that are not known, or not for this strategy';

CREATE FUNCTION partshift.check_option_kinds(options jsonb)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT f.*
	FROM partshift.known_options() known,
		 partshift.refused('argument', known.name, '22023',
			format('option "%s" must be of JSON type %s', known.name,
				   array_to_string(known.kinds, ' or '))) f
	WHERE options ? known.name
	  AND NOT jsonb_typeof(options->known.name) = ANY (known.kinds)
	ORDER BY known.name
$$;

COMMENT ON FUNCTION partshift.check_option_kinds(jsonb) IS
'refuses values of options that are not of the right kind';

CREATE FUNCTION partshift.check_option_words(options jsonb)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT f.*
	FROM partshift.known_options() known,
		 partshift.refused('argument', known.name, '22023',
			format('unrecognized value for option "%s": "%s"', known.name, options->>known.name),
			NULL,
			format('Valid values are %s.',
				   array_to_string(known.choices, ', '))) f
	WHERE known.choices IS NOT NULL AND options ? known.name
	  AND NOT options->>known.name = ANY (known.choices)
	ORDER BY known.name
$$;

COMMENT ON FUNCTION partshift.check_option_words(jsonb) IS
'refuses values of options that take one of a few words';

CREATE FUNCTION partshift.check_option_numbers(options jsonb)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT f.*
	FROM (VALUES ('workers', 1, 64), ('premake', 0, 1000),
				 ('cost_delay', -1, 100), ('cost_limit', -1, 10000)) AS r(name, least, most),
		 partshift.refused('argument', name, '22023',
			format('value %s of option "%s" is outside the valid range (%s .. %s)',
				   options->>name, name, least, most)) f
	WHERE jsonb_typeof(options->name) = 'number'
	  AND (options->>name)::double precision NOT BETWEEN least AND most
	UNION ALL
	SELECT f.*
	FROM partshift.refused('argument', 'cost_limit', '22023',
			'value 0 of option "cost_limit" is neither a limit nor -1') f
	WHERE options->'cost_limit' = '0'
$$;

COMMENT ON FUNCTION partshift.check_option_numbers(jsonb) IS
'refuses numbers out of range';

CREATE FUNCTION partshift.check_option_pairs(options jsonb)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT f.*
	FROM (VALUES ('every', 'bounds'), ('premake', 'bounds'), ('partitions', 'lists'),
				 ('null_key', 'derive'))
			AS pair(one, other),
		 partshift.refused('argument', one, '22023',
			format('options "%s" and "%s" exclude each other', one, other)) f
	WHERE options ? one AND options ? other
$$;

COMMENT ON FUNCTION partshift.check_option_pairs(jsonb) IS
'refuses options that exclude each other';

CREATE FUNCTION partshift.is_time_zone(zone text)
RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM set_config('timezone', zone, true);
	RETURN true;
EXCEPTION WHEN invalid_parameter_value THEN
	RETURN false;
END
$$;

COMMENT ON FUNCTION partshift.is_time_zone(text) IS
'whether the server knows a time zone; changes the setting for the caller''s own SET clause to undo';

CREATE FUNCTION partshift.check_option_texts(options jsonb)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT f.*
	FROM partshift.refused('argument', 'timezone', '22023',
			format('time zone "%s" not recognized', options->>'timezone')) f
	WHERE NOT partshift.is_time_zone(coalesce(options->>'timezone', 'UTC'))
	UNION ALL
	SELECT f.*
	FROM partshift.refused('argument', 'name_format', '22023',
			format('name format "%s" has no {bound}', options->>'name_format'), NULL,
			'Without it all partitions would have one name.') f
	WHERE strpos(options->>'name_format', '{bound}') = 0
	UNION ALL
	SELECT f.*
	FROM partshift.refused('argument', 'legacy_name', '42602',
			'option "legacy_name" is empty') f
	WHERE options->>'legacy_name' = ''
$$;

COMMENT ON FUNCTION partshift.check_option_texts(jsonb) IS
'refuses texts that cannot be what their option means';

CREATE FUNCTION partshift.check_arguments(strategy text, options jsonb)
RETURNS SETOF partshift.finding
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF strategy IN ('hash', 'range', 'list') IS NOT TRUE THEN
		RETURN NEXT partshift.refused('argument', strategy, '22023',
			format('unrecognized partitioning strategy "%s"', strategy), NULL,
			'Valid strategies are hash, range and list.');
		RETURN;
	END IF;
	RETURN QUERY SELECT * FROM partshift.check_option_names(strategy, options);
	RETURN QUERY SELECT * FROM partshift.check_option_kinds(options);
	IF FOUND THEN
		RETURN;
	END IF;
	RETURN QUERY SELECT * FROM partshift.check_option_words(options);
	RETURN QUERY SELECT * FROM partshift.check_option_numbers(options);
	RETURN QUERY SELECT * FROM partshift.check_option_pairs(options);
	RETURN QUERY SELECT * FROM partshift.check_option_texts(options);
END
$$;

COMMENT ON FUNCTION partshift.check_arguments(text, jsonb) IS
'findings about the strategy and the options alone';
