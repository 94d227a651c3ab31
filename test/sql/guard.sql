-- DDL that a conversion in progress could not survive is refused.
\set ECHO none
\getenv dir PG_ABS_SRCDIR
\set common :dir '/sql/common.psql'
\i :common
SET lock_timeout = '60s';
CREATE EXTENSION IF NOT EXISTS dblink;

CREATE FUNCTION probe.try(commands text[])
RETURNS TABLE (command text, answer text)
LANGUAGE sql AS $$
	SELECT c.command, CASE WHEN r.answer LIKE 'not refused%' THEN 'allowed'
		ELSE split_part(r.answer, E'\n', 1) END
	FROM unnest(commands) WITH ORDINALITY AS c (command, n),
		LATERAL probe.refusal(c.command) AS r (answer)
	ORDER BY c.n
$$;

DROP ROLE IF EXISTS guard_owner, guard_other, guard_third;
CREATE ROLE guard_owner;
CREATE ROLE guard_other;
CREATE ROLE guard_third;
SET allow_in_place_tablespaces = on;
DROP TABLESPACE IF EXISTS guard_space;
CREATE TABLESPACE guard_space LOCATION '';
CREATE SCHEMA shop AUTHORIZATION guard_owner;
CREATE SCHEMA elsewhere;
CREATE FUNCTION shop.stamp() RETURNS trigger LANGUAGE plpgsql
AS 'BEGIN RETURN NEW; END';
CREATE DOMAIN shop.amount AS numeric CHECK (VALUE >= 0);
CREATE TABLE shop.accounts (id integer PRIMARY KEY, name text);
CREATE TABLE shop.orders (
	id serial PRIMARY KEY,
	account integer NOT NULL REFERENCES shop.accounts,
	note text,
	amount shop.amount DEFAULT 1,
	CONSTRAINT short CHECK (length(note) < 100));
CREATE INDEX orders_note_idx ON shop.orders (note);
CREATE TRIGGER stamp BEFORE UPDATE ON shop.orders
	FOR EACH ROW EXECUTE FUNCTION shop.stamp();
CREATE POLICY all_rows ON shop.orders USING (true);
CREATE POLICY some_rows ON shop.orders TO guard_other, guard_third USING (true);
GRANT SELECT ON shop.orders TO guard_other;
CREATE TABLE shop.items (id integer PRIMARY KEY, orders integer
	CONSTRAINT items_fk REFERENCES shop.orders, line text);
CREATE TABLE shop.others (id integer PRIMARY KEY, orders integer);
ALTER TABLE shop.orders OWNER TO guard_owner;
INSERT INTO shop.accounts SELECT g, 'a' || g FROM generate_series(1, 10) g;
INSERT INTO shop.orders (account, note)
SELECT g % 10 + 1, 'n' || g FROM generate_series(1, 1000) g;
INSERT INTO shop.items SELECT g, g FROM generate_series(1, 100) g;

SELECT partshift.convert('shop.orders', 'hash', 'id', partitions => 2,
	swap => 'manual') AS job \gset
CALL partshift.wait(:job);
SELECT probe.state(:job);
SELECT (SELECT relname FROM pg_class WHERE oid = j.shadow) AS shadow,
	plan -> 'leaves' -> 0 ->> 'name' AS leaf,
	plan ->> 'log_name' AS log,
	plan -> 'indexes' -> 1 ->> 'shadow_name' AS shadow_index
FROM partshift.job j WHERE job_id = :job \gset
SELECT format('host=%s port=%s dbname=%s',
	split_part(current_setting('unix_socket_directories'), ',', 1),
	current_setting('port'), current_database()) AS here \gset
\set ECHO all

-- The message, with what to do.
SELECT probe.refusal('ALTER TABLE shop.orders ADD COLUMN extra integer');
SELECT probe.refusal('CREATE VIEW shop.v AS SELECT id FROM shop.orders');
SELECT probe.refusal('DROP TABLE shop.orders CASCADE');

