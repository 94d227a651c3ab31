-- Prices by month, some without a date: doc/recipes/prices.md.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION IF NOT EXISTS partshift;
CREATE SCHEMA prices;
SET search_path = prices, public;
SET timezone = 'UTC';
\set QUIET on

CREATE TABLE pricing_data (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	"productId" integer NOT NULL,
	"priceDate" timestamptz,
	"createdAt" timestamptz NOT NULL DEFAULT now(),
	price numeric(12,2) NOT NULL CHECK (price >= 0));
CREATE INDEX "pricing_data_productId_idx" ON pricing_data ("productId", "priceDate" DESC);
CREATE INDEX pricing_data_open ON pricing_data ("createdAt") WHERE "priceDate" IS NULL;
INSERT INTO pricing_data ("productId", "priceDate", "createdAt", price)
SELECT n % 200, CASE WHEN n % 20 > 0 THEN month + n * interval '1 hour' END,
	month + n * interval '1 hour' + interval '2 days', n % 1000
FROM generate_series(date_trunc('month', now()) - interval '35 months', now(), '1 month') AS month,
	generate_series(0, 600) AS n
WHERE month + n * interval '1 hour' <= now();
SELECT count(*) AS rows, count(*) FILTER (WHERE "priceDate" IS NULL) AS nulls FROM pricing_data \gset
ANALYZE;
\! touch load

SELECT plan(18);
SELECT matches((SELECT string_agg(detail, ' ') FROM partshift.plan('pricing_data', 'range', 'priceDate', every => '1 month')
	WHERE severity = 'error'), 'partition key column "priceDate" can be null', 'without an expression it is refused');
SELECT is_empty($$ SELECT * FROM partshift.plan('pricing_data', 'range', 'priceDate', every => '1 month',
	null_key => '"createdAt"') WHERE severity = 'error' $$, 'with one nothing stands in the way');
SELECT partshift.convert('pricing_data', 'range', 'priceDate', every => '1 month', premake => 2,
	null_key => '"createdAt"', legacy_name => 'pricing_data_old') AS job \gset
CALL partshift.wait(:job);
SELECT is(phase || ', ' || status, 'done, active', 'it is converted') FROM partshift.jobs WHERE job_id = :job;
SELECT is_partitioned('prices', 'pricing_data', 'pricing_data is partitioned');
SELECT cmp_ok((SELECT count(*) FROM pg_inherits WHERE inhparent = 'pricing_data'::regclass)::int, '>=', 39,
	'thirty-six months, two to come and the default');
SELECT has_table('prices', to_char(now() - interval '35 months', '"pricing_data_p"YYYYMM')::name, 'the first month is there');
SELECT col_not_null('prices', 'pricing_data', 'priceDate', 'the date is given');
SELECT cmp_ok(count(*), '>=', :nulls::bigint, 'the nulls were filled') FROM pricing_data WHERE "priceDate" = "createdAt";
SELECT is_empty('SELECT FROM pricing_data_default', 'nothing is in the default partition');
SELECT has_index('prices', 'pricing_data', 'pricing_data_open', 'the partial index is there');
SELECT is_empty(format($$ SELECT * FROM partshift.carried(%s) WHERE state <> 'same' AND reason IS NULL $$, :job),
	'what differs was meant to');
SELECT throws_ok('INSERT INTO pricing_data ("productId", price) VALUES (-1, 1)', '23502', NULL,
	'the server refuses a null from now on');
SELECT lives_ok('INSERT INTO pricing_data ("productId", price, "priceDate") VALUES (-1, 1, now())', 'and takes a date');
SELECT partshift.verify(:job);
CALL partshift.wait(:job);
SELECT is_empty(format('SELECT * FROM partshift.verification WHERE job_id = %s AND NOT equal', :job),
	'both tables are equal under load');
SELECT partshift.rollback(:job);
CALL partshift.wait(:job);
SELECT is(phase || ', ' || status, 'done, rolled_back', 'it is rolled back') FROM partshift.jobs WHERE job_id = :job;
SELECT isnt_partitioned('prices', 'pricing_data', 'pricing_data is a plain table again');
SELECT col_is_null('prices', 'pricing_data', 'priceDate', 'the date can be null');
SELECT is(count(*), 1::bigint, 'with what was written since') FROM pricing_data WHERE "productId" = -1 AND "priceDate" IS NOT NULL;
SELECT * FROM finish();
