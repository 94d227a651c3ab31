=head1 NAME

Stress::Watch - how long writers wait for the conversion

=head1 DESCRIPTION

A process that looks, all the time, for writers that wait for a lock which only
processes of the conversion hold or ask for.  The time is that between the
first look that saw one wait and the last: what others are to blame for, such
as the operator's VACUUM FULL or a server that is down, is not in it.

=cut

package Stress::Watch;

use strict;
use warnings;

use POSIX ();
use Stress::Session;
use Time::HiRes qw(time usleep);

my $look = q{
	SELECT w.pid, w.query_start, coalesce(l.relation::regclass::text, l.locktype),
		left(w.query, 200), string_agg(b.application_name || ': ' || left(b.query, 200), '; ')
	FROM pg_stat_activity AS w
		JOIN pg_locks AS l ON l.pid = w.pid AND NOT l.granted,
		LATERAL unnest(pg_blocking_pids(w.pid)) AS p (pid)
		LEFT JOIN pg_stat_activity AS b ON b.pid = p.pid
	WHERE w.usename = 'stress_app' AND w.datname = current_database()
		AND w.wait_event_type = 'Lock'
	GROUP BY 1, 2, 3, 4 HAVING bool_and(coalesce(b.backend_type = 'partshift worker', false))};

# Start watching; writes the longest wait to a file until told to stop.
sub start
{
	my ($class, %args) = @_;
	my $pid = fork;

	die "cannot fork: $!" unless defined $pid;
	if (!$pid)
	{
		eval { (bless { longest => 0, what => '', %args }, $class)->_watch; 1 } or warn ref $@ ? $@->{message} : $@;
		POSIX::_exit(0);
	}
	return $pid;
}

sub _watch
{
	my ($v) = @_;
	my $c = Stress::Session->new(database => $v->{database})->connect;
	my %since;

	until (-e "$v->{directory}/stop" || getppid == 1)
	{
		my $rows = eval { $c->rows($look) };
		my %now;

		if (!$rows)
		{
			die $@ if !ref $@ || $@->{state} ne 'lost';
			$c->connect;
			next;
		}
		for my $wait (@$rows)
		{
			my ($pid, $start, @what) = @$wait;
			my $took = time - ($now{"$pid $start $what[0]"} = $since{"$pid $start $what[0]"} || time);

			@$v{qw(longest what)} = ($took, join ' | ', @what) if $took > $v->{longest};
		}
		%since = %now;
		usleep(30_000);
	}
	open my $file, '>', "$v->{directory}/waited" or die "cannot write: $!";
	printf $file "%.3f %s\n", @$v{qw(longest what)};
	close $file;
	return;
}

1;
