=head1 NAME

Stress::Operator - who converts the table, and does everything else to it

=head1 DESCRIPTION

Drives a job to where the run wants it and meanwhile does at random what an
operator, or misfortune, may do to a job, its table and its server.  Each
deed is drawn from its number, so that a replay draws the same ones.

=cut

package Stress::Operator;

use strict;
use warnings;

use Stress::Checks;
use Stress::Random;
use Time::HiRes qw(time usleep);

my $patience = 240;				# seconds for a job to come to its end

my @deeds = (
	(\&pause) x 2, (\&alter) x 2, \&abort, \&vacuum_full, \&cluster, \&vacuum, \&analyze,
	(\&create_index) x 2, (\&kill_worker) x 2, (\&terminate_worker) x 2,
	(\&terminate_writer) x 2, \&restart, (\&compare) x 5, \&verify, (\&old_snapshot) x 2,
	\&hold_lock, \&checkpoint);

sub new
{
	my ($class, %args) = @_;

	return bless { deed => 0, aborts => 2, done => {}, failures => [], %args }, $class;
}

sub fail
{
	my ($o, $what, @lines) = @_;

	push @{ $o->{failures} }, join("\n\t", $what, @lines);
	$o->{session}->note("FAILED: $what");
	return;
}

# Run something of ours, over again when the server goes away.
sub _persist
{
	my ($o, $what) = @_;

	for (1 .. 5)
	{
		my @result = eval { $what->() };

		return @result unless $@;
		die $@ if !ref $@ || $@->{state} ne 'lost';
		$o->{session}->connect;
	}
	die 'the connection is lost again and again';
}

# Run an order that the job may refuse in its state, or that may not get a lock.
sub _try
{
	my ($o, @sql) = @_;

	return eval {
		$o->{session}->run($_) for @sql;
		1;
	} || do {
		my $error = $@;

		die $error if !ref $error || $error->{state} !~ /^(55000|55006|55P03|40P01|57014|0A000|25001)$/;
		$o->{refusal} = $error->{message};
		$o->{session}->run('ROLLBACK');
		0;
	};
}

sub state
{
	my ($o) = @_;
	my ($row) = $o->_persist(sub { $o->{session}->rows('SELECT phase, status, request, reverse,'
		  . " concat_ws(': ', error_sqlstate, error_message, error_detail, blocker) AS error,"
		  . ' swap_mode, swap_requested,'
		  . " (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'partshift worker'"
		  . ' AND datname = current_database()) AS workers'
		  . " FROM partshift.job WHERE job_id = $o->{job}")->[0] });
	my %state;

	@state{qw(phase status request reverse error swap_mode swap_requested workers)} = @$row;
	$state{request} = '' unless defined $state{request};
	$o->{seen}{"$state{phase} $state{status}"}++;
	return \%state;
}

sub convert
{
	my ($o) = @_;

	($o->{job}) = $o->_persist(sub { $o->{session}->value($o->{schema}->convert) });
	$o->{swap_at} = time + 3;
	return;
}

# Whether someone has to take the job up again.
sub _take_up
{
	my ($o, $state) = @_;

	return if $state->{status} ne 'active' || $state->{workers};
	return if $state->{phase} eq 'done' && $state->{reverse} eq '0' && !$state->{request};
	return if $state->{phase} eq 'ready' && $state->{swap_mode} eq 'manual' && !$state->{swap_requested}
	  && !$state->{request};
	$o->{idle}++;
	return if $o->{idle} < ($o->{preloaded_restart} ? 60 : 3);
	$o->fail('the launcher did not resume the job') if $o->{preloaded_restart};
	$o->{preloaded_restart} = 0;
	$o->{idle} = 0;
	$o->_try("SELECT partshift.resume($o->{job})");
	$o->{done}{resume}++;
	return;
}

# Go on until the job is where it should be, with or without misfortune.
sub drive
{
	my ($o, $wanted, $calm) = @_;
	my $until = time + $patience;

	while (time < $until)
	{
		my $state = $o->state;

		return 1 if $wanted->($state);
		if ($state->{status} eq 'failed')
		{
			$o->fail("job failed in phase $state->{phase}: $state->{error}");
			return 0;
		}
		return 0 if $o->writer_failed;
		$o->{idle} = 0 if $state->{workers} || $state->{status} ne 'active';
		$o->_take_up($state);
		if ($state->{status} eq 'aborted') { $o->convert; }
		elsif ($state->{phase} eq 'ready' && $state->{swap_mode} eq 'manual' && time > $o->{swap_at})
		{
			$o->_persist(sub { $o->_try("SELECT partshift.swap($o->{job})") });
		}
		elsif (!$calm && time < $o->{calm_from}) { $o->deed($state); }
		elsif (!$calm && !$o->{hurried}++ && $state->{phase} ne 'done')
		{
			$o->_persist(sub { $o->_try("SELECT partshift.alter_job($o->{job}, cost_delay => 0)") });
		}
		usleep(1000 * between(20, 300));
	}
	my $state = $o->state;

	$o->fail("job is still in phase $state->{phase}, $state->{status}: $state->{error}");
	return 0;
}

# Let there be misfortune for so many seconds.
sub trouble_for
{
	my ($o, $seconds, $crashes) = @_;

	$o->{calm_from} = time + $seconds;
	$o->{crashes} = $crashes;
	return;
}

# Misfortune, and no end of the job.
sub trouble
{
	my ($o, $seconds) = @_;
	my $until = time + $seconds;

	$o->trouble_for($seconds, 1);
	return $o->drive(sub { time > $until || $_[0]{status} =~ /finalized|rolled_back/ });
}

sub writer_failed
{
	my ($o) = @_;

	return glob "$o->{directory}/failed.*";
}

