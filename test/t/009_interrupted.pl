# Workers that are cancelled or ended while they wait, in every phase; worker
# slots that run out; tables and indexes of a job that are rewritten under it
# before a worker is killed.  Clients write all the time.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Ledger;
use PartshiftTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $slowly = 'cost_delay => 10, cost_limit => 1';
my $node = new_server('interrupted', 'restart_after_crash = on');
my ($clients, $job);

sub query { return $node->safe_psql('postgres', $_[0]) }

# Make the tables and start clients and a conversion; a session that holds a
# lock before it, if one is given.
sub begin
{
	my ($arguments, $lock) = @_;
	my $holder;

	query($_) for split /;/, make_tables(3000, 1000);
	query('INSERT INTO t SELECT -g, 1, $$mine$$ FROM generate_series(1, 100) g');
	$clients = clients_start($node);
	$holder = hold($node, $lock) if $lock;
	$job = start_job($node, "'t', 'hash', 'id', partitions => 2, $arguments");
	return $holder;
}

# Everything is as the clients left it.
sub end
{
	my $kept = clients_stop($clients);

	is(join("\n", @{ $kept->{wrong} }), '', 'clients have what they committed');
	is(internal_names($node), '', 'nothing of the conversion is left');
	query('DROP TABLE t, child, parent, mark');
	return;
}

