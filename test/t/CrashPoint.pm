=head1 NAME

CrashPoint - end partshift's workers, or the server, at a chosen commit

=head1 DESCRIPTION

Gives test/modules/crash_point its orders: see there.

=cut

package CrashPoint;

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Utils;

our @EXPORT = qw(crash_at crash_off crash_fired commits);

# Order a signal at a commit: before or after it, that of the process or of
# the postmaster; further arguments are the role that counts and the drag of
# the others.
sub crash_at
{
	my ($node, $event, $number, $signal, $target, $role, $drag) = @_;
	my $data = $node->data_dir;
	my $order = join ' ', substr($event, 0, 1), $number, $signal,
	  substr($target, 0, 1), substr($role || 'either', 0, 1), $drag || 0;

	unlink "$data/crash_point.count";
	open my $file, '>', "$data/crash_point.new" or die $!;
	print $file $order;
	close $file;
	rename "$data/crash_point.new", "$data/crash_point.order" or die $!;
	return;
}

# Take back an order; true if there was one that had not been followed.
sub crash_off { return unlink $_[0]->data_dir . '/crash_point.order'; }

sub crash_fired { return !-e $_[0]->data_dir . '/crash_point.order'; }

# What the workers were doing at each commit since the last order.
sub commits
{
	my ($node) = @_;
	my $file = $node->data_dir . '/crash_point.count';

	return unless -e $file;
	return map { s/ +$//r } split /\n/, slurp_file($file);
}

1;
