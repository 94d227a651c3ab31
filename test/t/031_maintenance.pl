# Maintenance among others: the launcher, pg_cron, writers, locks, and a
# DETACH that was interrupted.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PartshiftTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('maintenance', "shared_preload_libraries = 'partshift'");

sub query { return $node->safe_psql($_[1] || 'postgres', $_[0]) }

# pg_cron looks once a minute, so it is started first and asked last.
my $cron;
if (-e $node->config_data('--pkglibdir') . '/pg_cron.so')
{
	$cron = PostgreSQL::Test::Cluster->new('cron');
	$cron->init;
	$cron->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'pg_cron'
cron.database_name = 'postgres'
cron.use_background_workers = on
max_worker_processes = 32
timezone = UTC
CONF
	$cron->start;
	$cron->safe_psql('postgres', q{
		CREATE EXTENSION partshift;
		CREATE EXTENSION pg_cron;
		CREATE ROLE keeper LOGIN;
		GRANT USAGE ON SCHEMA cron TO keeper;
		CREATE TABLE events (at timestamptz NOT NULL) PARTITION BY RANGE (at);
		CREATE TABLE others (at timestamptz NOT NULL) PARTITION BY RANGE (at);
		ALTER TABLE events OWNER TO keeper;
		SELECT partshift.manage('events', every => '1 month');
		SELECT partshift.manage('others', every => '1 month');
		SET ROLE keeper;
		SELECT cron.schedule('partitions', '* * * * *', 'SELECT partshift.maintain()')});
}

subtest 'the launcher' => sub {
	my $pid;
	my $job;

	query('CREATE DATABASE other');
	query('CREATE EXTENSION partshift', 'other');
	for my $database ('postgres', 'other')
	{
		query(q{CREATE TABLE t (at date) PARTITION BY RANGE (at);
			SELECT partshift.manage('t', every => '1 month')}, $database);
	}
	query(q{CREATE TABLE c (id integer PRIMARY KEY); INSERT INTO c SELECT generate_series(1, 100)});
	$node->append_conf('postgresql.conf', "partshift.backup_retention = 0\n");
	$node->reload;
	$job = start_job($node, "'c', 'hash', 'id', partitions => 2");
	reach($node, $job, 'done, active');
	query("SELECT partshift.finalize($job)");
	ended($node, $job, 'finalized');
	is(query('SELECT state FROM partshift.backups'), 'expired', 'the old table may go');
	is(query(q{SELECT count(*) FROM pg_inherits WHERE inhparent = 't'::regclass}), '0',
		'nobody maintains anything yet');
	$pid = query(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'partshift launcher'});
	isnt($pid, '', 'the launcher is there');
	$node->append_conf('postgresql.conf', "partshift.maintenance_interval = 1s\n");
	$node->reload;
	for my $database ('postgres', 'other')
	{
		await($node, q{SELECT count(*) = 4 FROM pg_inherits WHERE inhparent = 't'::regclass}, $database);
		pass("partitions were made in database $database");
	}
	await($node, q{SELECT state = 'dropped' FROM partshift.backups});
	pass('the old table was dropped');

	query("SELECT pg_terminate_backend($pid, 10000)");
	query(q{CREATE TABLE t2 (at date) PARTITION BY RANGE (at);
		SELECT partshift.manage('t2', every => '1 month')});
	await($node, q{SELECT count(*) = 4 FROM pg_inherits WHERE inhparent = 't2'::regclass});
	pass('a launcher that was ended comes back');
	$node->append_conf('postgresql.conf', "partshift.maintenance_interval = 0\n");
	$node->reload;
	await($node, q{SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'partshift maintenance'});
	query('DROP TABLE t, t2, c');
};

