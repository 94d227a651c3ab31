=head1 NAME

Stress::Moves - what a writer does with rows of his own

=head1 DESCRIPTION

Each move is a statement or two, with the number of rows it must touch, and
the same done to the model.  A move does nothing when there is no row for it.
All are methods of Stress::Writer.

=cut

package Stress::Moves;

use strict;
use warnings;

use Exporter 'import';
use Stress::Bulk;
use Stress::Families;
use Stress::Random;
use Stress::Rows;
use Stress::Schema;

our @EXPORT = qw(random_move);

# The more often a move stands here, the more often it is made.
our @moves = (
	(\&insert_one) x 3, (\&insert_many) x 2, (\&update_one) x 4, \&update_prepared,
	(\&update_many) x 2, \&update_range, (\&update_body) x 2, (\&move_row) x 3,
	(\&rekey_row) x 3, (\&delete_one) x 2, \&delete_many, (\&upsert) x 2, \&merge,
	\&replace_row, \&again_row, \&lock_row, (\&look) x 2, \&duplicate,
	(\&act_row) x 3, \&code_row, \&nothing_new, \&cursor_row, \&copy_rows,
	(\&child_move) x 2, \&family, \&parent_move, \&respell,
	\&insert_select, \&insert_bulk, \&delete_bulk, \&update_from, \&delete_using,
	\&many_savepoints, \&do_block, \&replica_update, \&replica_insert,
	\&replica_delete, \&idle);

sub random_move
{
	my ($w) = @_;

	one_of(@moves)->($w, $w->{model}, $w->{schema});
	return;
}

# ----- inserting -----------------------------------------------------------

sub insert_one
{
	my ($w, $m, $s) = @_;
	my $kn = free($w) or return;
	my $row = new_row($w, $kn);

	insert_rows($w, $row);
	return;
}

sub insert_many
{
	my ($w) = @_;
	my %taken;
	my @kn = grep { defined } map { free($w, \%taken) } 1 .. between(2, 15);

	insert_rows($w, map { new_row($w, $_) } @kn) if @kn;
	return;
}

sub copy_rows
{
	my ($w, $m, $s) = @_;
	my %taken;
	my @rows = map { new_row($w, $_) } grep { defined } map { free($w, \%taken) } 1 .. between(2, 40);

	return if !@rows || $w->{single} || $s->{row_security};
	$w->copy("$s->{table} (" . join(', ', @Stress::Schema::columns) . ')',
		[ map { $s->copy_line($_) } @rows ]);
	$m->write($_) for @rows;
	return;
}

# A row that the insert meets, or not; the action may not move it.
sub upsert
{
	my ($w, $m, $s) = @_;
	my $old = chance(60) ? live($w) : undef;
	my $kn = $old ? $old->{kn} : free($w) or return;
	my $row = $old ? { %{ new_row($w, $kn) }, grp => $old->{grp}, day => $old->{day},
		code => $old->{code} } : new_row($w, $kn);
	my $nothing = chance(40);
	my $target = $nothing && chance(50) ? '' : '(' . $w->conflict_target . ')';
	my $d = below(50);

	$w->run("INSERT INTO $s->{table} AS x (@{[ join ', ', @Stress::Schema::columns ]}) VALUES "
		  . $s->values_list($row) . " ON CONFLICT $target DO "
		  . ($nothing ? 'NOTHING' : "UPDATE SET n = x.n + $d, tag = EXCLUDED.tag, body = EXCLUDED.body"),
		$old && $nothing ? 0 : 1);
	if (!$old) { $m->write($row); }
	elsif (!$nothing) { $m->write({ %$old, n => $old->{n} + $d, tag => $row->{tag} }); }
	return;
}

# The driver does not report how many rows a MERGE touched.
sub merge
{
	my ($w, $m, $s) = @_;
	my %taken;
	my @old = several($w, 3, removable($w));
	my @new = map { new_row($w, $_) } grep { defined } map { free($w, \%taken) } 1 .. 2;
	my @source = (map({ { %{ new_row($w, $_->{kn}) }, grp => $_->{grp} } } @old), @new);
	my $remove = chance(30);
	my $keys = join ' AND ', map { "x.$_ = y.$_" } $s->_key_columns;

	return unless @source;
	$w->run("MERGE INTO $s->{table} AS x USING " . source_rows($s, @source) . " AS y ON $keys"
		  . ' WHEN MATCHED THEN ' . ($remove ? 'DELETE' : 'UPDATE SET n = x.n + 1')
		  . ' WHEN NOT MATCHED THEN INSERT (' . join(', ', @Stress::Schema::columns)
		  . ') VALUES (' . join(', ', map { "y.$_" } @Stress::Schema::columns) . ')');
	for my $row (@old)
	{
		if ($remove) { $m->remove($row->{kn}); }
		else { $m->write({ %$row, n => $row->{n} + 1 }); }
	}
	$m->write($_) for @new;
	return;
}

