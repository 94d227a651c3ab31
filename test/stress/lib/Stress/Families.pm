=head1 NAME

Stress::Families - what a writer does with rows that foreign keys join

=head1 DESCRIPTION

The table refers to parents and is referred to by children.  All are methods of
Stress::Writer, as in Stress::Moves.

=cut

package Stress::Families;

use strict;
use warnings;

use Exporter 'import';
use Stress::Random;
use Stress::Rows;
use Stress::Schema;

our @EXPORT = qw(child_move family parent_move);

sub child_key
{
	my ($w, $row) = @_;
	my $s = $w->{schema};

	return "$row->{grp}, '" . key_value($s, $row->{kn}, $row->{variant}) . "'";
}

sub child_move
{
	my ($w, $m, $s) = @_;
	my @old = sort { $a <=> $b } keys %{ $m->{child} };
	my $row = live($w, \&settled);
	my $id = $w->next_child;

	return unless $s->{child} && $row;
	if (@old && chance(30))
	{
		$id = one_of(@old);
		$w->run("DELETE FROM stress.c WHERE id = $id", 1);
		$m->put(child => $id, undef);
	}
	elsif (@old && chance(30))
	{
		$id = one_of(@old);
		$w->run("UPDATE stress.c SET (t_grp, t_id) = (" . child_key($w, $row) . ") WHERE id = $id", 1);
		$m->put(child => $id, $row->{kn});
	}
	elsif (chance(80))
	{
		$w->run("INSERT INTO stress.c VALUES ($id, $w->{number}, " . child_key($w, $row) . ')', 1);
		$m->put(child => $id, $row->{kn});
	}
	elsif (defined(my $kn = free($w)))
	{
		$w->refused('23503', "INSERT INTO stress.c VALUES ($id, $w->{number}, "
			  . child_key($w, new_row($w, $kn)) . ')');
	}
	return;
}

# A row and its child in one statement.
sub family
{
	my ($w, $m, $s) = @_;
	my $kn = free($w) or return;
	my $row = new_row($w, $kn);
	my $id = $w->next_child;

	return unless $s->{child};
	$w->run("WITH new AS (INSERT INTO $s->{table} (" . join(', ', @Stress::Schema::columns)
		  . ') VALUES ' . $s->values_list($row) . ' RETURNING grp, id)'
		  . " INSERT INTO stress.c SELECT $id, $w->{number}, grp, id FROM new", 1);
	$m->write($row);
	$m->put(child => $id, $kn);
	return;
}

# Delete a parent, give it another number, or bring one back.
sub parent_move
{
	my ($w, $m, $s) = @_;
	my $id = $w->{number} + $s->{writers} * below(7);
	my $there = $m->{parent}{$id};
	my @rows = grep { defined $_->{ref} && $_->{ref} == $id }
	  map { $m->{row}{$_} } sort { $a <=> $b } keys %{ $m->{row} };

	return unless $s->{parent};
	if (!$there)
	{
		$w->run("INSERT INTO stress.p VALUES ($id, $w->{number}, 'new')", 1);
		$m->put(parent => $id, 1);
		return;
	}
	if (my ($free) = grep { !$m->{parent}{$_} } map { $w->{number} + $s->{writers} * $_ } 0 .. 6)
	{
		$w->run("UPDATE stress.p SET id = $free WHERE id = $id", 1);
		$m->put(parent => $id, undef);
		$m->put(parent => $free, 1);
		$m->write({ %$_, ref => $free }) for @rows;
		return;
	}
	return if chance(60) || $s->{parent} eq 'CASCADE' && grep { !removable($w)->($_) } @rows;
	$w->run("DELETE FROM stress.p WHERE id = $id", 1);
	$m->put(parent => $id, undef);
	for my $row (@rows)
	{
		if ($s->{parent} eq 'CASCADE') { $m->remove($row->{kn}); }
		else { $m->write({ %$row, ref => undef }); }
	}
	return;
}

1;
