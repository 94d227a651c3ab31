-- Views and all else that depends on the table mean the new one after the swap.
\set ECHO none
\getenv dir PG_ABS_SRCDIR
\set common :dir '/sql/common.psql'
\i :common
/* Everything of the schema that is not the table itself, with its OID. */
CREATE FUNCTION probe.surroundings() RETURNS SETOF text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT concat_ws(' ', c.oid, c.relkind, c.relname, pg_get_userbyid(c.relowner), c.relacl::text,
		c.reloptions::text, 'file ' || nullif(c.relfilenode, 0),
		'is ' || CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END,
		'comment ' || obj_description(c.oid, 'pg_class'),
		(SELECT string_agg(concat_ws(' ', a.attname, a.attacl), ',' ORDER BY a.attnum)
		 FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0))
	FROM pg_class c
	WHERE c.relnamespace = to_regnamespace('lib') AND c.relkind IN ('v', 'm')
		OR c.oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = to_regclass('lib.totals'))
	UNION ALL
	SELECT concat_ws(' ', oid, ev_enabled, pg_get_ruledef(oid)) FROM pg_rewrite
	WHERE ev_class::regclass::text LIKE 'lib.%' AND rulename <> '_RETURN'
	UNION ALL
	SELECT concat_ws(' ', oid, pg_get_functiondef(oid), pg_get_userbyid(proowner), proacl::text,
		obj_description(oid, 'pg_proc'))
	FROM pg_proc WHERE pronamespace = to_regnamespace('lib')
	UNION ALL
	SELECT concat_ws(' ', 'policy', polrelid::regclass, polname, polcmd, polroles::text,
		pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid),
		obj_description(oid, 'pg_policy'))
	FROM pg_policy WHERE polrelid IN (to_regclass('lib.notes'), to_regclass('lib.books'))
	UNION ALL
	SELECT concat_ws(' ', oid, tgenabled, pg_get_triggerdef(oid), obj_description(oid, 'pg_trigger'))
	FROM pg_trigger WHERE tgrelid = to_regclass('lib.notes') AND NOT tgisinternal
	UNION ALL
	SELECT concat_ws(' ', 'default of', adrelid::regclass, pg_get_expr(adbin, adrelid))
	FROM pg_attrdef WHERE adrelid::regclass::text LIKE 'lib.notes%'
	UNION ALL
	SELECT concat_ws(' ', 'publication', p.pubname, t.schemaname, t.tablename, t.attnames, t.rowfilter)
	FROM pg_publication p JOIN pg_publication_tables t USING (pubname)
	WHERE p.pubname LIKE 'lib%'
	UNION ALL
	SELECT concat_ws(' ', 'statistics', pg_get_statisticsobjdef(oid), pg_get_userbyid(stxowner),
		nullif(stxstattarget, -1), obj_description(oid, 'pg_statistic_ext'))
	FROM pg_statistic_ext WHERE stxrelid = to_regclass('lib.books')
$$;
\set ECHO all
CREATE ROLE partshift_owner NOLOGIN;
CREATE ROLE partshift_other NOLOGIN;
CREATE SCHEMA lib AUTHORIZATION partshift_owner;
CREATE SCHEMA apart AUTHORIZATION partshift_owner;
GRANT CREATE, USAGE ON SCHEMA lib TO partshift_other;
SET search_path = lib, public;
SET ROLE partshift_owner;

CREATE TABLE books (
	gone text,
	id bigint PRIMARY KEY,
	shelf integer NOT NULL,
	title text,
	price numeric DEFAULT 1);
ALTER TABLE books DROP COLUMN gone;
GRANT SELECT, INSERT, UPDATE, DELETE ON books TO partshift_other;
CREATE TABLE notes (id integer PRIMARY KEY, book bigint, about regclass DEFAULT 'books'::regclass)
	PARTITION BY HASH (id);
CREATE TABLE notes_0 PARTITION OF notes FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE notes_1 PARTITION OF notes FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE sales (book bigint, n integer);
GRANT SELECT, INSERT ON notes, sales TO partshift_other;

CREATE POLICY "of a book" ON notes USING (book IN (SELECT id FROM books WHERE shelf > 0))
	WITH CHECK (EXISTS (SELECT FROM books WHERE books.id = notes.book));
COMMENT ON POLICY "of a book" ON notes IS 'known ones';
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY known ON books USING (EXISTS (SELECT FROM books b WHERE b.id = books.id));
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER elsewhere BEFORE INSERT ON notes FOR EACH ROW
	WHEN (NEW.about <> 'books'::regclass) EXECUTE FUNCTION nothing();
ALTER TABLE notes ENABLE ALWAYS TRIGGER elsewhere;
COMMENT ON TRIGGER elsewhere ON notes IS 'not about books';
CREATE RULE sold AS ON INSERT TO sales DO ALSO
	UPDATE books SET price = price + 1 WHERE id = NEW.book;
