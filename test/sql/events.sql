-- What happened to a job, in order, and how many rows it met.
\set ECHO none
\getenv dir PG_ABS_SRCDIR
\set common :dir '/sql/common.psql'
\i :common
\pset format unaligned
\pset tuples_only on
CREATE ROLE events_owner;
CREATE ROLE events_other;
CREATE TABLE t (id integer PRIMARY KEY, v text, n integer DEFAULT 0);
INSERT INTO t SELECT g, 'v' || g FROM generate_series(1, 1000) g;
ALTER TABLE t OWNER TO events_owner;
GRANT CREATE ON SCHEMA public TO events_owner;
-- The events of a job, without what depends on time and chance.
CREATE FUNCTION told(job integer) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT concat_ws(' | ', kind, phase, CASE WHEN given_by = current_user THEN 'by me' ELSE given_by END,
		regexp_replace(detail, 'process \d+', 'process N', 'g'))
	FROM partshift.events WHERE job_id = job AND kind <> 'worker'
		AND detail IS DISTINCT FROM 'process N is in the way' AND kind <> 'waiting'
$$;
-- A row that is written again by a trigger of its own statement
CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	UPDATE t SET n = n + 1 WHERE id = NEW.id;
	RETURN NULL;
END
$$;
CREATE TRIGGER "a first" AFTER UPDATE ON t FOR EACH ROW WHEN (NEW.n = 0 AND NEW.v = 'twice')
	EXECUTE FUNCTION again();

-- The copy is held up by a lock on a partition; three rows are written meanwhile.
BEGIN;
LOCK TABLE t IN ROW EXCLUSIVE MODE;
PREPARE TRANSACTION 'a writer';
SELECT partshift.convert('t', 'hash', 'id', partitions => 2, swap => 'manual', workers => 1) AS job \gset
CALL probe.await(format('lock_tries > 2 FROM partshift.job WHERE job_id = %s', :job));
BEGIN;
LOCK TABLE t_p1 IN SHARE MODE;
PREPARE TRANSACTION 'on a leaf';
COMMIT PREPARED 'a writer';
CALL probe.await(format('phase = ''copy'' AND lock_tries > 0 FROM partshift.job WHERE job_id = %s', :job));
UPDATE t SET v = 'captured' WHERE id <= 3;
SELECT FROM pg_stat_force_next_flush();
SELECT rows_captured, rows_mirrored, phase FROM partshift.metrics WHERE job_id = :job;
-- What wait() prints: a line, and what of it is news.
SELECT probe.mask(regexp_replace(report, '\d+ blocks', 'N blocks')), mark FROM partshift.watch(:job);
SELECT partshift.alter_job(:job, workers => 3, cost_delay => 0);
SELECT partshift.pause(:job);
SELECT partshift.resume(:job);
COMMIT PREPARED 'on a leaf';
CALL probe.finish(:job);
SELECT probe.state(:job);
-- Of tries in vain the 1st, the 2nd and the 4th are told, and who was in the way.
SELECT detail FROM partshift.events
WHERE job_id = :job AND kind = 'waiting' AND phase = 'prepare' AND detail ~ '^try [12] ' ORDER BY detail;
SELECT every(regexp_match(detail, '^try (\d+) ')::text ~ '^{(1|2|4|8|16|32|64|128|256)}$')
FROM partshift.events WHERE job_id = :job AND kind = 'waiting' AND phase = 'prepare';

