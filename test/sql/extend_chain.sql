-- A table whose foreign key was extended is converted itself.
\set ECHO none
\getenv dir PG_ABS_SRCDIR
\set common :dir '/sql/common.psql'
\i :common
CREATE FUNCTION probe.objects() RETURNS SETOF text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT concat_ws(' ', c.relkind, c.relname, (SELECT string_agg(a.attname, ', ' ORDER BY a.attnum) FROM pg_attribute a
		WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped))
	FROM pg_class c WHERE c.relname IN ('records', 'media', 'thumbs') AND c.relkind IN ('r', 'p')
	UNION ALL
	SELECT concat_ws(' ', 'key', conrelid::regclass, conname, pg_get_constraintdef(oid), convalidated)
	FROM pg_constraint WHERE contype = 'f' AND conparentid = 0 AND conrelid::regclass::text IN ('chain.media', 'chain.thumbs')
	UNION ALL
	SELECT concat_ws(' ', 'trigger', tgrelid::regclass, tgname, tgenabled) FROM pg_trigger
	WHERE NOT tgisinternal AND tgname !~ '^partshift_reverse'
		AND tgrelid::regclass::text IN ('chain.records', 'chain.media', 'chain.thumbs')
$$;
SET check_function_bodies = off;
CREATE FUNCTION probe.astray() RETURNS TABLE (child text, n bigint)
LANGUAGE sql AS $$
	SELECT 'media', count(*) FROM chain.media c LEFT JOIN chain.records r ON r.id = c.record
	WHERE c.user_id IS DISTINCT FROM r.user_id
	UNION ALL
	SELECT 'thumbs', count(*) FROM chain.thumbs c LEFT JOIN chain.media r ON r.id = c.media
	WHERE c.kind IS DISTINCT FROM r.kind
$$;
RESET check_function_bodies;
\set ECHO all
CREATE ROLE partshift_owner NOLOGIN;
CREATE SCHEMA chain AUTHORIZATION partshift_owner;
SET search_path = chain, public;
SET ROLE partshift_owner;
CREATE TABLE records (id bigint PRIMARY KEY, user_id integer NOT NULL);
INSERT INTO records SELECT g, g % 17 FROM generate_series(1, 200) g;
CREATE TABLE media (id integer PRIMARY KEY, kind integer NOT NULL,
	record bigint CONSTRAINT of_record REFERENCES records ON DELETE CASCADE DEFERRABLE);
INSERT INTO media SELECT g, g % 5, nullif(g % 201, 0) FROM generate_series(1, 1000) g;
CREATE TABLE thumbs (id integer PRIMARY KEY, media integer CONSTRAINT of_media REFERENCES media ON DELETE CASCADE);
INSERT INTO thumbs SELECT g, g FROM generate_series(1, 1000) g;
RESET ROLE;
CREATE TABLE was AS SELECT * FROM probe.objects();

SELECT partshift.convert('records', 'hash', 'user_id', partitions => 3, foreign_keys => 'extend',
	legacy_name => 'records_old') AS records \gset
CALL probe.finish(:records);
-- The column that a trigger fills cannot be the partition key.
BEGIN;
DELETE FROM media WHERE record IS NULL;
ALTER TABLE media ALTER user_id SET NOT NULL;
SELECT probe.refusal('SELECT partshift.convert(''media'', ''hash'', ''user_id'', partitions => 2, foreign_keys => ''drop'')');
ROLLBACK;
-- While the first conversion can be taken back
SELECT partshift.convert('media', 'list', 'kind', foreign_keys => 'extend', legacy_name => 'media_old',
	swap => 'manual') AS media \gset
CALL probe.finish(:media);
SELECT probe.state(:media);
SELECT probe.refusal(format('SELECT partshift.rollback(%s)', :records));
SELECT partshift.swap(:media);
CALL probe.finish(:media);
SELECT probe.state(:media);
SELECT probe.refusal(format('SELECT partshift.rollback(%s)', :records));
SELECT * FROM (SELECT * FROM probe.objects() EXCEPT ALL TABLE was) AS new (object) ORDER BY object COLLATE "C";
-- All the links are kept.
INSERT INTO media (id, kind, record) VALUES (2001, 1, 5), (2002, 4, NULL) RETURNING *;
INSERT INTO thumbs VALUES (2001, 2001), (2002, 2002) RETURNING *;
BEGIN;
SET CONSTRAINTS of_record DEFERRED;
INSERT INTO media (id, kind, record) VALUES (2003, 1, 1000);
INSERT INTO records VALUES (1000, 16);
COMMIT;
INSERT INTO media (id, kind, record) VALUES (2004, 1, 4711);
UPDATE records SET user_id = user_id + 1 WHERE id < 50;
UPDATE media SET kind = (kind + 1) % 5 WHERE id < 100;
DELETE FROM records WHERE id = 60;
SELECT * FROM probe.astray();
SELECT count(*) FROM thumbs;
-- Back by the way they came.
SELECT partshift.rollback(:media);
CALL probe.finish(:media);
SELECT probe.state(:media);
SELECT partshift.rollback(:records);
CALL probe.finish(:records);
SELECT probe.state(:records);
(TABLE was EXCEPT ALL SELECT * FROM probe.objects())
UNION ALL (SELECT * FROM probe.objects() EXCEPT ALL TABLE was);

-- The other way about: a table that was converted does not follow as it changes.
SELECT partshift.convert('media', 'list', 'kind', foreign_keys => 'extend', legacy_name => 'media_old') AS media \gset
CALL probe.finish(:media);
SELECT probe.state(:media);
SELECT probe.refusal($$SELECT partshift.convert('records', 'hash', 'user_id', partitions => 3, foreign_keys => 'extend')$$);
SELECT partshift.finalize(:media);
CALL probe.finish(:media);
SELECT partshift.convert('records', 'hash', 'user_id', partitions => 3, foreign_keys => 'extend',
	legacy_name => 'records_old') AS records \gset
CALL probe.finish(:records);
SELECT probe.state(:records);
INSERT INTO media (id, kind, record) VALUES (3001, 1, 5), (3002, 4, NULL) RETURNING *;
UPDATE records SET user_id = user_id + 1 WHERE id < 50;
SELECT * FROM probe.astray();
SELECT partshift.rollback(:records);
CALL probe.finish(:records);
SELECT probe.state(:records);
INSERT INTO media (id, kind, record) VALUES (3003, 1, 4711);

SET client_min_messages = error;
DROP SCHEMA chain CASCADE;
RESET search_path;
DROP ROLE partshift_owner;
