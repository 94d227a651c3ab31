=head1 NAME

Stress::Checks - what must hold

=head1 DESCRIPTION

Each check returns the differences that it found, a line each, the first ones
only.  The ledger is that of the writers, who know it without the database.

=cut

package Stress::Checks;

use strict;
use warnings;

use Exporter 'import';
use Stress::Schema;

our @EXPORT = qw(equal_tables ledger sound leftovers);

my $few = 8;

# Some rows have no date but that from which it is to be filled.
sub _at { my ($s) = @_; return $s->{null_key} ? 'coalesce(at, born)' : 'at' }

sub _columns
{
	my ($s) = @_;

	return join ', ', 'id::text COLLATE "C"', qw(own kn grp), _at($s), qw(n hits code tag), 'md5(body)',
	  qw(ref act note twice), $s->{late_column} ? 'extra' : (), $s->{numbered} ? 'numbered' : ();
}

# Both tables of a job, in one snapshot, if they must be equal now; nobody writes
# to the new one any more when a rollback has only to drop it, and legacy does
# not follow while it waits to be finalized.
sub equal_tables
{
	my ($c, $s, $job) = @_;
	my @bad;
	my $found = eval {
		$c->run('BEGIN ISOLATION LEVEL REPEATABLE READ');
		my $names = $c->rows("SELECT format('%I.%I', n.nspname, c.relname)"
			  . ' FROM partshift.job AS j JOIN pg_class AS c ON c.oid IN (j.relid, j.shadow)'
			  . " JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE j.job_id = $job"
			  . " AND j.phase IN ('rewire', 'verify', 'ready', 'swap', 'done')"
			  . " AND j.status NOT IN ('aborted', 'finalized', 'rolled_back')"
			  . " AND NOT (j.phase = 'done' AND (j.reverse OR j.request IS NOT DISTINCT FROM 'finalize')) ORDER BY c.relkind");
		my ($one, $other) = map { 'SELECT ROW(' . _columns($s) . ")::text AS r FROM $_->[0]" } @$names;

		push @bad, map { $_->[0] } @{ $c->rows("WITH a AS MATERIALIZED ($one), b AS MATERIALIZED ($other)"
			  . " (SELECT 'only in $job new: ' || r FROM (TABLE a EXCEPT ALL TABLE b) x LIMIT $few)"
			  . " UNION ALL (SELECT 'only in $job old: ' || r FROM (TABLE b EXCEPT ALL TABLE a) x LIMIT $few)") }
		  if @$names == 2;
		$c->run('COMMIT');
		@$names == 2;
	};
	my $error = $@;

	return ($found, @bad) unless $error;
	die $error if !ref $error || $error->{state} !~ /^(42P01|55P03|40P01)$/;
	$c->run('ROLLBACK');
	return (0);
}

# The table against what the writers have written; quiet they must be.
sub ledger
{
	my ($c, $s, @models) = @_;
	my $epoch = $c->value('SELECT coalesce(max(epoch), 0) FROM stress.truncated');
	my %want = _expected_rows($s, $epoch, @models);
	my %key;
	my @bad;

	for my $row (@{ $c->rows(_ledger_query($s)) })
	{
		my ($kn, @rest) = map { defined $_ ? $_ : '-' } @$row;
		my $is = join '|', @rest;

		push @bad, "number $kn is there twice" if $key{$kn}++;
		next if $kn < 0;
		push @bad, "number $kn is $is, not " . ($want{$kn} || 'there')
		  if ($want{$kn} || '') ne $is;
		delete $want{$kn};
	}
	push @bad, map { "number $_ is missing: $want{$_}" } sort { $a <=> $b } keys %want;
	push @bad, _shared_rows($c, $s, $epoch, @models);
	push @bad, _families($c, $s, $epoch, @models);
	push @bad, map { "numbered $_->[0] is there $_->[1] times" } $s->{numbered} ? @{ $c->rows(
		"SELECT numbered, count(*) FROM $s->{table} GROUP BY 1 HAVING count(*) > 1 ORDER BY 1") } : ();
	return @bad > $few ? (@bad[ 0 .. $few - 1 ], scalar(@bad) . ' differences') : @bad;
}

