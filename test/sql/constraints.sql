-- Constraints that are not valid or not enforced stay so, also on the
-- partitions, and rows that do not satisfy them are converted like others.
\set ECHO none
\getenv dir PG_ABS_SRCDIR
\set common :dir '/sql/common.psql'
\i :common
\pset format unaligned
\pset tuples_only on
SELECT current_setting('server_version_num')::integer >= 180000 AS since_18 \gset
CREATE TABLE people (id integer PRIMARY KEY);
INSERT INTO people SELECT generate_series(1, 20);
CREATE TABLE t (id integer PRIMARY KEY, n integer, who integer, note text);
INSERT INTO t SELECT g, nullif(g % 10, 0) - 5, g % 30, 'row ' || g FROM generate_series(1, 200) g;
CREATE TABLE child (id integer PRIMARY KEY, t integer);
INSERT INTO child SELECT g, g * 2 FROM generate_series(1, 150) g;
ALTER TABLE t ADD CONSTRAINT positive CHECK (n > 0) NOT VALID;
COMMENT ON CONSTRAINT positive ON t IS 'from now on';
CREATE TABLE was (line text);
CREATE FUNCTION now_is() RETURNS SETOF text LANGUAGE sql AS $$
	SELECT concat_ws(' ', conrelid::regclass, conname, pg_get_constraintdef(oid), convalidated,
		to_jsonb(o) ->> 'conenforced', obj_description(oid, 'pg_constraint'))
	FROM pg_constraint o
	WHERE conparentid = 0 AND (conrelid = 't'::regclass OR confrelid = 't'::regclass)
	UNION ALL
	SELECT concat_ws(' ', attname, attgenerated, attnotnull) FROM pg_attribute
	WHERE attrelid = 't'::regclass AND attnum > 0
$$;

-- What only 18 has; on older servers nothing of it is looked for.
\if :since_18
ALTER TABLE t ADD CONSTRAINT "has a note" NOT NULL note;
ALTER TABLE t ADD CONSTRAINT later NOT NULL n NOT VALID;
ALTER TABLE t ADD CONSTRAINT loose CHECK (id < 100) NOT ENFORCED;
ALTER TABLE t ADD CONSTRAINT known FOREIGN KEY (who) REFERENCES people NOT ENFORCED;
ALTER TABLE t ADD CONSTRAINT parent FOREIGN KEY (who) REFERENCES t NOT ENFORCED;
ALTER TABLE child ADD CONSTRAINT of_t FOREIGN KEY (t) REFERENCES t NOT ENFORCED;
ALTER TABLE t ADD twice integer GENERATED ALWAYS AS (n * 2) VIRTUAL,
	ADD large boolean GENERATED ALWAYS AS (n > 3), ADD half integer GENERATED ALWAYS AS (n / 2) STORED;
ALTER TABLE t ADD CONSTRAINT even CHECK (twice % 2 = 0);
COMMENT ON CONSTRAINT "has a note" ON t IS 'always';
\endif
INSERT INTO was SELECT now_is();
CREATE TABLE before AS TABLE t;
SELECT partshift.convert('t', 'hash', 'id', partitions => 3, swap => 'manual') AS job \gset
CALL probe.finish(:job);
-- Mirrored rows
DELETE FROM t WHERE id = 4;
INSERT INTO t (id, n, who, note) VALUES (300, 7, 1, 'new'), (301, 8, 2, 'new');
UPDATE t SET n = 9 WHERE id = 301;
DROP TABLE before;
CREATE TABLE before AS TABLE t;
SELECT partshift.swap(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT * FROM probe.differences('before', 't');
(TABLE was EXCEPT SELECT * FROM now_is()) UNION ALL (SELECT * FROM now_is() EXCEPT TABLE was);
CALL probe.await(format('NOT plan ? ''inventory'' FROM partshift.job WHERE job_id = %s', :job));
SELECT * FROM partshift.carried(:job) WHERE state <> 'same';

-- On each partition
SELECT count(*) FROM pg_constraint
WHERE conrelid IN (SELECT leaf FROM probe.leaves('t')) AND conname = 'positive' AND NOT convalidated;
\if :since_18
SELECT string_agg(format('%s %s %s %s', conname, n, valid, enforced), ', ' ORDER BY conname) AS answer,
	(SELECT count(*) FROM t WHERE twice IS DISTINCT FROM n * 2) AS wrong
FROM (SELECT conname, count(*), bool_or(convalidated), bool_or(conenforced) FROM pg_constraint
	WHERE conrelid IN (SELECT leaf FROM probe.leaves('t')) AND conname IN ('later', 'loose')
	GROUP BY conname) AS c (conname, n, valid, enforced) \gset
\else
\set answer 'later 3 f t, loose 3 f f'
\set wrong 0
\endif
\echo :answer / :wrong
-- New rows are checked.
SELECT split_part(probe.refusal('INSERT INTO t (id, n, who, note) VALUES (400, -1, 1, ''new'')'), E'\n', 1);
SELECT partshift.verify(:job);
CALL probe.finish(:job);
SELECT bool_and(equal) FROM partshift.verification WHERE job_id = :job;
SELECT partshift.rollback(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT * FROM probe.differences('before', 't');
(TABLE was EXCEPT SELECT * FROM now_is()) UNION ALL (SELECT * FROM now_is() EXCEPT TABLE was);
-- A partition key whose constraint does not forbid its nulls yet
\if :since_18
CREATE TABLE fresh AS SELECT id, n FROM t;
ALTER TABLE fresh ADD PRIMARY KEY (id), ADD CONSTRAINT later NOT NULL n NOT VALID;
SELECT partshift.convert('fresh', 'hash', 'n', partitions => 2, null_key => '0') AS job \gset
CALL probe.finish(:job);
SELECT concat_ws(' ', phase, status, error_message, (SELECT pg_get_constraintdef(oid) FROM pg_constraint
		WHERE conrelid = 'fresh'::regclass AND conname = 'later'), (SELECT count(*) FROM fresh WHERE n IS NULL)) AS answer
FROM partshift.job WHERE job_id = :job \gset
SELECT partshift.rollback(:job) \g /dev/null
CALL probe.finish(:job);
DROP TABLE fresh;
\else
\set answer 'done active NOT NULL n 0'
\endif
\echo :answer
DROP TABLE before, was, child, t, people;
