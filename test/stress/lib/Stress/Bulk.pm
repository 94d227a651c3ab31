=head1 NAME

Stress::Bulk - what a writer does with many of his rows, or from afar

=head1 DESCRIPTION

Statements over many rows, many subtransactions, and writes as a subscriber's
apply worker makes them.  All are methods of Stress::Writer, as in Stress::Moves.

=cut

package Stress::Bulk;

use strict;
use warnings;

use Exporter 'import';
use Stress::Random;
use Stress::Rows;
use Stress::Schema;

our @EXPORT = qw(source_rows insert_select insert_bulk delete_bulk update_from delete_using
	many_savepoints do_block replica_update replica_insert replica_delete idle);

sub columns { return join ', ', @Stress::Schema::columns }

# ----- many rows -----------------------------------------------------------

# Rows as a subquery with the types of the table's columns.
sub source_rows
{
	my ($s, @rows) = @_;
	my $id = $s->{key} =~ /bigint|composite/ ? 'bigint' : $s->{key} eq 'uuid' ? 'uuid' : 'text';

	return "(SELECT y.id::$id"
	  . join('', map { ", y.$_" } @Stress::Schema::columns[ 1 .. $#Stress::Schema::columns ])
	  . ' FROM (VALUES ' . join(', ', map { typed_values($s, $_) } @rows)
	  . ") AS y (@{[ columns() ]}))";
}

# A VALUES list has no column to take the types of NULLs from.
sub typed_values
{
	my ($s, $row) = @_;
	my @types = qw(text integer bigint integer timestamptz bigint integer text text text bigint text
		timestamptz);
	my $list = $s->values_list($row);
	my @v = split /, /, substr($list, 1, -1);

	return '(' . join(', ', map { "$v[$_]::$types[$_]" } 0 .. $#v) . ')';
}

sub new_rows
{
	my ($w, $n) = @_;
	my %taken;

	return map { new_row($w, $_) } grep { defined } map { free($w, \%taken) } 1 .. $n;
}

sub insert_select
{
	my ($w, $m, $s) = @_;
	my @rows = new_rows($w, between(1, 10)) or return;

	$w->run("INSERT INTO $s->{table} (@{[ columns() ]}) SELECT * FROM " . source_rows($s, @rows) . ' AS y',
		scalar @rows);
	$m->write($_) for @rows;
	return;
}

sub insert_bulk
{
	my ($w) = @_;
	my @rows = new_rows($w, between(40, 120));

	insert_rows($w, @rows) if @rows;
	return;
}

sub these
{
	my ($w, $alias, @rows) = @_;

	return "$alias.own = $w->{number} AND $alias.kn = ANY ('{" . join(',', map { $_->{kn} } @rows) . "}')";
}

sub delete_bulk
{
	my ($w, $m, $s) = @_;
	my @rows = several($w, between(40, 120), removable($w)) or return;

	$w->run("DELETE FROM $s->{table} AS x WHERE " . these($w, 'x', @rows), scalar @rows);
	$m->remove($_->{kn}) for @rows;
	return;
}

sub update_from
{
	my ($w, $m, $s) = @_;
	my @rows = several($w, between(2, 60)) or return;
	my $d = between(1, 9);

	$w->run("UPDATE $s->{table} AS x SET n = x.n + y.d FROM (VALUES "
		  . join(', ', map { "($_->{kn}, " . ($d + $_->{kn} % 3) . ')' } @rows)
		  . ") AS y (kn, d) WHERE x.kn = y.kn AND x.own = $w->{number}", scalar @rows);
	$m->write({ %$_, n => $_->{n} + $d + $_->{kn} % 3 }) for @rows;
	return;
}

sub delete_using
{
	my ($w, $m, $s) = @_;
	my @rows = several($w, between(1, 10), removable($w)) or return;
	my $gone = $w->rows("DELETE FROM $s->{table} AS x USING (VALUES "
		  . join(', ', map { "($_->{kn})" } @rows)
		  . ") AS y (kn) WHERE x.kn = y.kn AND x.own = $w->{number} RETURNING x.kn");

	$w->wrong(@$gone . ' rows are deleted, not ' . @rows) if @$gone != @rows;
	$m->remove($_->{kn}) for @rows;
	return;
}

# ----- subtransactions -----------------------------------------------------

# More than a snapshot can list, so that a horizon of that time overflows.
sub many_savepoints
{
	my ($w, $m, $s) = @_;
	my $n = between(66, 80);
	my @marks;

	return if $w->{single} || chance(75) || $w->hurries;
	for my $i (1 .. $n)
	{
		my $row = live($w) or return;

		push @marks, $w->mark;
		$w->run("SAVEPOINT p$i");
		$w->run("UPDATE $s->{table} SET n = n + 1 WHERE " . one($w, $row), 1);
		$m->write({ %$row, n => $row->{n} + 1 });
	}
	$w->rest(0, 400);
	if (chance(60))
	{
		my $i = between(1, $n);

		$w->run("ROLLBACK TO p$i");
		$w->undo_to($marks[ $i - 1 ]);
	}
	elsif (chance(50)) { $w->run('RELEASE p1'); }
	$w->{savepoints} = 1;
	return;
}

# Blocks with handlers, half of which catch something.
sub do_block
{
	my ($w, $m, $s) = @_;
	my $row = live($w, \&calm) or return;
	my $n = between(1, 12);

	$w->run('DO $do$ BEGIN FOR i IN 1 .. ' . $n . " LOOP BEGIN UPDATE $s->{table} SET n = n + 1 WHERE "
		  . one($w, $row) . q{; IF i % 2 = 0 THEN RAISE SQLSTATE 'UT001'; END IF;}
		  . q{ EXCEPTION WHEN SQLSTATE 'UT001' THEN NULL; END; END LOOP; END $do$});
	$m->write({ %$row, n => $row->{n} + int(($n + 1) / 2) });
	return;
}

# ----- without triggers ----------------------------------------------------

# Neither the table's triggers nor its foreign keys see what $what does.
sub as_replica
{
	my ($w, $sql) = @_;

	$w->run('SET LOCAL session_replication_role = replica');
	$w->run($sql, 1);
	$w->run('SET LOCAL session_replication_role = origin');
	return;
}

sub replica_update
{
	my ($w, $m, $s) = @_;
	my $row = live($w, \&calm) or return;
	my $d = between(1, 9);

	return if $w->{single};
	as_replica($w, "UPDATE $s->{table} SET n = n + $d, note = 'n' || n + $d WHERE " . one($w, $row));
	$m->write({ %$row, n => $row->{n} + $d });
	return;
}

sub replica_insert
{
	my ($w, $m, $s) = @_;
	my ($row) = new_rows($w, 1);

	return if $w->{single} || !$row;
	$row->{ref} = undef;
	as_replica($w, "INSERT INTO $s->{table} (@{[ columns() ]}, note) SELECT y.*, 'n' || y.n FROM "
		  . source_rows($s, $row) . ' AS y');
	$m->write($row);
	return;
}

sub replica_delete
{
	my ($w, $m, $s) = @_;
	my $row = live($w, barren($w)) or return;

	return if $w->{single};
	as_replica($w, "DELETE FROM $s->{table} WHERE " . one($w, $row));
	$m->remove($row->{kn});
	return;
}

# Idle in transaction, with whatever it has locked.
sub idle
{
	my ($w) = @_;

	$w->rest(200, 2000) if chance(20);
	return;
}

1;
