/*
 * What becomes of a table's policy when the table is converted again.
 *
 * It goes with the name.  At the swap the new table gets a copy, on the grid
 * of the conversion; the source's own rests, as the source is maintained no
 * more, until the conversion ends: a rollback wakes it, with what was changed
 * of the copy since, and finalize() forgets it.  Partitions that are on their
 * way out of the source go on under the new table, which still is maintained.
 */
CREATE FUNCTION partshift.pass_obstacle(p partshift.managed, strategy text, key_columns name[],
	options jsonb)
RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE
		WHEN strategy <> 'range' THEN 'The new partitions are not ranges.'
		WHEN key_columns <> ARRAY[p.key_column]
			THEN format('The new partitions are ranges of another column than "%s".', p.key_column)
		WHEN NOT options ? 'every' THEN 'The new partitions have bounds of their own.'
		END
$$;

COMMENT ON FUNCTION partshift.pass_obstacle(partshift.managed, text, name[], jsonb) IS
'why a policy cannot be that of the new table, or null';

/*
 * A number of partitions is an age where these have another width: so many of
 * the old ones reach no further back.
 */
CREATE FUNCTION partshift.count_as_age(count integer, every text, type oid) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
SET intervalstyle = 'postgres'
AS $$
	SELECT CASE WHEN partshift.is_number(type) THEN (count * every::numeric)::text
		ELSE (count * every::interval)::text END
$$;

COMMENT ON FUNCTION partshift.count_as_age(integer, text, oid) IS
'how far back so many partitions of a width reach';

CREATE FUNCTION partshift.passed_policy(p partshift.managed, options jsonb, new_table oid)
RETURNS partshift.managed
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET intervalstyle = 'postgres'
AS $$
DECLARE
	type oid := (partshift.key_of(p.relid, p.key_column, '{}')).type;
	every text := CASE WHEN partshift.is_number(type)
		THEN partshift.number_step(options ->> 'every')::text
		ELSE partshift.time_step(options ->> 'every')::text END;
BEGIN
	IF every <> p.every AND p.retention_count IS NOT NULL THEN
		p.retention := partshift.count_as_age(p.retention_count, p.every, type);
		p.retention_count := NULL;
	END IF;
	p.relid := new_table;
	p.row_type := (SELECT c.reltype FROM pg_class c WHERE c.oid = new_table);
	p.every := every;
	p.shift := '0';
	p.timezone := coalesce(options ->> 'timezone', 'UTC');
	p.premake := coalesce((options ->> 'premake')::integer, p.premake);
	p.name_format := coalesce(options ->> 'name_format', '{table}_p{bound}');
	p.managed_at := clock_timestamp();
	p.analyzed_at := NULL;
	p.maintained_at := NULL;
	p.failed_at := NULL;
	p.error := NULL;
	p.successor := NULL;
	RETURN p;
END
$$;

COMMENT ON FUNCTION partshift.passed_policy(partshift.managed, jsonb, oid) IS
'the policy that a new table gets of the one that it replaces';

CREATE FUNCTION partshift.pass_policy(job_id integer) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	job partshift.job;
	p partshift.managed;
BEGIN
	SELECT j.* INTO job FROM partshift.job j WHERE j.job_id = pass_policy.job_id;
	UPDATE partshift.managed m SET successor = job.shadow
	FROM pg_class c
	WHERE m.relid = job.relid AND c.oid = m.relid AND c.reltype = m.row_type
		AND partshift.pass_obstacle(m, job.strategy, job.key_columns, job.options) IS NULL
	RETURNING m.* INTO p;
	IF NOT FOUND THEN
		RETURN;
	END IF;
	p := partshift.passed_policy(p, job.options, job.shadow);
	INSERT INTO partshift.managed SELECT p.* ON CONFLICT (relid) DO NOTHING;
	UPDATE partshift.retired t SET relid = job.shadow WHERE t.relid = job.relid;
END
$$;

COMMENT ON FUNCTION partshift.pass_policy(integer) IS
'gives the new table of a conversion the policy of the source, if it fits';

/* What the operator has changed of the copy is meant for the table's name. */
CREATE FUNCTION partshift.returned_policy(p partshift.managed, changed partshift.managed, options jsonb)
RETURNS partshift.managed
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	given partshift.managed := partshift.passed_policy(p, options, changed.relid);
	type oid := (partshift.key_of(p.relid, p.key_column, '{}')).type;
