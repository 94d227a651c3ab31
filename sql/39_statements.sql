/*
 * The application's statements, where pg_stat_statements has them.  Its view
 * is read as the caller of plan(), who is shown his own statements, or all as
 * a member of pg_read_all_stats; each is parsed as the table's owner.
 */
CREATE FUNCTION partshift.judge_statement(query text, relid oid, owner oid, by_hash boolean,
	columns name[], OUT reads boolean, OUT prunes boolean, OUT conflicts boolean)
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'partshift_judge_statement';

COMMENT ON FUNCTION partshift.judge_statement(text, oid, oid, boolean, name[]) IS
'whether a statement reads a table, confines its partition key, and has an ON CONFLICT without it';

/*
 * A statement that reads a view need not name the table.  Names are words, or
 * every other statement would mention a view that is called "v".
 */
CREATE FUNCTION partshift.reader_patterns(relid oid) RETURNS text[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH RECURSIVE reader AS (
		SELECT relid AS oid
		UNION
		SELECT w.ev_class
		FROM reader r
			JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = r.oid
				AND d.classid = 'pg_rewrite'::regclass
			JOIN pg_rewrite w ON w.oid = d.objid
			JOIN pg_class v ON v.oid = w.ev_class AND v.relkind = 'v'
	)
	SELECT array_agg(DISTINCT CASE WHEN c.relname ~ '^\w+$' THEN '\m' || c.relname || '\M'
		ELSE regexp_replace(c.relname, '\W', '\\\&', 'g') END)
	FROM reader r JOIN pg_class c ON c.oid = r.oid
$$;

COMMENT ON FUNCTION partshift.reader_patterns(oid) IS
'regular expressions for the names of a table and of all views over it';

CREATE FUNCTION partshift.known_statements(relid oid, caller oid) RETURNS jsonb
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT partshift.query_as(caller, format($q$
		SELECT coalesce(jsonb_agg(to_jsonb(s)), '[]')::text
		FROM (SELECT query, sum(calls) AS calls, round(sum(total_exec_time)::numeric, 1) AS ms
			  FROM %s
			  WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
				AND query ~* ANY (%L::text[])
			  GROUP BY query ORDER BY 3 DESC LIMIT 200) AS s
		$q$, view, partshift.reader_patterns(relid)))::jsonb
	FROM (SELECT d.objid::regclass AS view
		  FROM pg_extension e JOIN pg_depend d ON d.refobjid = e.oid
			AND d.refclassid = 'pg_extension'::regclass AND d.classid = 'pg_class'::regclass
			AND d.deptype = 'e'
			JOIN pg_class c ON c.oid = d.objid AND c.relname = 'pg_stat_statements'
		  WHERE e.extname = 'pg_stat_statements') v
$$;

COMMENT ON FUNCTION partshift.known_statements(oid, oid) IS
'statements that mention a table or a view over it, the costliest first, as far as the caller may see them';

/* Locks that parsing takes go when the block's work is undone. */
CREATE FUNCTION partshift.judged_statement(query text, relid oid, plan jsonb,
	OUT reads boolean, OUT prunes boolean, OUT conflicts boolean)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '100ms'
AS $$
BEGIN
	SELECT j.reads, j.prunes, j.conflicts INTO reads, prunes, conflicts
	FROM partshift.judge_statement(query, relid, (plan->>'owner')::oid, plan->>'strategy' = 'hash',
			array(SELECT k::name FROM jsonb_array_elements_text(plan->'key_columns') k)) j;
	RAISE SQLSTATE 'PSHRB';
EXCEPTION WHEN OTHERS THEN
	IF SQLSTATE <> 'PSHRB' THEN
		reads := NULL;
	END IF;
END
$$;

COMMENT ON FUNCTION partshift.judged_statement(text, oid, jsonb) IS
'what judge_statement() says, or nothing if the statement cannot be parsed here';

CREATE FUNCTION partshift.forecast_statements(relid oid, plan jsonb, caller oid) RETURNS jsonb
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT jsonb_build_object(
		'seen', count(*),
		'unread', count(*) FILTER (WHERE j.reads IS NULL),
		'unpruned', coalesce(jsonb_agg(s.statement ORDER BY s.position)
							 FILTER (WHERE j.reads AND NOT j.prunes), '[]'),
		'conflicts', coalesce(jsonb_agg(s.statement ORDER BY s.position)
							  FILTER (WHERE j.conflicts), '[]'))
	FROM jsonb_array_elements(partshift.known_statements(relid, caller))
			WITH ORDINALITY AS s(statement, position),
		 partshift.judged_statement(s.statement->>'query', relid, plan) AS j
	HAVING count(*) > 0
$$;

COMMENT ON FUNCTION partshift.forecast_statements(oid, jsonb, oid) IS
'statements that will not leave partitions out, and those whose ON CONFLICT lacks the partition key';
