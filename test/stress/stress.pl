# stress.pl: run seeds, one conversion each; see "run", which calls this.

use strict;
use warnings;

use File::Path qw(remove_tree);
use Getopt::Long;
use Stress::Conversion;
use Stress::Report;
use Stress::Server;
use Time::HiRes qw(time);

my %o = (count => 1, seconds => 30, rows => 8000, writers => 6, stall => 3);

GetOptions(\%o, 'seed=s', 'count=i', 'minutes=f', 'seconds=i', 'rows=i', 'writers=i',
	'stall=f', 'data=s', 'log=s', 'kept=s')
  or exit 2;
$o{seed} = 1 + time % 1_000_000 unless defined $o{seed};
$| = 1;

my $begin = time;
my $server = Stress::Server->new(data => $o{data}, log => $o{log});
my $report = Stress::Report->new(numbers => join ', ', @o{qw(seconds rows writers)});
my @seeds = split /,/, $o{seed};
my $n = 0;

sub more
{
	return $o{minutes} ? time - $begin < 60 * $o{minutes} : $n < $o{count} if $n >= @seeds;
	return 1;
}

# Keep what a failed run has written, and what the server said meanwhile.
sub keep
{
	my ($run, $from) = @_;

	return unless $o{kept};
	system('cp', '-r', $run->{directory}, $o{kept});
	system("tail -c +$from '$o{log}/server.log' > '$o{kept}/seed$run->{seed}/server.log'");
	return;
}

sub run_seed
{
	my ($seed) = @_;
	my $since = time;
	my $from = 1 + $server->log_size;
	my $run = Stress::Conversion->new(%o, seed => $seed, server => $server);
	my @failures = eval { $run->run };

	push @failures, ref $@ ? "$@->{state}: $@->{message}\n\t$@->{statement}" : $@ if $@;
	printf "%s %d - seed %d, %.0f s: %s\n", @failures ? 'not ok' : 'ok', ++$n, $seed,
	  time - $since, $run->{summary} || '';
	$report->add($run->figures);
	if (@failures)
	{
		$report->failure($seed, $failures[0]);
		print "# replay: test/stress/run --seed $seed --seconds $o{seconds} --rows $o{rows}"
		  . " --writers $o{writers}\n";
		print "# ", $run->{schema}->describe, "\n# ", $run->{schema}->convert, "\n";
		print s/^/# /mgr, "\n" for @failures;
		keep($run, $from);
		$server->configure;			# a preloaded worker may crash it again
	}
	$run->drop;
	remove_tree($run->{directory}) unless @failures && !$o{kept};
	return;
}

for (my $seed; more(); )
{
	$seed = $n < @seeds ? $seeds[$n] : $seed + ($o{minutes} ? 7919 : 1);
	run_seed($seed);
}
$server->configure;
$report->{minutes} = (time - $begin) / 60;
$report->{server} = $server->version;
$report->print if $o{minutes};
printf "%d of %d seeds failed\n", scalar @{ $report->{failed} }, $n;
exit(@{ $report->{failed} } ? 1 : 0);
