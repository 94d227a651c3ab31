/*
 * The inventory of a table: every object it carries, each with its name and
 * its definition as text.  One is taken before the swap; carried() compares it
 * with what the table's name means afterwards.
 *
 * Definitions are deparsed with pg_catalog alone in the search path, so the
 * name that has passed to the new table reads the same before and after.
 */
CREATE TYPE partshift.inventory_entry AS (
	class text,
	object text,
	definition text
);

COMMENT ON TYPE partshift.inventory_entry IS
'an object that a table carries, or that depends on it';

CREATE FUNCTION partshift.inventory_table(relid oid)
RETURNS SETOF partshift.inventory_entry
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT 'table', c.relname, concat_ws(', ',
		'owner ' || pg_get_userbyid(c.relowner),
		CASE WHEN c.relpersistence = 'u'
				  OR EXISTS (SELECT FROM pg_inherits i JOIN pg_class l ON l.oid = i.inhrelid
							 WHERE i.inhparent = relid AND l.relpersistence = 'u')
			 THEN 'unlogged' END,
		'tablespace ' || partshift.shadow_tablespace(relid),
		CASE WHEN c.relrowsecurity THEN 'row security' END,
		CASE WHEN c.relforcerowsecurity THEN 'forced row security' END,
		CASE c.relreplident WHEN 'f' THEN 'replica identity full'
			WHEN 'n' THEN 'replica identity nothing'
			WHEN 'i' THEN (SELECT 'replica identity ' || i.indexrelid::regclass
						   FROM pg_index i WHERE i.indrelid = relid AND i.indisreplident) END)
	FROM pg_class c WHERE c.oid = relid
	UNION ALL
	SELECT 'column', a.attname, concat_ws(' ',
		format_type(a.atttypid, a.atttypmod),
		(SELECT 'collate ' || quote_ident(l.collname) FROM pg_collation l
		 WHERE l.oid = a.attcollation AND l.collname <> 'default'),
		CASE WHEN a.attnotnull THEN 'not null' END,
		CASE a.attgenerated WHEN '' THEN 'default ' WHEN 'v' THEN 'virtually generated as '
			ELSE 'generated as ' END
			|| pg_get_expr(d.adbin, d.adrelid),
		CASE a.attidentity WHEN 'a' THEN 'identity always'
			WHEN 'd' THEN 'identity by default' END,
		'storage ' || a.attstorage::text,
		'compression ' || nullif(a.attcompression::text, ''),
		'statistics ' || nullif(a.attstattarget, -1),
		array_to_string(partshift.column_options(a.attoptions), ', '))
	FROM pg_attribute a
		LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
	WHERE a.attrelid = relid AND a.attnum > 0 AND NOT a.attisdropped
	UNION ALL
	SELECT 'sequence', p.objid::regclass::text,
		format('of column %I, owner %I', a.attname, pg_get_userbyid(s.relowner))
	FROM pg_depend p
		JOIN pg_class s ON s.oid = p.objid AND s.relkind = 'S'
		JOIN pg_attribute a ON a.attrelid = p.refobjid AND a.attnum = p.refobjsubid
	WHERE p.refclassid = 'pg_class'::regclass AND p.refobjid = relid
		AND p.classid = 'pg_class'::regclass AND p.deptype IN ('a', 'i')
	UNION ALL
	SELECT DISTINCT 'storage parameter', o.prefix || split_part(e.entry, '=', 1),
		substr(e.entry, strpos(e.entry, '=') + 1)
	FROM pg_class c
		LEFT JOIN pg_class t ON t.oid = c.reltoastrelid,
		LATERAL (VALUES ('', c.reloptions), ('toast.', t.reloptions)) AS o (prefix, entries),
		unnest(o.entries) AS e (entry)
	WHERE c.oid = relid OR c.oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = relid)
$$;

COMMENT ON FUNCTION partshift.inventory_table(oid) IS
'the part of an inventory that describes the table, its columns and its storage';

