# A conversion outlives whatever ends the server or its workers, in any phase:
# it goes on from its last commit, and both tables are equal at the end.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PartshiftTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = new_server('restart');
my $slowly = 'cost_delay => 10, cost_limit => 1';
my $round = 0;

sub query { return $node->safe_psql($_[1] || 'postgres', $_[0]) }

# A table, and a copy that each change is made to in the same transaction.
sub make_table
{
	my ($name, $database, $kind, $width) = @_;
	my $what = $kind || '';

	$width ||= 100;
	query(qq{
		CREATE $what TABLE $name (id integer PRIMARY KEY, part integer NOT NULL, note text);
		INSERT INTO $name SELECT g, g, repeat('n', $width) FROM generate_series(1, 3000) g;
		CREATE INDEX ON $name (part, note);
		CREATE $what TABLE ${name}_copy AS TABLE $name;
		VACUUM ANALYZE}, $database);
	return;
}

sub change
{
	my ($name, $database) = @_;

	$round++;
	query(join("\n", 'BEGIN;', (map { qq{
			INSERT INTO $_ SELECT $round * 100000 + g, g, 'new $round' FROM generate_series(1, 20) g;
			UPDATE $_ SET note = 'changed $round' WHERE id % 31 = $round;
			UPDATE $_ SET part = part + 1 WHERE id % 37 = $round;
			UPDATE $_ SET id = - id WHERE id % 41 = $round AND id > 100;
			DELETE FROM $_ WHERE id % 43 = $round AND id > 100;
		} } ($name, "${name}_copy")), 'COMMIT;'), $database);
	return;
}

# The server dies while a transaction is in progress, and is started again.
# Sessions that held a job in its phase go with it.
sub crash
{
	my ($name, @holders) = @_;
	my $writer = hold($node, "UPDATE $name SET note = 'lost' WHERE id = 99");

	query("SELECT pg_switch_wal()") if $round % 2;
	$node->stop('immediate');
	$_->{run}->kill_kill for ($writer, @holders);
	$node->start;
	return;
}

sub reach_phase
{
	my ($job, $phase) = @_;

	return reach($node, $job, "$phase, active");
}

sub resume
{
	query("SELECT partshift.resume($_[0])");
	return;
}

sub equal_to_copy
{
	my ($name, $when, $database) = @_;

	return equal_tables($node, $name, "${name}_copy",
		"$when: the table holds what was written", $database);
}

