-- Constraints of the table, foreign keys from it, to it and within it.
\ir common.psql
CREATE TABLE run.country (code text, region integer, PRIMARY KEY (code, region));
CREATE TABLE run.t (
	id integer, tenant integer, n integer, code text, region integer, parent integer, parent_tenant integer,
	CONSTRAINT "the key" PRIMARY KEY (id, tenant),
	CONSTRAINT alone UNIQUE (tenant, n) INCLUDE (code) DEFERRABLE INITIALLY DEFERRED,
	CONSTRAINT positive CHECK (n > 0),
	CONSTRAINT together CHECK ((parent IS NULL) = (parent_tenant IS NULL)),
	CONSTRAINT in_country FOREIGN KEY (code, region) REFERENCES run.country MATCH FULL ON UPDATE CASCADE,
	CONSTRAINT in_tree FOREIGN KEY (parent, parent_tenant) REFERENCES run.t (id, tenant)
		ON DELETE SET NULL DEFERRABLE);
CREATE TABLE run.child (id integer PRIMARY KEY, t integer, tenant integer,
	CONSTRAINT of_t FOREIGN KEY (t, tenant) REFERENCES run.t ON DELETE CASCADE);
COMMENT ON CONSTRAINT positive ON run.t IS 'no nothing';
COMMENT ON CONSTRAINT of_t ON run.child IS 'incoming';
COMMENT ON CONSTRAINT in_country ON run.t IS 'outgoing';
INSERT INTO run.country SELECT 'c' || g, g FROM generate_series(1, 5) g;
INSERT INTO run.t SELECT g, g % 4, g, 'c' || 1 + g % 5, 1 + g % 5, nullif(g / 2, 0), CASE WHEN g > 1 THEN g / 2 % 4 END
FROM generate_series(1, 200) g;
INSERT INTO run.child SELECT id, id, tenant FROM run.t WHERE id < 50;
CREATE FUNCTION run.checks(stage text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN NEXT col_is_pk('run', 't', ARRAY['id', 'tenant'], stage || ': primary key');
	RETURN NEXT col_is_unique('run', 't', ARRAY['tenant', 'n'], stage || ': unique');
	RETURN NEXT has_check('run', 't', stage || ': CHECK');
	RETURN NEXT col_has_check('run', 't', 'n', stage || ': CHECK of a column');
	RETURN NEXT fk_ok('run', 't', ARRAY['code', 'region'], 'run', 'country', ARRAY['code', 'region'], stage || ': outgoing');
	RETURN NEXT has_fk('run', 'child', stage || ': incoming');
	RETURN NEXT run.same_rows($q$ SELECT conname::text, pg_get_constraintdef(oid) FROM pg_constraint
		WHERE conrelid = 'run.t'::regclass AND conparentid = 0 AND contype IN ('p', 'u', 'c', 'f')
		ORDER BY conname COLLATE "C" $q$,
		$q$ VALUES ('alone', 'UNIQUE (tenant, n) INCLUDE (code) DEFERRABLE INITIALLY DEFERRED'),
			('in_country', 'FOREIGN KEY (code, region) REFERENCES run.country(code, region) MATCH FULL ON UPDATE CASCADE'),
			('in_tree', 'FOREIGN KEY (parent, parent_tenant) REFERENCES run.t(id, tenant) ON DELETE SET NULL DEFERRABLE'),
			('positive', 'CHECK ((n > 0))'),
			('the key', 'PRIMARY KEY (id, tenant)'),
			('together', 'CHECK (((parent IS NULL) = (parent_tenant IS NULL)))') $q$, stage || ': definitions');
	RETURN NEXT run.same_rows($q$ SELECT conname::text, pg_get_constraintdef(oid), convalidated FROM pg_constraint
		WHERE conrelid = 'run.child'::regclass AND contype = 'f' AND conparentid = 0 $q$,
		$q$ VALUES ('of_t', 'FOREIGN KEY (t, tenant) REFERENCES run.t(id, tenant) ON DELETE CASCADE', true) $q$,
		stage || ': definition of the incoming key');
	RETURN NEXT set_eq($q$ SELECT obj_description(oid, 'pg_constraint') FROM pg_constraint
		WHERE conname IN ('positive', 'of_t', 'in_country') AND conparentid = 0
			AND conrelid IN ('run.t'::regclass, 'run.child'::regclass) $q$,
		ARRAY['no nothing', 'incoming', 'outgoing'], stage || ': comments');
	RETURN NEXT throws_ok('INSERT INTO run.t (id, tenant, n) VALUES (900, 1, 0)', '23514', NULL, stage || ': CHECK is enforced');
	RETURN NEXT throws_ok('INSERT INTO run.t (id, tenant, n) VALUES (1, 1, 999)', '23505', NULL, stage || ': the key is');
	RETURN NEXT throws_ok('INSERT INTO run.t (id, tenant, n, code) VALUES (900, 1, 900, ''c1'')', '23503', NULL,
		stage || ': MATCH FULL is');
	RETURN NEXT throws_ok('INSERT INTO run.child VALUES (900, 900, 1)', '23503', NULL, stage || ': the incoming key is');
	RETURN NEXT throws_ok('SET CONSTRAINTS run.in_tree IMMEDIATE; INSERT INTO run.t (id, tenant, n, parent, parent_tenant)
		VALUES (900, 1, 900, 900, 2)', '23503', NULL, stage || ': the key within the table is');
	RETURN NEXT lives_ok('INSERT INTO run.t (id, tenant, n) VALUES (901, 1, 1000), (902, 1, 1000);
		UPDATE run.t SET n = id WHERE id > 900; DELETE FROM run.t WHERE id > 900', stage || ': the deferred one waits');
END
$$;
SELECT plan(49);
\set arguments '''hash'', ''tenant'', partitions => 3'
\ir convert.psql
