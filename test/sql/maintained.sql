-- Maintenance: a new partition has what the others have, and what goes.
\set ECHO none
\getenv dir PG_ABS_SRCDIR
\set common :dir '/sql/common.psql'
\i :common
\pset format unaligned
\pset tuples_only on
CREATE ROLE regress_ps_keeper;
CREATE ROLE regress_ps_reader;
CREATE SCHEMA kept AUTHORIZATION regress_ps_keeper;
CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE 'a trigger of % was fired', TG_RELNAME;
END
$$;
/* The definition of a partition, with its name taken out, and what it has by itself from 17 on. */
CREATE FUNCTION nameless(rel regclass) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT replace(replace(d, relname, 'LEAF'), ' identity a', '')
	FROM pg_class c, LATERAL (
		SELECT probe.describe(c.oid) UNION ALL SELECT probe.storage(c.oid)
		UNION ALL
		SELECT concat_ws(' ', 'statistics', s.stxname, pg_get_statisticsobjdef_columns(s.oid),
			s.stxkind, s.stxstattarget, pg_get_userbyid(s.stxowner))
		FROM pg_statistic_ext s WHERE s.stxrelid = c.oid) AS x (d)
	WHERE c.oid = rel
$$;

-- The owner need not be able to create anything where his table is.
CREATE TABLE place (id integer PRIMARY KEY);
INSERT INTO place SELECT generate_series(1, 10);
ALTER TABLE place OWNER TO regress_ps_keeper;
CREATE TABLE logs (
	id bigint GENERATED ALWAYS AS IDENTITY,
	gone text,
	at date NOT NULL,
	place integer REFERENCES place,
	body text DEFAULT 'none' CHECK (body <> ''),
	size integer GENERATED ALWAYS AS (length(body)) STORED,
	PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
ALTER TABLE logs DROP COLUMN gone;
ALTER TABLE logs OWNER TO regress_ps_keeper;
CREATE INDEX logs_upper ON logs (upper(body)) WITH (fillfactor = 60);
CREATE UNIQUE INDEX logs_at ON logs (at, id);
CREATE UNLOGGED TABLE logs_p20260104 (body text DEFAULT 'none' CONSTRAINT logs_body_check CHECK (body <> ''),
	id bigint NOT NULL, at date NOT NULL, place integer,
	size integer GENERATED ALWAYS AS (length(body)) STORED,
	CHECK (at >= '2026-01-04')) WITH (fillfactor = 70, toast.autovacuum_enabled = off);
ALTER TABLE logs_p20260104 OWNER TO regress_ps_keeper;
ALTER TABLE logs ATTACH PARTITION logs_p20260104 FOR VALUES FROM ('2026-01-04') TO ('2026-01-05');
CREATE TABLE logs_default PARTITION OF logs DEFAULT;
ALTER TABLE logs_default OWNER TO regress_ps_keeper;
CREATE TRIGGER stop BEFORE DELETE OR UPDATE ON logs FOR EACH ROW EXECUTE FUNCTION stop();
ALTER TABLE logs ENABLE ALWAYS TRIGGER stop;
ALTER TABLE logs_default ENABLE ALWAYS TRIGGER stop;
CREATE TABLE remark (id bigint, at date, FOREIGN KEY (id, at) REFERENCES logs ON DELETE CASCADE);
ALTER TABLE remark OWNER TO regress_ps_keeper;
ALTER TABLE logs_p20260104
	ALTER body SET STATISTICS 50, ALTER body SET STORAGE EXTERNAL, ALTER place SET (n_distinct = 10),
	REPLICA IDENTITY USING INDEX logs_p20260104_at_id_idx, CLUSTER ON logs_p20260104_pkey,
	ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON logs_p20260104 FOR SELECT TO regress_ps_reader USING (place = 1);
CREATE STATISTICS logs_p20260104_s (ndistinct, mcv) ON place, body FROM logs_p20260104;
ALTER STATISTICS logs_p20260104_s SET STATISTICS 7;
ALTER STATISTICS logs_p20260104_s OWNER TO regress_ps_keeper;
GRANT SELECT ON logs_p20260104 TO regress_ps_reader WITH GRANT OPTION;
GRANT UPDATE (body) ON logs_p20260104 TO regress_ps_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE regress_ps_keeper GRANT ALL ON TABLES TO PUBLIC;
INSERT INTO logs (at, place, body) SELECT date '2026-01-04' + g % 4, g % 10 + 1, repeat('b', 10000)
FROM generate_series(0, 39) g;
INSERT INTO remark SELECT id, at FROM logs;
CREATE TABLE were AS SELECT * FROM logs;
SET ROLE regress_ps_keeper;
SELECT partshift.manage('logs', premake => 1);
SELECT * FROM partshift.maintain('logs', now => '2026-01-06 10:00+00');
RESET ROLE;
(SELECT 'only before: ' || d FROM (SELECT nameless('logs_p20260104') EXCEPT SELECT nameless('logs_p20260106')) x (d)
UNION ALL SELECT 'only after: ' || d FROM (SELECT nameless('logs_p20260106') EXCEPT SELECT nameless('logs_p20260104')) x (d))
ORDER BY 1;
SELECT nspname FROM pg_namespace WHERE nspname ~ '^partshift_build';
SELECT probe.differences('logs', 'were');
SELECT probe.damages('logs');
SELECT tableoid::regclass, count(*) FROM logs GROUP BY tableoid ORDER BY tableoid::regclass::text;
SELECT count(*) FROM remark;
SELECT probe.refusal('INSERT INTO remark VALUES (0, ''2026-01-06'')');
SELECT probe.refusal('INSERT INTO logs (at, place) VALUES (''2026-01-06'', 99)');
SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'logs_p20260106'::regclass AND NOT tgisinternal;
-- Rows that a foreign key refers to do not go; nothing else is held up by that.
SET ROLE regress_ps_keeper;
SELECT partshift.manage('logs', premake => 2, retention => '2 days');
SELECT regexp_replace(probe.refusal('SELECT partshift.maintain(''logs'', now => ''2026-01-07'')'), 'fkey_?1', 'fkeyN');
SELECT action, object, status FROM partshift.maintenance WHERE run = (SELECT max(run) FROM partshift.maintenance);
RESET ROLE;
DROP TABLE remark;
SELECT partshift.maintain('logs', now => '2026-01-07');
-- A table of another owner's that refers to it.
CREATE TABLE remark (id bigint, at date, FOREIGN KEY (id, at) REFERENCES logs);
SELECT action, object, status, detail FROM partshift.maintain('logs', now => '2026-01-08', dry_run => true);
DROP TABLE remark;
-- Moved, and left alone; never DEFAULT, the present one, or what has no end.
SELECT partshift.manage('logs', premake => 2, retention_count => 1, retention_action => 'move', retention_schema => 'kept');
SELECT action, object, status FROM partshift.maintain('logs', now => '2026-01-08');
SELECT partshift.manage('logs', premake => 2, retention_count => 1, retention_action => 'detach');
SELECT action, object, status FROM partshift.maintain('logs', now => '2027-01-09') WHERE action IN ('detach', 'drop', 'move');
SELECT n.nspname, c.relname, relispartition FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
WHERE c.relname ~ '^logs_(p202601|default)' AND relkind = 'r' ORDER BY 2;
DROP TABLE logs, were, logs_p20260108, logs_p20260109, logs_p20260110;
DROP SCHEMA kept CASCADE;
DROP TABLE place;

-- Without DEFAULT: concurrently.  Numbers are counted from the last that has rows.
CREATE TABLE chunks (n integer PRIMARY KEY) PARTITION BY RANGE (n);
CREATE TABLE chunks_p0 PARTITION OF chunks FOR VALUES FROM (MINVALUE) TO (10);
CREATE TABLE chunks_p10 PARTITION OF chunks FOR VALUES FROM (10) TO (20);
CREATE TABLE chunks_last PARTITION OF chunks FOR VALUES FROM (1000) TO (MAXVALUE);
INSERT INTO chunks SELECT generate_series(1, 19);
SELECT partshift.manage('chunks', premake => 2, retention => '20', analyze_every => '0');
SELECT * FROM partshift.maintain('chunks');
INSERT INTO chunks SELECT generate_series(20, 39);
SELECT * FROM partshift.maintain('chunks');
INSERT INTO chunks VALUES (40), (2000);
SELECT * FROM partshift.maintain('chunks');
-- A policy is written for what is there.
SELECT partshift.manage('chunks', premake => 2, retention => '20', analyze_every => '0', name_format => 'chunks_p10{bound}');
CREATE VIEW chunks_p1070 AS SELECT 1;
INSERT INTO chunks VALUES (50);
SELECT probe.refusal('SELECT partshift.maintain(''chunks'')');
DROP VIEW chunks_p1070;
SELECT action, object, status FROM partshift.maintain('chunks');
SELECT probe.refusal('SELECT partshift.manage(''chunks'', retention => ''19.5'')');
SELECT probe.refusal('SELECT partshift.manage(''chunks'', retention => ''9'')');
-- The transaction of the caller is his own, and what the worker did stays.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) > 0 FROM partshift.policies;
INSERT INTO chunks VALUES (60);
SELECT action, object, status FROM partshift.maintain('chunks');
ROLLBACK;

