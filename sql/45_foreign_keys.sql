/*
 * Foreign keys of the table that takes the application's name next.
 *
 * "From" is the table that has that name now, "to" the one that will get it:
 * source and shadow before the first swap, the other way about before a
 * rollback.  Every key of "from" has a counterpart made before the swap, not
 * valid at first and then validated, so that the swap has only catalogs to
 * change and no key is ever off.
 *
 * Definitions are composed from pg_constraint and not taken from
 * pg_get_constraintdef(), which names the wrong table, and always by the names
 * of the columns, because their numbers differ between the two tables.
 */
CREATE FUNCTION partshift.relation_name(relid oid)
RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT format('%I.%I', n.nspname, c.relname)
	FROM pg_class AS c
		JOIN pg_namespace AS n ON n.oid = c.relnamespace
	WHERE c.oid = relation_name.relid
$$;

COMMENT ON FUNCTION partshift.relation_name(oid) IS
'the quoted and qualified name of a relation';

CREATE FUNCTION partshift.foreign_key_columns(relid oid, attnums smallint[],
									  period boolean)
RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT string_agg(CASE WHEN period AND u.n = cardinality(attnums)
						   THEN 'PERIOD ' ELSE '' END || quote_ident(a.attname),
					  ', ' ORDER BY u.n)
	FROM unnest(attnums) WITH ORDINALITY AS u (attnum, n)
		JOIN pg_attribute AS a
			ON a.attrelid = foreign_key_columns.relid AND a.attnum = u.attnum
$$;

COMMENT ON FUNCTION partshift.foreign_key_columns(oid, smallint[], boolean) IS
'the columns of one side of a foreign key, as its definition writes them';

CREATE FUNCTION partshift.foreign_key_action(action "char")
RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE action
		WHEN 'a' THEN 'NO ACTION'
		WHEN 'r' THEN 'RESTRICT'
		WHEN 'c' THEN 'CASCADE'
		WHEN 'n' THEN 'SET NULL'
		WHEN 'd' THEN 'SET DEFAULT'
	END
$$;

COMMENT ON FUNCTION partshift.foreign_key_action("char") IS
'the words for an action of a foreign key';

CREATE FUNCTION partshift.foreign_key_definition(conid oid)
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT jsonb_build_object(
		'relation', c.conrelid::bigint,
		'referenced', c.confrelid::bigint,
		'name', c.conname,
		'head', format('FOREIGN KEY (%s) REFERENCES',
			partshift.foreign_key_columns(c.conrelid, c.conkey, v.period)),
		'tail', format('(%s)%s ON UPDATE %s ON DELETE %s%s',
			partshift.foreign_key_columns(c.confrelid, c.confkey, v.period),
			CASE c.confmatchtype WHEN 'f' THEN ' MATCH FULL' ELSE '' END,
			partshift.foreign_key_action(c.confupdtype),
			partshift.foreign_key_action(c.confdeltype),
			' (' || partshift.foreign_key_columns(c.conrelid, c.confdelsetcols, false) || ')'),
		'deferral', CASE
			WHEN c.condeferred THEN 'DEFERRABLE INITIALLY DEFERRED'
			WHEN c.condeferrable THEN 'DEFERRABLE INITIALLY IMMEDIATE'
			ELSE 'NOT DEFERRABLE' END,
		'validated', c.convalidated,
		'enforced', v.enforced,
		'comment', obj_description(c.oid, 'pg_constraint'))
	FROM pg_constraint AS c,
		LATERAL (
			/* Columns that only 18 has. */
			SELECT coalesce((to_jsonb(c) ->> 'conperiod')::boolean, false) AS period,
				coalesce((to_jsonb(c) ->> 'conenforced')::boolean, true) AS enforced
		) AS v
	WHERE c.oid = foreign_key_definition.conid
$$;

COMMENT ON FUNCTION partshift.foreign_key_definition(oid) IS
'a foreign key by names, without the name of the referenced table, which stands between head and tail';

CREATE FUNCTION partshift.foreign_key_is_carried(conid oid, relid oid,
										 partition_columns name[])
RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT c.confrelid <> foreign_key_is_carried.relid
		OR partition_columns <@ ARRAY(
			SELECT a.attname
			FROM pg_attribute AS a
			WHERE a.attrelid = c.confrelid AND a.attnum = ANY (c.confkey))
	FROM pg_constraint AS c
	WHERE c.oid = foreign_key_is_carried.conid
$$;

COMMENT ON FUNCTION partshift.foreign_key_is_carried(oid, oid, name[]) IS
'whether a partitioned table can be what this foreign key refers to: a unique index of it must contain the partition key';