-- What is done to the table itself.
SELECT * FROM probe.try(ARRAY[
	'ALTER TABLE shop.orders DROP COLUMN note',
	'ALTER TABLE shop.orders ALTER COLUMN note TYPE varchar',
	'ALTER TABLE shop.orders RENAME COLUMN note TO remark',
	'ALTER TABLE shop.orders RENAME TO purchases',
	'ALTER TABLE shop.orders RENAME CONSTRAINT short TO brief',
	'ALTER TABLE shop.orders OWNER TO guard_other',
	'ALTER TABLE shop.orders SET SCHEMA elsewhere',
	'ALTER TABLE shop.orders SET (fillfactor = 50)',
	'ALTER TABLE shop.orders ADD CHECK (id > 0)',
	'ALTER TABLE shop.orders DROP CONSTRAINT short',
	'ALTER TABLE shop.orders ALTER COLUMN amount DROP DEFAULT',
	'ALTER TABLE shop.orders CLUSTER ON orders_note_idx',
	'ALTER TABLE shop.orders REPLICA IDENTITY FULL',
	'ALTER TABLE shop.orders ENABLE ROW LEVEL SECURITY',
	'ALTER TABLE shop.orders DISABLE TRIGGER stamp',
	'ALTER TABLE shop.orders DISABLE TRIGGER ALL',
	'ALTER TABLE ALL IN TABLESPACE pg_default OWNED BY guard_owner SET TABLESPACE guard_space',
	'CREATE INDEX ON shop.orders (account)',
	'ALTER INDEX shop.orders_note_idx RENAME TO other_idx',
	'DROP INDEX shop.orders_note_idx',
	'CREATE TRIGGER another BEFORE INSERT ON shop.orders FOR EACH ROW EXECUTE FUNCTION shop.stamp()',
	'ALTER TRIGGER stamp ON shop.orders RENAME TO stamped',
	'DROP TRIGGER stamp ON shop.orders',
	'CREATE POLICY one_row ON shop.orders USING (id = 1)',
	'ALTER POLICY all_rows ON shop.orders USING (false)',
	'DROP POLICY all_rows ON shop.orders',
	'CREATE RULE quiet AS ON DELETE TO shop.orders DO INSTEAD NOTHING',
	'CREATE STATISTICS shop.more_stats ON id, note FROM shop.orders',
	'ALTER SEQUENCE shop.orders_id_seq INCREMENT 2',
	'DROP SEQUENCE shop.orders_id_seq CASCADE',
	'GRANT DELETE ON shop.orders TO guard_other',
	'REVOKE SELECT ON shop.orders FROM guard_other',
	'GRANT SELECT (id) ON shop.orders TO guard_other',
	'GRANT INSERT ON ALL TABLES IN SCHEMA shop TO guard_other',
	'COMMENT ON COLUMN shop.orders.note IS ''a note''']);

-- Who drops it otherwise, or a part of it.
SELECT * FROM probe.try(ARRAY[
	'DROP SCHEMA shop CASCADE',
	'DROP OWNED BY guard_owner CASCADE',
	'DROP OWNED BY guard_other',
	'DROP OWNED BY guard_third',
	'DROP DOMAIN shop.amount CASCADE',
	'DROP FUNCTION shop.stamp() CASCADE',
	'DROP TABLE shop.accounts CASCADE',
	'ALTER TABLE shop.accounts DROP CONSTRAINT accounts_pkey CASCADE']);

SET client_min_messages = error;
-- What would be lost at the swap, or stop it.
SELECT * FROM probe.try(ARRAY[
	'CREATE MATERIALIZED VIEW shop.m AS TABLE shop.orders',
	'CREATE FUNCTION shop.first() RETURNS shop.orders LANGUAGE sql AS ''SELECT * FROM shop.orders LIMIT 1''',
	'CREATE TABLE shop.holder (o shop.orders[])',
	'CREATE TABLE shop.heir () INHERITS (shop.orders)',
	'CREATE TABLE shop.third (o integer REFERENCES shop.orders)',
	'ALTER TABLE shop.others ADD FOREIGN KEY (orders) REFERENCES shop.orders NOT VALID',
	'ALTER TABLE shop.others ADD COLUMN o integer REFERENCES shop.orders',
	'CREATE POLICY p ON shop.others USING (id IN (SELECT id FROM shop.orders))',
	'CREATE PUBLICATION guard_pub FOR TABLE shop.orders',
	'CREATE PUBLICATION guard_pub FOR ALL TABLES',
	'CREATE PUBLICATION guard_pub FOR TABLES IN SCHEMA shop',
	'ALTER TABLE shop.items DROP CONSTRAINT items_fk',
	'ALTER TABLE shop.items DROP COLUMN orders',
	'ALTER TABLE shop.items ALTER CONSTRAINT items_fk DEFERRABLE',
	'ALTER TABLE shop.items RENAME TO parts',
	'ALTER TABLE shop.items RENAME COLUMN orders TO o',
	'DROP TABLE shop.items',
	'ALTER TABLE shop.accounts RENAME TO customers',
	'ALTER SCHEMA shop RENAME TO store']);