ALTER TABLE sales ENABLE ALWAYS RULE sold;
CREATE FUNCTION on_shelf(integer) RETURNS bigint LANGUAGE sql STABLE
	BEGIN ATOMIC SELECT count(*) FROM books WHERE shelf = $1; END;
COMMENT ON FUNCTION on_shelf(integer) IS 'how many';
GRANT EXECUTE ON FUNCTION on_shelf(integer) TO partshift_other WITH GRANT OPTION;
CREATE STATISTICS books_both (dependencies, mcv) ON shelf, title FROM books;
CREATE STATISTICS apart.books_one ON (shelf % 7) FROM books;
ALTER STATISTICS books_both SET STATISTICS 77;
COMMENT ON STATISTICS books_both IS 'they go together';

SET ROLE partshift_other;
CREATE VIEW cheap WITH (security_barrier) AS
	SELECT id, shelf AS "on Shelf", title, price FROM books WHERE price < 1000
	WITH LOCAL CHECK OPTION;
ALTER VIEW cheap RENAME COLUMN title TO "the title";
COMMENT ON VIEW cheap IS 'what one can buy';
COMMENT ON COLUMN cheap.id IS 'number';
GRANT SELECT (id), UPDATE ON cheap TO partshift_owner;
ALTER VIEW cheap ALTER COLUMN price SET DEFAULT 7;
CREATE VIEW nested AS SELECT cheap.id, row_to_json(b.*) AS whole, '(1,2)'::point AS p
	FROM cheap JOIN books b USING (id) WHERE b.title COLLATE "C" > '' ORDER BY 1;
CREATE RULE nested_insert AS ON INSERT TO nested DO INSTEAD
	INSERT INTO books (id, shelf, title) VALUES (NEW.id, 3, 'by rule') RETURNING id, NULL::json, NULL::point;
CREATE VIEW moved AS SELECT id FROM books WHERE shelf = 2;
CREATE RULE moved_delete AS ON DELETE TO moved DO INSTEAD NOTHING;
CREATE MATERIALIZED VIEW totals AS SELECT shelf, count(*) AS n FROM books GROUP BY shelf WITH NO DATA;
CREATE UNIQUE INDEX totals_shelf ON totals (shelf);
COMMENT ON MATERIALIZED VIEW totals IS 'by shelf';
GRANT SELECT ON totals TO partshift_owner;
CREATE VIEW on_totals AS SELECT sum(n) FROM totals;
RESET ROLE;
SET client_min_messages = error;
CREATE PUBLICATION lib_books FOR TABLE books (id, shelf) WHERE (shelf > 1), sales
	WITH (publish_via_partition_root);
SET client_min_messages = warning;
REVOKE CREATE ON SCHEMA lib FROM partshift_other;

INSERT INTO books SELECT g, g % 5, 'title ' || g, g FROM generate_series(1, 300) g;
REFRESH MATERIALIZED VIEW totals;
CREATE TABLE was AS SELECT * FROM probe.surroundings();
SELECT count(*) FROM was;

SELECT partshift.convert('books', 'hash', 'shelf', partitions => 2, swap => 'manual',
	legacy_name => 'books_old') AS job \gset
