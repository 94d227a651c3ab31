=head1 NAME

Stress::Model - what one writer knows that the table must hold

=head1 DESCRIPTION

The writer's own rows by number, his children and his parents; the changes of
the present transaction can be undone to any earlier point.  What was done to
rows that are everybody's is kept as sums, for each epoch: TRUNCATE begins a
new one.

=cut

package Stress::Model;

use strict;
use warnings;

sub new
{
	my ($class, $s, $writer) = @_;
	my $m = bless {
		schema => $s, writer => $writer, row => {}, child => {}, parent => {},
		shared => {}, journal => [], epoch => 1 }, $class;

	$m->{parent}{ $writer + $s->{writers} * $_ } = 1 for 0 .. 6;
	return $m;
}

# Change an entry of one of the tables; undef removes it.
sub put
{
	my ($m, $what, $key, $value) = @_;

	push @{ $m->{journal} }, [ $what, $key, $m->{$what}{$key} ];
	$m->_store($what, $key, $value);
	return;
}

sub _store
{
	my ($m, $what, $key, $value) = @_;

	if (defined $value) { $m->{$what}{$key} = $value; }
	else { delete $m->{$what}{$key}; }
	return;
}

sub mark { my ($m) = @_; return scalar @{ $m->{journal} }; }

# Undo back to a mark.
sub undo
{
	my ($m, $mark) = @_;

	while (@{ $m->{journal} } > $mark)
	{
		my $entry = pop @{ $m->{journal} };

		$m->_store(@$entry);
	}
	return;
}

# Deferred triggers fire, and the transaction's changes are final.
sub settle
{
	my ($m) = @_;

	for my $kn (sort { $a <=> $b } map { $_->[1] } grep { $_->[0] eq 'row' } @{ $m->{journal} })
	{
		my $row = $m->{row}{$kn} or next;

		$m->put(row => $kn, { %$row, act => undef, hits => $row->{hits} + 1 })
		  if ($row->{act} || '') eq 'late';
	}
	return;
}

sub final { my ($m) = @_; $m->{journal} = []; return; }

# Write a row and do what its trigger does.
sub write
{
	my ($m, $row) = @_;
	my $act = $row->{act} || '';
	my %new = %$row;

	$new{hits}++ if $act eq 'self' || $act eq 'again';
	$new{act} = undef if $act eq 'again';
	$m->put(row => $row->{kn}, $act eq 'gone' ? undef : \%new);
	return;
}

# Delete a row; its children go with it, and a phoenix comes back.
sub remove
{
	my ($m, $kn) = @_;
	my $row = $m->{row}{$kn};

	$m->put(child => $_, undef) for $m->children($kn);
	$m->put(row => $kn, ($row->{act} || '') eq 'phoenix'
		? { %$row, act => undef, hits => $row->{hits} + 1 } : undef);
	return;
}

sub children
{
	my ($m, $kn) = @_;

	return grep { $m->{child}{$_} == $kn } sort { $a <=> $b } keys %{ $m->{child} };
}

# A row got another number.
sub rekey
{
	my ($m, $old, $row) = @_;

	$m->put(child => $_, $row->{kn}) for $m->children($old);
	$m->put(row => $old, undef) if $old != $row->{kn};
	$m->write($row);
	return;
}

# The table and its children were truncated.
sub clear
{
	my ($m) = @_;

	for my $what (qw(row child))
	{
		$m->put($what, $_, undef) for sort { $a <=> $b } keys %{ $m->{$what} };
	}
	return;
}

# A shared row was changed: by how much its count, its sum and its hits.
sub account
{
	my ($m, $kn, @by) = @_;
	my $key = "$m->{epoch} $kn";
	my @old = @{ $m->{shared}{$key} || [ 0, 0, 0 ] };

	$m->put(shared => $key, [ map { $old[$_] + $by[$_] } 0 .. 2 ]);
	return;
}

1;
