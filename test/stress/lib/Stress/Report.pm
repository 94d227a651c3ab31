=head1 NAME

Stress::Report - the sums of all runs, as tables

=cut

package Stress::Report;

use strict;
use warnings;

sub new { my ($class, %args) = @_; return bless { sum => {}, longest => {}, failed => [], %args }, $class; }

# Add what one conversion has counted: "group, what" => number.
sub add
{
	my ($p, $counts, $longest) = @_;

	$p->{sum}{$_} += $counts->{$_} for keys %$counts;
	for (keys %$longest)
	{
		$p->{longest}{$_} = $longest->{$_} if $longest->{$_} > ($p->{longest}{$_} || 0);
	}
	return;
}

sub failure { my ($p, $seed, $what) = @_; push @{ $p->{failed} }, [ $seed, $what ]; return; }

sub _table
{
	my ($p, $title, @rows) = @_;

	printf "\n| %s | |\n| --- | ---: |\n", $title;
	print "| $_->[0] | $_->[1] |\n" for @rows;
	return;
}

# The sums whose names begin with a word, the word left off.
sub _group
{
	my ($p, $group) = @_;
	my %of = map { /^\Q$group\E, (.*)/ ? ($1 => $p->{sum}{$_}) : () } keys %{ $p->{sum} };

	return map { [ $_, $of{$_} ] } sort keys %of;
}

sub _writers
{
	my ($p) = @_;
	my %rows = map { @$_ } $p->_group('rows');

	printf "\n| committed by writers | statements | rows written |\n| --- | ---: | ---: |\n";
	for ($p->_group('statement'))
	{
		print "| $_->[0] | $_->[1] | ", $rows{ $_->[0] } || ($_->[0] =~ /^(SELECT|DO$|MERGE)/ ? '' : 0), " |\n";
		$_->[0] =~ /^SELECT/ or $p->{statements} += $_->[1];
		$p->{written} += $rows{ $_->[0] } || 0;
	}
	return;
}

# All tables, for those who quote them.
sub print
{
	my ($p) = @_;
	my $sum = $p->{sum};

	$p->_table('settings', [ 'server', $p->{server} ], [ 'seconds, rows, writers of a run', $p->{numbers} ],
		[ 'minutes', sprintf '%.1f', $p->{minutes} ]);
	$p->_writers;
	$p->_table('transactions of writers', [ 'committed', $sum->{committed} || 0 ],
		map({ [ "of these, $_->[0]", $_->[1] ] } $p->_group('transaction')),
		[ 'rolled back or made again and again', $sum->{undone} || 0 ],
		[ 'cut off by the end of a connection', $sum->{lost} || 0 ],
		map { [ "errors that had to be expected, $_->[0]", $_->[1] ] } $p->_group('error'));
	$p->_table('acts of the operator', $p->_group('act'));
	$p->_table('processes and servers stopped, by phase of the job', $p->_group('stop'));
	$p->_table('schemas and strategies', $p->_group('schema'));
	$p->_table('result', [ 'seeds', $sum->{seeds} || 0 ], $p->_group('result'),
		[ 'statements that write, committed', $p->{statements} || 0 ],
		[ 'rows they wrote', $p->{written} || 0 ],
		map({ [ "longest: $_, s", sprintf '%.2f', $p->{longest}{$_} ] } sort keys %{ $p->{longest} }),
		[ 'seeds that failed', scalar @{ $p->{failed} } ],
		map { [ "seed $_->[0]", $_->[1] =~ s/[|\n].*//sr ] } @{ $p->{failed} });
	return;
}

1;
