# Whatever ends a worker or the server, at whichever commit: the job goes on,
# both tables are equal, what clients were told is committed is there, and
# nothing is left behind.
#
# A conversion's workers make some dozens of commits.  At each of them, before
# and after it, a signal can be sent: SIGKILL, SIGTERM (pg_terminate_backend)
# or SIGINT (pg_cancel_backend) to the worker, SIGKILL to the postmaster, which
# leaves the worker to find out by itself.  Here some of them are tried, with
# all kinds and along the whole conversion; test/stress/crashes tries all.
#
# PARTSHIFT_CRASHES in the environment chooses others: "all", "all:" and one of
# the ways, or one point, as in "rollback:before:9:self:17".

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use CrashPoint;
use IPC::Run ();
use Ledger;
use PartshiftTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use TestModule;
use Time::HiRes qw(time usleep);

my $patience = 120;
my @chosen = split /:/, $ENV{PARTSHIFT_CRASHES} || '';
my %tried;

# Signals: when, which, to whom.
my @faults = (
	[ 'before', 9, 'self' ], [ 'after', 9, 'postmaster' ],
	[ 'before', 15, 'self' ], [ 'after', 9, 'self' ],
	[ 'before', 2, 'self' ], [ 'before', 9, 'postmaster' ],
	[ 'after', 15, 'self' ], [ 'after', 2, 'self' ]);

my $module = build_module('crash_point');
my $node = new_server('crash', "shared_preload_libraries = '$module'",
	'restart_after_crash = on');
my %crash;						# the present one: target, log, over

$node->safe_psql('postgres', 'CREATE EXTENSION amcheck');

# ----- a server that may be gone -------------------------------------------