sub no_worker
{
	my ($job) = @_;

	return is(query("SELECT count(*) FROM pg_stat_activity
		WHERE backend_type = 'partshift worker'"), '0', 'no worker is there');
}

# One conversion that is thrown down in every phase.
subtest 'restart in every phase' => sub {
	my ($holder, $job, $shadow, $legacy);

	make_table('a');
	query('CREATE TABLE child (id integer REFERENCES a);
		INSERT INTO child SELECT generate_series(1, 90)');
	$holder = hold($node, 'LOCK TABLE a IN ROW EXCLUSIVE MODE');
	$job = start_job($node, "'a', 'hash', 'id', partitions => 3, workers => 1,"
		  . " swap => 'manual', $slowly");
	await($node, "SELECT shadow IS NOT NULL FROM partshift.job WHERE job_id = $job");
	reach_phase($job, 'prepare');
	crash('a', $holder);
	no_worker($job);
	resume($job);

	await($node, "SELECT sum(rows) > 0 FROM partshift.task WHERE job_id = $job");
	change('a');
	reach_phase($job, 'copy');
	crash('a');
	no_worker($job);
	$shadow = query("SELECT shadow::regclass FROM partshift.job WHERE job_id = $job");
	is(query("SELECT sum(rows) FROM partshift.task WHERE job_id = $job"),
		query("SELECT count(*) FROM $shadow"),
		'what is recorded as copied was copied');
	change('a');
	fast($node, $job);
	$holder = hold($node, "LOCK TABLE ${\leaf_of($job)} IN ROW EXCLUSIVE MODE");
	resume($job);

	reach_phase($job, 'index');
	change('a');
	crash('a', $holder);
	$holder = hold($node, 'LOCK TABLE a IN ROW EXCLUSIVE MODE');
	resume($job);

	reach_phase($job, 'mirror');
	crash('a', $holder);
	change('a');
	$holder = hold($node, 'SELECT FROM a WHERE id = 1 FOR UPDATE');
	resume($job);

	await($node, "SELECT phase = 'reconcile' AND postponed_rows > 0
		FROM partshift.job WHERE job_id = $job");
	reach_phase($job, 'reconcile');
	change('a');
	crash('a', $holder);
	$holder = hold($node, 'LOCK TABLE child IN ROW EXCLUSIVE MODE');
	resume($job);

	reach_phase($job, 'rewire');
	change('a');
	crash('a', $holder);
	resume($job);

	reach_phase($job, 'ready');
	change('a');
	equal_tables($node, 'a', $shadow, 'ready: both tables are equal');
	crash('a');
	equal_tables($node, 'a', $shadow, 'ready: both tables are equal');
	$holder = hold($node, 'LOCK TABLE a IN ACCESS SHARE MODE');
	query("SELECT partshift.swap($job)");

	reach_phase($job, 'swap');
	crash('a', $holder);
	change('a');
	is(query("SELECT relkind FROM pg_class WHERE oid = 'a'::regclass"),
		'r', 'nothing was swapped');
	resume($job);

	reach_phase($job, 'done');
	$legacy = query("SELECT legacy FROM partshift.jobs WHERE job_id = $job");
	equal_to_copy('a', 'swapped');
	crash('a');
	change('a');
	equal_to_copy('a', 'swapped');
	equal_tables($node, 'a', $legacy, 'swapped: both tables are equal');

	$holder = hold($node, 'LOCK TABLE a IN ACCESS SHARE MODE');
	query("SELECT partshift.rollback($job)");
	reach_phase($job, 'swap');
	crash('a', $holder);
	change('a');
	resume($job);
	ended($node, $job, 'rolled_back');
	equal_to_copy('a', 'rolled back');
	is(internal_names($node), '', 'nothing of the conversion is left');
	is(query("SELECT count(*) FROM pg_constraint
		WHERE conrelid = 'child'::regclass AND confrelid = 'a'::regclass AND convalidated"),
		'1', 'the foreign key is there');
};

# Recovery empties unlogged tables, and the log with them.
subtest 'an unlogged table' => sub {
	my $job;

	make_table('u', undef, 'UNLOGGED');
	$job = start_job($node, "'u', 'hash', 'id', partitions => 3, workers => 1, $slowly");
	await($node, "SELECT sum(rows) > 0 FROM partshift.task WHERE job_id = $job");
	change('u');
	crash('u');
	is(query('SELECT count(*) FROM u'), '0', 'the table is empty');
	query('INSERT INTO u SELECT g, g FROM generate_series(1, 100) g;
		INSERT INTO u_copy TABLE u');
	fast($node, $job);
	resume($job);
	reach_phase($job, 'done');
	equal_to_copy('u', 'swapped');
	query("SELECT partshift.finalize($job)");
	ended($node, $job, 'finalized');
};

# The processes of a job, its leader first.
sub workers_of
{
	my ($job) = @_;

	return split /\n/, query(qq{
		SELECT a.pid FROM pg_stat_activity a, partshift.job j
		WHERE job_id = $job AND backend_type = 'partshift worker'
			AND application_name = 'partshift job $job'
		ORDER BY a.pid <> worker_pid, a.pid});
}

# Start one of several ranges of blocks with helpers, and wait until they are
# at work.
sub start_together
{
	my ($name) = @_;
	my $job;
	my $until = time + 60;

	make_table($name, undef, undef, 1000);
	$job = start_job($node, "'$name', 'hash', 'id', partitions => 3,"
		  . " workers => 3, $slowly");
	usleep(50_000) while workers_of($job) < 3 && time < $until;
	is(scalar(my @pids = workers_of($job)), 3, 'three workers are there');
	await($node, "SELECT sum(rows) > 0 FROM partshift.task WHERE job_id = $job");
	reach_phase($job, 'copy');
	return $job;
}

sub await_recovery
{
	my ($pid) = @_;
	my $until = time + 60;

	usleep(20_000) while kill(0, $pid) && time < $until;
	return ok($node->poll_query_until('postgres', 'SELECT true'),
		'the server has recovered');
}

subtest 'workers are ended' => sub {
	my ($job, @pids);

	$job = start_together('b');
	@pids = workers_of($job);
	query("SELECT pg_terminate_backend($pids[2], 10000)");
	change('b');
	query("SELECT pg_terminate_backend($pids[0], 10000)");
	change('b');
	fast($node, $job);
	reach_phase($job, 'done');
	isnt(query("SELECT worker_pid FROM partshift.job WHERE job_id = $job"),
		$pids[0], 'it had another leader at the end');
	equal_to_copy('b', 'swapped');
	query("SELECT partshift.finalize($job)");
	ended($node, $job, 'finalized');
};

for my $victim ('leader', 'helper')
{
	subtest "a $victim is killed" => sub {
		my ($job, @pids, $pid);

		$node->adjust_conf('postgresql.conf', 'restart_after_crash', 'on');
		$node->reload;
		$job = start_together($victim);
		@pids = workers_of($job);
		change($victim);
		$pid = $victim eq 'leader' ? $pids[0] : $pids[-1];
		kill 'KILL', $pid;
		await_recovery($pid);
		change($victim);
		fast($node, $job);
		reach_phase($job, 'done');
		equal_to_copy($victim, 'swapped');
		query("SELECT partshift.finalize($job)");
		ended($node, $job, 'finalized');
	};
}

# With the library preloaded nobody has to call resume().
subtest 'preloaded' => sub {
	my (%job, $paused, $ready, $aborted, $holder);

	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'partshift'\n");
	$node->restart;
	query('CREATE DATABASE other');
	query('CREATE EXTENSION partshift', 'other');
	for my $database ('postgres', 'other')
	{
		make_table("p_$database", $database);
		$job{$database} = start_job($node,
			"'p_$database', 'hash', 'id', partitions => 3, $slowly", $database);
	}
	make_table($_) for ('paused', 'ready', 'aborted');
	$paused = start_job($node, "'paused', 'hash', 'id', partitions => 3, $slowly");
	$aborted = start_job($node, "'aborted', 'hash', 'id', partitions => 3, $slowly");
	$ready = start_job($node, "'ready', 'hash', 'id', partitions => 3, swap => 'manual'");
	reach_phase($ready, 'ready');
	for my $database ('postgres', 'other')
	{
		await($node, "SELECT sum(rows) > 0 FROM partshift.task
			WHERE job_id = $job{$database}", $database);
		change("p_$database", $database);
	}
	await($node, "SELECT phase = 'copy' FROM partshift.job WHERE job_id = $paused");
	query("SELECT partshift.pause($paused)");
	await($node, "SELECT phase = 'copy' FROM partshift.job WHERE job_id = $aborted");
	$holder = hold($node, 'LOCK TABLE aborted IN ACCESS SHARE MODE');
	query("SELECT partshift.abort($aborted)");
	$node->stop('immediate');
	$holder->{run}->kill_kill;
	$node->start;
	for my $database ('postgres', 'other')
	{
		query("SELECT partshift.alter_job($job{$database}, cost_delay => 0)", $database);
		change("p_$database", $database);
		reach($node, $job{$database}, 'done, active', $database);
		equal_to_copy("p_$database", 'swapped', $database);
	}
	ended($node, $aborted, 'aborted');
	is(triggers_of($node, 'aborted'), '', 'the order to abort was followed');
	is(job_state($node, $paused), 'copy, paused', 'a paused job stays paused');
	is(job_state($node, $ready), 'ready, active', 'a job that is ready waits');
	query("SELECT partshift.alter_job($paused, cost_delay => 0);
		SELECT partshift.resume($paused); SELECT partshift.swap($ready)");
	for ([ $paused, 'paused' ], [ $ready, 'ready' ])
	{
		reach_phase($_->[0], 'done');
		equal_to_copy($_->[1], 'swapped');
	}
};

sub leaf_of
{
	my ($job) = @_;

	return query("SELECT inhrelid::regclass FROM pg_inherits i, partshift.job j
		WHERE inhparent = shadow AND job_id = $job ORDER BY inhrelid LIMIT 1");
}

done_testing();