sub _ledger_query
{
	my ($s) = @_;

	return 'SELECT kn, id, own, grp, extract(epoch FROM ' . _at($s) . ')::bigint, n, hits, code, tag, ref, act,'
	  . " note = 'n' || n AND twice = n * 2 AND (body IS NOT DISTINCT FROM stress.body(tag))"
	  . ($s->{late_column} ? ' AND extra = 7' : '') . " FROM $s->{table}";
}

sub _expected_rows
{
	my ($s, $epoch, @models) = @_;
	my %want;

	for my $m (grep { $_->{epoch} >= $epoch } @models)
	{
		for my $row (values %{ $m->{row} })
		{
			$want{ $row->{kn} } = join '|', map { defined $_ ? $_ : '-' }
			  key_value($s, $row->{kn}, $row->{variant}), $row->{own}, $row->{grp},
			  1704067200 + 86400 * $row->{day} + 3600,
			  @$row{qw(n hits code tag ref act)}, 1;
		}
	}
	return %want;
}

sub _shared_rows
{
	my ($c, $s, $epoch, @models) = @_;
	my %sum;
	my @bad;

	for my $kn (1 .. $Stress::Schema::shared)
	{
		$sum{ -$kn } = $epoch ? [ 0, 0, 0 ] : [ 1, $kn, 0 ];
	}
	for my $m (@models)
	{
		for my $entry (keys %{ $m->{shared} })
		{
			my ($at, $kn) = split / /, $entry;

			next if $at < $epoch;
			$sum{$kn}[$_] += $m->{shared}{$entry}[$_] for 0 .. 2;
		}
	}
	for my $row (@{ $c->rows("SELECT kn, 1, n, hits FROM $s->{table} WHERE own = -1") })
	{
		my ($kn, @is) = @$row;

		$sum{$kn}[$_] -= $is[$_] for 0 .. 2;
	}
	for my $kn (sort { $b <=> $a } keys %sum)
	{
		push @bad, "shared number $kn lacks (count, n, hits) @{$sum{$kn}}" if grep { $_ } @{ $sum{$kn} };
	}
	return @bad;
}

sub _families
{
	my ($c, $s, $epoch, @models) = @_;
	my $on = join ' AND ', map { "t.$_ = c.t_$_" } $s->_key_columns;
	my (%child, %parent, @bad);

	for my $m (@models)
	{
		%parent = (%parent, %{ $m->{parent} });
		%child = (%child, %{ $m->{child} }) if $m->{epoch} >= $epoch;
	}
	for my $row (@{ $c->rows("SELECT c.id, t.kn FROM stress.c LEFT JOIN $s->{table} AS t ON $on") })
	{
		my $kn = defined $row->[1] ? $row->[1] : 'nobody';
		my $want = defined $child{ $row->[0] } ? $child{ $row->[0] } : 'nobody';

		push @bad, "child $row->[0] is of $kn, not $want" if $kn ne $want;
		delete $child{ $row->[0] };
	}
	push @bad, map { "child $_ is missing" } sort { $a <=> $b } keys %child;
	push @bad, _extension($c, $s, $on) if $s->{child} && $s->{extended};
	delete $parent{ $_->[0] } or push @bad, "parent $_->[0] is there"
	  for @{ $c->rows('SELECT id FROM stress.p') };
	push @bad, map { "parent $_ is missing" } sort { $a <=> $b } keys %parent;
	return @bad;
}

# Children whose new column, if they have it, is not their row's partition key.
sub _extension
{
	my ($c, $s, $on) = @_;

	return unless $c->value("SELECT count(*) FROM pg_attribute WHERE attrelid = 'stress.c'::regclass"
		  . " AND attname = '$s->{by}' AND NOT attisdropped");
	return map { "child $_->[0] has $s->{by} " . (defined $_->[1] ? $_->[1] : 'null') } @{ $c->rows(
		"SELECT c.id, c.$s->{by} FROM stress.c LEFT JOIN $s->{table} AS t ON $on"
		  . " WHERE c.$s->{by} IS DISTINCT FROM t.$s->{by}") };
}