CREATE FUNCTION partshift.inventory_privileges(relid oid)
RETURNS SETOF partshift.inventory_entry
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT 'privilege', format('%s to %s%s', g.privilege_type,
			CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END,
			' on column ' || quote_ident(s.attname)),
		format('by %I%s', pg_get_userbyid(g.grantor),
			   CASE WHEN g.is_grantable THEN ', with grant option' ELSE '' END)
	FROM (SELECT c.relacl, NULL::name FROM pg_class c WHERE c.oid = relid
		  UNION ALL
		  SELECT a.attacl, a.attname FROM pg_attribute a
		  WHERE a.attrelid = relid AND NOT a.attisdropped) AS s (acl, attname),
		aclexplode(s.acl) AS g
$$;

COMMENT ON FUNCTION partshift.inventory_privileges(oid) IS
'the part of an inventory that lists privileges';

CREATE FUNCTION partshift.inventory_rules(relid oid)
RETURNS SETOF partshift.inventory_entry
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT 'index', c.relname,
		replace(pg_get_indexdef(i.indexrelid), ' ON ONLY ', ' ON ')
			|| CASE WHEN i.indisclustered
					OR EXISTS (SELECT FROM pg_inherits h JOIN pg_index l ON l.indexrelid = h.inhrelid
							   WHERE h.inhparent = i.indexrelid AND l.indisclustered)
				THEN ', marked for CLUSTER' ELSE '' END
	FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
	WHERE i.indrelid = relid AND i.indisvalid
	UNION ALL
	SELECT 'constraint', o.conname, pg_get_constraintdef(o.oid)
	FROM pg_constraint o
	WHERE o.conrelid = relid AND o.conparentid = 0 AND o.contype <> 't'
		AND NOT (o.contype = 'f' AND o.confrelid IN (SELECT partshift.prepared_tables()))
	UNION ALL
	SELECT 'reference', format('%I of table %s', o.conname, o.conrelid::regclass),
		pg_get_constraintdef(o.oid)
	FROM pg_constraint o
	WHERE o.confrelid = relid AND o.conparentid = 0 AND o.contype = 'f' AND o.conrelid <> relid
		AND o.conrelid NOT IN (SELECT partshift.prepared_tables())
	UNION ALL
	SELECT 'trigger', t.tgname, concat_ws(' ', pg_get_triggerdef(t.oid),
		CASE t.tgenabled WHEN 'D' THEN 'disabled' WHEN 'R' THEN 'on replicas'
			WHEN 'A' THEN 'always' END)
	FROM pg_trigger t
	WHERE t.tgrelid = relid AND NOT t.tgisinternal
		AND t.tgfoid <> 'partshift.reverse_row()'::regprocedure
		AND t.tgfoid <> 'partshift.reverse_truncate()'::regprocedure
	UNION ALL
	SELECT 'policy', p.polname, concat_ws(' ', p.polcmd,
		CASE WHEN p.polpermissive THEN 'permissive' ELSE 'restrictive' END,
		(SELECT string_agg(CASE r.role WHEN 0 THEN 'public' ELSE pg_get_userbyid(r.role) END,
						   ', ' ORDER BY r.role)
		 FROM unnest(p.polroles) AS r (role)),
		'using ' || pg_get_expr(p.polqual, p.polrelid),
		'check ' || pg_get_expr(p.polwithcheck, p.polrelid))
	FROM pg_policy p WHERE p.polrelid = relid
$$;

COMMENT ON FUNCTION partshift.inventory_rules(oid) IS
'the part of an inventory that lists indexes, constraints, triggers and policies';

