# A year of maintenance, day by day: three tables under load, with rows that
# come late and rows from the future, a week in which nobody maintained
# anything, and both nights in which clocks change.  No write fails for lack
# of a partition, and nothing is dropped before its time.
#
# The year ends today, because pg_partman, which then takes over what was
# converted, goes by the clock.  It has a week more than others, so that clocks
# change twice in any.

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

# Two tables are converted, one is adopted.  A conversion makes all partitions
# until now, of which only the first is left here.  What was written is written
# down as well.
query(q{
	CREATE TABLE year AS SELECT d - 371 AS first, d AS last
	FROM (SELECT (now() AT TIME ZONE 'Europe/Berlin')::date) x (d);
	CREATE TABLE monthly (id bigint, at timestamptz NOT NULL, PRIMARY KEY (id, at));
	INSERT INTO monthly SELECT 0, first FROM year;
	CREATE TABLE numbers (id bigint PRIMARY KEY, at timestamptz NOT NULL);
	INSERT INTO numbers SELECT 0, first FROM year});
for my $arguments ("'monthly', 'range', 'at', every => '1 month', premake => 2, timezone => 'Europe/Berlin'",
	"'numbers', 'range', 'id', every => '1000', premake => 2")
{
	my $job = start_job($node, "$arguments, keep_legacy => false");

	reach($node, $job, 'done, active');
	query("SELECT partshift.finalize($job)");
	ended($node, $job, 'finalized');
}
query(q{
	DO $$
	DECLARE
		leaf regclass;
	BEGIN
		FOR leaf IN SELECT b.leaf FROM year, partshift.leaf_bounds('monthly') b
			WHERE b.lower::timestamptz > first LOOP
			EXECUTE format('DROP TABLE %s', leaf);
		END LOOP;
	END $$;
	CREATE TABLE daily (id bigint, at timestamptz NOT NULL, PRIMARY KEY (at, id))
		PARTITION BY RANGE (at);
	CREATE TABLE wrote (tab text, id bigint, at timestamptz);
	CREATE SEQUENCE ids INCREMENT 2;
	CREATE TABLE lost (day date, tab text, rows bigint);
	SELECT partshift.manage('monthly', retention => '3 months', analyze_every => '30 days');
	SELECT partshift.manage('daily', every => '1 day', premake => 10, retention_count => 14,
		timezone => 'Europe/Berlin', analyze_every => '30 days');
	SELECT partshift.manage('numbers', retention => '5000', analyze_every => '30 days');

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
		FROM year, unnest(ARRAY[-10, -3, 2]) d WHERE day > first + 14
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
			WHEN 'daily' THEN w.at >= (day - 13)::timestamp AT TIME ZONE 'Europe/Berlin'
				AND NOT EXISTS (SELECT FROM daily t WHERE t.id = w.id AND t.at = w.at)
			ELSE w.id >= (SELECT max(x.id) FROM wrote x WHERE x.tab = 'numbers') - 5000
				AND NOT EXISTS (SELECT FROM numbers t WHERE t.id = w.id) END
		GROUP BY 2
	$$;

	CREATE PROCEDURE live() LANGUAGE plpgsql AS $$
	DECLARE
		first date := (SELECT y.first FROM year y);
		day date;
	BEGIN
		FOR day IN SELECT generate_series(y.first, y.last, '1 day') FROM year y LOOP
			IF day NOT BETWEEN first + 186 AND first + 192 THEN
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
	SELECT partshift.maintain(now => first + time '00:01') FROM year});

my ($code, $out, $err) = $node->psql('postgres', 'CALL live()', timeout => 900);
is($code, 0, 'no write failed in a year, and no maintenance') or diag($err);
is(query('SELECT string_agg(lost::text, E\'\n\') FROM lost'), '', 'nothing was dropped early');
is(query(q{SELECT count(*) FROM partshift.maintenance WHERE status <> 'done'}), '0',
	'nothing was deferred');

# Retention did its work: not much more than must be there is.
is(query(q{SELECT min(at) >= date_trunc('month', max(last) - interval '3 months') AT TIME ZONE 'Europe/Berlin'
	FROM monthly, year}), 't', 'months that are over are gone');
is(query(q{SELECT count(*) FROM pg_inherits WHERE inhparent = 'daily'::regclass}), 25,
	'fourteen days, and ten ahead of the last row, which is tomorrow\'s');
is(query(q{SELECT min(id) > max(id) - 14000 FROM numbers}), 't', 'numbers that are over are gone');
is(query(q{SELECT count(*) FROM monthly_default}), '0', 'rows from the future have their months');