-- What the job made.
SELECT regexp_replace(probe.mask(command), 'log_\d+|psN_\d+', 'X_N') AS command,
	regexp_replace(answer, 'log_\d+|psN_\d+', 'X_N') AS answer
FROM probe.try(ARRAY[
	format('ALTER TABLE shop.%I ADD COLUMN extra integer', :'shadow'),
	format('CREATE INDEX ON shop.%I (note)', :'leaf'),
	format('GRANT SELECT ON shop.%I TO guard_other', :'shadow'),
	format('DROP TABLE shop.%I CASCADE', :'shadow'),
	format('DROP TABLE shop.%I CASCADE', :'leaf'),
	format('ALTER TABLE shop.others ADD FOREIGN KEY (orders) REFERENCES shop.%I', :'shadow'),
	format('CREATE FUNCTION shop.f(shop.%I) RETURNS integer LANGUAGE sql AS ''SELECT 1''', :'leaf'),
	format('DROP INDEX shop.%I', :'shadow_index'),
	format('CREATE VIEW shop.v AS SELECT id FROM shop.%I', :'shadow'),
	format('ALTER TABLE partshift.%I ADD COLUMN extra integer', :'log'),
	format('DROP TABLE partshift.%I', :'log')]);

-- The rest of the database is as free as ever.
SELECT * FROM probe.try(ARRAY[
	'CREATE TABLE shop.fourth (id serial PRIMARY KEY, a integer REFERENCES shop.accounts)',
	'CREATE TABLE shop.fourth AS TABLE shop.orders',
	'CREATE TABLE shop.fourth (LIKE shop.orders INCLUDING ALL)',
	'CREATE TEMP TABLE fourth (id integer PRIMARY KEY)',
	'ALTER TABLE shop.items ADD COLUMN extra integer',
	'ALTER TABLE shop.items DROP COLUMN line',
	'ALTER TABLE shop.items RENAME COLUMN line TO row',
	'CREATE INDEX ON shop.items (orders)',
	'CREATE VIEW shop.v AS TABLE shop.items',
	'ALTER TABLE shop.accounts ADD COLUMN extra integer',
	'GRANT SELECT ON shop.items TO guard_other',
	'CREATE PUBLICATION guard_pub FOR TABLE shop.items',
	'CREATE SCHEMA further CREATE TABLE t (id integer)',
	'CREATE FUNCTION shop.f() RETURNS integer LANGUAGE sql AS ''SELECT 1''',
	'DROP TABLE shop.others',
	'DROP SCHEMA elsewhere',
	'DROP EXTENSION amcheck',
	'REINDEX TABLE shop.orders',
	'ANALYZE shop.orders',
	'ALTER ROLE guard_other CREATEDB']);

-- What commits before it ends is refused before it begins.
\set VERBOSITY sqlstate
CREATE INDEX CONCURRENTLY late_idx ON shop.orders (amount);
DROP INDEX CONCURRENTLY shop.orders_note_idx;
ALTER TABLE shop.:shadow DETACH PARTITION shop.:leaf CONCURRENTLY;
SELECT relname, indisvalid FROM pg_index i JOIN pg_class c ON c.oid = indexrelid
WHERE indrelid = 'shop.orders'::regclass ORDER BY 1;
SELECT inhdetachpending FROM pg_inherits
WHERE inhrelid = format('shop.%I', :'leaf')::regclass;
CREATE INDEX CONCURRENTLY items_line_idx ON shop.items (line);
DROP INDEX CONCURRENTLY shop.items_line_idx;
\set VERBOSITY default

-- A transaction whose snapshot is older than the job is guarded as well.
CREATE TABLE shop.fresh (id integer PRIMARY KEY);
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM shop.accounts;
SELECT * FROM dblink(:'here', $$SELECT partshift.convert('shop.fresh', 'hash',
	'id', partitions => 2, swap => 'manual') > 0$$) AS d (converts boolean);