CREATE FUNCTION partshift.inventory_dependents(relid oid)
RETURNS SETOF partshift.inventory_entry
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT d.kind, d.object, CASE d.kind
		WHEN 'view' THEN pg_get_viewdef(d.relation)
		WHEN 'rule' THEN pg_get_ruledef(d.objid)
		WHEN 'function' THEN pg_get_functiondef(d.objid)
		WHEN 'trigger' THEN pg_get_triggerdef(d.objid)
		WHEN 'default' THEN (SELECT pg_get_expr(a.adbin, a.adrelid) FROM pg_attrdef a
							 WHERE a.oid = d.objid)
		WHEN 'policy' THEN (SELECT concat_ws(' ', pg_get_expr(p.polqual, p.polrelid),
									'check ' || pg_get_expr(p.polwithcheck, p.polrelid))
							FROM pg_policy p WHERE p.oid = d.objid) END
	FROM partshift.dependents(relid) d
	WHERE d.kind NOT IN ('publication', 'statistics', 'part')
		AND coalesce(d.relation, 0) NOT IN (SELECT partshift.prepared_tables())
	UNION ALL
	SELECT 'statistics', format('%I.%I', n.nspname, s.stxname), pg_get_statisticsobjdef(s.oid)
	FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace
	WHERE s.stxrelid = relid
	UNION ALL
	SELECT 'publication', p.name, 'for ' || p.scope
	FROM partshift.publications_of(relid) p
	WHERE p.scope IS NOT NULL AND NOT p.by_name
	UNION ALL
	SELECT 'publication', p.pubname, concat_ws(' ',
		(SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum)
		 FROM pg_attribute a WHERE a.attrelid = r.prrelid AND a.attnum = ANY (r.prattrs)),
		'where ' || pg_get_expr(r.prqual, r.prrelid))
	FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
	WHERE r.prrelid = relid
	UNION ALL
	SELECT 'security label', concat_ws(' ', l.provider, 'on', CASE l.attname WHEN '' THEN 'table'
			ELSE format('column %I', l.attname) END), l.label
	FROM partshift.labels_of(relid) l
	UNION ALL
	SELECT 'comment', s.object, s.description
	FROM (SELECT CASE d.objsubid WHEN 0 THEN 'table'
					ELSE format('column %I', (SELECT a.attname FROM pg_attribute a
						WHERE a.attrelid = relid AND a.attnum = d.objsubid)) END, d.description
		  FROM pg_description d
		  WHERE d.classoid = 'pg_class'::regclass AND d.objoid = relid
		  UNION ALL
		  SELECT format('index %s', i.indexrelid::regclass), obj_description(i.indexrelid, 'pg_class')
		  FROM pg_index i WHERE i.indrelid = relid
		  UNION ALL
		  SELECT format('constraint %I', o.conname), obj_description(o.oid, 'pg_constraint')
		  FROM pg_constraint o WHERE o.conrelid = relid
		  UNION ALL
		  SELECT format('trigger %I', t.tgname), obj_description(t.oid, 'pg_trigger')
		  FROM pg_trigger t WHERE t.tgrelid = relid
		  UNION ALL
		  SELECT format('policy %I', p.polname), obj_description(p.oid, 'pg_policy')
		  FROM pg_policy p WHERE p.polrelid = relid) AS s (object, description)
	WHERE s.description IS NOT NULL
$$;

COMMENT ON FUNCTION partshift.inventory_dependents(oid) IS
'the part of an inventory that lists what depends on the table, labels and comments';

CREATE FUNCTION partshift.inventory(relid oid)
RETURNS SETOF partshift.inventory_entry
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT * FROM partshift.inventory_table(relid)
	UNION ALL
	SELECT * FROM partshift.inventory_privileges(relid)
	UNION ALL
	SELECT * FROM partshift.inventory_rules(relid)
	UNION ALL
	SELECT * FROM partshift.inventory_dependents(relid)
$$;

COMMENT ON FUNCTION partshift.inventory(oid) IS
'every object that a table carries or that depends on it, with its definition';

/*
 * What is different on purpose, and why.  An index whose name is also that of
 * a constraint shares its fate.
 */
CREATE FUNCTION partshift.carried_reason(job partshift.job, class text, object text,
										 before text, after text)
RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(
		(SELECT CASE WHEN (e.entry ->> 'per_partition')::boolean
				THEN 'Each partition enforces it alone.'
				WHEN jsonb_array_length(e.entry -> 'added') > 0
				THEN 'A unique key of a partitioned table contains the partition key.' END
		 FROM jsonb_array_elements(job.plan -> 'indexes') AS e (entry)
		 WHERE class IN ('index', 'constraint', 'comment')
			AND object IN (e.entry ->> 'name', 'index ' || quote_ident(e.entry ->> 'name'),
						   format('index %I.%I', job.schema_name, e.entry ->> 'name'),
						   'constraint ' || quote_ident(e.entry ->> 'name'))),
		CASE WHEN job.plan ? 'computed' THEN
			partshift.computed_reason(job.plan->'computed', class, object, before, after) END,
		CASE WHEN class = 'reference' AND EXISTS (
				SELECT FROM partshift.extended_keys(job.plan) AS x
				WHERE object = format('%I of table %s', x.name, x.relation::regclass))
			OR class = 'constraint' AND EXISTS (
				SELECT FROM partshift.extended_keys(job.plan) AS x
				WHERE object = x.name::text AND x.relation = job.relid)
			THEN 'It was extended by the partition key.' END,
		CASE WHEN class IN ('constraint', 'reference') AND before ~ '^FOREIGN KEY' AND after IS NULL
			THEN 'It was to be left off: foreign_keys => ''drop''.' END,
		CASE WHEN class = 'constraint' AND before ~ '^NOT NULL ' AND before = after || ' NOT VALID'
			THEN 'The partition key of the new table has no nulls.' END,
		CASE WHEN class = 'constraint' AND before ~ ' NO INHERIT'
			AND regexp_replace(before, ' NO INHERIT', '') = after
			THEN 'A partitioned table cannot have NO INHERIT.' END)
