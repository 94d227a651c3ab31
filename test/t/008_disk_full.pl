# A disk without room, in every phase that writes much: the job fails and says
# why, the application goes on as far as it would without a conversion, and
# when there is room again the job is resumed and loses nothing.
#
# test/modules/disk_full makes it so, for a tablespace with the tables, for the
# default one with indexes, logs and the job, and for WAL.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Ledger;
use PartshiftTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use TestModule;
use Time::HiRes qw(time usleep);

my $slowly = 'cost_delay => 10, cost_limit => 1';
my $space = PostgreSQL::Test::Utils::tempdir;
my $flag = PostgreSQL::Test::Utils::tempdir . '/full';
my $library = build_module('disk_full');
my $node;

{
	local @ENV{ 'LD_PRELOAD', 'DISK_FULL' } = ($library, $flag);

	$node = new_server('disk_full', 'restart_after_crash = on',
		'wal_recycle = off', 'autovacuum = off');
}

sub query { return $node->safe_psql('postgres', $_[0]) }

sub fill
{
	my ($directory) = @_;

	append_to_file("$flag.new", "$directory\n");
	rename "$flag.new", $flag or die $!;
	return;
}

sub make_room { unlink $flag or die $!; return; }

# SQLSTATE of a command that fails, or nothing.
sub refusal
{
	my ($command) = @_;
	my ($code, $out, $err) =
	  $node->psql('postgres', "\\set VERBOSITY verbose\n$command");

	return $err =~ /ERROR:\s+(\w+)/ ? $1 : $err;
}

# The clients commit something that they began after now.
sub clients_go_on
{
	my ($when) = @_;
	my $n = query('SELECT sum(n) FROM mark');

	await($node, "SELECT sum(n) > $n + 100 FROM mark");
	return pass("$when: clients commit");
}

