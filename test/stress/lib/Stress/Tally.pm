=head1 NAME

Stress::Tally - what the writers of a run have done, by kind

=cut

package Stress::Tally;

use strict;
use warnings;

use Exporter 'import';

our @EXPORT = qw(said tally);

# Note a statement and its rows under its kind; counted if it is committed.
sub said
{
	my ($w, $sql, $rows) = @_;
	my $kind = $sql =~ s/^INSERT INTO stress\.marker [^;]*; //r;

	$kind =
	    $kind =~ /^INSERT .* ON CONFLICT/s ? 'INSERT ON CONFLICT'
	  : $kind =~ /^INSERT .* SELECT /s ? 'INSERT SELECT'
	  : $kind =~ /^UPDATE .* WHERE CURRENT OF/s ? 'UPDATE CURRENT OF'
	  : $kind =~ /^UPDATE .* FROM \(VALUES/s ? 'UPDATE FROM'
	  : $kind =~ /^DELETE .* USING/s ? 'DELETE USING'
	  : $kind =~ /^SELECT .* FOR \w/s ? 'SELECT FOR UPDATE or SHARE'
	  : $kind =~ /^WITH .* INSERT/s ? 'WITH and INSERT'
	  : $kind =~ /^(INSERT|UPDATE|DELETE|MERGE|COPY|TRUNCATE|EXECUTE|DO|SELECT)\b/ ? $1
	  : return $rows;
	push @{ $w->{said} }, [ $kind, $kind =~ /^SELECT/ || $rows < 0 ? 0 : $rows ];
	return $rows;
}

# Add the transaction to the sums of the run.
sub tally
{
	my ($w, $committed) = @_;
	my $count = $w->{count};

	$count->{ $committed ? 'committed' : 'undone' }++;
	return unless $committed;
	$count->{"transaction, $w->{isolation}"}++;
	$count->{'transaction, two-phase'}++ if $w->{ending} eq 'PREPARE' && !$w->{single};
	$count->{'transaction, one statement'}++ if $w->{single};
	$count->{'transaction, savepoints'}++ if $w->{savepoints};
	for my $said (@{ $w->{said} })
	{
		$count->{"statement, $said->[0]"}++;
		$count->{"rows, $said->[0]"} += $said->[1];
	}
	return;
}

1;