# ----- updating ------------------------------------------------------------

sub update_one
{
	my ($w, $m, $s) = @_;
	my $row = live($w) or return;
	my $d = between(1, 20);

	$w->run("UPDATE $s->{table} SET n = n + $d WHERE " . one($w, $row), 1);
	$m->write({ %$row, n => $row->{n} + $d });
	return;
}

sub update_prepared
{
	my ($w, $m, $s) = @_;
	my $row = live($w) or return;

	$w->run('EXECUTE bump (' . join(', ', ($s->{key} eq 'composite' ? $row->{grp} : ()),
			$s->quote(key_value($s, $row->{kn}, $row->{variant}))) . ')', 1);
	$m->write({ %$row, n => $row->{n} + 1 });
	return;
}

sub update_many
{
	my ($w, $m, $s) = @_;
	my @rows = several($w, between(2, 12)) or return;
	my $d = below(9);

	$w->run("UPDATE $s->{table} SET n = n + $d WHERE " . any($w, @rows), scalar @rows);
	$m->write({ %$_, n => $_->{n} + $d }) for @rows;
	return;
}

sub update_range
{
	my ($w, $m, $s) = @_;
	my $grp = below(10);
	my @rows = grep { $_->{grp} == $grp } map { $m->{row}{$_} } sort { $a <=> $b } keys %{ $m->{row} };

	return if chance(50);
	$w->run("UPDATE $s->{table} SET n = n + 1 WHERE own = $w->{number} AND grp = $grp", scalar @rows);
	$m->write({ %$_, n => $_->{n} + 1 }) for @rows;
	return;
}

sub update_body
{
	my ($w, $m, $s) = @_;
	my $row = live($w) or return;
	my $tag = tag($w);
	my $text = defined $tag ? "'$tag'" : 'NULL';

	$w->run("UPDATE $s->{table} SET tag = $text, body = stress.body($text) WHERE " . one($w, $row), 1);
	$m->write({ %$row, tag => $tag });
	return;
}

# Change what the partition may depend on.
sub move_row
{
	my ($w, $m, $s) = @_;
	my @rows = several($w, one_of(1, 1, 1, 4), \&still) or return;
	my ($grp, $day) = (below(10), below(400));

	$w->run("UPDATE $s->{table} SET grp = $grp, at = '" . at_literal($day) . "' WHERE "
		  . any($w, @rows), scalar @rows);
	$m->rekey($_->{kn}, { %$_, grp => $grp, day => $day }) for @rows;
	return;
}

sub rekey_row
{
	my ($w, $m, $s) = @_;
	my $row = live($w, \&still) or return;
	my $kn = free($w) or return;
	my $new = { %$row, kn => $kn, variant => 0, grp => chance(50) ? $row->{grp} : below(10) };

	$w->run("UPDATE $s->{table} SET id = '" . key_value($s, $kn, 0)
		  . "', kn = $kn, grp = $new->{grp} WHERE " . one($w, $row), 1);
	$m->rekey($row->{kn}, $new);
	return;
}

# The same key, spelled otherwise.
sub respell
{
	my ($w, $m, $s) = @_;
	my $row = live($w, \&still) or return;
	my $new = { %$row, variant => 1 - $row->{variant} };

	return unless $s->{key} eq 'loose';
	$w->run("UPDATE $s->{table} SET id = '" . key_value($s, $row->{kn}, $new->{variant})
		  . "' WHERE " . one($w, $row), 1);
	$m->rekey($row->{kn}, $new);
	return;
}

# A row that its trigger goes on to write.
sub act_row
{
	my ($w, $m, $s) = @_;
	my $row = live($w, barren($w)) or return;
	my $act = one_of(qw(self late gone again phoenix));

	return if $act eq 'phoenix' && $row->{ref};
	$w->run("UPDATE $s->{table} SET act = '$act', n = n + 1 WHERE " . one($w, $row), 1);
	$m->write({ %$row, act => $act, n => $row->{n} + 1 });
	return;
}

# Give one row the unique value that another one has just given up.
sub code_row
{
	my ($w, $m, $s) = @_;
	my $from = live($w, sub { defined $_[0]{code} }) or return;

	return if $w->{single};
	my $to = live($w, sub { $_[0]{kn} != $from->{kn} }) or return;

	$w->run("UPDATE $s->{table} SET code = NULL WHERE " . one($w, $from), 1);
	$m->write({ %$from, code => undef });
	$to = $m->{row}{ $to->{kn} };
	$w->run("UPDATE $s->{table} SET code = '$from->{code}' WHERE " . one($w, $to), 1);
	$m->write({ %$to, code => $from->{code} });
	return;
}

sub nothing_new
{
	my ($w, $m, $s) = @_;
	my $row = live($w) or return;

	$w->run("UPDATE $s->{table} SET n = n WHERE " . one($w, $row), 1);
	$m->write({%$row});
	return;
}