# ----- deeds ---------------------------------------------------------------

sub deed
{
	my ($o, $state) = @_;

	stream($o->{schema}{seed}, 'deed', ++$o->{deed});
	if (chance(70))
	{
		my $deed = one_of(@deeds);

		$o->_persist(sub { $deed->($o, $state) });
	}
	return;
}

sub did { my ($o, $what) = @_; $o->{done}{$what}++; $o->{session}->note("-- $what"); return; }

sub pause
{
	my ($o, $state) = @_;

	$o->_try("SELECT partshift.pause($o->{job})") or return;
	$o->did('pause');
	usleep(1000 * between(0, 1500));
	$o->_try("SELECT partshift.resume($o->{job})");
	return;
}

sub alter
{
	my ($o) = @_;

	$o->_try("SELECT partshift.alter_job($o->{job}, workers => " . between(1, 4)
		  . ', cost_delay => ' . one_of(0, 2, 10) . ')') && $o->did('alter');
	return;
}

sub abort
{
	my ($o) = @_;

	return if $o->{aborts} == 0 || chance(50);
	$o->_try("SELECT partshift.abort($o->{job})") or return;
	$o->{aborts}--;
	$o->did('abort');
	return;
}

sub _patient { my ($o, @sql) = @_; return $o->_try("SET lock_timeout = '500ms'", @sql, 'RESET lock_timeout'); }

sub vacuum_full
{
	my ($o) = @_;

	$o->_patient("VACUUM FULL $o->{schema}{table}") && $o->did('vacuum full');
	return;
}

# Without the mark, which would be a change of the definition.
sub cluster
{
	my ($o, $state) = @_;
	my $t = $o->{schema}->quote($o->{schema}{table});

	return if $state->{phase} eq 'done';
	$o->_patient('BEGIN', "CLUSTER $o->{schema}{table} USING t_own",
		'SET LOCAL allow_system_table_mods = on',
		"UPDATE pg_index SET indisclustered = false WHERE indrelid = $t\::regclass", 'COMMIT')
	  && $o->did('cluster');
	return;
}

sub vacuum { my ($o) = @_; $o->_patient("VACUUM $o->{schema}{table}") && $o->did('vacuum'); return; }
sub analyze { my ($o) = @_; $o->_patient("ANALYZE $o->{schema}{table}") && $o->did('analyze'); return; }
sub checkpoint { my ($o) = @_; $o->_try('CHECKPOINT') && $o->did('checkpoint'); return; }

# Undone at once, if it is not refused.
sub create_index
{
	my ($o) = @_;

	$o->did($o->_patient('BEGIN', "CREATE INDEX t_more ON $o->{schema}{table} (at)", 'ROLLBACK')
		? 'create index' : 'create index refused');
	return;
}

sub _workers
{
	my ($o) = @_;

	return map { $_->[0] } @{ $o->{session}->rows("SELECT pid FROM pg_stat_activity"
		  . " WHERE backend_type = 'partshift worker' AND datname = current_database()"
		  . " ORDER BY backend_start") };
}

# The server takes every process down with the killed one.
sub kill_worker
{
	my ($o) = @_;
	my @pids = $o->_workers;

	return if !@pids || $o->{crashes} <= 0 || chance(50);
	$o->{crashes}--;
	kill 'KILL', one_of(@pids);
	$o->did('kill -9');
	usleep(500_000);
	$o->{session}->connect;
	$o->{preloaded_restart} = 0;
	return;
}

sub terminate_worker
{
	my ($o) = @_;
	my @pids = $o->_workers;

	return unless @pids;
	$o->_try('SELECT pg_terminate_backend(' . one_of(@pids) . ')');
	$o->did('terminate worker');
	return;
}

sub terminate_writer
{
	my ($o) = @_;
	my $pids = $o->{session}->rows("SELECT pid FROM pg_stat_activity"
		  . " WHERE usename = 'stress_app' AND datname = current_database() ORDER BY backend_start");

	return unless @$pids;
	$o->_try('SELECT pg_terminate_backend(' . one_of(@$pids)->[0] . ')');
	$o->did('terminate writer');
	return;
}

sub restart
{
	my ($o) = @_;

	return if $o->{crashes} <= 0 || chance(50);
	$o->{crashes}--;
	$o->did('restart');
	$o->{server}->restart('immediate');
	$o->{session}->connect;
	$o->{preloaded_restart} = $o->{schema}{preload};
	return;
}

sub compare
{
	my ($o) = @_;
	my ($found, @bad) = equal_tables($o->{session}, $o->{schema}, $o->{job});

	$o->did('compare') if $found;
	$o->fail('source and shadow differ', @bad) if @bad;
	return;
}

# The conversion's own comparison; quiet tells that it must be possible.
sub verify
{
	my ($o) = @_;
	my $state = $o->state;

	return if $state->{request} || $state->{phase} !~ /done|ready/;
	$o->_try("SELECT partshift.verify($o->{job})") or return;
	$o->did('verify');
	return;
}

sub old_snapshot
{
	my ($o) = @_;

	$o->_try('BEGIN ISOLATION LEVEL REPEATABLE READ', 'SELECT count(*) FROM stress.marker') or return;
	usleep(1000 * between(100, 2500));
	$o->_try('COMMIT');
	$o->did('old snapshot');
	return;
}

sub hold_lock
{
	my ($o) = @_;

	$o->_patient('BEGIN', "LOCK TABLE $o->{schema}{table} IN ROW EXCLUSIVE MODE") or return;
	usleep(1000 * between(100, 1500));
	$o->_try('COMMIT', 'RESET lock_timeout');
	$o->did('hold lock');
	return;
}

1;
