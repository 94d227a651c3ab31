-- What plan() says: all that convert() would build, carry, leave off and refuse.
\set ECHO none
\getenv dir PG_ABS_SRCDIR
\set common :dir '/sql/common.psql'
\i :common
\pset format unaligned
\pset tuples_only on
CREATE FUNCTION said(args text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format($q$
		SELECT regexp_replace(regexp_replace(concat_ws(' | ', severity, topic, object, replace(detail, E'\n', ' / '), hint),
			'(about )?\d+ (locks|rows|kB|bytes)', 'N \2', 'g'), '(room for|\| privileges:) \d+', '\1 N')
		FROM partshift.plan(%s)
		WHERE topic NOT IN ('distribution', 'partition', 'disk', 'wal', 'time', 'lock table', 'replication')$q$, args);
END
$$;
CREATE TABLE r (id integer PRIMARY KEY);
CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY, grp integer NOT NULL DEFAULT 1, name text UNIQUE,
	r integer REFERENCES r, made date NOT NULL DEFAULT '2024-01-01', twice integer GENERATED ALWAYS AS (2) STORED,
	PRIMARY KEY (id), CHECK (grp > 0));
CREATE TABLE c (id integer PRIMARY KEY, t bigint CONSTRAINT of_t REFERENCES t);
CREATE INDEX t_made ON t (made);
CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER looks BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f();
CREATE POLICY p ON t USING (true);
COMMENT ON TABLE t IS 'a table';
GRANT SELECT ON t TO PUBLIC;
GRANT UPDATE (name) ON t TO PUBLIC;
INSERT INTO t (grp, name, made) SELECT g, 'n' || g, date '2024-01-01' + g FROM generate_series(1, 30) g;
ANALYZE t;
CREATE TABLE was AS SELECT oid FROM pg_class;
SELECT last_value AS job_before FROM partshift.job_job_id_seq \gset

-- Nothing stands against it.
SELECT said($$'t', 'hash', 'id', partitions => 4, unique_keys => 'extend'$$);
-- Two errors, with what each would need
SELECT said($$'t', 'list', 'grp', lists => '{"few": [1, 2, 3]}'$$);
SELECT said($$'t', 'list', 'grp', lists => '{"few": [1, 2, 3]}', unique_keys => 'per_partition', foreign_keys => 'drop'$$);
SELECT said($$'t', 'range', 'made', bounds => '["2024-01-01", "2024-02-01", "2024-03-01"]', unique_keys => 'extend',
	foreign_keys => 'drop', default_partition => 'drop'$$);
-- Warnings: an index that is not valid, many partitions, an open prepared transaction
\set VERBOSITY sqlstate
CREATE UNIQUE INDEX CONCURRENTLY bad ON t (twice);
\set VERBOSITY default
BEGIN;
INSERT INTO r VALUES (1);
PREPARE TRANSACTION 'left open';
SELECT said($$'t', 'hash', 'id', partitions => 400, unique_keys => 'extend'$$);
ROLLBACK PREPARED 'left open';
-- What hangs on arguments alone is refused without the table being read.
SELECT said($$'t', 'hash', 'nothing', partitions => 4, swap => 'never'$$);

-- It has changed nothing, and has made no job.
SELECT oid::regclass FROM pg_class WHERE oid NOT IN (SELECT oid FROM was) AND relname <> 'was' AND relname !~ '^pg_toast';
SELECT last_value = :job_before FROM partshift.job_job_id_seq;
SELECT probe.refusal('SELECT partshift.plan(NULL, ''hash'', ''id'')');
DROP TABLE was, c, t, r;
DROP FUNCTION f, said;
