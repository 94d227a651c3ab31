# stress.pl: run seeds, one conversion each; see "run", which calls this.

use strict;
use warnings;

use Getopt::Long;
use Stress::Conversion;
use Stress::Server;
use Time::HiRes qw(time);

my %o = (count => 1, seconds => 30, rows => 8000, writers => 6);

GetOptions(\%o, 'seed=s', 'count=i', 'seconds=i', 'rows=i', 'writers=i', 'data=s', 'log=s')
  or exit 2;
$o{seed} = 1 + time % 1_000_000 unless defined $o{seed};
$| = 1;

my $server = Stress::Server->new(data => $o{data}, log => $o{log});
my $failed = 0;

my @seeds = split /,/, $o{seed};
my $n = 0;

push @seeds, $seeds[-1] + 1 while @seeds < $o{count};
for my $seed (@seeds)
{
	my $begin = time;
	my $run = Stress::Conversion->new(%o, seed => $seed, server => $server);
	my @failures = eval { $run->run };

	push @failures, ref $@ ? "$@->{state}: $@->{message}\n\t$@->{statement}" : $@ if $@;

	printf "%s %d - seed %d, %.0f s: %s\n", @failures ? 'not ok' : 'ok', ++$n, $seed,
	  time - $begin, $run->{summary} || '';
	$server->configure if @failures;	# a preloaded worker may crash it again
	$run->drop;
	next unless @failures;
	$failed++;
	print "# replay: test/stress/run --seed $seed --seconds $o{seconds} --rows $o{rows}"
	  . " --writers $o{writers}\n";
	print "# ", $run->{schema}->describe, "\n# ", $run->{schema}->convert, "\n";
	s/^/# /mg, print "$_\n" for @failures;
}
$server->configure;
printf "%d of %d seeds failed\n", $failed, scalar @seeds;
exit($failed ? 1 : 0);
