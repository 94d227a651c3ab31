=head1 NAME

Stress::Operator - who converts the table, and does everything else to it

=head1 DESCRIPTION

Drives a job to where the run wants it.  What is done to it on the way is in
Stress::Deeds.

=cut

package Stress::Operator;

use strict;
use warnings;

use parent 'Stress::Deeds';

use Stress::Random;
use Stress::Session;
use Time::HiRes qw(time usleep);

my $patience = 240;				# seconds for a job to come to its end

sub new
{
	my ($class, %args) = @_;

	return bless { deed => 0, aborts => 2, done => {}, failures => [],
		lingers => $args{schema}{linger} ? 2 : 0, %args }, $class;
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

		die $error if !ref $error || $error->{state} ne ($o->{accepted} || '')
		  && $error->{state} !~ /^(55000|55006|55P03|40P01|42P01|57014|0A000|25001)$/;
		@$o{qw(refusal refusal_state)} = @$error{qw(message state)};
		$o->{session}->run($_) for 'ROLLBACK', 'RESET lock_timeout';
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

	$o->_overflow if $o->{schema}{overflow};
	($o->{job}) = $o->_persist(sub { $o->{session}->value($o->{schema}->convert) });
	$o->{swap_at} = time + 3;
	$o->{hurried} = 0;
	return;
}

# Have more subtransactions in progress than a snapshot lists, on another table
# so that the conversion does not wait for them, until it copies.
sub _overflow
{
	my ($o) = @_;

	$o->{aside} ||= Stress::Session->new(database => $o->{session}{database});
	eval {
		$o->{aside}->connect;
		$o->{aside}->run($_)
		  for 'BEGIN', 'DO $$ BEGIN FOR i IN 1 .. 100 LOOP BEGIN INSERT INTO stress.aside VALUES (i);'
		  . ' EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; END $$';
	};
	return;
}

sub _end_overflow
{
	my ($o, $state) = @_;

	return if !$o->{aside} || $state->{phase} eq 'prepare' && $state->{status} eq 'active';
	$o->{aside}->close;
	$o->{aside} = undef;
	return;
}

# Have the job ended; an abort while it prepares a rollback undoes the order.
sub give_order
{
	my ($o) = @_;

	return 1 if $o->_persist(sub { $o->_try("SELECT partshift.$o->{order}($o->{job})") });
	return 1 unless $o->_lacks_order($o->state);
	$o->fail("the order to $o->{order} is refused", $o->{refusal});
	return 0;
}

sub _lacks_order
{
	my ($o, $state) = @_;

	return $o->{order} && $state->{status} eq 'active' && $state->{phase} eq 'done'
	  && $state->{reverse} eq '0' && !$state->{request};
}

sub _needs_nobody
{
	my ($state) = @_;

	return 1 if $state->{status} ne 'active';
	return 0 if $state->{request};
	return $state->{phase} eq 'done' && $state->{reverse} eq '0'
	  || $state->{phase} eq 'ready' && $state->{swap_mode} eq 'manual' && !$state->{swap_requested};
}

# Take the job up again when nobody else does.
sub _take_up
{
	my ($o, $state) = @_;

	if ($state->{workers} || _needs_nobody($state))
	{
		$o->{preloaded_restart} = 0;
		return;
	}
	$o->{idle}++;
	return if $o->{idle} < ($o->{preloaded_restart} ? 60 : 3);
	$o->fail('the launcher did not resume the job') if $o->{preloaded_restart};
	$o->{preloaded_restart} = 0;
	$o->{idle} = 0;
	$o->_try("SELECT partshift.resume($o->{job})");
	$o->did('resume');
	return;
}

# A job that we have made fail goes on when told to.
sub _forgive
{
	my ($o, $state) = @_;
	my $deed = $state->{error} =~ /^57014/ ? 'cancelled'
	  : $state->{phase} eq 'index' ? 'reindexed' : return 0;

	return 0 unless delete $o->{$deed};
	$o->did("resume after failure, $deed");
	return $o->_persist(sub { $o->_try("SELECT partshift.resume($o->{job})") });
}

# Go on until the job is where it should be, with or without misfortune.
sub drive
{
	my ($o, $wanted, $calm) = @_;
	my $until = time + $patience;

	while (time < $until)
	{
		my $state = $o->state;

		$o->_end_overflow($state);
		return 1 if $wanted->($state);
		if ($state->{status} eq 'failed' && !$o->_forgive($state))
		{
			$o->fail("job failed in phase $state->{phase}: $state->{error}");
			return 0;
		}
		return 0 if $o->writer_failed;
		$o->{idle} = 0 if $state->{workers} || $state->{status} ne 'active';
		$o->_take_up($state);
		if ($state->{status} eq 'aborted') { $o->convert; }
		elsif ($o->_lacks_order($state)) { $o->give_order or return 0; }
		elsif ($state->{phase} eq 'ready' && $state->{swap_mode} eq 'manual' && time > $o->{swap_at})
		{
			$o->_persist(sub { $o->_try("SELECT partshift.swap($o->{job})") });
		}
		elsif (!$calm && $o->_lingers($state)) { $o->linger($state); }
		elsif (!$calm && time < $o->{calm_from}) { $o->deed($state); }
		elsif (!$o->{hurried} && time >= $o->{calm_from}) { $o->_hurry($state); }
		usleep(1000 * ($o->{lingers} && !$calm && time < $o->{calm_from} ? 10 : between(20, 300)));
	}
	my $state = $o->state;

	$o->fail("job is still in phase $state->{phase}, $state->{status}: $state->{error}");
	return 0;
}

# Whether this is the phase in which the run's misfortune is to gather.
sub _lingers
{
	my ($o, $state) = @_;

	return $o->{lingers} && $state->{status} eq 'active' && $state->{phase} eq $o->{schema}{linger};
}

# No more throttling, and no more transactions that rest.
sub _hurry
{
	my ($o, $state) = @_;

	$o->{hurried} = 1;
	open my $file, '>', "$o->{directory}/hurry" or die "cannot write: $!";
	$o->_persist(sub { $o->_try("SELECT partshift.alter_job($o->{job}, cost_delay => 0)") })
	  if $state->{phase} ne 'done';
	return;
}

# Let there be misfortune for so many seconds.
sub trouble_for
{
	my ($o, $seconds, $crashes) = @_;

	$o->{calm_from} = time + $seconds;
	$o->{hurried} = 0;
	unlink "$o->{directory}/hurry";
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
	my @failed = glob "$o->{directory}/failed.*";	# a scalar would go on with the last run's

	return scalar @failed;
}

1;
