# What a server cannot do is refused at once and clearly, and nothing is made;
# a transaction that is rolled back has started nothing; a dump taken while a
# job runs, and a standby promoted meanwhile, are of use.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PartshiftTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = new_server('limits');
my $slowly = 'cost_delay => 10, cost_limit => 1, workers => 1';

sub query { return $node->safe_psql($_[1] || 'postgres', $_[0]) }

# SQLSTATE, message and hint of a command that fails.
sub refusal
{
	my ($on, $command) = @_;
	my ($code, $out, $err) =
	  $on->psql('postgres', "\\set VERBOSITY verbose\n$command");
	my ($message) = $err =~ /ERROR:\s+(.*)/;
	my ($hint) = $err =~ /HINT:\s+(.*)/;

	return join "\n", $message || "not refused: $command", $hint || ();
}

my $before;

sub nothing_made
{
	my ($why) = @_;

	same_definitions($before, catalog_rows($node), "$why: nothing is made");
	is(query('SELECT count(*) FROM partshift.job'), '0', "$why: no job is recorded");
	return;
}

query(q{
	CREATE TABLE t (id integer PRIMARY KEY, part integer NOT NULL, note text);
	INSERT INTO t SELECT g, g, repeat('n', 100) FROM generate_series(1, 3000) g;
	VACUUM ANALYZE});
$before = catalog_rows($node);