SELECT count(*) FROM partshift.job
WHERE table_name = 'fresh' AND status = 'active';
SELECT probe.refusal('CREATE INDEX ON shop.fresh (id)');
COMMIT;
SELECT job_id AS fresh FROM partshift.job
WHERE table_name = 'fresh' AND status = 'active' \gset
CALL partshift.wait(:fresh);

-- Nor does a pause open the gate.
SELECT partshift.pause(:fresh);
SELECT probe.state(:fresh);
SELECT * FROM probe.try(ARRAY[
	'ALTER TABLE shop.fresh ADD COLUMN extra integer',
	'DROP TABLE shop.fresh',
	'CREATE VIEW shop.v AS TABLE shop.fresh']);

-- The extension stays while there is a job, whoever would drop it.
SELECT probe.refusal('DROP EXTENSION partshift CASCADE');
SELECT * FROM probe.try(ARRAY[
	'DROP EXTENSION IF EXISTS amcheck, partshift CASCADE',
	'DROP EXTENSION plpgsql CASCADE',
	'DROP SCHEMA partshift CASCADE']);

-- What was changed all the same can be put right, and nothing else be done.
SET session_replication_role = replica;
ALTER TABLE shop.orders ADD CONSTRAINT positive CHECK (id > 0);
RESET session_replication_role;
SELECT partshift.swap(:job);
CALL probe.await(format($$(SELECT status = 'failed' FROM partshift.job
	WHERE job_id = %s)$$, :job));
SELECT probe.state(:job);
SELECT regexp_replace(command, 'mirror_[\d_]+', 'mirror_N') AS command, answer
FROM probe.try(ARRAY[
	'ALTER TABLE shop.orders DROP CONSTRAINT short',
	(SELECT format('ALTER TABLE shop.orders DISABLE TRIGGER %I, DROP CONSTRAINT positive', tgname)
	 FROM pg_trigger WHERE tgrelid = 'shop.orders'::regclass
		AND tgfoid = 'partshift.mirror_row()'::regprocedure),
	'DROP SCHEMA elsewhere',
	'CREATE VIEW shop.v AS TABLE shop.items']);
ALTER TABLE shop.orders DROP CONSTRAINT positive;
SELECT partshift.resume(:job);
CALL partshift.wait(:job);
SELECT probe.state(:job);

-- After the swap the new table is free.
SELECT legacy_name AS legacy FROM partshift.job WHERE job_id = :job \gset
SELECT * FROM probe.try(ARRAY[
	'ALTER TABLE shop.orders ADD COLUMN extra integer',
	'ALTER TABLE shop.orders RENAME TO purchases',
	'CREATE INDEX ON shop.orders (account)',
	'GRANT DELETE ON shop.orders TO guard_other',
	'CREATE VIEW shop.v AS TABLE shop.orders',
	'ALTER TABLE shop.others ADD FOREIGN KEY (orders) REFERENCES shop.orders',
	'DROP TABLE shop.items',
	'DROP TABLE shop.orders CASCADE',
	'DROP OWNED BY guard_owner CASCADE',
	'DROP SCHEMA shop CASCADE']);

-- The legacy table is not: it has to follow.  It may go.
SELECT regexp_replace(regexp_replace(command, '_\d{8}', '_DATE'),
		'_ps\d+_\d+', '_psN_N') AS command,
	regexp_replace(answer, '_\d{8}', '_DATE') AS answer
FROM probe.try(ARRAY[
	format('ALTER TABLE shop.%I ADD COLUMN extra integer', :'legacy'),
	format('ALTER TABLE shop.%I DROP CONSTRAINT short', :'legacy'),
	format('CREATE UNIQUE INDEX ON shop.%I (id)', :'legacy'),
	format('DROP INDEX shop.%I', (SELECT relname FROM pg_index i
		JOIN pg_class c ON c.oid = indexrelid
		WHERE indrelid = format('shop.%I', :'legacy')::regclass
			AND NOT indisunique)),
	format('CREATE VIEW shop.v AS TABLE shop.%I', :'legacy'),
	format('DROP TABLE shop.%I', :'legacy')]);