# Heaps and indexes of the schema are as they should be.
sub sound
{
	my ($c) = @_;
	# What an interrupted REINDEX CONCURRENTLY of the operator's leaves, the guard
	# keeps him from dropping.
	my $ours = q{c.relnamespace = 'stress'::regnamespace AND c.relname !~ '_cc(new|old)\d*$'};
	my @bad;

	for my $index (@{ $c->rows("SELECT c.oid, c.oid::regclass FROM pg_class AS c JOIN pg_am AS a ON a.oid = c.relam"
			  . " WHERE c.relkind = 'i' AND a.amname = 'btree' AND $ours ORDER BY 1") })
	{
		eval { $c->rows("SELECT bt_index_check($index->[0], true)"); 1 }
		  or push @bad, "index $index->[1]: $@->{message}";
	}
	for my $heap (@{ $c->rows("SELECT oid, oid::regclass FROM pg_class WHERE relkind = 'r'"
			  . " AND relnamespace = 'stress'::regnamespace ORDER BY 1") })
	{
		push @bad, map { "table $heap->[1]: @$_" }
		  @{ $c->rows("SELECT blkno, offnum, msg FROM verify_heapam($heap->[0], check_toast => true) LIMIT $few") };
	}
	push @bad, map { "index $_->[0] is not valid" }
	  @{ $c->rows("SELECT indexrelid::regclass FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid"
		  . " WHERE NOT i.indisvalid AND $ours") };
	return @bad;
}

# What is still there after the end of every job and should not be.  The
# indexes and sequences of a legacy table that was kept have their spare names.
sub leftovers
{
	my ($c) = @_;

	return map { "left behind: $_->[0]" } @{ $c->rows(q{
		SELECT c.oid::regclass::text FROM pg_class AS c
		WHERE c.relnamespace = 'partshift'::regnamespace AND c.relkind IN ('r', 'p')
			AND (c.relname ~ '^(log|postponed)_\d+$'
				OR NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.deptype = 'e'
					AND d.classid = 'pg_class'::regclass AND d.objid = c.oid))
			OR c.relname ~ '_ps\d+(_\d+)?$' AND NOT EXISTS (
				SELECT FROM pg_index AS i JOIN partshift.job AS j ON j.relid = i.indrelid
					OR i.indrelid IN (SELECT h.inhrelid FROM pg_inherits AS h WHERE h.inhparent = j.relid)
				WHERE i.indexrelid = c.oid AND j.status = 'finalized')
			AND NOT EXISTS (
				SELECT FROM pg_depend AS d JOIN partshift.job AS j ON j.relid = d.refobjid
				WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND c.relkind = 'S'
					AND d.refclassid = 'pg_class'::regclass AND j.status = 'finalized')
		UNION ALL
		SELECT format('%s on %s', t.tgname, t.tgrelid::regclass)
		FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid
		WHERE p.pronamespace = 'partshift'::regnamespace
			AND t.tgrelid <> 'partshift.job'::regclass
			AND NOT (p.proname ~ '^fill_' AND EXISTS (
				SELECT FROM partshift.job AS j WHERE j.status = 'finalized'))
		UNION ALL
		SELECT format('%s of %s', conname, conrelid::regclass) FROM pg_constraint
		WHERE contype = 'f' AND conparentid = 0 AND (conname ~ '_ps\d+(_\d+)?$' OR NOT convalidated)
		UNION ALL
		SELECT format('process %s: %s', pid, application_name) FROM pg_stat_activity
		WHERE backend_type = 'partshift worker' AND datname = current_database()
		UNION ALL
		SELECT format('job %s is %s', job_id, status) FROM partshift.job
		WHERE status NOT IN ('aborted', 'rolled_back', 'finalized')
		UNION ALL
		SELECT format('prepared transaction %s', gid) FROM pg_prepared_xacts
		WHERE database = current_database()
		ORDER BY 1}) };
}

1;
