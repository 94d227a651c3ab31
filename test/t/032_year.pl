# A year of maintenance, day by day: three tables under load, with rows that
# come late and rows from the future, a week in which nobody maintained
# anything, and both nights in which clocks change.  No write fails for lack
# of a partition, and nothing is dropped before its time.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PartshiftTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('year', 'fsync = off', 'autovacuum = off', 'statement_timeout = 0');

sub query { return $node->safe_psql('postgres', $_[0]) }

# What was written is written down as well.
query(q{
	CREATE TABLE monthly (id bigint, at timestamptz NOT NULL, PRIMARY KEY (id, at))
		PARTITION BY RANGE (at);
	CREATE TABLE monthly_default PARTITION OF monthly DEFAULT;
	CREATE TABLE daily (id bigint, at timestamptz NOT NULL, PRIMARY KEY (at, id))
		PARTITION BY RANGE (at);
	CREATE TABLE numbers (id bigint PRIMARY KEY, at timestamptz NOT NULL)
		PARTITION BY RANGE (id);
	CREATE TABLE numbers_default PARTITION OF numbers DEFAULT;
	CREATE TABLE wrote (tab text, id bigint, at timestamptz);
	CREATE SEQUENCE ids INCREMENT 2;
	CREATE TABLE lost (day date, tab text, rows bigint);
	SELECT partshift.manage('monthly', every => '1 month', premake => 2, retention => '3 months',
		timezone => 'Europe/Berlin', analyze_every => '30 days');
	SELECT partshift.manage('daily', every => '1 day', premake => 10, retention_count => 30,
		timezone => 'Europe/Berlin', analyze_every => '30 days');
	SELECT partshift.manage('numbers', every => '1000', premake => 2, retention => '5000',
		analyze_every => '30 days');

	CREATE PROCEDURE write_day(day date) LANGUAGE plpgsql AS $$
	DECLARE
		noon timestamptz := (day + time '12:00') AT TIME ZONE 'Europe/Berlin';
	BEGIN
		CREATE TEMP TABLE today (tab text, id bigint, at timestamptz) ON COMMIT DROP;
		INSERT INTO today
		SELECT t, nextval('ids'), noon + h * interval '30 minutes'
		FROM generate_series(-24, 30) h, unnest(ARRAY['monthly', 'daily', 'numbers']) t
		UNION ALL
		SELECT 'daily', nextval('ids'), noon + d * interval '1 day'
		FROM unnest(ARRAY[-20, -3, 2]) d WHERE day > '2026-02-01'
		UNION ALL
		SELECT 'monthly', nextval('ids'), noon + d * interval '1 day'
		FROM unnest(ARRAY[-60, 20, 100]) d WHERE extract(day FROM day) IN (3, 17)
		UNION ALL
		SELECT 'numbers', nextval('ids') + 5001, noon WHERE extract(day FROM day) = 11;
		INSERT INTO monthly SELECT id, at FROM today WHERE tab = 'monthly';
		INSERT INTO daily SELECT id, at FROM today WHERE tab = 'daily';
		INSERT INTO numbers SELECT id, at FROM today WHERE tab = 'numbers';
		INSERT INTO wrote SELECT * FROM today;
	END $$;

	/* What must still be there, by the rules of the policies and no others. */
	CREATE PROCEDURE check_day(day date) LANGUAGE sql AS $$
		INSERT INTO lost
		SELECT day, w.tab, count(*)
		FROM wrote w
		WHERE CASE w.tab
			WHEN 'monthly' THEN w.at >= (day - interval '3 months') AT TIME ZONE 'Europe/Berlin'
				AND NOT EXISTS (SELECT FROM monthly t WHERE t.id = w.id AND t.at = w.at)
			WHEN 'daily' THEN w.at >= (day - 29)::timestamp AT TIME ZONE 'Europe/Berlin'
				AND NOT EXISTS (SELECT FROM daily t WHERE t.id = w.id AND t.at = w.at)
			ELSE w.id >= (SELECT max(x.id) FROM wrote x WHERE x.tab = 'numbers') - 5000
				AND NOT EXISTS (SELECT FROM numbers t WHERE t.id = w.id) END
		GROUP BY 2
	$$;

	CREATE PROCEDURE live(first date, last date) LANGUAGE plpgsql AS $$
	DECLARE
		day date;
	BEGIN
		FOR day IN SELECT generate_series(first, last, '1 day') LOOP
			IF day NOT BETWEEN '2026-07-06' AND '2026-07-12' THEN
				PERFORM partshift.maintain(now => (day + time '00:05') AT TIME ZONE 'Europe/Berlin');
				COMMIT;
			END IF;
			CALL write_day(day);
			COMMIT;
			IF extract(day FROM day) IN (1, 15) THEN
				CALL check_day(day);
				COMMIT;
			END IF;
		END LOOP;
	END $$;
	SET timezone = 'Europe/Berlin';
	SELECT partshift.maintain(now => '2026-01-01 00:01+01')});

my ($code, $out, $err) = $node->psql('postgres', "CALL live('2026-01-01', '2026-12-31')",
	timeout => 900);
is($code, 0, 'no write failed in a year, and no maintenance') or diag($err);
is(query('SELECT string_agg(lost::text, E\'\n\') FROM lost'), '', 'nothing was dropped early');
is(query(q{SELECT count(*) FROM partshift.maintenance WHERE status <> 'done'}), '0',
	'nothing was deferred');

# Retention did its work: not much more than must be there is.
is(query(q{SELECT min(at) >= '2026-09-01 00:00+02' FROM monthly}), 't',
	'months that are over are gone');
is(query(q{SELECT count(*) FROM pg_inherits WHERE inhparent = 'daily'::regclass}), 41,
	'thirty days, and ten ahead of the last row, which is tomorrow\'s');
is(query(q{SELECT min(id) > max(id) - 14000 FROM numbers}), 't', 'numbers that are over are gone');
is(query(q{SELECT count(*) FROM monthly_default}), '0', 'rows from the future have their months');

# The longest and the shortest day of the year, each in its partition.
is(query(q{SELECT string_agg(object || ' ' || detail, E'\n' ORDER BY object)
	FROM partshift.maintenance WHERE action = 'create' AND object IN ('daily_p20260329', 'daily_p20261025')}),
	"daily_p20260329 from 2026-03-29 00:00:00+01 to 2026-03-30 00:00:00+02\n"
	  . 'daily_p20261025 from 2026-10-25 00:00:00+02 to 2026-10-26 00:00:00+01',
	'days of 23 and of 25 hours');
is(query(q{SELECT count(*) FROM partshift.policies WHERE failed_at IS NULL AND maintained_at IS NOT NULL}),
	3, 'all three tables are well');
done_testing();