sub in_phase
{
	my ($phase) = @_;

	await($node, "SELECT phase = '$phase' OR status <> 'active'
		FROM partshift.job WHERE job_id = $job");
	return reach($node, $job, "$phase, active");
}

# The processes of the job: its leader, or those that help it.
sub workers
{
	my ($role) = @_;
	my $is = $role eq 'leader' ? '=' : '<>';

	return split /\n/, query(qq{
		SELECT a.pid FROM pg_stat_activity a, partshift.job j
		WHERE job_id = $job AND backend_type = 'partshift worker'
			AND application_name = 'partshift job $job'
			AND a.pid $is worker_pid});
}

sub await_worker
{
	my ($role) = @_;
	my $until = time + 60;
	my @pids;

	usleep(20_000) until (@pids = workers($role)) || time > $until;
	ok(scalar @pids, "there is a $role");
	return $pids[0];
}

sub resume { query("SELECT partshift.resume($job)"); return; }

# Cancelled in a statement, a worker makes the job fail; between two, it ends,
# and the server starts a leader again.
sub cancel
{
	my ($role, $phase) = @_;
	my $pid = await_worker($role);

	await($node, "SELECT pg_cancel_backend($pid) IS NULL OR NOT EXISTS (
			SELECT FROM pg_stat_activity WHERE pid = $pid)");
	like(job_state($node, $job), qr/^$phase, (active|failed, 57014)/,
		"$phase: the $role was cancelled");
	resume();
	return;
}

sub terminate
{
	my ($role, $phase) = @_;
	my $pid = await_worker($role);

	query("SELECT pg_terminate_backend($pid, 10000)");
	is(job_state($node, $job), "$phase, active", "$phase: the $role was ended");
	resume();
	return;
}

sub interrupt
{
	my ($phase, @roles) = @_;

	in_phase($phase);
	for my $role (@roles)
	{
		cancel($role, $phase);
		terminate($role, $phase);
	}
	return;
}

sub leaf
{
	return query("SELECT min(inhrelid::regclass::text) FROM pg_inherits i, partshift.job j
		WHERE inhparent = shadow AND job_id = $job");
}

sub both_equal
{
	my $other = query("SELECT CASE phase WHEN 'done' THEN relid ELSE shadow END::regclass
		FROM partshift.job WHERE job_id = $job");

	return equal_tables($node, 't', $other, 'both tables are equal');
}

subtest 'cancelled and terminated' => sub {
	my $writing = 'LOCK TABLE t IN ROW EXCLUSIVE MODE';
	my $reading = 'LOCK TABLE t IN ACCESS SHARE MODE';
	my $child = 'LOCK TABLE child IN ROW EXCLUSIVE MODE';
	my ($holder, $next);

	$holder = begin("workers => 2, swap => 'manual', $slowly", $writing);
	interrupt('prepare', 'leader');
	release($holder);
	interrupt('copy', 'leader', 'helper');
	query('UPDATE t SET note = $$changed$$ WHERE id < 0');
	$holder = hold($node, 'LOCK TABLE ' . leaf() . ' IN ROW EXCLUSIVE MODE');
	fast($node, $job);
	interrupt('index', 'leader', 'helper');
	$next = hold($node, $writing);
	release($holder);
	interrupt('mirror', 'leader');
	$holder = hold($node, 'SELECT FROM t WHERE id = -1 FOR UPDATE');
	release($next);
	interrupt('reconcile', 'leader');
	$next = hold($node, $child);
	release($holder);
	interrupt('rewire', 'leader');
	release($next);
	in_phase('ready');
	both_equal();
	$holder = hold($node, $reading);
	query("SELECT partshift.swap($job)");
	interrupt('swap', 'leader');
	release($holder);
	in_phase('done');
	both_equal();
	$holder = hold($node, $child);
	query("SELECT partshift.rollback($job)");
	interrupt('rewire', 'leader');
	$next = hold($node, $reading);
	release($holder);
	interrupt('swap', 'leader');
	release($next);
	ended($node, $job, 'rolled_back');
	end();
};

# A table of the job that is rewritten has another file, and an index that is
# made anew concurrently another OID.
subtest 'rewritten, and a worker is killed' => sub {
	my ($holder, $next, $log, $postponed, $pid);

	begin("workers => 2, swap => 'manual', $slowly");
	await($node, "SELECT sum(rows) > 0 FROM partshift.task WHERE job_id = $job");
	($log, $postponed) = split /\|/, query("SELECT log::regclass, postponed::regclass
		FROM partshift.job WHERE job_id = $job");
	in_phase('copy');
	query("UPDATE t SET note = 'changed' WHERE id < -50");
	query($_) for "VACUUM FULL $log", 'VACUUM FULL ' . leaf(),
	  'REINDEX INDEX CONCURRENTLY t_note', 'REINDEX INDEX CONCURRENTLY t_pkey';
	is(job_state($node, $job), 'copy, active', 'the job is still copying');
	killed('leader');
	query("UPDATE t SET note = 'changed again' WHERE id < -40");
	query("VACUUM FULL $log");
	$holder = hold($node, 'SELECT FROM t WHERE id = -60 FOR UPDATE');
	fast($node, $job);
	await($node, "SELECT phase = 'reconcile' AND postponed_rows > 0
		FROM partshift.job WHERE job_id = $job");
	in_phase('reconcile');
	query($_) for "VACUUM FULL $log", "VACUUM FULL $postponed", 'VACUUM FULL ' . leaf(),
	  'REINDEX TABLE CONCURRENTLY ' . leaf();
	killed('leader');
	$holder->{run}->kill_kill;
	in_phase('ready');
	both_equal();
	query("SELECT partshift.swap($job)");
	in_phase('done');
	query('VACUUM FULL ' . query("SELECT relid::regclass FROM partshift.job
		WHERE job_id = $job"));
	both_equal();
	query("SELECT partshift.rollback($job)");
	ended($node, $job, 'rolled_back');
	end();
};

sub killed
{
	my ($role) = @_;
	my $pid = await_worker($role);
	my $from = -s $node->logfile;

	kill 'KILL', $pid;
	$node->wait_for_log(qr/ready to accept connections/, $from);
	return;
}

sub refused_for_slots
{
	my ($command, $name) = @_;
	my ($code, $out, $err) = $node->psql('postgres', $command);

	return like($err, qr/could not start a background worker/, $name);
}

# Two slots: another job's leader and helper have them.
subtest 'no slot is left' => sub {
	my (%waits, $from, $holder);

	$node->append_conf('postgresql.conf',
		"max_worker_processes = 2\nmax_logical_replication_workers = 0\n");
	$node->restart;
	query('CREATE TABLE u (id integer PRIMARY KEY); INSERT INTO u SELECT generate_series(1, 100);
		CREATE TABLE v (LIKE u INCLUDING ALL); CREATE TABLE w (LIKE u INCLUDING ALL)');
	$waits{u} = start_job($node, q{'u', 'hash', 'id', partitions => 2, swap => 'manual'});
	reach($node, $waits{u}, 'ready, active')
	  if await($node, "SELECT phase = 'ready' FROM partshift.job WHERE job_id = $waits{u}");
	$waits{v} = start_job($node, q{'v', 'hash', 'id', partitions => 2});
	query("SELECT partshift.pause($waits{v})");
	await($node, "SELECT count(*) = 0 FROM pg_stat_activity
		WHERE backend_type = 'partshift worker'");
	begin("workers => 4, $slowly");
	in_phase('copy');
	await_worker('helper');
	is(scalar(workers('helper')), 1, 'of three helpers one has a slot');
	refused_for_slots(q{SELECT partshift.convert('w', 'hash', 'id', partitions => 2)},
		'another conversion is refused');
	refused_for_slots("SELECT partshift.swap($waits{u})", 'a swap is refused');
	refused_for_slots("SELECT partshift.resume($waits{v})", 'a resume is refused');
	is(query("SELECT swap_requested FROM partshift.job WHERE job_id = $waits{u}"),
		'f', 'no order is noted');
	like(job_state($node, $waits{v}), qr/paused/, 'the job is still paused');

	# The launcher has one slot and keeps it, who looks for jobs the other: a
	# leader has none, which resume() mends, without helpers.
	$from = -s $node->logfile;
	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'partshift'\n");
	$node->restart;
	$node->wait_for_log(qr/could not resume conversion job $job\b/, $from);
	await($node, "SELECT count(*) = 0 FROM pg_stat_activity
		WHERE backend_type = 'partshift worker'");
	is(job_state($node, $job), 'copy, active', 'the job waits for a slot');
	$holder = hold($node, 'LOCK TABLE ' . leaf() . ' IN ROW EXCLUSIVE MODE');
	fast($node, $job);
	resume();
	in_phase('index');
	killed('leader');
	$holder->{run}->kill_kill;
	in_phase('done');
	both_equal();
	query("SELECT partshift.rollback($job)");
	ended($node, $job, 'rolled_back');
	await($node, "SELECT count(*) = 0 FROM pg_stat_activity
		WHERE backend_type = 'partshift worker'");
	query("SELECT partshift.resume($waits{v})");
	reach($node, $waits{v}, 'done, active')
	  if await($node, "SELECT phase = 'done' FROM partshift.job WHERE job_id = $waits{v}");
	query("SELECT partshift.rollback($waits{v})");
	ended($node, $waits{v}, 'rolled_back');
	query("SELECT partshift.abort($waits{u})");
	ended($node, $waits{u}, 'aborted');
	end();
};

done_testing();
