-- Chunks of documents in a hundred partitions by a derived key, under load:
-- doc/recipes/chunks.md.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION IF NOT EXISTS partshift;
CREATE SCHEMA chunks;
SET search_path = chunks, public;
\set QUIET on

CREATE TABLE collections (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name text NOT NULL);
CREATE TABLE chunks (
	id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
	collection_id uuid NOT NULL REFERENCES collections ON DELETE CASCADE,
	position integer NOT NULL,
	content text NOT NULL,
	metadata jsonb NOT NULL DEFAULT '{}');
CREATE INDEX chunks_collection ON chunks (collection_id, position);
CREATE INDEX chunks_metadata ON chunks USING gin (metadata);
INSERT INTO collections (name) SELECT 'collection ' || n FROM generate_series(1, 300) n;
INSERT INTO chunks (collection_id, position, content, metadata)
SELECT c.id, n, 'content ' || n, jsonb_build_object('n', n) FROM collections c, generate_series(1, 20) n;
-- What the application calls: before the swap without the column, then with it.
CREATE FUNCTION add_chunk(collection uuid, words text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO chunks.chunks (collection_id, position, content) VALUES (collection, -1, words);
EXCEPTION WHEN not_null_violation OR check_violation THEN
	INSERT INTO chunks.chunks (collection_id, position, content, bucket)
	VALUES (collection, -1, words, mod(abs(hashtext(collection::text)), 100));
END
$$;
ANALYZE;
\! touch load

SELECT plan(22);
SELECT is_empty($$ SELECT * FROM partshift.plan('chunks', 'list', 'bucket', partitions => 100,
	derive => 'mod(abs(hashtext(collection_id::text)), 100)') WHERE severity = 'error' $$, 'nothing stands in the way');
SELECT isnt_empty($$ SELECT * FROM partshift.plan('chunks', 'list', 'bucket', partitions => 100,
	derive => 'mod(abs(hashtext(collection_id::text)), 100)') WHERE severity = 'warning' AND hint ~ 'hash' $$,
	'hash partitioning is named as another way');
SELECT partshift.convert('chunks', 'list', 'bucket', partitions => 100, default_partition => 'drop',
	derive => 'mod(abs(hashtext(collection_id::text)), 100)', legacy_name => 'chunks_old') AS job \gset
CALL partshift.wait(:job);
SELECT is(phase || ', ' || status, 'done, active', 'it is converted') FROM partshift.jobs WHERE job_id = :job;
SELECT is_partitioned('chunks', 'chunks', 'chunks is partitioned');
SELECT is((SELECT count(*) FROM pg_inherits WHERE inhparent = 'chunks'::regclass)::int, 100, 'by 100');
SELECT col_type_is('chunks', 'chunks', 'bucket', 'integer', 'the column is there');
SELECT col_not_null('chunks', 'chunks', 'bucket', 'and not null');
SELECT col_is_pk('chunks', 'chunks', ARRAY['id', 'bucket'], 'the key has it');
SELECT fk_ok('chunks', 'chunks', 'collection_id', 'chunks', 'collections', 'id');
SELECT has_index('chunks', 'chunks', 'chunks_metadata', 'index of jsonb');
SELECT is_empty('SELECT FROM chunks WHERE bucket <> mod(abs(hashtext(collection_id::text)), 100)', 'every row has its value');
SELECT is_empty(format($$ SELECT * FROM partshift.carried(%s) WHERE state <> 'same' AND reason IS NULL $$, :job),
	'what differs was meant to');
INSERT INTO collections (id, name) VALUES ('00000000-0000-0000-0000-000000000001', 'mine');
SELECT throws_ok($$ INSERT INTO chunks (collection_id, position, content, bucket)
	SELECT id, 1, 'c', mod(abs(hashtext(id::text)) + 1, 100) FROM collections WHERE name = 'mine' $$,
	'23514', NULL, 'a wrong value is refused');
SELECT lives_ok($$ SELECT add_chunk(id, 'c') FROM collections WHERE name = 'mine' $$, 'the right one is taken');
SELECT is((SELECT count(*) FROM chunks c JOIN collections l ON l.id = c.collection_id WHERE l.name = 'mine')::int, 1, 'and found');
DELETE FROM collections WHERE name = 'collection 1';
SELECT is_empty($$ SELECT FROM chunks c LEFT JOIN collections l ON l.id = c.collection_id WHERE l.id IS NULL $$, 'deletes cascade');
SELECT partshift.verify(:job);
CALL partshift.wait(:job);
SELECT is_empty(format('SELECT * FROM partshift.verification WHERE job_id = %s AND NOT equal', :job),
	'both tables are equal under load');
SELECT partshift.rollback(:job);
CALL partshift.wait(:job);
SELECT is(phase || ', ' || status, 'done, rolled_back', 'it is rolled back') FROM partshift.jobs WHERE job_id = :job;
SELECT isnt_partitioned('chunks', 'chunks', 'chunks is a plain table again');
SELECT hasnt_column('chunks', 'chunks', 'bucket', 'without the column');
SELECT fk_ok('chunks', 'chunks', 'collection_id', 'chunks', 'collections', 'id');
SELECT is((SELECT count(*) FROM chunks c JOIN collections l ON l.id = c.collection_id WHERE l.name = 'mine')::int, 1,
	'with what was written since');
SELECT * FROM finish();
