=head1 NAME

Stress::Random - decisions that can be made again

=head1 DESCRIPTION

Every decision comes from a stream that its names determine: the seed, who
decides, and which decision of his it is.  So a transaction that is tried
again, or a run that is replayed, does the same whatever happened meanwhile.
The generator is perl's own, which is the same on every platform.

=cut

package Stress::Random;

use strict;
use warnings;

use Digest::MD5 qw(md5);
use Exporter 'import';

our @EXPORT = qw(stream chance below between one_of);

# Begin the stream of these names.
sub stream
{
	srand(unpack('N', md5(join ' ', @_)));
	return;
}

sub below { my ($n) = @_; return int(rand($n)); }

sub between { my ($low, $high) = @_; return $low + below($high - $low + 1); }

# True so many times in a hundred.
sub chance { my ($percent) = @_; return rand(100) < $percent; }

sub one_of { return $_[ below(scalar @_) ]; }

1;
