/*
 * What kind of table can be converted, and whether it is free.
 */

CREATE FUNCTION partshift.kind_words(relkind "char")
RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE relkind
			 WHEN 'r' THEN 'tables'
			 WHEN 'p' THEN 'partitioned tables'
			 WHEN 'v' THEN 'views'
			 WHEN 'm' THEN 'materialized views'
			 WHEN 'f' THEN 'foreign tables'
			 WHEN 'S' THEN 'sequences'
			 WHEN 'i' THEN 'indexes'
			 WHEN 'I' THEN 'partitioned indexes'
			 WHEN 'c' THEN 'composite types'
			 WHEN 't' THEN 'TOAST tables'
			 ELSE 'relations of this kind'
		   END
$$;

COMMENT ON FUNCTION partshift.kind_words("char") IS
'the kind of a relation, in the plural';

CREATE FUNCTION partshift.check_live_job(relid oid)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT f.*
	FROM partshift.job j,
		 partshift.refused('table', j.table_name, '55006',
			format('table "%s" is being converted by job %s', j.table_name, j.job_id),
			format('Job %s is %s in phase %s.', j.job_id, j.status, j.phase),
			format(CASE WHEN j.phase = 'done'
						THEN 'End it with partshift.finalize(%s) or partshift.rollback(%1$s).'
						ELSE 'Wait for it, or end it with partshift.abort(%s).' END, j.job_id)) f
	WHERE check_live_job.relid IN (j.relid, j.shadow)
	  AND j.status IN ('active', 'paused', 'failed')
	ORDER BY j.job_id
$$;

COMMENT ON FUNCTION partshift.check_live_job(oid) IS
'refuses a table that a job is busy with';

CREATE FUNCTION partshift.check_relation_kind(relid oid)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT f.*
	FROM partshift.refused('table', relid::text, '42P01',
			format('relation with OID %s does not exist', relid)) f
	WHERE NOT EXISTS (SELECT FROM pg_class WHERE oid = relid)
	UNION ALL
	SELECT f.*
	FROM pg_class c,
		 partshift.refused('table', c.relname, '42809',
			format('cannot convert relation "%s"', c.relname),
			format('This operation is not supported for %s.', partshift.kind_words(c.relkind))) f
	WHERE c.oid = relid AND c.relkind NOT IN ('r', 'p')
$$;

COMMENT ON FUNCTION partshift.check_relation_kind(oid) IS
'refuses what is not a table';

CREATE FUNCTION partshift.check_placement(relid oid)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT f.*
	FROM pg_class c
		 JOIN pg_namespace n ON n.oid = c.relnamespace,
		 LATERAL (VALUES
			(c.relpersistence = 't', '0A000',
			 format('cannot convert temporary table "%s"', c.relname), NULL, NULL),
			(c.oid < 16384 OR n.nspname IN ('pg_catalog', 'pg_toast', 'information_schema'),
			 '42809', format('table "%s" is a system catalog', c.relname), NULL, NULL),
			(n.nspname = 'partshift', '42809',
			 format('table "%s" belongs to a conversion itself', c.relname), NULL, NULL),
			(c.relispartition, '42809',
			 format('table "%s" is a partition', c.relname),
			 format('It is a partition of %s.',
					(SELECT inhparent::regclass FROM pg_inherits WHERE inhrelid = relid LIMIT 1)),
			 'Detach it first.'),
			(NOT c.relispartition AND EXISTS (SELECT FROM pg_inherits WHERE inhrelid = relid),
			 '0A000', format('table "%s" inherits from another table', c.relname),
			 format('It is a child of %s.',
					(SELECT string_agg(inhparent::regclass::text, ', ' ORDER BY inhseqno)
					 FROM pg_inherits WHERE inhrelid = relid)),
			 'Use ALTER TABLE ... NO INHERIT.'),
			(c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits WHERE inhparent = relid),
			 '0A000', format('table "%s" has inheritance children', c.relname),
			 format('Its children are %s.',
					(SELECT string_agg(inhrelid::regclass::text, ', ' ORDER BY inhrelid::regclass::text)
					 FROM pg_inherits WHERE inhparent = relid)),
			 'Use ALTER TABLE ... NO INHERIT for each of them.'),
			(NOT has_schema_privilege(c.relowner, n.oid, 'USAGE'), '42501',
			 format('owner of table "%s" cannot use its schema', c.relname),
			 'Statements of a conversion that evaluate the owner''s expressions run as the owner.',
			 format('Use GRANT USAGE ON SCHEMA %I TO %I.', n.nspname, pg_get_userbyid(c.relowner))),
			(c.reloftype <> 0, '0A000',
			 format('cannot convert typed table "%s"', c.relname),
			 format('It is a table of type %s.', format_type(c.reloftype, NULL)),
			 'Use ALTER TABLE ... NOT OF.'),
			(c.relkind = 'r' AND c.relam <> (SELECT oid FROM pg_am WHERE amname = 'heap'), '0A000',
			 format('table "%s" does not use the access method heap', c.relname),
			 format('Its access method is %s.', (SELECT amname FROM pg_am WHERE oid = c.relam)),
			 NULL),
			(EXISTS (SELECT FROM unnest(c.reloptions) o
					 WHERE o LIKE 'user\_catalog\_table=%' AND split_part(o, '=', 2)::boolean),
			 '0A000', format('table "%s" is a user catalog table', c.relname), NULL,
			 'Use ALTER TABLE ... RESET (user_catalog_table).'))
			AS rule(applies, sqlstate, message, detail, hint),
		 partshift.refused('table', c.relname, rule.sqlstate, rule.message, rule.detail, rule.hint) f
	WHERE c.oid = relid AND c.relkind IN ('r', 'p') AND rule.applies
$$;

COMMENT ON FUNCTION partshift.check_placement(oid) IS
'refuses tables that stand in a relation to others, or are not stored as ordinary tables are';

CREATE FUNCTION partshift.check_rules(relid oid)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT f.*
	FROM pg_class c,
		 LATERAL (SELECT string_agg(quote_ident(rulename), ', ' ORDER BY rulename) AS names
				  FROM pg_rewrite WHERE ev_class = relid) rules,
		 partshift.refused('rule', c.relname, '0A000',
			format('table "%s" has rules', c.relname),
			format('Its rules are %s.', rules.names),
			'Replace them by triggers, or drop them.') f
	WHERE c.oid = relid AND c.relkind IN ('r', 'p') AND rules.names IS NOT NULL
$$;

COMMENT ON FUNCTION partshift.check_rules(oid) IS
'refuses tables with rules';

CREATE FUNCTION partshift.check_table(relid oid)
RETURNS SETOF partshift.finding
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN QUERY SELECT * FROM partshift.check_live_job(relid);
	IF NOT FOUND THEN
		RETURN QUERY SELECT * FROM partshift.check_relation_kind(relid);
		RETURN QUERY SELECT * FROM partshift.check_placement(relid);
		RETURN QUERY SELECT * FROM partshift.check_rules(relid);
		RETURN QUERY SELECT * FROM partshift.check_tree(relid);
	END IF;
END
$$;

COMMENT ON FUNCTION partshift.check_table(oid) IS
'findings about the kind of the table';
