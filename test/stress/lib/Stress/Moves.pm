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
use Stress::Random;
use Stress::Schema;

our @EXPORT = qw(random_move);

# The more often a move stands here, the more often it is made.
our @moves = (
	(\&insert_one) x 3, (\&insert_many) x 2, (\&update_one) x 4, \&update_prepared,
	(\&update_many) x 2, \&update_range, (\&update_body) x 2, (\&move_row) x 3,
	(\&rekey_row) x 3, (\&delete_one) x 2, \&delete_many, (\&upsert) x 2, \&merge,
	\&replace_row, \&again_row, \&lock_row, (\&look) x 2, \&duplicate,
	(\&act_row) x 3, \&code_row, \&nothing_new, \&cursor_row, \&copy_rows,
	(\&child_move) x 2, \&family, \&parent_move, \&respell);

sub random_move
{
	my ($w) = @_;

	one_of(@moves)->($w, $w->{model}, $w->{schema});
	return;
}

# ----- choosing rows -------------------------------------------------------

# A number of this writer's, half of the time one of a few that are hot.
sub number
{
	my ($w) = @_;
	my $s = $w->{schema};
	my $n = int($s->{rows} * 1.2 / $s->{writers}) - 1;

	$n = 25 if chance(40) && $n > 25;
	return ($w->{number} || $s->{writers}) + $s->{writers} * below($n);
}

# A row that is there and meets a condition.
sub live
{
	my ($w, $test) = @_;

	for (1 .. 40)
	{
		my $row = $w->{model}{row}{ number($w) };

		return $row if $row && (!$test || $test->($row));
	}
	return;
}

sub free
{
	my ($w, $taken) = @_;

	for (1 .. 60)
	{
		my $kn = number($w);

		return $kn unless $w->{model}{row}{$kn} || ($taken && $taken->{$kn}++);
	}
	return;
}

sub calm { return !$_[0]{act}; }
sub settled { return !$_[0]{act} || $_[0]{act} =~ /self|late/; }
sub still { return ($_[0]{act} || '') ne 'phoenix'; }

sub barren
{
	my ($w) = @_;

	return sub { return calm($_[0]) && !$w->{model}->children($_[0]{kn}); };
}

# Whether a row may be deleted as the foreign key has it.
sub removable
{
	my ($w) = @_;

	return sub { return $w->{schema}{child} ne 'NO ACTION'
		  || !$w->{model}->children($_[0]{kn}); };
}

sub several
{
	my ($w, $n, $test) = @_;
	my %row;

	for (1 .. $n)
	{
		my $row = live($w, $test) or next;

		$row{ $row->{kn} } = $row;
	}
	return map { $row{$_} } sort { $a <=> $b } keys %row;
}

sub new_row
{
	my ($w, $kn) = @_;
	my $s = $w->{schema};
	my $ref = $w->{number} + $s->{writers} * below(7);

	return {
		kn => $kn, own => $w->{number}, grp => below(10), day => below(400),
		variant => $s->{key} eq 'loose' && chance(30) ? 1 : 0,
		n => below(1000), hits => below(3), code => chance(50) ? $w->fresh_code : undef,
		tag => tag($w), act => undef,
		ref => $s->{parent} && $w->{model}{parent}{$ref} && chance(30) ? $ref : undef };
}

sub tag
{
	my ($w) = @_;

	return undef if chance(20);
	return "w$w->{number}t" . below(1000) . ':' . (chance(10) ? between(60, 250) : between(1, 6));
}

sub one { my ($w, $row) = @_; return where_key($w->{schema}, $row); }

sub any
{
	my ($w, @rows) = @_;

	return '(' . join(' OR ', map { '(' . one($w, $_) . ')' } @rows) . ')';
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

sub insert_rows
{
	my ($w, @rows) = @_;
	my $s = $w->{schema};

	$w->run("INSERT INTO $s->{table} (@{[ join ', ', @Stress::Schema::columns ]}) VALUES "
		  . join(', ', map { $s->values_list($_) } @rows), scalar @rows);
	$w->{model}->write($_) for @rows;
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
	my $id = $s->{key} =~ /bigint|composite/ ? 'bigint' : $s->{key} eq 'uuid' ? 'uuid' : 'text';

	return unless @source;
	$w->run("MERGE INTO $s->{table} AS x USING (SELECT y.id::$id"
		  . join('', map { ", y.$_" } @Stress::Schema::columns[ 1 .. $#Stress::Schema::columns ])
		  . ' FROM (VALUES ' . join(', ', map { typed_values($s, $_) } @source)
		  . ') AS y (' . join(', ', @Stress::Schema::columns) . ")) AS y ON $keys"
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

# MERGE's source has no column to take the types of NULLs from.
sub typed_values
{
	my ($s, $row) = @_;
	my @types = qw(text integer bigint integer timestamptz bigint integer text text text bigint text);
	my $list = $s->values_list($row);
	my @v = split /, /, substr($list, 1, -1);

	return '(' . join(', ', map { "$v[$_]::$types[$_]" } 0 .. $#v) . ')';
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

# ----- foreign keys --------------------------------------------------------

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