# The longest and the shortest day of the year, each in its partition.
is(query(q{
	SELECT string_agg(substr(m.detail, 17, 12) || substr(m.detail, 43, 12), ',' ORDER BY extract(month FROM d.day))
	FROM (SELECT max(s.day) AS day FROM year, generate_series(first, last, '1 day') AS s (day)
		  WHERE to_char(s.day, 'MM') IN ('03', '10') AND extract(dow FROM s.day) = 0 AND extract(day FROM s.day) > 24
		  GROUP BY to_char(s.day, 'MM')) d
		JOIN partshift.maintenance m ON m.action = 'create' AND m.object = to_char(d.day, '"daily_p"YYYYMMDD')}),
	'00:00:00+01 00:00:00+02,00:00:00+02 00:00:00+01', 'days of 23 and of 25 hours');
is(query(q{SELECT count(*) FROM partshift.policies WHERE failed_at IS NULL AND maintained_at IS NOT NULL}),
	3, 'all three tables are well');

subtest 'pg_partman takes over' => sub {
	my $kept;

	plan skip_all => 'pg_partman is not installed'
	  if query(q{SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_partman'}) eq '0';
	query(q{
		SELECT partshift.maintain();
		CREATE SCHEMA partman;
		CREATE EXTENSION pg_partman SCHEMA partman;
		SELECT partshift.hand_over('monthly', 'partman');
		SELECT partshift.hand_over('numbers', 'partman');
		CREATE TABLE before AS SELECT i.inhparent::regclass AS parent, i.inhrelid::regclass AS leaf,
			pg_get_expr(c.relpartbound, c.oid) AS bound
		FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE c.relkind = 'r';
		CREATE TABLE last AS SELECT 'numbers' AS tab, max(id) AS id FROM numbers;
		UPDATE partman.part_config SET premake = 15});
	is(query('SELECT relation FROM partshift.policies'), 'public.daily', 'we maintain what is left');
	query(q{SET timezone = 'Europe/Berlin'; SELECT partman.run_maintenance()});
	is(query(q{SELECT count(*) FROM before b LEFT JOIN pg_class c ON c.oid = b.leaf
		WHERE pg_get_expr(c.relpartbound, c.oid) IS DISTINCT FROM b.bound}), '0', 'partitions are as they were');
	is(query(q{SELECT count(*) FROM unnest(ARRAY['monthly', 'numbers']::regclass[]) t
		WHERE 4 > (SELECT count(*) FROM pg_inherits i WHERE i.inhparent = t
			AND i.inhrelid NOT IN (SELECT leaf FROM before))}), '0', 'others were added');
	is(query(q{
		SELECT count(*) FROM unnest(ARRAY['monthly', 'numbers']::regclass[]) t,
			LATERAL (SELECT lag(s.upper) OVER (ORDER BY s.least), s.lower
				FROM pg_attribute a, partshift.stretches(t, a.atttypid) s
				WHERE a.attrelid = t AND a.attname = CASE t::text WHEN 'monthly' THEN 'at' ELSE 'id' END
					AND NOT s.is_default) x (upper, lower)
		WHERE x.upper <> x.lower}), '0', 'without a gap');
	query(q{INSERT INTO monthly SELECT nextval('ids'), now() + m * interval '1 month' FROM generate_series(0, 14) m;
		INSERT INTO numbers SELECT id + g * 500, now() FROM last, generate_series(1, 25) g});
	is(query('SELECT (SELECT count(*) FROM monthly_default) + (SELECT count(*) FROM numbers_default)'), '0',
		'what is written finds its partition');

	# It knows the partitions that we made well enough to drop them in time.
	query(q{UPDATE partman.part_config SET retention_keep_table = false,
		retention = CASE control WHEN 'at' THEN '1 month' ELSE '14000' END;
		SET timezone = 'Europe/Berlin'; SELECT partman.run_maintenance()});
	is(query(q{SELECT string_agg(parent::text, ' ' ORDER BY parent::text) FROM (
		SELECT b.parent FROM before b WHERE b.leaf NOT IN (SELECT oid FROM pg_class) GROUP BY b.parent
		HAVING count(*) < (SELECT count(*) FROM before t WHERE t.parent = b.parent)) x}), 'monthly numbers',
		'it drops what is over');
	is(query(q{SELECT count(*) FROM partshift.maintain() WHERE table_name <> 'public.daily'}), '0',
		'and is not interfered with');
};
done_testing();
