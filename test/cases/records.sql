-- A table of documents with children and materialized views upon it, under
-- load: doc/recipes/documents.md.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION IF NOT EXISTS partshift;
CREATE EXTENSION IF NOT EXISTS pg_trgm;
CREATE SCHEMA records;
SET search_path = records, public;
\set QUIET on

CREATE TABLE records (
	id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
	user_id uuid NOT NULL,
	kind text NOT NULL DEFAULT 'note',
	title text NOT NULL,
	data jsonb NOT NULL DEFAULT '{}',
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now());
CREATE INDEX records_user ON records (user_id, created_at DESC);
CREATE INDEX records_open ON records (created_at) WHERE kind = 'task';
CREATE INDEX records_title_trgm ON records USING gin (title gin_trgm_ops);
CREATE INDEX records_title_lower ON records (lower(title));
CREATE INDEX records_data ON records USING gin (data jsonb_path_ops);
CREATE TABLE audit (record_id uuid, what text, at timestamptz DEFAULT now());
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.updated_at := clock_timestamp();
	RETURN NEW;
END
$$;
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO records.audit (record_id, what) VALUES (coalesce(NEW.id, OLD.id), TG_OP);
	RETURN NULL;
END
$$;
CREATE TRIGGER touch BEFORE UPDATE ON records FOR EACH ROW EXECUTE FUNCTION touch();
CREATE TRIGGER note AFTER INSERT OR DELETE ON records FOR EACH ROW EXECUTE FUNCTION note();
CREATE TABLE record_media (
	id bigserial PRIMARY KEY,
	record_id uuid NOT NULL REFERENCES records ON DELETE CASCADE,
	url text);
CREATE TABLE aliases (
	name text PRIMARY KEY,
	record_id uuid NOT NULL REFERENCES records ON DELETE CASCADE);
CREATE INDEX ON record_media (record_id);

CREATE TABLE users AS SELECT gen_random_uuid() AS id FROM generate_series(1, 200);
INSERT INTO records (user_id, kind, title, data)
SELECT u.id, (ARRAY['note', 'task', 'file'])[1 + n % 3], 'title ' || n, jsonb_build_object('n', n)
FROM generate_series(1, 20) n, users u;
INSERT INTO record_media (record_id, url) SELECT id, 'https://' || title FROM records;
INSERT INTO aliases SELECT 'alias ' || row_number() OVER (), id FROM records WHERE kind = 'note';
CREATE MATERIALIZED VIEW per_user AS SELECT user_id, count(*) AS n FROM records GROUP BY user_id;
CREATE UNIQUE INDEX ON per_user (user_id);
CREATE MATERIALIZED VIEW recent AS
	SELECT r.id, r.title, m.url FROM records r JOIN record_media m ON m.record_id = r.id
	ORDER BY r.created_at DESC LIMIT 100;
SELECT 'per_user'::regclass::oid AS per_user, 'recent'::regclass::oid AS recent \gset
ANALYZE;
\! touch load

SELECT plan(31);
SELECT is_empty($$ SELECT * FROM partshift.plan('records', 'hash', 'user_id', partitions => 32,
	foreign_keys => 'extend') WHERE severity = 'error' $$, 'nothing stands in the way');
SELECT partshift.convert('records', 'hash', 'user_id', partitions => 32,
	foreign_keys => 'extend', legacy_name => 'records_old') AS job \gset
CALL partshift.wait(:job);
SELECT is(phase || ', ' || status, 'done, active', 'it is converted') FROM partshift.jobs WHERE job_id = :job;

SELECT is_partitioned('records', 'records', 'records is partitioned');
SELECT is((SELECT count(*) FROM pg_inherits WHERE inhparent = 'records'::regclass)::int, 32, 'by 32');
SELECT is_empty(format($$ SELECT * FROM partshift.carried(%s) WHERE state <> 'same' AND reason IS NULL $$, :job),
	'what differs was meant to');
SELECT col_is_pk('records', 'records', ARRAY['id', 'user_id'], 'the key has the partition key');
SELECT has_index('records', 'records', 'records_user', 'index by user');
SELECT has_index('records', 'records', 'records_open', 'partial index');
SELECT has_index('records', 'records', 'records_title_trgm', 'trigram index');
SELECT index_is_type('records', 'records', 'records_data', 'gin', 'index of jsonb');
SELECT has_trigger('records', 'records', 'touch', 'trigger touch');
SELECT has_trigger('records', 'records', 'note', 'trigger note');
SELECT is(pg_get_constraintdef(c.oid),
	'FOREIGN KEY (record_id, user_id) REFERENCES records(id, user_id) MATCH FULL ON UPDATE CASCADE ON DELETE CASCADE',
	format('%s refers to the new table', c.conrelid::regclass))
FROM pg_constraint c
WHERE c.conrelid IN ('record_media'::regclass, 'aliases'::regclass) AND c.contype = 'f' AND c.conparentid = 0;
SELECT is('per_user'::regclass::oid::text, :'per_user', 'per_user is the same object');
SELECT is('recent'::regclass::oid::text, :'recent', 'recent is the same object');
SELECT lives_ok('REFRESH MATERIALIZED VIEW CONCURRENTLY per_user', 'per_user can be refreshed');
SELECT is_empty('SELECT FROM record_media m LEFT JOIN records r ON (r.id, r.user_id) = (m.record_id, m.user_id) WHERE r.id IS NULL',
	'every medium has its record');
INSERT INTO records (id, user_id, title) SELECT '00000000-0000-0000-0000-000000000001', id, 'mine' FROM users LIMIT 1;
SELECT lives_ok($$ INSERT INTO aliases VALUES ('mine', '00000000-0000-0000-0000-000000000001') $$,
	'an application that does not know the new column');
SELECT is((SELECT count(*) FROM audit WHERE record_id = '00000000-0000-0000-0000-000000000001')::int, 1,
	'triggers fire once');
DELETE FROM records WHERE id = '00000000-0000-0000-0000-000000000001';
SELECT is((SELECT count(*) FROM aliases WHERE name = 'mine')::int, 0, 'deletes cascade');

SELECT partshift.verify(:job);
CALL partshift.wait(:job);
SELECT is_empty(format('SELECT * FROM partshift.verification WHERE job_id = %s AND NOT equal', :job),
	'both tables are equal under load');
SELECT partshift.rollback(:job);
CALL partshift.wait(:job);
SELECT is(phase || ', ' || status, 'done, rolled_back', 'it is rolled back') FROM partshift.jobs WHERE job_id = :job;
SELECT isnt_partitioned('records', 'records', 'records is a plain table again');
SELECT col_is_pk('records', 'records', 'id', 'with its key');
SELECT fk_ok('records', 'record_media', 'record_id', 'records', 'records', 'id');
SELECT fk_ok('records', 'aliases', 'record_id', 'records', 'records', 'id');
SELECT hasnt_column('records', 'record_media', 'user_id', 'the added column is gone');
SELECT is('per_user'::regclass::oid::text, :'per_user', 'per_user is still the same object');
SELECT lives_ok('REFRESH MATERIALIZED VIEW recent', 'recent can be refreshed');
SELECT has_trigger('records', 'records', 'touch', 'and its triggers');
SELECT * FROM finish();
