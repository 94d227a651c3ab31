=head1 NAME

Stress::Shared - what a writer does with rows that are everybody's

=head1 DESCRIPTION

Nobody knows what such a row holds, but sums can be kept: each write adds to
the row's count, n and hits what its own RETURNING says.

Writers must not make a deadlock of their own.  So the numbers go in pairs, 1
and 2, 3 and 4; a transaction takes pairs in their order and does one thing to
each.  A row is only renamed within its pair: whoever waited for it, and then
has locked it under its new number, still holds nothing of a later pair.

=cut

package Stress::Shared;

use strict;
use warnings;

use Exporter 'import';
use Stress::Random;
use Stress::Schema;

our @EXPORT = qw(shared_moves);

# One transaction's worth of them.
sub shared_moves
{
	my ($w) = @_;
	my $pair = between(0, 4);

	if (chance(8))
	{
		all_rows($w);
		return;
	}
	while ($pair < $Stress::Schema::shared / 2)
	{
		move($w, -2 * $pair - between(1, 2));
		return if chance(40);
		$pair += between(1, 5);
		$w->rest(0, 100) if chance(10);
	}
	return;
}

sub move
{
	my ($w, $kn) = @_;
	my $s = $w->{schema};
	my $row = { %{ $s->initial_row($kn) }, n => between(1, 9), hits => 0, tag => undef };
	my $where = where_key($s, $row);
	my $what = below(100);
	my $insert = "INSERT INTO $s->{table} AS x (" . join(', ', @Stress::Schema::columns)
	  . ') VALUES ' . $s->values_list($row);

	if ($what < 40)
	{
		my $n = $w->rows("UPDATE $s->{table} SET n = n + $row->{n} WHERE $where RETURNING n");

		$w->{model}->account($kn, 0, $row->{n}, 0) if @$n;
	}
	elsif ($what < 52)
	{
		my $old = $w->rows("DELETE FROM $s->{table} WHERE $where RETURNING n, hits");

		$w->{model}->account($kn, -1, map { -$_ } @{ $old->[0] }) if @$old;
	}
	elsif ($what < 64)
	{
		$w->{model}->account($kn, 1, $row->{n}, 0)
		  if $w->run("$insert ON CONFLICT DO NOTHING");
	}
	elsif ($what < 76)
	{
		my $new = $w->rows("$insert ON CONFLICT (" . $w->conflict_target
			  . ') DO UPDATE SET n = x.n + EXCLUDED.n, hits = x.hits + 1 RETURNING hits');

		$w->{model}->account($kn, $new->[0][0] ? 0 : 1, $row->{n}, $new->[0][0] ? 1 : 0);
	}
	elsif ($what < 84)
	{
		$w->run("SELECT FROM $s->{table} WHERE $where FOR "
			  . one_of('UPDATE', 'SHARE', 'KEY SHARE', 'NO KEY UPDATE SKIP LOCKED'));
	}
	elsif ($what < 92)
	{
		$w->{model}->account($kn, 1, $row->{n}, 0)
		  if $w->accepted('23505', "$insert RETURNING n");
	}
	else
	{
		rename_row($w, $kn, $where);
	}
	return;
}

# Give the first row of a pair the number of the second, if that is free.
sub rename_row
{
	my ($w, $kn, $where) = @_;
	my $s = $w->{schema};
	my $next = $kn - 1;
	my $row = $s->initial_row($next);
	my $result;

	return if $kn % 2 == 0;
	$result = $w->accepted('23505', "UPDATE $s->{table} SET id = '" . key_value($s, $next, 0)
		  . "', kn = $next, grp = $row->{grp}, at = '" . at_literal($row->{day})
		  . "' WHERE $where RETURNING n, hits");
	if ($result && @$result)
	{
		$w->{model}->account($kn, -1, map { -$_ } @{ $result->[0] });
		$w->{model}->account($next, 1, @{ $result->[0] });
	}
	return;
}

# Lock all of them in order, then write them in one statement.
sub all_rows
{
	my ($w) = @_;
	my $s = $w->{schema};
	my $kn = $w->rows("SELECT kn FROM $s->{table} WHERE own = -1 ORDER BY kn DESC FOR UPDATE");
	my @where = map { '(' . where_key($s, $s->initial_row($_->[0])) . ')' } @$kn;

	return unless @where;
	$w->run("UPDATE $s->{table} SET n = n + 1 WHERE " . join(' OR ', @where), scalar @where);
	$w->{model}->account($_->[0], 0, 1, 0) for @$kn;
	return;
}

1;