SELECT regexp_replace(probe.refusal(format('ALTER TABLE shop.%I RENAME TO old',
	:'legacy')), '_\d{8}', '_DATE');
SELECT * FROM probe.try(ARRAY['DROP EXTENSION partshift CASCADE']);

-- A range table lives from partitions that are added.
CREATE TABLE shop.days (day date PRIMARY KEY, n integer);
INSERT INTO shop.days SELECT '2020-01-01'::date + g, g FROM generate_series(0, 40) g;
SELECT partshift.convert('shop.days', 'range', 'day', every => '1 month')
AS days \gset
CALL partshift.wait(:days);
SELECT probe.state(:days);
CREATE TABLE shop.days_later PARTITION OF shop.days
FOR VALUES FROM ('2099-01-01') TO ('2099-02-01');
CREATE TABLE shop.days_last (n integer, day date NOT NULL);
ALTER TABLE shop.days ATTACH PARTITION shop.days_last
FOR VALUES FROM ('2099-02-01') TO ('2099-03-01');
INSERT INTO shop.days VALUES ('2099-01-15', 1), ('2099-02-15', 2);
SELECT count(*) FROM partshift.dropout WHERE job_id = :days;
SELECT * FROM probe.try(ARRAY[
	'ALTER TABLE shop.days DETACH PARTITION shop.days_last']);
DROP TABLE shop.days_later;

-- On the way back both tables are guarded again.  A lock on a neighbour keeps
-- the swap waiting, then one on the job.
SELECT dblink_connect('neighbour', :'here'), dblink_connect('holder', :'here');
SELECT dblink_exec('neighbour', 'BEGIN'), dblink_exec('holder', 'BEGIN');
SELECT dblink_exec('neighbour', 'LOCK TABLE shop.accounts IN ACCESS SHARE MODE');
SELECT partshift.rollback(:job);
CALL probe.await(format($$(SELECT reverse AND phase = 'swap'
	FROM partshift.job WHERE job_id = %s)$$, :job));
SELECT * FROM dblink('holder', format('SELECT phase, reverse FROM partshift.job
	WHERE job_id = %s FOR UPDATE', :job)) AS d (phase text, reverse boolean);
SELECT dblink_exec('neighbour', 'COMMIT');
SELECT regexp_replace(command, '_\d{8}', '_DATE') AS command,
	regexp_replace(answer, '_\d{8}', '_DATE') AS answer
FROM probe.try(ARRAY[
	format('ALTER TABLE shop.%I ADD COLUMN extra integer', :'legacy'),
	format('DROP TABLE shop.%I CASCADE', :'legacy'),
	'ALTER TABLE shop.orders ADD COLUMN extra integer',
	'CREATE INDEX ON shop.orders (account)',
	'DROP INDEX shop.orders_note_idx',
	'GRANT DELETE ON shop.orders TO guard_other',
	'CREATE VIEW shop.v AS TABLE shop.orders',
	'DROP TABLE shop.orders CASCADE']);
SELECT probe.refusal('DROP TABLE shop.orders CASCADE');
SELECT dblink_exec('holder', 'COMMIT');
SELECT dblink_disconnect('holder'), dblink_disconnect('neighbour');
CALL probe.await(format($$(SELECT status = 'rolled_back' FROM partshift.job
	WHERE job_id = %s)$$, :job));

-- When the jobs have ended, everything is free.
SELECT partshift.resume(:fresh);
SELECT partshift.abort(:fresh);
SELECT partshift.finalize(:days);
CALL partshift.wait(:fresh);
CALL partshift.wait(:days);
SELECT probe.state(:fresh), probe.state(:days);
SELECT * FROM probe.try(ARRAY[
	'ALTER TABLE shop.orders ADD COLUMN extra integer',
	'CREATE VIEW shop.v AS TABLE shop.orders',
	'ALTER TABLE shop.items DROP CONSTRAINT items_fk',
	'DROP TABLE shop.orders CASCADE',
	'DROP TABLE shop.fresh',
	'DROP EXTENSION partshift CASCADE']);

SET client_min_messages = error;
DROP SCHEMA shop CASCADE;
DROP SCHEMA elsewhere;
DROP EXTENSION dblink;
DROP TABLESPACE guard_space;
DROP ROLE guard_owner, guard_other, guard_third;