-- Five rows are mirrored, and of one more an event is not the last word.
UPDATE t SET v = 'mirrored' WHERE id BETWEEN 11 AND 15;
UPDATE t SET v = 'twice' WHERE id = 21;
SELECT FROM pg_stat_force_next_flush();
SELECT relation, copied + settled >= 1000 AS all_rows, captured, settled, busy, mirrored, mirror_fallbacks
FROM partshift.counters WHERE job_id = :job;
SELECT partshift.swap(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
-- In reverse it goes on counting; an event has what the log counted.
DELETE FROM t WHERE id BETWEEN 31 AND 40;
SELECT FROM pg_stat_force_next_flush();
SELECT captured, mirrored, mirror_fallbacks FROM partshift.counters WHERE job_id = :job;
SELECT counters FROM partshift.events WHERE job_id = :job AND kind = 'swapped';
SELECT partition, rows > 400 AS rows, bytes > 0 AS bytes, is_default FROM partshift.partition_metrics
WHERE relation = 'public.t' ORDER BY 1;

-- Who may see the job may see all this; others see nothing, and nobody writes.
SET ROLE events_other;
SELECT count(*) FROM partshift.events;
SELECT count(*) FROM partshift.counters;
SELECT count(*) FROM partshift.metrics;
SELECT count(*) FROM partshift.partition_metrics;
SELECT probe.refusal('SELECT FROM partshift.event');
SET ROLE events_owner;
SELECT count(*) > 0 FROM partshift.events WHERE job_id = :job;
SELECT count(*) FROM partshift.metrics WHERE job_id = :job;
SELECT count(*) FROM partshift.partition_metrics WHERE relation = 'public.t';
SELECT probe.refusal('DELETE FROM partshift.event');
RESET ROLE;

-- The old table is given up: one row of it, and one alarm
SELECT legacy FROM partshift.jobs WHERE job_id = :job \gset
DROP TABLE :legacy;
SELECT dropped_out, rollback_possible FROM partshift.metrics WHERE job_id = :job;
INSERT INTO t VALUES (2000, 'lost');
SELECT dropped_out, rollback_possible FROM partshift.metrics WHERE job_id = :job;
SELECT partshift.finalize(:job);
CALL probe.finish(:job);
SELECT * FROM told(:job);
DROP TABLE t;

-- What was rolled back has not happened; a failure and its end have.
CREATE TABLE t (id integer PRIMARY KEY);
BEGIN;
SELECT partshift.convert('t', 'hash', 'id', partitions => 2) AS job \gset
ROLLBACK;
SELECT count(*) FROM partshift.event WHERE job_id = :job;
SELECT partshift.convert('t', 'hash', 'id', partitions => 2, swap => 'manual') AS job \gset
CALL probe.finish(:job);
SET session_replication_role = replica;
ALTER TABLE t ADD COLUMN added integer;
RESET session_replication_role;
SELECT partshift.swap(:job);
CALL probe.finish(:job);
SELECT failed, active FROM partshift.metrics WHERE job_id = :job;
SELECT partshift.abort(:job);
CALL probe.finish(:job);
SELECT * FROM told(:job);
DROP TABLE t;

-- Tables by ranges of time: how far their partitions reach.  One that takes all that is to come has no end.
CREATE TABLE days (at timestamptz) PARTITION BY RANGE (at);
\set ECHO none
SELECT format('CREATE TABLE days_%s PARTITION OF days FOR VALUES FROM (%L) TO (%L)', g + 5,
	date_trunc('day', now()) + g * interval '1 day', date_trunc('day', now()) + (g + 1) * interval '1 day')
FROM generate_series(-5, 2) g \gexec
\set ECHO all
CREATE TABLE rest PARTITION OF days DEFAULT;
CREATE TABLE open (at date) PARTITION BY RANGE (at);
CREATE TABLE open_1 PARTITION OF open FOR VALUES FROM (MINVALUE) TO ('2020-01-01');
CREATE TABLE open_2 PARTITION OF open FOR VALUES FROM ('2020-01-01') TO (MAXVALUE);
CREATE TABLE ended (at timestamp) PARTITION BY RANGE (at);
CREATE TABLE ended_1 PARTITION OF ended FOR VALUES FROM ('-infinity') TO ('2020-01-01');
SELECT relation, partitions, seconds_ahead BETWEEN 2 * 86400 AND 3 * 86400 AS ahead, seconds_ahead < 0 AS behind, seconds_wide
FROM partshift.range_metrics ORDER BY 1;
DROP TABLE days, open, ended;
DROP FUNCTION told, again;
REVOKE CREATE ON SCHEMA public FROM events_owner;
DROP ROLE events_owner, events_other;