# Writers who run ahead of the partitions meet no error, and lose no row.
subtest 'rows leave DEFAULT under load' => sub {
	my $load;

	query(q{CREATE TABLE ahead (id bigint, n integer NOT NULL DEFAULT 0, PRIMARY KEY (id)) PARTITION BY RANGE (id);
		CREATE TABLE ahead_default PARTITION OF ahead DEFAULT;
		CREATE SEQUENCE ahead_id;
		CREATE TABLE child (id bigint REFERENCES ahead ON DELETE CASCADE);
		SELECT partshift.manage('ahead', every => '300', premake => 0)});
	$load = load_start($node, { ahead => [ 1, <<'SQL' ] }, '-c', 3);
SELECT nextval('ahead_id') AS id \gset
INSERT INTO ahead VALUES (:id);
INSERT INTO child VALUES (:id);
UPDATE ahead SET n = n + 1 WHERE id = :id;
UPDATE ahead SET n = n + 1 WHERE id = :id - 7;
SQL
	for (1 .. 12)
	{
		my $before = query('SELECT last_value FROM ahead_id');

		await($node, "SELECT last_value > $before + 200 FROM ahead_id");
		query('SELECT partshift.maintain()');
	}
	load_stop($load, 'ahead');
	query('SELECT partshift.maintain()');
	is(query('SELECT count(*), min(n) > 0 FROM ahead'), query('SELECT count(*), true FROM child'),
		'every row is there, and was changed');
	is(query('SELECT count(*) > 0 FROM partshift.maintenance WHERE rows > 0'), 't', 'rows were moved');
	is(query('SELECT count(*) FROM ahead_default'), '0', 'DEFAULT is empty');
	query('DROP TABLE child, ahead');
};

# Who reads DEFAULT holds up this table and no other, and is not held up long.
subtest 'a reader is in the way' => sub {
	my $reader;

	query(q{CREATE TABLE a (n integer NOT NULL) PARTITION BY RANGE (n);
		CREATE TABLE a_default PARTITION OF a DEFAULT;
		INSERT INTO a VALUES (5), (15);
		CREATE TABLE b (n integer NOT NULL) PARTITION BY RANGE (n);
		SELECT partshift.manage('a', every => '10', premake => 0);
		SELECT partshift.manage('b', every => '10', premake => 0)});
	$reader = hold($node, 'SELECT count(*) FROM a_default');
	is(query(q{SELECT string_agg(concat_ws(' ', table_name, action, status), ', ' ORDER BY table_name, action, object)
		FROM partshift.maintain()}),
		'public.a analyze done, public.a create deferred, public.a create deferred, public.b analyze done, public.b create done',
		'what cannot be done now is deferred, the rest is done');
	is(query('SELECT count(*) FROM a'), '2', 'nothing was lost');
	is(query(q{SELECT count(*) FROM pg_namespace WHERE nspname ~ '^partshift_build'}), '0', 'nothing is left');
	release($reader);
	is(query(q{SELECT count(*) FROM partshift.maintain('a') WHERE action = 'create' AND status = 'done'}),
		'2', 'the next run does it');
	query('DROP TABLE a, b');
};

# A DETACH that somebody broke off is ended, but not while its caller waits.
subtest 'an interrupted DETACH' => sub {
	my $reader;

	query(q{CREATE TABLE d (n integer NOT NULL) PARTITION BY RANGE (n);
		CREATE TABLE d_p0 PARTITION OF d FOR VALUES FROM (0) TO (10);
		CREATE TABLE d_p10 PARTITION OF d FOR VALUES FROM (10) TO (20);
		CREATE TABLE d_p20 PARTITION OF d FOR VALUES FROM (20) TO (30);
		CREATE TABLE d_p30 PARTITION OF d FOR VALUES FROM (30) TO (40);
		INSERT INTO d VALUES (5), (15), (25);
		SELECT partshift.manage('d', premake => 1, retention_count => 2)});
	$reader = hold($node, 'SELECT count(*) FROM d');
	$node->psql('postgres', 'SET statement_timeout = 300; ALTER TABLE d DETACH PARTITION d_p0 CONCURRENTLY');
	release($reader);
	is(query(q{SELECT inhdetachpending FROM pg_inherits WHERE inhrelid = 'd_p0'::regclass}), 't',
		'the partition is half detached');
	is(query(q{SELECT string_agg(topic || ' ' || coalesce(object, ''), ', ') FROM partshift.health('d')
		WHERE topic = 'detach'}), 'detach public.d_p0', 'which is seen');
	query('INSERT INTO d VALUES (35)');
	is(query(q{SELECT string_agg(concat_ws(' ', object, status, detail), E'\n' ORDER BY object)
		FROM partshift.maintain() WHERE action = 'detach'}),
		"public.d_p0 deferred It goes on after the transaction that waits for this.\n"
		. 'public.d_p10 deferred Another partition has to be detached first.',
		'it is not ended by whom somebody waits for');
	await($node, q{SELECT to_regclass('d_p10') IS NULL});
	is(query(q{SELECT count(*) FROM pg_class WHERE relname = 'd_p0' AND NOT relispartition}), '1',
		'it is ended, and not dropped, but what was detached after it is');
	is(query('SELECT count(*) FROM d_p0'), '1', 'its row is there');
	query('DROP TABLE d, d_p0');
};