CREATE FUNCTION partshift.dropped_foreign_keys(job_id integer)
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(jsonb_agg(partshift.foreign_key_definition(c.oid) ORDER BY c.oid), '[]')
	FROM partshift.job AS j
		JOIN pg_constraint AS c ON c.confrelid = j.relid
			AND c.contype = 'f' AND c.conparentid = 0
	WHERE j.job_id = dropped_foreign_keys.job_id
		AND NOT partshift.foreign_key_is_carried(c.oid, j.relid, j.key_columns)
$$;

COMMENT ON FUNCTION partshift.dropped_foreign_keys(integer) IS
'foreign keys to the source that end with the swap, kept on the job for a rollback';

/*
 * The table function's rows are the keys that "to" must have.  A key on a
 * third table lives beside the old one until the swap, so it has a name of its
 * own until then, and it is deferred: a check that ran at once could come
 * before the mirror has written the row that it looks for.
 */
CREATE FUNCTION partshift.job_foreign_keys(job_id integer, reverse boolean)
RETURNS TABLE (old_key oid, relation oid, referenced oid, incoming boolean,
			   name name, new_name name, definition text, deferral text,
			   validated boolean, enforced boolean, comment text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH side AS (
		SELECT j.job_id, j.relid AS source, j.key_columns,
			CASE WHEN job_foreign_keys.reverse THEN j.shadow ELSE j.relid END AS from_rel,
			CASE WHEN job_foreign_keys.reverse THEN j.relid ELSE j.shadow END AS to_rel,
			j.plan
		FROM partshift.job AS j
		WHERE j.job_id = job_foreign_keys.job_id
	), known AS (
		SELECT s.*, c.oid AS old_key,
			coalesce(e.def, partshift.foreign_key_definition(c.oid)) AS def
		FROM side AS s
			JOIN pg_constraint AS c ON s.from_rel IN (c.conrelid, c.confrelid)
			LEFT JOIN LATERAL partshift.extended_definition(s.plan, c.oid) AS e (def) ON true
		WHERE c.contype = 'f'
			AND c.conparentid = 0
			AND CASE WHEN job_foreign_keys.reverse
				/* The original of an extended key is among the dropped ones. */
				THEN NOT EXISTS (SELECT FROM partshift.extended_keys(s.plan) AS x
								 WHERE x.relation = CASE c.conrelid WHEN s.from_rel
										THEN s.source ELSE c.conrelid END
									AND x.name = c.conname)
				ELSE e.def IS NOT NULL
					OR partshift.foreign_key_is_carried(c.oid, s.from_rel, s.key_columns) END
		UNION ALL
		SELECT s.*, NULL, d.def
		FROM side AS s,
			jsonb_array_elements(s.plan -> 'dropped_keys') AS d (def)
		WHERE job_foreign_keys.reverse
	), mapped AS (
		SELECT k.*,
			/* A dropped key is stored with the source at its ends. */
			CASE WHEN (k.def ->> 'relation')::oid IN (k.from_rel, k.source)
				THEN k.to_rel ELSE (k.def ->> 'relation')::oid END AS relation,
			CASE WHEN (k.def ->> 'referenced')::oid IN (k.from_rel, k.source)
				THEN k.to_rel ELSE (k.def ->> 'referenced')::oid END AS referenced
		FROM known AS k
	)
	SELECT m.old_key, m.relation, m.referenced, v.incoming, v.name,
		CASE WHEN v.incoming
			/* Long names of one table may be alike once they are cut. */
			THEN partshift.shadow_name(v.name::text, m.job_id,
				nullif(row_number() OVER (
					PARTITION BY m.relation,
						partshift.shadow_name(v.name::text, m.job_id)
					ORDER BY v.name), 1)::integer)
			ELSE v.name END,
		format('%s %s %s %s', m.def ->> 'head',
			   partshift.relation_name(m.referenced), m.def ->> 'tail',
			   CASE WHEN v.incoming AND (m.def ->> 'enforced')::boolean
				   THEN 'DEFERRABLE INITIALLY DEFERRED'
				   ELSE m.def ->> 'deferral' END),
		m.def ->> 'deferral',
		(m.def ->> 'validated')::boolean,
		(m.def ->> 'enforced')::boolean,
		m.def ->> 'comment'
	FROM mapped AS m,
		LATERAL (SELECT m.relation <> m.to_rel AS incoming,
					 (m.def ->> 'name')::name AS name) AS v
	ORDER BY v.incoming, m.relation, v.name
$$;

COMMENT ON FUNCTION partshift.job_foreign_keys(integer, boolean) IS
'the foreign keys that the table which gets the name next must have or be referred to by';