CALL probe.finish(:job);
SELECT probe.state(:job);
-- What comes while the job waits is carried as well.
CREATE VIEW lib.late AS SELECT max(id) FROM lib.books;
DROP VIEW lib.moved;
CREATE VIEW lib.wrong AS SELECT id, title, count(*) FROM lib.books GROUP BY id;
SELECT partshift.swap(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
DROP VIEW lib.wrong;
DROP TABLE was;
CREATE TABLE was AS SELECT * FROM probe.surroundings();
SELECT partshift.resume(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);

-- Nothing is lost, nothing is new; and nothing means the old table.
(TABLE was EXCEPT ALL SELECT * FROM probe.surroundings())
UNION ALL (SELECT * FROM probe.surroundings() EXCEPT ALL TABLE was);
SELECT DISTINCT pg_describe_object(classid, objid, 0) FROM pg_depend
WHERE refobjid = 'books_old'::regclass AND refclassid = 'pg_class'::regclass AND deptype = 'n';
SELECT count(DISTINCT objid) FROM pg_depend
WHERE refobjid = 'books'::regclass AND refclassid = 'pg_class'::regclass
	AND classid = 'pg_rewrite'::regclass;
SELECT stxname, stxrelid::regclass FROM pg_statistic_ext
WHERE stxrelid IN (SELECT leaf FROM probe.leaves('books')) ORDER BY 1;

CALL probe.await(format('NOT plan ? ''inventory'' FROM partshift.job WHERE job_id = %s', :job));
SELECT * FROM partshift.carried(:job) WHERE state <> 'same';
SELECT class, count(*) FROM partshift.carried(:job) WHERE state = 'same' AND class NOT IN ('constraint', 'privilege')
GROUP BY class ORDER BY class COLLATE "C";

-- They work on the new table, as before.
BEGIN;
TRUNCATE books_old;
SET ROLE partshift_other;
SELECT count(*) FROM cheap;
INSERT INTO nested (id) VALUES (9001) RETURNING id;
SELECT whole FROM nested WHERE id = 9001;
SELECT on_shelf(3);
INSERT INTO sales VALUES (1, 1);
SELECT price FROM cheap WHERE id = 1;
SELECT * FROM on_totals;
REFRESH MATERIALIZED VIEW totals;
SELECT * FROM on_totals;
INSERT INTO notes (id, book) VALUES (1, 9001);
SELECT about FROM notes;
RESET ROLE;
SELECT max FROM late;
ROLLBACK;
SET ROLE partshift_other;
INSERT INTO notes (id, book) VALUES (2, 9999);
UPDATE cheap SET price = 2000 WHERE id = 4;
RESET ROLE;

-- And back, with a view that was made since.
CREATE VIEW since AS SELECT id FROM books WHERE price > 5;
DROP TABLE was;
CREATE TABLE was AS SELECT * FROM probe.surroundings();
SELECT partshift.rollback(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
(TABLE was EXCEPT ALL SELECT * FROM probe.surroundings())
UNION ALL (SELECT * FROM probe.surroundings() EXCEPT ALL TABLE was);
SELECT count(*) FROM since;
SELECT on_shelf(3);

-- Code of a view's owner that is called while the view is read again cannot
-- keep the table locked.
SET ROLE partshift_owner;
CREATE TABLE pace (seconds integer);
GRANT SELECT ON pace TO partshift_other;
GRANT CREATE ON SCHEMA lib TO partshift_other;
SET ROLE partshift_other;
CREATE FUNCTION lib.dawdle(integer) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_sleep(seconds) FROM lib.pace;
	RETURN true;
END
$$;
CREATE DOMAIN lib.slow AS integer CHECK (lib.dawdle(VALUE));
CREATE TYPE lib.slowly AS (n lib.slow);
CREATE VIEW lib.dawdling AS SELECT id, '(1)'::lib.slowly AS s FROM books;
RESET ROLE;
REVOKE CREATE ON SCHEMA lib FROM partshift_other;
SELECT partshift.convert('books', 'hash', 'shelf', partitions => 2, swap => 'manual',
	legacy_name => 'books_old') AS job \gset
CALL probe.finish(:job);
INSERT INTO pace VALUES (100);
SELECT partshift.swap(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
DELETE FROM pace;
SELECT partshift.resume(:job);
CALL probe.finish(:job);
SELECT probe.state(:job);
SELECT partshift.rollback(:job);
CALL probe.finish(:job);
DROP VIEW lib.dawdling;

-- What cannot be carried is refused before anything is made.
\set refused 'SELECT probe.refusal($$SELECT partshift.convert(''books'', ''hash'', ''shelf'', partitions => 2)$$)'
BEGIN;
CREATE VIEW only_books AS SELECT * FROM ONLY books;
:refused;
ROLLBACK;
BEGIN;
CREATE FUNCTION only_count() RETURNS bigint LANGUAGE sql RETURN (SELECT count(*) FROM ONLY books);
:refused;
ROLLBACK;
BEGIN;
CREATE POLICY only_ours ON books USING (id IN (SELECT id FROM ONLY books));
:refused;
ROLLBACK;
BEGIN;
CREATE VIEW grouped AS SELECT id, title, count(*) FROM books GROUP BY id;
:refused;
ROLLBACK;
BEGIN;
CREATE FUNCTION label(books) RETURNS text LANGUAGE sql AS 'SELECT $1.title';
:refused;
ROLLBACK;
BEGIN;
CREATE VIEW rows_of AS SELECT b FROM books b;
:refused;
ROLLBACK;
BEGIN;
ALTER FUNCTION on_shelf(integer) OWNER TO partshift_other;
:refused;
ROLLBACK;
BEGIN;
REVOKE USAGE ON SCHEMA lib FROM partshift_other;
:refused;
ROLLBACK;
BEGIN;
SET client_min_messages = error;
CREATE PUBLICATION lib_more FOR TABLE books;
SET client_min_messages = warning;
:refused;
ROLLBACK;
BEGIN;
CREATE TABLE checked (what regclass CHECK (what <> 'books'::regclass));
:refused;
ROLLBACK;

SET client_min_messages = error;
DROP PUBLICATION lib_books;
DROP SCHEMA lib, apart CASCADE;
RESET search_path;
SET client_min_messages = warning;
DROP ROLE partshift_owner, partshift_other;