BEGIN
	IF changed.premake <> given.premake THEN
		p.premake := changed.premake;
	END IF;
	IF (changed.retention, changed.retention_count)
		IS DISTINCT FROM (given.retention, given.retention_count)
	THEN
		p.retention := changed.retention;
		p.retention_count := changed.retention_count;
		IF changed.every <> p.every AND changed.retention_count IS NOT NULL THEN
			p.retention := partshift.count_as_age(changed.retention_count, changed.every, type);
			p.retention_count := NULL;
		END IF;
	END IF;
	p.retention_action := changed.retention_action;
	p.retention_schema := changed.retention_schema;
	p.move_rows := changed.move_rows;
	p.analyze_every := changed.analyze_every;
	RETURN p;
END
$$;

COMMENT ON FUNCTION partshift.returned_policy(partshift.managed, partshift.managed, jsonb) IS
'the policy of a table that has its name again, after what was changed meanwhile';

CREATE FUNCTION partshift.settle_policy(job_id integer, status text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	job partshift.job;
	p partshift.managed;
	changed partshift.managed;
BEGIN
	SELECT j.* INTO job FROM partshift.job j WHERE j.job_id = settle_policy.job_id;
	IF status = 'finalized' THEN
		DELETE FROM partshift.managed m WHERE m.relid = job.relid;
	ELSIF status = 'rolled_back' THEN
		DELETE FROM partshift.managed m WHERE m.relid = job.shadow RETURNING m.* INTO changed;
		DELETE FROM partshift.managed m WHERE m.relid = job.relid AND m.successor = job.shadow
		RETURNING m.* INTO p;
		IF p.relid IS NOT NULL AND changed.relid IS NOT NULL THEN
			p := partshift.returned_policy(p, changed, job.options);
			p.successor := NULL;
			INSERT INTO partshift.managed SELECT p.*;
		END IF;
		UPDATE partshift.retired t SET relid = job.relid WHERE t.relid = job.shadow;
	END IF;
END
$$;

COMMENT ON FUNCTION partshift.settle_policy(integer, text) IS
'what becomes of the policies of both tables when a conversion has ended';

/*
 * What a conversion means for the maintenance of its source.  Without DEFAULT
 * a row beyond the last partition is refused before the swap; after it the old
 * table has no place for it and cannot follow any more.
 */
CREATE FUNCTION partshift.check_maintenance(relid oid, strategy text, key_columns name[], options jsonb)
RETURNS SETOF partshift.finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH policy AS (
		SELECT m, c.relname,
			partshift.pass_obstacle(m, strategy, key_columns, options) AS obstacle
		FROM partshift.managed m JOIN pg_class c ON c.oid = m.relid AND c.reltype = m.row_type
		WHERE m.relid = check_maintenance.relid
	)
	SELECT f.*
	FROM policy p,
		 partshift.informed('maintenance', p.relname,
			format('table "%s" is maintained as before after the swap', p.relname),
			format('Its policy goes to the new table, with the interval, the time zone and the names of the conversion%s.',
				   CASE WHEN (p.m).retention_count IS NOT NULL
						THEN '; where the interval is another, retention_count becomes an age' END)) f
	WHERE p.obstacle IS NULL
	UNION ALL
	SELECT f.*
	FROM policy p,
		 partshift.warned('maintenance', p.relname,
			format('the maintenance of table "%s" ends with the swap', p.relname), p.obstacle,
			CASE WHEN strategy = 'range' THEN 'Use partshift.manage() afterwards.' END) f
	WHERE p.obstacle IS NOT NULL
	UNION ALL
	SELECT f.*
	FROM policy p JOIN pg_partitioned_table t ON t.partrelid = (p.m).relid AND t.partdefid = 0,
		 LATERAL (SELECT s.upper FROM partshift.key_of((p.m).relid, (p.m).key_column, '{}') k,
					partshift.stretches((p.m).relid, k.type) s
				  ORDER BY s.beyond DESC LIMIT 1) AS s (upper),
		 partshift.warned('maintenance', p.relname,
			format('no partitions of table "%s" are made while it is converted', p.relname),
			format('The last one ends at %s.  Rows beyond it are refused; after the swap they end the possibility of a rollback.',
				   s.upper),
			'Have more of them made first: use partshift.manage() with a higher premake, and partshift.maintain().') f
	WHERE s.upper <> 'MAXVALUE'
	UNION ALL
	SELECT f.*
	FROM pg_class c, partshift.partman_config(c.oid) AS config,
		 partshift.warned('maintenance', c.relname,
			format('pg_partman maintains table "%s" and will maintain the new one', c.relname),
			format('Table %s knows it by its name, and says how the old partitions are made.', config),
			'Delete its row there before the conversion.  When that is finalized use partshift.manage() or partshift.hand_over().') f
	WHERE c.oid = check_maintenance.relid AND c.relkind = 'p' AND config IS NOT NULL
$$;

COMMENT ON FUNCTION partshift.check_maintenance(oid, text, name[], jsonb) IS
'findings about who maintains the partitions of a source';