subtest 'a transaction that is rolled back' => sub {
	my %how = (
		'rolled back' => q{BEGIN;
			SELECT partshift.convert('t', 'hash', 'id', partitions => 3);
			SELECT pg_sleep(0.5);
			ROLLBACK},
		'rolled back to a savepoint' => q{BEGIN; SAVEPOINT a;
			SELECT partshift.convert('t', 'hash', 'id', partitions => 3);
			ROLLBACK TO a; SELECT pg_sleep(0.5); COMMIT},
		'rolled back by an error' => q{BEGIN;
			SELECT partshift.convert('t', 'hash', 'id', partitions => 3);
			SELECT 1 / 0; COMMIT});

	for my $how (sort keys %how)
	{
		$node->psql('postgres', $how{$how});
		await($node, "SELECT count(*) = 0 FROM pg_stat_activity
			WHERE backend_type = 'partshift worker'");
		nothing_made($how);
	}
	is(server_errors($node, 0) =~ s/.*division by zero\n?//r, '',
		'no worker met an error');
	like(refusal($node, q{BEGIN READ ONLY;
			SELECT partshift.convert('t', 'hash', 'id', partitions => 3);}),
		qr/^25006: cannot execute/, 'a read-only transaction is refused');
	nothing_made('read only');
};

subtest 'too many partitions' => sub {
	like(refusal($node, q{SELECT partshift.convert('t', 'hash', 'id', partitions => 9000)}),
		qr/^53400: too many partitions.*\nRaise max_locks_per_transaction/,
		'too many for the lock table are refused');
	nothing_made('too many partitions');
	is(query(q{SELECT count(*) FROM partshift.plan('t', 'hash', 'id', partitions => 9000)
			WHERE severity = 'error' AND topic = 'locks'}),
		'1', 'the plan says so, too');
};

subtest 'no worker slot' => sub {
	$node->append_conf('postgresql.conf',
		"max_worker_processes = 0\nmax_logical_replication_workers = 0\n");
	$node->restart;
	is(refusal($node, q{SELECT partshift.convert('t', 'hash', 'id', partitions => 3)}),
		"53400: could not start a background worker for the conversion\n"
		  . 'You might need to increase max_worker_processes.',
		'a conversion is refused');
	nothing_made('no worker slot');

	# Nor may an order be noted that nobody will follow.
	$node->append_conf('postgresql.conf', "max_worker_processes = 32\n");
	$node->restart;
	my $job = start_job($node,
		q{'t', 'hash', 'id', partitions => 3, swap => 'manual'});
	reach($node, $job, 'ready, active');
	$node->append_conf('postgresql.conf', "max_worker_processes = 0\n");
	$node->restart;
	for my $order ('swap', 'abort', 'resume', 'verify')
	{
		like(refusal($node, "SELECT partshift.$order($job)"),
			qr/^53400: could not start/, "$order is refused");
	}
	is(query("SELECT swap_requested FROM partshift.job WHERE job_id = $job"),
		'f', 'no order is noted');
	is(job_state($node, $job), 'ready, active', 'the job is as it was');

	# One slot is enough for a conversion with helpers.
	$node->append_conf('postgresql.conf', "max_worker_processes = 1\n");
	$node->restart;
	query("SELECT partshift.abort($job)");
	ended($node, $job, 'aborted');
	query('DELETE FROM partshift.job');
	nothing_made('aborted');
	await($node, "SELECT count(*) = 0 FROM pg_stat_activity
		WHERE backend_type = 'partshift worker'");
	$job = start_job($node, q{'t', 'hash', 'id', partitions => 3, workers => 4});
	reach($node, $job, 'done, active');
	await($node, "SELECT count(*) = 0 FROM pg_stat_activity
		WHERE backend_type = 'partshift worker'");
	query("SELECT partshift.rollback($job)");
	ended($node, $job, 'rolled_back');
	$node->append_conf('postgresql.conf', "max_worker_processes = 32\n");
	$node->restart;
};

# The largest number of partitions that the lock table is said to have room
# for is one that can be converted to and back.
subtest 'as many partitions as are allowed' => sub {
	my ($few, $many, $job) = (1, 3000);

	$node->append_conf('postgresql.conf', "max_locks_per_transaction = 10\n");
	$node->restart;
	while ($many - $few > 1)
	{
		my $n = int(($few + $many) / 2);

		if (query(qq{SELECT count(*) FROM partshift.plan('t', 'hash', 'id', partitions => $n)
				WHERE severity = 'error'}))
		{
			$many = $n;
		}
		else
		{
			$few = $n;
		}
	}
	note("$few partitions");
	cmp_ok($few, '>', 20, 'some are allowed');
	$job = start_job($node, "'t', 'hash', 'id', partitions => $few");
	reach($node, $job, 'done, active');
	query('UPDATE t SET note = note');
	query("SELECT partshift.rollback($job)");
	ended($node, $job, 'rolled_back');
	is(query('SELECT count(*) FROM t'), '3000', 'the data is there');
	is(server_errors($node, 0) =~ s/.*(53400|25006|22012) .*\n?//gr, '',
		'no error came of it');
	$node->append_conf('postgresql.conf', "max_locks_per_transaction = 64\n");
	$node->restart;
};

# A dump has the tables of a conversion, but nothing that acts.
subtest 'dump and restore' => sub {
	my (%job, $dump, $n);

	query('CREATE TABLE u (LIKE t INCLUDING ALL); INSERT INTO u TABLE t;
		CREATE TABLE d (LIKE t INCLUDING ALL); INSERT INTO d TABLE t');
	$job{t} = start_job($node, "'t', 'hash', 'id', partitions => 3, $slowly");
	$job{u} = start_job($node, q{'u', 'hash', 'id', partitions => 3, swap => 'manual'});
	$job{d} = start_job($node, q{'d', 'hash', 'id', partitions => 3});
	reach($node, $job{u}, 'ready, active');
	reach($node, $job{d}, 'done, active');
	await($node, "SELECT sum(rows) > 0 FROM partshift.task WHERE job_id = $job{t}");
	query('UPDATE t SET part = part + 1 WHERE id % 3 = 0;
		UPDATE u SET part = part + 1 WHERE id % 3 = 0;
		UPDATE d SET part = part + 1 WHERE id % 3 = 0');
	reach($node, $job{t}, 'copy, active');
	$dump = PostgreSQL::Test::Utils::tempdir . '/dump.sql';
	$node->command_ok(
		[ 'pg_dump', '-f', $dump, '-d', $node->connstr('postgres') ],
		'the database can be dumped');
	reach($node, $job{t}, 'copy, active');
	query('CREATE DATABASE restored');
	$node->command_ok(
		[
			'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d',
			$node->connstr('restored'), '-f', $dump ],
		'the dump can be restored');
	for my $table ('t', 'u', 'd')
	{
		$n = query("SELECT count(*), sum(part) FROM $table");
		is(query("SELECT count(*), sum(part) FROM $table", 'restored'),
			$n, "the data of $table is there");
		query("UPDATE $table SET id = - id; INSERT INTO $table VALUES (0, 0);
			DELETE FROM $table WHERE id < -100; TRUNCATE $table", 'restored');
	}
	is(query("SELECT tgname FROM pg_trigger WHERE tgrelid IN ('t'::regclass, 'u'::regclass)",
			'restored'), '', 'there is no trigger before the swap');

	# The one on a swapped table is an ordinary trigger, for partitions to
	# come, and is dumped.
	is(query('SELECT count(*) FROM partshift.dropout', 'restored'),
		'0', 'nothing is recorded for a job that is not there');
	is(query('SELECT count(*) FROM partshift.job', 'restored'),
		'0', 'nor a job');
	query('ALTER TABLE u RENAME TO v; ALTER TABLE d ADD COLUMN extra integer;
		DROP EXTENSION partshift CASCADE; INSERT INTO d VALUES (1, 1)', 'restored');
	is(query("SELECT tgname FROM pg_trigger WHERE tgname LIKE 'partshift%'",
			'restored'), '', 'the extension can be dropped there, with all triggers');
	query("SELECT partshift.abort($job{t}); SELECT partshift.abort($job{u});
		SELECT partshift.rollback($job{d})");
	ended($node, $job{t}, 'aborted');
	ended($node, $job{u}, 'aborted');
	ended($node, $job{d}, 'rolled_back');
	query('DROP DATABASE restored');
};

# A standby refuses orders, shows what it is asked for, and goes on with the
# job when it is promoted.
subtest 'standby' => sub {
	my $standby = PostgreSQL::Test::Cluster->new('standby');
	my ($job, $shadow);

	$node->backup('base');
	$standby->init_from_backup($node, 'base', has_streaming => 1);
	$standby->start;
	like(refusal($standby, q{SELECT partshift.convert('t', 'hash', 'id', partitions => 3)}),
		qr/^25006: cannot execute partshift\.convert\(\) during recovery/,
		'a conversion is refused');
	is($standby->safe_psql('postgres', q{SELECT count(*) > 0
			FROM partshift.plan('t', 'hash', 'id', partitions => 3)}),
		't', 'a plan is not');

	$job = start_job($node, "'t', 'hash', 'id', partitions => 3, $slowly");
	await($node, "SELECT sum(rows) > 0 FROM partshift.task WHERE job_id = $job");
	query("UPDATE t SET note = 'while it was copied' WHERE id % 3 = 1;
		DELETE FROM t WHERE id % 5 = 1; CREATE TABLE kept AS TABLE t");
	$node->wait_for_catchup($standby);
	for my $order ('abort', 'pause', 'resume')
	{
		like(refusal($standby, "SELECT partshift.$order($job)"),
			qr/^25006: cannot execute/, "$order is refused");
	}
	like(refusal($standby, "SELECT partshift.alter_job($job, workers => 2)"),
		qr/^25006: cannot execute/, 'alter_job is refused');
	is($standby->safe_psql('postgres',
			"SELECT phase FROM partshift.progress WHERE job_id = $job"),
		'copy', 'progress is shown');
	$node->stop('immediate');
	$standby->promote;
	$standby->safe_psql('postgres', "SELECT partshift.alter_job($job, cost_delay => 0);
		SELECT partshift.resume($job)");
	reach($standby, $job, 'done, active');
	equal_tables($standby, 't', 'kept', 'the table holds what was written');
};

done_testing();