$$;

COMMENT ON FUNCTION partshift.carried_reason(partshift.job, text, text, text, text) IS
'why an object is not what it was, or null if nobody wanted it so';

CREATE FUNCTION partshift.compare_inventory(job_id integer)
RETURNS TABLE (class text, object text, state text, reason text, before text, after text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH job AS (
		SELECT j.* FROM partshift.job AS j
		WHERE j.job_id = compare_inventory.job_id
	), was AS (
		SELECT i.* FROM job, jsonb_to_recordset(job.plan -> 'inventory')
			AS i (class text, object text, definition text)
	), found AS (
		SELECT i.* FROM job, partshift.inventory(job.shadow) AS i
	)
	SELECT p.class, p.object, p.state,
		CASE WHEN p.state <> 'same' THEN
			partshift.carried_reason(job::partshift.job, p.class, p.object, p.before, p.after) END,
		p.before, p.after
	FROM job, (
		SELECT class, object,
			CASE WHEN w IS NULL THEN 'new' WHEN f IS NULL THEN 'left off'
				WHEN w.definition IS NOT DISTINCT FROM f.definition THEN 'same'
				ELSE 'changed' END AS state,
			w.definition AS before, f.definition AS after
		FROM was AS w FULL JOIN found AS f USING (class, object)) AS p
$$;

COMMENT ON FUNCTION partshift.compare_inventory(integer) IS
'what the table carried before the swap, beside what it carries now';

/*
 * Nothing but the names of what is looked at is locked: an object may go while
 * its definition is deparsed, which is an internal error of the server.  The
 * report is not worth the job, so what fails is tried again and then left.
 */
CREATE FUNCTION partshift.take_inventory(job_id integer)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	FOR attempt IN 1..3 LOOP
		BEGIN
			UPDATE partshift.job AS j
			SET plan = j.plan || jsonb_build_object('inventory',
				(SELECT coalesce(jsonb_agg(to_jsonb(i)), '[]')
				 FROM partshift.inventory(j.relid) AS i))
			WHERE j.job_id = take_inventory.job_id;
			RETURN;
		EXCEPTION WHEN OTHERS THEN
			RAISE LOG 'could not take the inventory of job %: %', job_id, SQLERRM;
		END;
	END LOOP;
END
$$;

COMMENT ON FUNCTION partshift.take_inventory(integer) IS
'keeps on a job what the table carries before its swap';

/* The inventory goes with the report, so that there is one of each swap. */
CREATE FUNCTION partshift.report_carried(job_id integer)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM FROM partshift.job AS j
	WHERE j.job_id = report_carried.job_id AND j.plan ? 'inventory' FOR UPDATE;
	IF NOT FOUND THEN
		RETURN;
	END IF;
	DELETE FROM partshift.carried_object AS c WHERE c.job_id = report_carried.job_id;
	FOR attempt IN 1..3 LOOP
		BEGIN
			INSERT INTO partshift.carried_object
				SELECT report_carried.job_id, c.*
				FROM partshift.compare_inventory(report_carried.job_id) AS c;
			EXIT;
		EXCEPTION WHEN OTHERS THEN
			RAISE LOG 'could not compare the inventories of job %: %', job_id, SQLERRM;
		END;
	END LOOP;
	UPDATE partshift.job AS j SET plan = j.plan - 'inventory'
	WHERE j.job_id = report_carried.job_id;
END
$$;

COMMENT ON FUNCTION partshift.report_carried(integer) IS
'records what became of each object in the swap, once';
