-- Indexes of every kind, the replica identity, the mark for CLUSTER, and
-- extended statistics.
\ir common.psql
CREATE EXTENSION IF NOT EXISTS btree_gist;
CREATE TABLE run.t (id integer PRIMARY KEY, name text, n integer NOT NULL, tags text[], span int4range);
CREATE UNIQUE INDEX t_unique ON run.t (id, n) INCLUDE (name);
CREATE UNIQUE INDEX t_nulls ON run.t (name, id) NULLS NOT DISTINCT;
CREATE INDEX t_partial ON run.t (n DESC NULLS LAST) WHERE name > 'b';
CREATE INDEX t_expr ON run.t (lower(name) text_pattern_ops, (n % 7));
CREATE INDEX t_hash ON run.t USING hash (name);
CREATE INDEX t_gin ON run.t USING gin (tags) WITH (fastupdate = off);
CREATE INDEX t_gist ON run.t USING gist (span, n);
CREATE INDEX t_brin ON run.t USING brin (n) WITH (pages_per_range = 4);
ALTER INDEX run.t_expr ALTER COLUMN 2 SET STATISTICS 55;
ALTER TABLE run.t REPLICA IDENTITY USING INDEX t_unique, CLUSTER ON t_nulls;
COMMENT ON INDEX run.t_gin IS 'tags';
CREATE STATISTICS run.t_both (dependencies, ndistinct) ON n, name FROM run.t;
CREATE STATISTICS run.t_one ON (n % 3) FROM run.t;
ALTER STATISTICS run.t_both SET STATISTICS 44;
COMMENT ON STATISTICS run.t_both IS 'both';
INSERT INTO run.t SELECT g, 'n' || g % 9, g % 9, ARRAY['t' || g % 5], int4range(g, g + 9) FROM generate_series(1, 500) g;
ANALYZE run.t;

-- Each partition's index is found by that of the table.
CREATE FUNCTION run.stored(index text) RETURNS SETOF oid LANGUAGE sql AS $$
	SELECT oid FROM pg_class WHERE oid = ('run.' || index)::regclass AND relkind = 'i'
	UNION ALL
	SELECT inhrelid FROM pg_inherits WHERE inhparent = ('run.' || index)::regclass
$$;
CREATE FUNCTION run.checks(stage text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN NEXT indexes_are('run', 't', ARRAY['t_pkey', 't_unique', 't_nulls', 't_partial', 't_expr', 't_hash', 't_gin',
		't_gist', 't_brin'], stage || ': the indexes');
	RETURN NEXT index_is_primary('run', 't', 't_pkey', stage || ': primary key');
	RETURN NEXT index_is_unique('run', 't', 't_unique', stage || ': unique');
	RETURN NEXT index_is_type('run', 't', 't_hash', 'hash', stage || ': hash');
	RETURN NEXT index_is_type('run', 't', 't_gin', 'gin', stage || ': gin');
	RETURN NEXT index_is_type('run', 't', 't_gist', 'gist', stage || ': gist');
	RETURN NEXT index_is_type('run', 't', 't_brin', 'brin', stage || ': brin');
	RETURN NEXT has_index('run', 't', 't_gist', ARRAY['span', 'n'], stage || ': columns');
	RETURN NEXT run.same_rows($q$ SELECT replace(pg_get_indexdef(indexrelid), ' ON ONLY ', ' ON ') FROM pg_index
		WHERE indrelid = 'run.t'::regclass AND indexrelid::regclass::text ~ 'unique|nulls|partial|expr|gin' ORDER BY 1 $q$,
		$q$ VALUES ('CREATE INDEX t_expr ON run.t USING btree (lower(name) text_pattern_ops, ((n % 7)))'),
			('CREATE INDEX t_gin ON run.t USING gin (tags) WITH (fastupdate=off)'),
			('CREATE INDEX t_partial ON run.t USING btree (n DESC NULLS LAST) WHERE (name > ''b''::text)'),
			('CREATE UNIQUE INDEX t_nulls ON run.t USING btree (name, id) NULLS NOT DISTINCT'),
			('CREATE UNIQUE INDEX t_unique ON run.t USING btree (id, n) INCLUDE (name)') $q$,
		stage || ': definitions');
	RETURN NEXT is(obj_description('run.t_gin'::regclass), 'tags', stage || ': comment');
	RETURN NEXT set_eq($q$ SELECT attnum::int, attstattarget::int FROM run.stored('t_expr') JOIN pg_attribute ON attrelid = stored
		WHERE attstattarget > 0 $q$, 'VALUES (2, 55)', stage || ': statistics target of an expression');
	RETURN NEXT is_empty($q$ SELECT FROM pg_index i WHERE indrelid = 'run.t'::regclass AND NOT indisvalid $q$,
		stage || ': all are valid');
	RETURN NEXT run.same_rows($q$ SELECT relreplident::text FROM pg_class WHERE oid = 'run.t'::regclass $q$,
		$q$ VALUES ('i') $q$, stage || ': replica identity of the table');
	RETURN NEXT set_eq($q$ SELECT indisreplident, c.relreplident::text FROM run.stored('t_unique') s
		JOIN pg_index ON indexrelid = s JOIN pg_class c ON c.oid = indrelid $q$, $q$ VALUES (true, 'i') $q$,
		stage || ': replica identity where rows are');
	RETURN NEXT set_eq($q$ SELECT indisclustered FROM run.stored('t_nulls') s JOIN pg_index ON indexrelid = s $q$,
		'VALUES (true)', stage || ': mark for CLUSTER');
	RETURN NEXT run.same_rows($q$ SELECT pg_get_statisticsobjdef(oid) FROM pg_statistic_ext
		WHERE stxrelid = 'run.t'::regclass ORDER BY 1 $q$,
		$q$ VALUES ('CREATE STATISTICS run.t_both (ndistinct, dependencies) ON name, n FROM run.t'),
			('CREATE STATISTICS run.t_one ON (n % 3) FROM run.t') $q$, stage || ': extended statistics');
	RETURN NEXT run.same_rows($q$ SELECT stxstattarget::int, obj_description(oid, 'pg_statistic_ext') FROM pg_statistic_ext
		WHERE stxrelid = 'run.t'::regclass AND stxname = 't_both' $q$, $q$ VALUES (44, 'both') $q$,
		stage || ': their target and comment');
	RETURN NEXT cmp_ok((SELECT count(*)::int FROM pg_stats_ext WHERE tablename = 't' AND schemaname = 'run'), '>', 0,
		stage || ': they are gathered');
END
$$;
SELECT plan(58);
\set arguments '''hash'', ''id'', partitions => 3'
\ir convert.psql
