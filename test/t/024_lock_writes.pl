# A table that is locked instead of followed: when the server, or a process that
# has part in the lock, is killed, in any phase, the lock is gone and writers
# write.  Nothing that they write is ever lost, for all is copied again.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use IPC::Run ();
use PartshiftTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = new_server('lock_writes', 'restart_after_crash = on');
my $round = 0;

sub query { return $node->safe_psql('postgres', $_[0]) }

# A query while the server may be recovering.
sub patient_query
{
	my ($query) = @_;

	for (1 .. 1200)
	{
		my ($status, $out) = $node->psql('postgres', $query);

		return $out if $status == 0;
		usleep(50_000);
	}
	die "$query: never answered";
}

# What writes to a table and to its copy, without a key to go by, in one
# transaction.
sub changes
{
	my ($name) = @_;

	$round++;
	return join("\n", 'BEGIN;', (map { qq{
			INSERT INTO $_ SELECT g % 3, 'new $round', 1 FROM generate_series(1, 20) g;
			UPDATE $_ SET part = 2, note = 'moved $round' WHERE part = 0 AND note LIKE '%7';
			DELETE FROM $_ WHERE note LIKE '%${round}3';
		} } ($name, "${name}_copy")), 'COMMIT;');
}

sub make_table
{
	my ($name) = @_;

	query(qq{
		CREATE TABLE $name (part integer NOT NULL, note text, ref integer REFERENCES refs);
		INSERT INTO $name SELECT g % 3, 'note ' || g, 1 FROM generate_series(1, 2000) g;
		CREATE INDEX ON $name (note);
		CREATE TABLE ${name}_copy AS TABLE $name});
	return;
}

# What holds the job in a phase: a session, which goes with the server.
my %holding = (
	copy => sub { "LOCK TABLE $_[0]_1 IN SHARE MODE" },
	index => sub { "LOCK TABLE $_[0]_1 IN ROW EXCLUSIVE MODE" },
	rewire => sub { 'LOCK TABLE refs IN ROW EXCLUSIVE MODE' },
	swap => sub { "LOCK TABLE $_[0] IN ACCESS SHARE MODE" });

# Begin to convert a table, up to a phase in which it is held.
sub begin
{
	my ($name, $phase) = @_;
	my $tasks = hold($node, 'LOCK TABLE partshift.task IN SHARE MODE');
	my $job = start_job($node, "'$name', 'list', 'part', partitions => 3,"
		  . " name_format => '{table}_{bound}', lock_writes => true, keep_legacy => false, swap => 'manual'");
	my @holders;

	await($node, "SELECT keeper_pid IS NOT NULL FROM partshift.job WHERE job_id = $job");
	@holders = hold($node, $holding{$phase}->($name))
	  if $holding{$phase} && $phase ne 'swap';
	release($tasks);
	if ($phase eq 'swap')
	{
		reach($node, $job, 'ready, active');
		@holders = hold($node, $holding{swap}->($name));
		query("SELECT partshift.swap($job)");
	}
	reach($node, $job, "$phase, active");
	await($node, "SELECT lock_tries > 0 FROM partshift.job WHERE job_id = $job")
	  if @holders;
	return ($job, @holders);
}

# Somebody who waits to write; what he writes is lost with the server.
sub waiting_writer
{
	my ($name) = @_;
	my %session = (out => '', err => '');

	$session{run} = IPC::Run::start(
		[
			$node->installed_command('psql'), '-XAtq', '-d',
			$node->connstr('postgres'), '-c',
			"INSERT INTO $name VALUES (1, 'never', 1)" ],
		'<', \undef, '>', \$session{out}, '2>', \$session{err});
	await($node, "SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid)
		WHERE NOT l.granted AND a.query LIKE '%never%')");
	return \%session;
}

sub finish
{
	my ($name, $job, $what) = @_;

	query("SELECT partshift.swap($job)");
	reach($node, $job, 'done, active');
	equal_tables($node, $name, "${name}_copy", "$what: the table holds what was written");
	query("SELECT partshift.finalize($job)");
	ended($node, $job, 'finalized');
	return;
}

query('CREATE TABLE refs (id integer PRIMARY KEY); INSERT INTO refs VALUES (1)');

for my $phase (qw(prepare copy index rewire ready swap))
{
	subtest "the server dies in phase $phase" => sub {
		my $name = "a_$phase";
		my ($job, @holders, $writer);

		make_table($name);
		($job, @holders) = $phase eq 'prepare' ?
		  (start_job($node, "'$name', 'list', 'part', partitions => 3, lock_writes => true, keep_legacy => false,"
			  . " swap => 'manual'")) : begin($name, $phase);
		$writer = waiting_writer($name) if $phase ne 'prepare';
		$node->stop('immediate');
		$_->{run}->kill_kill for (@holders);
		$writer->{run}->finish if $writer;
		$node->start;
		query(changes($name));
		query("SELECT partshift.resume($job)");
		reach($node, $job, 'ready, active') if $phase ne 'swap';
		await($node, "SELECT phase IN ('ready', 'done') FROM partshift.job WHERE job_id = $job");
		if ($phase eq 'swap')
		{
			reach($node, $job, 'done, active');
			equal_tables($node, $name, "${name}_copy", 'the table holds what was written');
			query("SELECT partshift.finalize($job)");
			ended($node, $job, 'finalized');
		}
		else
		{
			finish($name, $job, $phase);
		}
		is(query("SELECT count(*) FROM pg_locks WHERE relation = '$name'::regclass"),
			'0', 'no lock is left');
	};
}

# The server recovers by itself, and the leader is started again by it.
for my $victim (qw(keeper_pid worker_pid))
{
	subtest "$victim is killed" => sub {
		my $name = "b_$victim";
		my ($job, $before);

		make_table($name);
		($job) = begin($name, 'ready');
		$before = query("SELECT keeper_pid FROM partshift.job WHERE job_id = $job");
		my $writer = waiting_writer($name);
		kill 'KILL', query("SELECT $victim FROM partshift.job WHERE job_id = $job");
		$writer->{run}->finish;
		patient_query('SELECT 1');

		# The leader may have been faster and has it locked again.
		$node->psql('postgres', "SET statement_timeout = '2s';" . changes($name));
		await($node, "SELECT phase = 'ready' AND keeper_pid <> $before
			FROM partshift.job WHERE job_id = $job");
		finish($name, $job, $victim);
	};
}

# With the library preloaded a job that was ready is copied again at once.
subtest 'the launcher takes it up' => sub {
	my ($job, $before);

	make_table('c');
	($job) = begin('c', 'ready');
	$before = query("SELECT keeper_pid FROM partshift.job WHERE job_id = $job");
	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'partshift'");
	$node->restart;
	await($node, "SELECT phase = 'ready' AND keeper_pid <> $before
		FROM partshift.job WHERE job_id = $job");
	is($node->psql('postgres', "SET statement_timeout = '300ms'; INSERT INTO c VALUES (1, 'x', 1)"),
		3, 'and locked again');
	finish('c', $job, 'launcher');
};

is(internal_names($node), '', 'nothing is left behind');
$node->stop;
done_testing();