-- While a conversion can be rolled back nothing is taken away; it is afterwards.
CREATE TABLE conv (id integer PRIMARY KEY);
INSERT INTO conv SELECT generate_series(0, 49);
SELECT partshift.convert('conv', 'range', 'id', every => '10', premake => 1) AS job \gset
CALL probe.finish(:job);
SELECT partshift.manage('conv', retention_count => 2);
SELECT every, premake FROM partshift.policies WHERE relation = 'public.conv';
INSERT INTO conv SELECT generate_series(50, 75);
SELECT action, object, rows FROM partshift.maintain('conv');
SELECT probe.differences('conv', legacy::regclass) FROM partshift.jobs WHERE job_id = :job;
SELECT partshift.rollback(:job);
CALL probe.await(format('status <> ''active'' FROM partshift.job WHERE job_id = %s', :job));
SELECT probe.state(:job);
SELECT count(*) FROM conv;
SELECT partshift.convert('conv', 'range', 'id', every => '10', premake => 1) AS job \gset
CALL probe.finish(:job);
SELECT partshift.manage('conv', retention_count => 2);
SELECT action, object FROM partshift.maintain('conv');
SELECT partshift.finalize(:job);
CALL probe.await(format('status <> ''active'' FROM partshift.job WHERE job_id = %s', :job));
SELECT action, object FROM partshift.maintain('conv');
SELECT min(id), max(id) FROM conv;
DO $$ BEGIN EXECUTE (SELECT 'DROP TABLE ' || backup FROM partshift.backups WHERE relation = 'public.conv' AND state = 'kept'); END $$;
SELECT state FROM partshift.backups WHERE relation = 'public.conv';
DROP TABLE conv, chunks;
ALTER DEFAULT PRIVILEGES FOR ROLE regress_ps_keeper REVOKE ALL ON TABLES FROM PUBLIC;
DROP ROLE regress_ps_keeper, regress_ps_reader;