# A query's first value, or undef while there is no server; resuming a job that
# is just through is no error.
sub try_query
{
	my ($query) = @_;
	my ($dbh, $row, $state);

	$dbh = eval { Ledger::connect_once($node) } or return;
	$row = eval { $dbh->selectrow_arrayref($query) || [] };
	if (!$row)
	{
		my $error = $@;

		$state = $dbh->state || '08000';
		die "$query: $error"
		  if $state !~ /^(08|57P0)/ && $error !~ /cannot resume job/ && $dbh->ping;
	}
	eval { $dbh->disconnect };
	return $row && ($row->[0] // '');
}

sub postmaster_is_gone
{
	return $node->{_pid} && !kill(0, $node->{_pid});
}

# Start it again, when the last process of the old one has gone.  Every other
# time the launcher has to take up the jobs, else resume() does.
sub start_again
{
	my ($job) = @_;
	my $launcher = ++$tried{starts} % 2;
	my $until = time + $patience;

	$node->kill9;
	$node->adjust_conf('postgresql.conf', 'shared_preload_libraries',
		$launcher ? "'$module, partshift'" : "'$module'");
	until (IPC::Run::run([ 'pg_ctl', '-w', '-s', '-D', $node->data_dir,
				'-l', $node->logfile, 'start' ], '&>', '/dev/null'))
	{
		BAIL_OUT('the server does not start again') if time > $until;
		usleep(50_000);
	}
	$node->_update_pid(1);
	try_query("SELECT partshift.resume($job)") unless $launcher || !$job;
	return;
}

# Once the signal has been sent to a process whose end is that of the server's
# sessions, wait until it has recovered.
sub mind_the_crash
{
	my ($job) = @_;
	my $until = time + $patience;

	return if $crash{over} || !crash_fired($node);
	if ($crash{target} eq 'postmaster')
	{
		usleep(10_000) until postmaster_is_gone() || time > $until;
		start_again($job);
	}
	elsif ($crash{signal} == 9)
	{
		$node->wait_for_log(qr/reinitializing/, $crash{log});
		usleep(10_000) until defined try_query('SELECT 1') || time > $until;
	}
	$crash{over} = 1;
	return;
}

# Wait until the job is where it is wanted, doing what its operator would:
# start a server that is gone, resume a job that was cancelled or that lost its
# worker to pg_terminate_backend (which would come back in ten seconds).
sub drive
{
	my ($job, $wanted, $fault) = @_;
	my $until = time + $patience;
	my $state;

	while (time < $until)
	{
		mind_the_crash($job);
		$state = try_query(qq{
			SELECT phase || ', ' || status || coalesce(' ' || error_sqlstate, '')
				|| CASE WHEN request IS NULL THEN '' ELSE ', ' || request END
				|| CASE WHEN phase = 'done' AND status = 'active' AND NOT reverse
					AND plan -> 'inventory' IS NOT NULL THEN ', comparing' ELSE '' END
			FROM partshift.job WHERE job_id = $job});
		mind_the_crash($job);
		return '' if defined $state && $state =~ /^$wanted$/;
		if (defined $state && $state =~ /failed/)
		{
			return $state if $fault->[1] != 2 || $state !~ /failed 57014/;
			try_query("SELECT partshift.resume($job)");
		}
		elsif (defined $state && $fault->[1] != 9 && crash_fired($node))
		{
			try_query(qq{
				SELECT partshift.resume($job) FROM partshift.job
				WHERE job_id = $job AND status = 'active' AND NOT EXISTS (
					SELECT FROM pg_stat_activity
					WHERE backend_type = 'partshift worker')});
		}
		usleep(20_000);
	}
	return 'still ' . ($state // 'without server');
}

# Give an order, which is noted or is not when the connection is lost.
sub order
{
	my ($job, $order) = @_;
	my $until = time + $patience;

	while (time < $until)
	{
		my $done;

		mind_the_crash($job);
		$done = try_query(qq{
			SELECT partshift.$order($job) FROM partshift.job
			WHERE job_id = $job AND request IS NULL AND NOT reverse
				AND status IN ('active', 'paused')});
		return if defined $done;
		usleep(50_000);
	}
	return;
}

# ----- what must hold ------------------------------------------------------

# Both tables in one snapshot, and their indexes.
sub unequal
{
	my ($job) = @_;
	my $other = try_query(qq{
		SELECT CASE phase WHEN 'done' THEN relid ELSE shadow END::regclass
		FROM partshift.job WHERE job_id = $job});
	my $differences = differences($node, 't', $other);

	$node->safe_psql('postgres', qq{
		SELECT bt_index_check(x.indexrelid, true)
		FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid
		WHERE c.relkind = 'i' AND x.indrelid IN (
			SELECT relid FROM partshift.job WHERE job_id = $job
			UNION ALL SELECT inhrelid FROM pg_inherits, partshift.job
			WHERE inhparent = shadow AND job_id = $job)});
	return $differences;
}

# What is in the catalogs, but for numbers that a foreign key's triggers bear.
sub definitions_now
{
	return catalog_rows($node) =~ s/RI_ConstraintTrigger_\w_\K\d+//gr;
}

sub lines_that_differ
{
	my ($before, $after) = @_;
	my %left;

	$left{$_}++ for split /\n/, $before;
	$left{$_}-- for split /\n/, $after;
	return map { "$left{$_}: $_" } grep { $left{$_} } sort keys %left;
}

# ----- ways of a conversion ------------------------------------------------

my $end = sub {
	my ($run) = @_;

	$run->{order}->('finalize');
	$run->{to}->('done, finalized');
};
my %way = (
	rollback => {
		points => 20,
		go => sub {
			my ($run) = @_;

			$run->{arm}->();
			$run->{begin}->('workers => 1');
			$run->{to}->('done, active');
			$run->{look}->();
			$run->{order}->('rollback');
			$run->{to}->('done, rolled_back');
			$run->{same} = 1;
		} },

	# The commits of those that help the leader, which is made to rest.
	helpers => {
		points => 4,
		rows => 5000,
		width => 1000,
		role => 'helper',
		drag => 20,
		go => sub {
			my ($run) = @_;

			$run->{arm}->();
			$run->{begin}->('workers => 3, keep_legacy => false');
			$run->{to}->('done, active');
			$run->{look}->();
			$run->{disarm}->();
			$end->($run);
		} },
	finalize => {
		points => 2,
		go => sub {
			my ($run) = @_;

			$run->{begin}->('workers => 1, keep_legacy => false');
			$run->{to}->('done, active');
			$run->{look}->();
			$run->{arm}->();
			$end->($run);
		} },
	abort => {
		points => 2,
		go => sub {
			my ($run) = @_;

			$run->{begin}->(q{workers => 1, swap => 'manual'});
			$run->{to}->('ready, active');
			$run->{look}->();
			$run->{arm}->();
			$run->{order}->('abort');
			$run->{to}->('ready, aborted');
			$run->{same} = 1;
		} },
	'abort of a rollback' => {
		points => 2,
		go => sub {
			my ($run) = @_;
			my $holder;

			$run->{begin}->('workers => 1, keep_legacy => false');
			$run->{to}->('done, active');
			$holder = hold($node, 'LOCK TABLE child IN ROW EXCLUSIVE MODE');
			$run->{order}->('rollback');
			$run->{to}->('rewire, active');
			$node->safe_psql('postgres', "SELECT partshift.pause($run->{job})");
			release($holder);
			$run->{to}->('rewire, paused');
			$run->{arm}->();
			$node->safe_psql('postgres', "SELECT partshift.abort($run->{job})");
			$run->{to}->('done, active');
			$run->{look}->();
			$run->{disarm}->();
			$end->($run);
		} });

# Go one way, with a signal at the n-th of its commits; 0 counts them.  False
# when there were fewer.
sub try_point
{
	my ($way, $fault, $n) = @_;
	my ($event, $signal, $target) = @$fault;
	my $name = "$way, signal $signal to $target $event commit $n";
	my ($before, $clients, $kept, @wrong);
	my %run;

	%crash = (target => $target, signal => $signal, over => 1);
	$run{arm} = sub {
		crash_at($node, $event, $n, $signal, $target, $way{$way}{role},
			$way{$way}{drag});
		$crash{log} = -s $node->logfile;
		$crash{over} = 0;
	};
	$run{disarm} = sub {
		$run{unused} = $crash{over} = 1 if crash_off($node);
		mind_the_crash($run{job});
	};
	$node->safe_psql('postgres',
		make_tables($way{$way}{rows} || 200, $way{$way}{width} || 100));
	$before = definitions_now();
	$clients = clients_start($node);
	$run{begin} = sub {
		my ($arguments) = @_;
		my $until = time + $patience;

		until ($run{job} || time > $until)
		{
			mind_the_crash(0);

			# The connection may be lost after convert() has committed.
			$run{job} = try_query(q{
				SELECT coalesce(max(job_id), 0) FROM partshift.job
				WHERE status = 'active'});
			usleep(20_000) unless defined $run{job};
			next unless defined $run{job};
			$run{job} ||= try_query("SELECT partshift.convert('t', 'hash', 'id',
				partitions => 2, cost_delay => 0, $arguments)");
		}
	};
	$run{order} = sub { order($run{job}, $_[0]) };
	$run{look} = sub { push @wrong, split /\n/, unequal($run{job}) };
	$run{to} = sub {
		my $state = drive($run{job}, $_[0], $fault);

		die "job is $state, not $_[0]\n" if $state;
	};
	eval { $way{$way}{go}->(\%run); 1 } or push @wrong, $@;
	$run{disarm}->();
	$kept = clients_stop($clients);
	push @wrong, @{ $kept->{wrong} };
	push @wrong, 'no client has committed anything' unless $kept->{committed};
	push @wrong, split /\n/, internal_names($node);
	push @wrong, lines_that_differ($before, definitions_now())
	  if $run{same};
	if ($n == 0)
	{
		is(join("\n", @wrong), '', "$way, undisturbed");
	}
	elsif (!$run{unused})
	{
		my @did = commits($node);

		is(join("\n", @wrong), '', "$name ($did[$n - 1])");
		$tried{"$signal to $target"}++;
		$tried{commits} += $kept->{committed};
		$tried{lost} += $kept->{lost};
	}
	elsif (@wrong)
	{
		is(join("\n", @wrong), '', "$name, which was not reached");
	}
	BAIL_OUT('a conversion has not ended') if @wrong && "@wrong" =~ /^job is/;
	$node->safe_psql('postgres', 'DELETE FROM partshift.job;
		DROP TABLE t, child, parent, mark');
	return !$run{unused};
}

sub try_way
{
	my ($way) = @_;
	my (@commits, $count);

	try_point($way, $faults[0], 0);
	@commits = commits($node);
	$count = @commits;
	note("$way: $count commits: ", join '; ', @commits);
	cmp_ok($count, '>', 0, "$way: commits are counted");
	if (@chosen)
	{
		for my $fault (@faults)
		{
			my $n = 1;

			$n++ while try_point($way, $fault, $n);
			note("$way, @$fault: ", $n - 1, ' points');
			cmp_ok($n, '>', $count / 2, "$way, @$fault: about all commits");
		}
		return;
	}

	# All kinds of signals along the way; the last places are reached or not,
	# as batches happen to fall.
	try_point($way, $faults[ $_ % @faults ],
		1 + int($_ * ($count - 1) / $way{$way}{points}))
	  for 0 .. $way{$way}{points} - 1;
	return;
}

if (@chosen > 2)
{
	my ($way, $event, $signal, $target, $n) = @chosen;

	ok(try_point($way, [ $event, $signal, $target ], $n), 'it was reached');
}
else
{
	try_way($_) for @chosen > 1 ? $chosen[1] : sort keys %way;
}
note(join ', ', map { "$_: $tried{$_}" } sort keys %tried);

# But for what the signals make, starting too early, and resuming a job that is
# just through.
my @errors = grep {
	!/ (57014|57P0[1-3]) | 55000 ERROR:  cannot resume/
	  && !/terminating connection because of|because of unexpected postmaster/
	  && !/pre-existing shared memory block/
} split /\n/, server_errors($node, 0);
is(join("\n", @errors), '', 'no other error is in the log');

done_testing();
