-- Triggers, with their states, in their order; each fires once.
\ir common.psql
CREATE TABLE run.t (id integer PRIMARY KEY, n integer, note text);
CREATE TABLE run.trace (no serial, what text);
INSERT INTO run.t SELECT g, g, 'x' FROM generate_series(1, 100) g;
CREATE FUNCTION run.note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO run.trace (what) VALUES (concat_ws(' ', TG_NAME, TG_OP, TG_ARGV[0]));
	RETURN coalesce(NEW, OLD);
END
$$;
CREATE TRIGGER "b after" AFTER INSERT OR UPDATE OF n ON run.t FOR EACH ROW WHEN (NEW.n > 0) EXECUTE FUNCTION run.note('it''s');
CREATE TRIGGER "a before" BEFORE INSERT OR DELETE ON run.t FOR EACH ROW EXECUTE FUNCTION run.note();
CREATE TRIGGER statement AFTER INSERT ON run.t REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION run.note();
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON run.t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION run.note();
CREATE TRIGGER off AFTER INSERT ON run.t FOR EACH ROW EXECUTE FUNCTION run.note();
CREATE TRIGGER always AFTER DELETE ON run.t FOR EACH ROW EXECUTE FUNCTION run.note();
CREATE TRIGGER replicas AFTER INSERT ON run.t FOR EACH ROW EXECUTE FUNCTION run.note();
CREATE TRIGGER emptied BEFORE TRUNCATE ON run.t EXECUTE FUNCTION run.note();
ALTER TABLE run.t DISABLE TRIGGER off;
ALTER TABLE run.t ENABLE ALWAYS TRIGGER always;
ALTER TABLE run.t ENABLE REPLICA TRIGGER replicas;
COMMENT ON TRIGGER "b after" ON run.t IS 'second';
CREATE TABLE run.was AS SELECT tgname, pg_get_triggerdef(oid) AS def, tgenabled FROM pg_trigger
	WHERE tgrelid = 'run.t'::regclass AND NOT tgisinternal;

-- What the next statements have written, in order.
CREATE FUNCTION run.traced() RETURNS text LANGUAGE sql AS $$
	WITH gone AS (DELETE FROM run.trace RETURNING *)
	SELECT string_agg(what, ', ' ORDER BY no) FROM gone
$$;
CREATE FUNCTION run.checks(stage text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN NEXT is(run.traced(), NULL, stage || ': nothing has fired');
	RETURN NEXT has_trigger('run', 't', 'b after', stage || ': AFTER');
	RETURN NEXT has_trigger('run', 't', 'a before', stage || ': BEFORE');
	RETURN NEXT trigger_is('run', 't', 'b after', 'run', 'note', stage || ': function');
	RETURN NEXT bag_eq($q$ SELECT tgname, pg_get_triggerdef(oid), tgenabled FROM pg_trigger
		WHERE tgrelid = 'run.t'::regclass AND NOT tgisinternal AND tgname !~ '^partshift_' $q$, 'TABLE run.was',
		stage || ': definitions and states');
	RETURN NEXT run.same_rows($q$ SELECT obj_description(oid, 'pg_trigger') FROM pg_trigger
		WHERE tgrelid = 'run.t'::regclass AND tgname = 'b after' $q$, $q$ VALUES ('second') $q$, stage || ': comment');
	SET CONSTRAINTS ALL IMMEDIATE;
	INSERT INTO run.t VALUES (900, 9, 'new');
	RETURN NEXT is(run.traced(), 'a before INSERT, b after INSERT it''s, late INSERT, statement INSERT', stage || ': insert');
	UPDATE run.t SET note = 'u' WHERE id = 900;
	RETURN NEXT is(run.traced(), NULL, stage || ': another column');
	UPDATE run.t SET n = 10 WHERE id = 900;
	RETURN NEXT is(run.traced(), 'b after UPDATE it''s', stage || ': update');
	DELETE FROM run.t WHERE id = 900;
	RETURN NEXT is(run.traced(), 'a before DELETE, always DELETE', stage || ': delete');
END
$$;
SELECT plan(34);
\set arguments '''hash'', ''id'', partitions => 3'
\ir convert.psql
