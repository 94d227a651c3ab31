-- Functions with parsed bodies, rules upon views and of other tables, and
-- what other tables have of expressions over the table.
\ir common.psql
CREATE TABLE run.t (id integer PRIMARY KEY, n integer);
INSERT INTO run.t SELECT g, g % 10 FROM generate_series(1, 100) g;
CREATE ROLE run_clerk NOLOGIN;
CREATE FUNCTION run.how_many(integer) RETURNS bigint LANGUAGE sql STABLE STRICT
	BEGIN ATOMIC SELECT count(*) FROM run.t WHERE n = $1; END;
CREATE FUNCTION run.largest() RETURNS integer LANGUAGE sql STABLE RETURN (SELECT max(id) FROM run.t);
COMMENT ON FUNCTION run.how_many(integer) IS 'that many';
REVOKE ALL ON FUNCTION run.how_many(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION run.how_many(integer) TO run_clerk;
CREATE TABLE run.sale (t integer, n integer, about regclass DEFAULT 'run.t'::regclass);
CREATE RULE sold AS ON INSERT TO run.sale DO ALSO UPDATE run.t SET n = n + NEW.n WHERE id = NEW.t;
COMMENT ON RULE sold ON run.sale IS 'counted';
CREATE VIEW run.v AS SELECT id, n FROM run.t;
CREATE RULE v_delete AS ON DELETE TO run.v DO INSTEAD UPDATE run.t SET n = -1 WHERE id = OLD.id;
CREATE TABLE run.was AS
	SELECT 'function' AS kind, oid, pg_get_functiondef(oid) AS def FROM pg_proc
	WHERE pronamespace = 'run'::regnamespace AND proname IN ('how_many', 'largest')
	UNION ALL
	SELECT 'rule', NULL, pg_get_ruledef(oid) FROM pg_rewrite WHERE rulename IN ('sold', 'v_delete');
CREATE FUNCTION run.checks(stage text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN NEXT has_function('run', 'how_many', ARRAY['integer'], stage || ': function');
	RETURN NEXT function_returns('run', 'largest', 'integer', stage || ': type');
	RETURN NEXT is_strict('run', 'how_many', stage || ': strict');
	RETURN NEXT volatility_is('run', 'how_many', 'stable', stage || ': stable');
	RETURN NEXT function_privs_are('run', 'how_many', ARRAY['integer'], 'run_clerk', ARRAY['EXECUTE'], stage || ': privileges');
	RETURN NEXT is(obj_description('run.how_many(integer)'::regprocedure), 'that many', stage || ': comment');
	RETURN NEXT has_rule('run', 'sale', 'sold', stage || ': rule of another table');
	RETURN NEXT rule_is_on('run', 'sale', 'sold', 'insert', stage || ': its event');
	RETURN NEXT rule_is_instead('run', 'v', 'v_delete', stage || ': rule of a view');
	RETURN NEXT bag_eq($q$ SELECT 'function', oid, pg_get_functiondef(oid) FROM pg_proc
			WHERE pronamespace = 'run'::regnamespace AND proname IN ('how_many', 'largest')
			UNION ALL SELECT 'rule', NULL, pg_get_ruledef(oid) FROM pg_rewrite WHERE rulename IN ('sold', 'v_delete') $q$,
		'TABLE run.was', stage || ': definitions, and the same functions');
	RETURN NEXT is(run.how_many(3), (SELECT count(*) FROM run.t WHERE n = 3), stage || ': it reads the table in use');
	INSERT INTO run.t VALUES (900, 3);
	RETURN NEXT is(run.largest(), 900, stage || ': so does the other');
	INSERT INTO run.sale (t, n) VALUES (900, 4);
	RETURN NEXT is((SELECT n FROM run.t WHERE id = 900), 7, stage || ': the rule writes it');
	RETURN NEXT is((SELECT about FROM run.sale), 'run.t'::regclass, stage || ': a default means it');
	DELETE FROM run.v WHERE id = 900;
	RETURN NEXT is((SELECT n FROM run.t WHERE id = 900), -1, stage || ': so does the view''s');
	DELETE FROM run.t WHERE id = 900;
	DELETE FROM run.sale;
END
$$;
SELECT plan(49);
\set arguments '''hash'', ''id'', partitions => 3'
\ir convert.psql
DROP OWNED BY run_clerk;
DROP ROLE run_clerk;
