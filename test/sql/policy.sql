-- The policy of a table that is converted again: it goes with the name.
\set ECHO none
\getenv dir PG_ABS_SRCDIR
\set common :dir '/sql/common.psql'
\i :common
\pset format unaligned
\pset tuples_only on
CREATE FUNCTION policies() RETURNS SETOF text LANGUAGE sql AS $$
	SELECT concat_ws(' ', relation, 'every', every, 'premake', premake, 'retention ' || retention,
		'count ' || retention_count, retention_action, timezone, name_format, move_rows)
	FROM partshift.policies ORDER BY relation
$$;
CREATE FUNCTION said(relation regclass, strategy text, key text, options jsonb) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT concat_ws(' | ', f->>'severity', f->>'message', f->>'detail', f->>'hint')
	FROM jsonb_array_elements(partshift.plan_job(relation, strategy, key, options)->'findings') f
	WHERE f->>'topic' = 'maintenance'
$$;
CREATE PROCEDURE converted(strategy text, options jsonb, OUT job integer)
LANGUAGE plpgsql AS $$
BEGIN
	job := partshift.create_job('t', strategy, 'id', options);
	COMMIT;
	CALL probe.finish(job);
END
$$;
CREATE PROCEDURE ended(job integer, OUT state text)
LANGUAGE plpgsql AS $$
BEGIN
	CALL probe.await(format('status <> ''active'' FROM partshift.job WHERE job_id = %s', job));
	state := probe.state(job);
END
$$;
\set every '{"every": "10", "premake": 4, "name_format": "{table}_n{bound}"}'

CREATE TABLE t (id integer PRIMARY KEY, v integer NOT NULL DEFAULT 0) PARTITION BY RANGE (id);
CREATE TABLE t_p0 PARTITION OF t FOR VALUES FROM (0) TO (100);
CREATE TABLE t_p100 PARTITION OF t FOR VALUES FROM (100) TO (200);
CREATE TABLE t_p200 PARTITION OF t FOR VALUES FROM (200) TO (300);
INSERT INTO t SELECT generate_series(0, 250);
-- A partition that a run which died has detached and not yet dropped.
SELECT partshift.manage('t', premake => 1, retention_count => 2, move_rows => 77, analyze_every => '0');
CREATE TABLE t_gone PARTITION OF t FOR VALUES FROM (-100) TO (0);
SELECT partshift.retire('t'::regclass, 't_gone'::regclass);
ALTER TABLE t DETACH PARTITION t_gone;

-- What the plan says.
SELECT said('t', 'range', 'id', :'every');
SELECT said('t', 'range', 'id', '{"bounds": [0, 200]}');
SELECT said('t', 'hash', 'id', '{"partitions": 2}');
CREATE TABLE t_default PARTITION OF t DEFAULT;
SELECT said('t', 'hash', 'id', '{"partitions": 2}');
DROP TABLE t_default;

-- Nothing is done while it is converted; after an abort all is as before.
CALL converted('range', CAST(:'every' AS jsonb) || '{"swap": "manual"}', NULL) \gset
SELECT policies();
SELECT * FROM partshift.maintain();
SELECT object, probe.mask(mend) FROM partshift.health('t') WHERE topic = 'missing partition';
SELECT partshift.abort(:job);
CALL ended(:job, NULL);
SELECT policies();
SELECT action, object FROM partshift.maintain(dry_run => true);

-- After the swap the new table has it; nothing is dropped that a rollback needs.
CALL converted('range', :'every', NULL) \gset
SELECT policies();
INSERT INTO t SELECT generate_series(251, 299);
SELECT action, object, status FROM partshift.maintain();
SELECT severity, object, detail FROM partshift.health() WHERE topic IN ('missing partition', 'expired partition', 'maintenance');
SELECT table_name FROM partshift.distribution() WHERE table_name ~ '^public.t_legacy';
SELECT h.topic FROM partshift.jobs j, partshift.health(j.legacy::regclass) h WHERE j.job_id = :job AND h.topic = 'missing partition';
SELECT partshift.rollback(:job);
CALL ended(:job, NULL);
SELECT policies();
SELECT action, object FROM partshift.maintain(dry_run => true);

-- What is changed meanwhile comes back with the name.
CALL converted('range', :'every', NULL) \gset
SELECT partshift.manage('t', premake => 9, retention_count => 30, retention_action => 'detach', move_rows => 5, analyze_every => '0');
SELECT policies();
SELECT partshift.rollback(:job);
CALL ended(:job, NULL);
SELECT policies();
CALL converted('range', :'every', NULL) \gset
SELECT partshift.unmanage('t');
SELECT partshift.rollback(:job);
CALL ended(:job, NULL);
SELECT policies();
SELECT count(*) FROM partshift.managed;

-- What does not fit ends, or rests until a rollback.
SELECT partshift.manage('t', premake => 1, retention_count => 2, analyze_every => '0');
CALL converted('hash', '{"partitions": 2}', NULL) \gset
SELECT policies();
SELECT severity, object, detail FROM partshift.health() WHERE topic IN ('missing partition', 'expired partition', 'maintenance');
SELECT partshift.rollback(:job);
CALL ended(:job, NULL);
SELECT policies();
CALL converted('range', '{"bounds": [0, 200, 1000]}', NULL) \gset
SELECT policies();
SELECT severity, table_name, probe.mask(detail), mend FROM partshift.health() WHERE topic IN ('missing partition', 'expired partition', 'maintenance');
SELECT partshift.rollback(:job);
CALL ended(:job, NULL);
SELECT policies();

-- In the end there is one policy, and it is followed.
CALL converted('range', :'every', NULL) \gset
SELECT partshift.finalize(:job);
CALL ended(:job, NULL);
SELECT policies();
SELECT count(*) FROM partshift.managed;
SELECT action, object, status FROM partshift.maintain() WHERE action <> 'create' LIMIT 3;
SELECT min(id), max(id) FROM t;
DO $$ BEGIN EXECUTE (SELECT 'DROP TABLE ' || backup FROM partshift.backups WHERE relation = 'public.t' AND state = 'kept'); END $$;
DROP TABLE t;

-- Months that become days.
CREATE TABLE d (at date NOT NULL, id integer, PRIMARY KEY (at, id)) PARTITION BY RANGE (at);
CREATE TABLE d_1 PARTITION OF d FOR VALUES FROM ('2126-01-01') TO ('2126-02-01');
INSERT INTO d VALUES ('2126-01-31', 1);
SELECT partshift.manage('d', retention_count => 14, timezone => 'Europe/Berlin', analyze_every => '0');
SELECT partshift.convert('d', 'range', 'at', every => '1 day', timezone => 'America/New_York') AS job \gset
CALL probe.finish(:job);
SELECT policies();
SELECT partshift.manage('d', retention_count => 400, analyze_every => '0');
SELECT partshift.rollback(:job);
CALL ended(:job, NULL);
SELECT policies();
DROP TABLE d;
DROP FUNCTION policies, said;
DROP PROCEDURE converted, ended;
