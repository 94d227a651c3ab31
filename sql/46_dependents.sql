/*
 * Definitions of what depends on the table and is no part of it, to be read
 * again in the swap.
 *
 * They are taken under the swap's locks, while the name still means the table
 * that is about to lose it, and read again once it means the other one.  So
 * each object stays the same, with everything that is granted on it or built
 * upon it; a materialized view keeps its rows.  dependents.c does the reading
 * of views, rules and triggers, for which there is no statement that needs no
 * more rights than their owners have; the rest are commands.
 */

/*
 * A policy of the table that gets the name may refer to that table by its
 * name, so the text is that of its original.
 */
CREATE FUNCTION partshift.policy_definition(policy oid, loser oid, taker oid, taker_name text)
RETURNS TABLE (run_as oid, definition text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT c.relowner, format('ALTER POLICY %I ON %s%s%s', p.polname,
		CASE p.polrelid WHEN taker THEN taker_name
			ELSE partshift.relation_name(p.polrelid) END,
		' USING (' || pg_get_expr(o.polqual, o.polrelid) || ')',
		' WITH CHECK (' || pg_get_expr(o.polwithcheck, o.polrelid) || ')')
	FROM pg_policy AS p
		JOIN pg_class AS c ON c.oid = p.polrelid
		JOIN pg_policy AS o ON o.polname = p.polname
			AND o.polrelid = CASE p.polrelid WHEN taker THEN loser ELSE p.polrelid END
	WHERE p.oid = policy
$$;

COMMENT ON FUNCTION partshift.policy_definition(oid, oid, oid, text) IS
'the command that has a policy read its expressions again';

CREATE FUNCTION partshift.default_definition(attrdef oid)
RETURNS TABLE (run_as oid, definition text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT c.relowner, format('ALTER TABLE ONLY %s ALTER COLUMN %I SET DEFAULT %s',
		partshift.relation_name(c.oid), a.attname, pg_get_expr(d.adbin, d.adrelid))
	FROM pg_attrdef AS d
		JOIN pg_class AS c ON c.oid = d.adrelid
		JOIN pg_attribute AS a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
	WHERE d.oid = attrdef
$$;

COMMENT ON FUNCTION partshift.default_definition(oid) IS
'the command that has a column default of another table read again';

/*
 * One command may take the name's new table in, but the other must be named
 * as it will be then.  A publication's own restrictions keep functions and
 * types of users out of its row filters.
 */
CREATE FUNCTION partshift.publication_definition(entry oid, loser_name text,
												 taker_name text)
RETURNS TABLE (run_as oid, definition text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT NULL::oid, c.definition
	FROM pg_publication_rel AS r
		JOIN pg_publication AS p ON p.oid = r.prpubid,
		LATERAL (VALUES
			(1, format('ALTER PUBLICATION %I DROP TABLE %s', p.pubname, loser_name)),
			(2, format('ALTER PUBLICATION %I ADD TABLE %s%s%s', p.pubname, taker_name,
				(SELECT format(' (%s)', string_agg(quote_ident(a.attname), ', '
												   ORDER BY u.n))
				 FROM unnest(r.prattrs::smallint[]) WITH ORDINALITY AS u (attnum, n)
					JOIN pg_attribute AS a ON a.attrelid = r.prrelid
						AND a.attnum = u.attnum
				 HAVING count(*) > 0),
				' WHERE (' || pg_get_expr(r.prqual, r.prrelid) || ')')))
			AS c (n, definition)
	WHERE r.oid = entry
	ORDER BY c.n
$$;

COMMENT ON FUNCTION partshift.publication_definition(oid, text, text) IS
'the commands that have a publication publish the new table in the place of the old';

CREATE FUNCTION partshift.trigger_definition(trigger oid)
RETURNS TABLE (kind text, object oid, run_as oid, definition text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT v.kind, t.tgrelid, c.relowner, v.definition
	FROM pg_trigger AS t
		JOIN pg_class AS c ON c.oid = t.tgrelid,
		LATERAL (VALUES
			('trigger', pg_get_triggerdef(t.oid, false)),
			('command', CASE WHEN t.tgenabled <> 'O' THEN
				format('ALTER TABLE %s %s TRIGGER %I', partshift.relation_name(c.oid),
					   CASE t.tgenabled WHEN 'D' THEN 'DISABLE'
							WHEN 'R' THEN 'ENABLE REPLICA'
							ELSE 'ENABLE ALWAYS' END, t.tgname) END))
			AS v (kind, definition)
	WHERE t.oid = trigger AND v.definition IS NOT NULL
$$;

COMMENT ON FUNCTION partshift.trigger_definition(oid) IS
'what has a trigger of another table read its condition again, and keeps its firing state';

CREATE FUNCTION partshift.dependent_definitions(job_id integer, reverse boolean)
RETURNS TABLE (kind text, object oid, run_as oid, definition text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
SET datestyle = 'ISO, YMD'
SET intervalstyle = 'iso_8601'
SET timezone = 'UTC'
SET extra_float_digits = 1
AS $$
	WITH side AS (
		SELECT CASE WHEN dependent_definitions.reverse THEN j.shadow ELSE j.relid END AS loser,
			CASE WHEN dependent_definitions.reverse THEN j.relid ELSE j.shadow END AS taker,
			format('%I.%I', j.schema_name, CASE WHEN dependent_definitions.reverse
				THEN j.plan ->> 'shadow_name' ELSE j.legacy_name END) AS loser_name,
			format('%I.%I', j.schema_name, j.table_name) AS taker_name
		FROM partshift.job AS j
		WHERE j.job_id = dependent_definitions.job_id
	), dependent AS MATERIALIZED (
		SELECT s.*, d.objid, d.kind, d.relation
		FROM side AS s, partshift.dependents(s.loser) AS d
	)
	SELECT d.kind, d.relation, c.relowner,
		CASE d.kind WHEN 'view' THEN pg_get_viewdef(d.relation, false)
			ELSE pg_get_ruledef(d.objid, false) END
	FROM dependent AS d
		JOIN pg_class AS c ON c.oid = d.relation
	WHERE d.kind IN ('view', 'rule')
	UNION ALL
	SELECT 'command', d.objid, p.proowner, pg_get_functiondef(d.objid)
	FROM dependent AS d
		JOIN pg_proc AS p ON p.oid = d.objid
	WHERE d.kind = 'function'
	UNION ALL
	SELECT t.*
	FROM dependent AS d, partshift.trigger_definition(d.objid) AS t
	WHERE d.kind = 'trigger'
	UNION ALL
	SELECT 'command', d.objid, c.run_as, c.definition
	FROM dependent AS d,
		LATERAL (
			SELECT * FROM partshift.policy_definition(d.objid, d.loser, d.taker,
													   d.taker_name)
			WHERE d.kind = 'policy'
			UNION ALL
			SELECT * FROM partshift.default_definition(d.objid)
			WHERE d.kind = 'default'
			UNION ALL
			SELECT * FROM partshift.publication_definition(d.objid, d.loser_name, d.taker_name)
			WHERE d.kind = 'publication') AS c
$$;

COMMENT ON FUNCTION partshift.dependent_definitions(integer, boolean) IS
'what is to be read again when the name has passed to the other table';

/*
 * Where a definition is replaced, the server locks the relation that has it;
 * with its partitions if it has a trigger.
 */
CREATE FUNCTION partshift.dependent_relations(relid oid,
	OUT relation oid, OUT with_partitions boolean)
RETURNS SETOF record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT d.relation, bool_or(d.kind = 'trigger')
	FROM partshift.dependents(relid) AS d
	WHERE d.kind IN ('view', 'rule', 'policy', 'default', 'trigger')
	GROUP BY d.relation
$$;

COMMENT ON FUNCTION partshift.dependent_relations(oid) IS
'the relations that hold a definition which depends on the table';

/*
 * A view may have come since the plan.  The way back needs no check: the table
 * that takes the name then has the stricter keys and rows of its own.
 */
CREATE FUNCTION partshift.refuse_dependents(job_id integer)
RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	refusal partshift.finding;
BEGIN
	-- Mostly there is none, and the swap's locks are held.
	IF EXISTS (SELECT FROM partshift.job AS j
			   WHERE j.job_id = refuse_dependents.job_id AND NOT j.reverse
				 AND (EXISTS (SELECT FROM partshift.dependents(j.relid))
					  OR EXISTS (SELECT FROM pg_policy WHERE polrelid = j.relid))) THEN
		SELECT f.* INTO refusal
		FROM partshift.job AS j, partshift.check_dependents(j.relid, j.plan) AS f
		WHERE j.job_id = refuse_dependents.job_id
		LIMIT 1;
	ELSE
		SELECT f.* INTO refusal
		FROM partshift.job AS j, partshift.check_partition_dependents(j.relid) AS f
		WHERE j.job_id = refuse_dependents.job_id AND NOT j.reverse
		LIMIT 1;
	END IF;
	IF FOUND THEN
		RAISE EXCEPTION USING
			ERRCODE = 'object_not_in_prerequisite_state',
			MESSAGE = refusal.message,
			DETAIL = coalesce(refusal.detail, ''),
			HINT = coalesce(refusal.hint || '  ', '') || 'Then resume the conversion.';
	END IF;
END
$$;

COMMENT ON FUNCTION partshift.refuse_dependents(integer) IS
'raises an error for an object that came to depend on the table since the plan and cannot follow its name';