# Code of a table's owner runs as its owner, whoever calls maintain().
subtest 'a hostile owner' => sub {
	my $from = -s $node->logfile;
	my $log;

	query(q{CREATE ROLE mallory; CREATE SCHEMA m AUTHORIZATION mallory;
		SET SESSION AUTHORIZATION mallory;
		CREATE FUNCTION m.say(place text) RETURNS void LANGUAGE plpgsql AS $$
		BEGIN
			RAISE LOG 'hostile % as %', place, current_user;
			IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)
				AND (current_user <> session_user
					OR pg_catalog.current_setting('application_name') ~ '^partshift')
			THEN
				ALTER ROLE mallory SUPERUSER;
			END IF;
			BEGIN
				ALTER TABLE m.t_p0 RENAME TO away;
			EXCEPTION WHEN OTHERS THEN
				RAISE LOG 'hostile %', SQLERRM;
			END;
		END $$;
		CREATE FUNCTION m.spy(v integer, place text) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS
			'BEGIN PERFORM m.say(place); RETURN v; END';
		CREATE FUNCTION m.twice(v integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT m.spy($1, ''generated'') * 2';
		CREATE TABLE m.t (n integer NOT NULL, v integer DEFAULT m.spy(1, 'default'),
			g integer GENERATED ALWAYS AS (m.twice(v)) STORED,
			CHECK (m.spy(v, 'check') = v)) PARTITION BY RANGE (n);
		CREATE INDEX ON m.t (m.spy(v, 'index')) WHERE m.spy(1, 'predicate') = 1;
		CREATE TABLE m.t_last PARTITION OF m.t FOR VALUES FROM (-10) TO (0);
		CREATE STATISTICS m.s ON n, m.spy(v, 'statistics') FROM m.t_last;
		CREATE POLICY p ON m.t_last USING (m.spy(v, 'policy') = v);
		CREATE TABLE m.t_default PARTITION OF m.t DEFAULT;
		INSERT INTO m.t SELECT g, g FROM generate_series(-5, 45) g;
		SELECT partshift.manage('m.t', every => '10', premake => 1, retention_count => 5)});
	query('ALTER ROLE mallory NOSUPERUSER');
	$from = -s $node->logfile;
	is(query(q{SELECT count(*) FROM partshift.maintain('m.t', dry_run => true) WHERE status = 'to do'}), '7',
		'the superuser looks');
	query(q{SELECT partshift.maintain(); SELECT count(*) FROM partshift.health(); SELECT partshift.maintain()});
	$log = slurp_file($node->logfile, $from);
	like($log, qr/hostile index as mallory/, 'his code ran');
	like($log, qr/hostile cannot execute ALTER TABLE/, 'no DDL in it did');
	unlike($log, qr/hostile \S+ as (?!mallory)/, 'and as nobody else');
	is(query(q{SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'}), 'f', 'he is what he was');
	is(query(q{SELECT count(*), min(n) FROM m.t}), '46|0', 'what had to go is gone, the rest is there');
	is(query(q{SELECT count(*) FROM m.t_default}), '0', 'and where it belongs');
	query('DROP SCHEMA m CASCADE; DROP ROLE mallory');
};

SKIP:
{
	skip 'pg_cron is not installed', 3 unless $cron;
	await($cron, q{SELECT count(*) = 4 FROM pg_inherits WHERE inhparent = 'events'::regclass});
	pass('pg_cron had the partitions made');
	is($cron->safe_psql('postgres', q{SELECT count(*) FROM pg_inherits WHERE inhparent = 'others'::regclass}),
		'0', 'and nothing of what is not its role\'s');
	await($cron, q{SELECT count(*) > 0 FROM cron.job_run_details WHERE status = 'succeeded'});
	pass('and says so');
}
done_testing();