# The job stops for want of room, and goes on when it has some.
sub fails_in
{
	my ($job, $phase) = @_;

	await($node, "SELECT status <> 'active' FROM partshift.job WHERE job_id = $job");
	like(job_state($node, $job),
		qr/^$phase, failed, 53100 could not extend file .*: No space left on device/,
		"$phase: the job has failed");
	await($node, "SELECT count(*) = 0 FROM pg_stat_activity
		WHERE backend_type = 'partshift worker'");
	return;
}

sub goes_on
{
	my ($job) = @_;

	make_room();
	query("SELECT partshift.resume($job)");
	return;
}

sub leaf_of
{
	my ($job) = @_;

	return query("SELECT inhrelid::regclass FROM pg_inherits i, partshift.job j
		WHERE inhparent = shadow AND job_id = $job ORDER BY inhrelid LIMIT 1");
}

my ($clients, $holder, $job, $kept, $other, $plain);

query("CREATE TABLESPACE space LOCATION '$space'");
query($_) for split /;/, make_tables(2000, 300, 'space');
query('CREATE TABLE plain TABLESPACE space AS SELECT * FROM t LIMIT 1');
is(refusal('INSERT INTO plain SELECT * FROM t LIMIT 1000'), '', 'there is room');
fill($space);
is(refusal('INSERT INTO plain SELECT * FROM t LIMIT 1000'),
	'53100', 'there is none');
make_room();

subtest 'copy' => sub {
	$job = start_job($node, "'t', 'hash', 'id', partitions => 2,"
		  . " workers => 2, swap => 'manual', $slowly");
	await($node, "SELECT sum(rows) > 0 FROM partshift.task WHERE job_id = $job");
	fill($space);
	$clients = clients_start($node, qr/^53100$/);
	fast($node, $job);
	fails_in($job, 'copy');
	clients_go_on('copy');

	# Resuming it is of no use yet, and does no harm.
	query("SELECT partshift.resume($job)");
	fails_in($job, 'copy');
	$holder = hold($node, "LOCK TABLE ${\leaf_of($job)} IN ROW EXCLUSIVE MODE");
	goes_on($job);
	await($node, "SELECT phase = 'index' FROM partshift.job WHERE job_id = $job");
};

subtest 'index' => sub {
	fill($node->data_dir . '/base');
	release($holder);

	# That it failed may not be written either; then the worker comes back.
	await($node, "SELECT status = 'failed' OR NOT EXISTS (
			SELECT FROM pg_stat_activity WHERE backend_type = 'partshift worker')
		FROM partshift.job WHERE job_id = $job");
	like(job_state($node, $job), qr/^index, (active|failed, 53100)/,
		'the job has failed or will try again');
	$holder = hold($node, 'LOCK TABLE t IN ROW EXCLUSIVE MODE');
	goes_on($job);
	reach($node, $job, 'mirror, active')
	  if await($node, "SELECT phase = 'mirror' FROM partshift.job WHERE job_id = $job");
};

# Rows that were only logged need room in the shadow when they are settled.
subtest 'reconcile' => sub {
	query("INSERT INTO t SELECT -g, 1, repeat('r', 300) FROM generate_series(1, 1000) g");
	fill($space);
	release($holder);
	fails_in($job, 'reconcile');
	clients_go_on('reconcile');
	goes_on($job);
	reach($node, $job, 'ready, active')
	  if await($node, "SELECT status = 'failed' OR phase = 'ready'
			FROM partshift.job WHERE job_id = $job");
};

subtest 'a mirrored write' => sub {
	$other = query("SELECT shadow::regclass FROM partshift.job WHERE job_id = $job");
	fill($space);
	is(refusal("INSERT INTO t SELECT -g, 2, repeat('m', 300)
			FROM generate_series(2001, 3000) g"),
		'53100', 'an insertion fails for want of room');
	is(refusal('DELETE FROM t WHERE id BETWEEN -500 AND -1'),
		'', 'a deletion does not');
	clients_go_on('mirrored');
	equal_tables($node, 't', $other, 'both tables are equal');
	is(query('SELECT count(*) FROM t WHERE id < 0'), '500',
		'what failed is not there, what did not is');
	make_room();
	is(refusal("INSERT INTO t SELECT -g, 2, repeat('m', 300)
			FROM generate_series(2001, 3000) g"),
		'', 'with room it does not fail');
	equal_tables($node, 't', $other, 'both tables are equal');
};

# The server cannot go on without WAL: it panics until there is room.
subtest 'WAL' => sub {
	my $until = time + 120;

	$holder = hold($node, 'LOCK TABLE t IN ACCESS SHARE MODE');
	query("SELECT partshift.swap($job)");
	reach($node, $job, 'swap, active')
	  if await($node, "SELECT phase = 'swap' FROM partshift.job WHERE job_id = $job");
	fill($node->data_dir . '/pg_wal');
	$node->psql('postgres', 'SELECT pg_switch_wal(); CREATE TABLE w (i int);
		SELECT pg_switch_wal(); DROP TABLE w') for 1 .. 3;
	$node->wait_for_log(qr/PANIC: .*No space left on device/);
	$holder->{run}->kill_kill;

	# It may not even be able to finish its recovery, and give up.
	usleep(50_000)
	  until eval { Ledger::connect_once($node) }
	  || !kill(0, $node->{_pid})
	  || time > $until;
	make_room();
	if (!kill(0, $node->{_pid}))
	{
		local @ENV{ 'LD_PRELOAD', 'DISK_FULL' } = ($library, $flag);

		$node->kill9;
		$node->start;
	}
	query("SELECT partshift.resume($job) FROM partshift.job
		WHERE job_id = $job AND status = 'active'");
	reach($node, $job, 'done, active')
	  if await($node, "SELECT phase = 'done' FROM partshift.job WHERE job_id = $job");
	$other = query("SELECT relid::regclass FROM partshift.job WHERE job_id = $job");
	equal_tables($node, 't', $other, 'both tables are equal');
};

subtest 'a write that legacy has no room for' => sub {
	fill($space);
	is(refusal("INSERT INTO t SELECT -g, 2, repeat('m', 300)
			FROM generate_series(4001, 5000) g"),
		'53100', 'an insertion fails for want of room');
	is(refusal('DELETE FROM t WHERE id BETWEEN -600 AND -501'),
		'', 'a deletion does not');
	make_room();
	equal_tables($node, 't', $other, 'both tables are equal');
	is(query('SELECT count(*) FROM partshift.dropout'), '0',
		'legacy has not dropped out');
	query("SELECT partshift.rollback($job)");
	ended($node, $job, 'rolled_back');
	is(query('SELECT count(*) FROM t WHERE id < 0'), '1400', 'all rows are there');
};

$kept = clients_stop($clients);
is(join("\n", @{ $kept->{wrong} }), '', 'clients have what they committed');
cmp_ok($kept->{refused}, '>', 0, 'and met a disk without room');
note("$kept->{committed} transactions committed, $kept->{refused} refused,"
	  . " $kept->{lost} connections lost");
is(internal_names($node), '', 'nothing of the conversion is left');

done_testing();