# A cursor over a partitioned table must not have been pruned to be updatable.
sub cursor_row
{
	my ($w, $m, $s) = @_;
	my $row = live($w) or return;

	return if $w->{single};
	$w->run("DECLARE here CURSOR FOR SELECT * FROM $s->{table} WHERE kn = $row->{kn} FOR UPDATE");
	$w->run('MOVE here', 1);
	$w->run("UPDATE $s->{table} SET n = n + 3 WHERE CURRENT OF here", 1);
	$w->run('CLOSE here');
	$m->write({ %$row, n => $row->{n} + 3 });
	return;
}

# ----- deleting ------------------------------------------------------------

sub delete_one
{
	my ($w, $m, $s) = @_;
	my $row = live($w, removable($w)) or return;

	$w->run("DELETE FROM $s->{table} WHERE " . one($w, $row), 1);
	$m->remove($row->{kn});
	return;
}

sub delete_many
{
	my ($w, $m, $s) = @_;
	my @rows = several($w, between(2, 12), removable($w)) or return;

	$w->run("DELETE FROM $s->{table} WHERE " . any($w, @rows), scalar @rows);
	$m->remove($_->{kn}) for @rows;
	return;
}

# One statement that deletes a row and inserts another in its place.
sub replace_row
{
	my ($w, $m, $s) = @_;
	my $row = live($w, barren($w)) or return;
	my $kn = free($w) or return;
	my $new = { %$row, kn => $kn, variant => 0 };
	my @rest = @Stress::Schema::columns[ 3 .. $#Stress::Schema::columns ];

	$w->run("WITH old AS (DELETE FROM $s->{table} WHERE " . one($w, $row) . ' RETURNING *)'
		  . " INSERT INTO $s->{table} (id, own, kn, " . join(', ', @rest) . ')'
		  . " SELECT '" . key_value($s, $kn, 0) . "', own, $kn, " . join(', ', @rest) . ' FROM old', 1);
	$m->remove($row->{kn});
	$m->write($new);
	return;
}

# Delete a row and insert its key again.
sub again_row
{
	my ($w, $m, $s) = @_;
	my $row = live($w, barren($w)) or return;
	my $new = new_row($w, $row->{kn});

	return if $w->{single};
	$new->{code} = $row->{code};
	$w->run("DELETE FROM $s->{table} WHERE " . one($w, $row), 1);
	$m->remove($row->{kn});
	insert_rows($w, $new);
	return;
}

# ----- reading and failing -------------------------------------------------

sub lock_row
{
	my ($w, $m, $s) = @_;
	my $row = live($w) or return;
	my $how = one_of('UPDATE', 'NO KEY UPDATE', 'SHARE', 'KEY SHARE', 'UPDATE SKIP LOCKED');

	# Our reconcile may hold the row for a moment, which skips it.
	$w->run("SELECT n FROM $s->{table} WHERE " . one($w, $row) . " FOR $how",
		$how =~ /SKIP/ ? undef : 1);
	$w->rest(0, one_of(10, 10, 200));
	return;
}

# All own rows are there, in whatever snapshot.
sub look
{
	my ($w, $m, $s) = @_;
	my ($count, $n, $hits) = (0, 0, 0);
	my $got;

	for my $row (values %{ $m->{row} })
	{
		$count++;
		$n += $row->{n};
		$hits += $row->{hits};
	}
	$got = join ' ', @{ $w->rows("SELECT count(*), coalesce(sum(n), 0), coalesce(sum(hits), 0)"
		  . " FROM $s->{table} WHERE own = $w->{number}")->[0] };
	$w->wrong("sees $got of its rows (count, sums of n and hits), not $count $n $hits: "
		  . find_difference($w)) if $got ne "$count $n $hits";
	return;
}

# The first row that is not as it should be.
sub find_difference
{
	my ($w) = @_;
	my %want = map { $_->{kn} => "$_->{n} $_->{hits}" } values %{ $w->{model}{row} };

	for my $is (@{ $w->rows("SELECT kn, n || ' ' || hits FROM $w->{schema}{table} WHERE own = $w->{number}") })
	{
		my $want = delete $want{ $is->[0] } || 'no row';

		return "number $is->[0] is $is->[1], not $want" if $is->[1] ne $want;
	}
	return join ' ', 'missing are numbers', sort { $a <=> $b } keys %want;
}

# An insert that must fail, and nothing with it.
sub duplicate
{
	my ($w, $m, $s) = @_;
	my $row = live($w) or return;
	my $new = { %{ new_row($w, $row->{kn}) }, grp => $row->{grp}, day => $row->{day},
		variant => $row->{variant}, ref => undef };

	$w->refused('23505', "INSERT INTO $s->{table} (" . join(', ', @Stress::Schema::columns)
		  . ') VALUES ' . $s->values_list($new));
	return;
}

1;
