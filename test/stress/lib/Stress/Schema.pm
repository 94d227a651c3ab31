=head1 NAME

Stress::Schema - a random table, and how it is to be converted

=head1 DESCRIPTION

Rows are known by a number, kn, which the key is computed from.  A positive
number belongs to one writer, number modulo writers, and to nobody else, so
that he knows what the row is; negative ones are everybody's.

Triggers write further rows as the column "act" tells; Stress::Model knows
what they do.

=cut

package Stress::Schema;

use strict;
use warnings;

use Digest::MD5 qw(md5_hex);
use Exporter 'import';
use POSIX qw(strftime);
use Stress::Random;

our @EXPORT = qw(key_value where_key at_literal body_text);
our $shared = 40;
our @columns = qw(id own kn grp at n hits code tag body ref act);

my $epoch = 1704067200;			# 2024-01-01

# Draw a schema.
sub new
{
	my ($class, %args) = @_;
	my $s = bless {%args}, $class;

	stream($s->{seed}, 'schema');
	$s->{key} = one_of(qw(bigint uuid text loose composite));
	$s->{table} = one_of('stress.t', 'stress.t', 'stress."Odd ""t"", été"');
	$s->{dropped} = below(4);
	$s->{code_unique} = chance(60);
	$s->{trigger_names} = one_of('aa', 'zz');
	$s->{late_column} = chance(50);
	$s->{storage} = one_of(undef, 'EXTERNAL', 'EXTENDED');
	$s->{compression} = chance(50);
	$s->{row_security} = chance(25);
	$s->{fillfactor} = one_of(undef, 70, 50);
	$s->{parent} = one_of('', 'CASCADE', 'SET NULL');
	$s->{replica_full} = chance(15);
	$s->{truncates} = chance(30);
	$s->{preload} = chance(40);
	$s->{lock_timeout} = one_of(200, 500, 1000);
	$s->{overflow} = chance(30);
	$s->{numbered} = one_of('', 'ALWAYS', 'BY DEFAULT', 'serial');
	$s->{linger} = one_of('', '', qw(copy index reconcile reconcile rewire verify));
	$s->_draw_strategy;
	$s->{extended} = $s->{by} ne 'grp,id' && !grep { $s->{by} eq $_ } $s->_key_columns;
	$s->{child} = $s->{extended} ? '' : one_of('', 'CASCADE', 'NO ACTION');
	$s->_draw_options;
	$s->_draw_extension if $s->{extended};
	$s->{null_key} = $s->{by} eq 'at' && !$s->{options}{foreign_keys} && chance(60);
	$s->{options}{null_key} = 'born' if $s->{null_key};
	@columns = ((grep { $_ ne 'born' } @columns), $s->{null_key} ? 'born' : ());
	$s->_draw_partitions;
	return $s;
}

# The key of a table that refers to the extended one is extended with it.
sub _draw_extension
{
	my ($s) = @_;

	stream($s->{seed}, 'extension');
	$s->{child} = one_of('', 'CASCADE', 'NO ACTION');
	$s->{deferred} = $s->{child} ? one_of('', '', ' DEFERRABLE') : '';
	$s->{options}{foreign_keys} = 'extend' if $s->{child};
	return;
}

# Whether the table is partitioned already; its partitions bear names that the
# new ones will have.
sub _draw_partitions
{
	my ($s) = @_;

	stream($s->{seed}, 'partitions');
	$s->{parted} = chance(25) && !$s->{null_key} && !$s->{options}{foreign_keys}
	  ? $s->{key} eq 'composite' ? 'LIST (grp)' : 'HASH (id)' : '';
	return unless $s->{parted};
	$s->{code_unique} = 0;		# it lacks the partition key
	delete $s->{options}{unique_keys};
	$s->{leaves} = [ map { $s->{table} =~ s/("?)$/_p$_$1/r } 0 .. 2 ];
	return;
}

sub _key_columns
{
	my ($s) = @_;

	return $s->{key} eq 'composite' ? ('grp', 'id') : ('id');
}

sub _draw_strategy
{
	my ($s) = @_;
	my @ways = ('hash grp', 'range at', 'list grp');

	push @ways, ('hash id') x 3;
	push @ways, ('hash grp,id') x 2 if $s->{key} eq 'composite';
	push @ways, ('range id') x 3 if $s->{key} =~ /bigint|composite/;
	push @ways, ('list grp') x 3 if $s->{key} eq 'composite';
	($s->{strategy}, $s->{by}) = split / /, one_of(@ways);
	return;
}

sub _draw_options
{
	my ($s) = @_;
	my %o;

	if ($s->{strategy} eq 'hash')
	{
		$o{partitions} = between(2, 8);
	}
	elsif ($s->{strategy} eq 'range' && chance(25))
	{
		my @bounds = $s->{by} eq 'at' ? ('2024-02-01', '2024-06-01', '2025-01-01')
		  : map { int($s->{rows} * $_ / 10) } 1, 4, 9;

		$o{bounds} = '["MINVALUE", "' . join('", "', @bounds) . '"'
		  . (chance(50) ? ', "MAXVALUE"' : '') . ']';
	}
	elsif ($s->{by} eq 'at')
	{
		$o{every} = one_of('1 month', '3 months');
		$o{premake} = below(3);
	}
	elsif ($s->{by} eq 'id')
	{
		$o{every} = int($s->{rows} / between(2, 8)) + 1;
	}
	elsif (chance(50))
	{
		$o{partitions} = 10;
		$o{default_partition} = one_of('keep', 'drop');
	}
	else
	{
		$o{lists} = '{"a": [0, 1, 2], "b": [3, 4], "c": [5, 6, 7]}';
	}
	$o{workers} = between(1, 4);
	$o{swap} = 'manual' if chance(40);
	$o{verify} = 'count' if chance(10);
	$o{unique_keys} = one_of('extend', 'per_partition') if $s->{code_unique};
	$o{keep_legacy} = 'false' if chance(30);
	$o{cost_delay} = one_of(0, 2, 10, 20);
	$o{cost_limit} = one_of(100, 200) if $o{cost_delay};
	$s->{options} = \%o;
	return;
}

# The call that starts the conversion.
sub convert
{
	my ($s) = @_;
	my $o = $s->{options};

	return sprintf 'SELECT partshift.convert(%s, %s, %s%s)',
	  map({ $s->quote($_) } $s->{table}, $s->{strategy}, $s->{by}),
	  join '', map { ", $_ => " . ($o->{$_} =~ /^(false|[\d]+)$/ && $_ ne 'every'
		  ? $o->{$_} : $s->quote($o->{$_})) } sort keys %$o;
}

sub quote { my ($s, $text) = @_; $text =~ s/'/''/g; return "'$text'"; }

# One line that says what was drawn.
sub describe
{
	my ($s) = @_;

	return join ' ', map { "$_=" . (defined $s->{$_} ? $s->{$_} : '-') }
	  grep { !ref $s->{$_} } sort keys %$s;
}

# What was drawn, for counting it.
sub traits
{
	my ($s) = @_;
	my %is = (
		'dropped columns' => $s->{dropped}, 'secondary unique index' => $s->{code_unique},
		'column added with a default' => $s->{late_column}, 'row security' => $s->{row_security},
		'identity or serial column' => $s->{numbered}, 'foreign key of the table' => $s->{parent},
		'foreign key to the table' => $s->{child},
		'foreign key extended' => $s->{child} && $s->{extended}, 'TRUNCATE' => $s->{truncates},
		'library preloaded' => $s->{preload}, 'key extended' => $s->{extended},
		'swap => manual' => ($s->{options}{swap} || '') eq 'manual',
		'snapshot of the horizon overflowed' => $s->{overflow},
		'REPLICA IDENTITY FULL' => $s->{replica_full}, 'null_key' => $s->{null_key},
		'partitioned already' => $s->{parted});
	my %key = (text => 'text, ICU', loose => 'text, ICU, nondeterministic',
		composite => 'integer, bigint');

	return ("strategy $s->{strategy} ($s->{by})", 'key ' . ($key{ $s->{key} } || $s->{key}),
		grep { $is{$_} } keys %is);
}

# ----- rows ----------------------------------------------------------------

# The key of a number, as text; $variant is another spelling of an equal key.
sub key_value
{
	my ($s, $kn, $variant) = @_;
	my $word = $variant ? 'KEY É ' : 'key é ';

	return $kn if $s->{key} =~ /bigint|composite/;
	if ($s->{key} eq 'uuid')
	{
		my $hex = md5_hex("key $kn");

		$hex =~ s/^(.{8})(.{4})(.{4})(.{4})/$1-$2-$3-$4-/;
		return $hex;
	}
	return "key é $kn" if $s->{key} eq 'text';
	return $word . $kn;
}

# The condition that finds a row.
sub where_key
{
	my ($s, $row) = @_;
	my $id = "id = '" . key_value($s, $row->{kn}, $row->{variant}) . "'";

	return $s->{key} eq 'composite' ? "grp = $row->{grp} AND $id" : $id;
}

sub at_literal
{
	my ($day) = @_;

	return strftime('%Y-%m-%d 01:00:00+00', gmtime($epoch + 86400 * $day));
}

# Text of so many times 32 characters that differ from row to row.
sub body_text
{
	my ($tag) = @_;

	return undef unless defined $tag;
	my ($name, $length) = split /:/, $tag;
	return join '', map { md5_hex("$name.$_") } 1 .. $length;
}

# The values of a row for @columns; undef is NULL.
sub values_of
{
	my ($s, $row) = @_;

	return (key_value($s, $row->{kn}, $row->{variant}), $row->{own},
		$row->{kn}, $row->{grp}, $row->{undated} ? undef : at_literal($row->{day}), $row->{n},
		$row->{hits}, $row->{code}, $row->{tag}, body_text($row->{tag}),
		$row->{ref}, $row->{act}, $s->{null_key} ? at_literal($row->{day}) : ());
}

# A row as it stands in COPY's text format.
sub copy_line
{
	my ($s, $row) = @_;

	return join("\t", map { defined $_ ? $_ : '\N' } values_of($s, $row)) . "\n";
}

# The same for VALUES; the server computes the body.
sub values_list
{
	my ($s, $row) = @_;
	my @v = map { defined $_ ? $s->quote($_) : 'NULL' } values_of($s, $row);

	$v[9] = "stress.body($v[8])";
	return '(' . join(', ', @v) . ')';
}

# A row that is there from the beginning.
sub initial_row
{
	my ($s, $kn) = @_;
	my $own = $kn < 0 ? -1 : $kn % $s->{writers};

	return {
		kn => $kn, own => $own, variant => 0, hits => 0, n => abs $kn,
		grp => abs($kn * 7) % 10, day => abs($kn * 37) % 400,
		code => $kn > 0 && $kn % 3 ? "c$kn" : undef,
		tag => $kn % 50 == 0 ? "i$kn:150" : $kn % 4 ? "i$kn:" . (1 + $kn % 5) : undef,
		ref => $s->{parent} && $kn > 0 && $kn % 5 == 0
		? $own + $s->{writers} * ($kn % 7) : undef,
		act => undef, undated => $s->{null_key} && $kn > 0 && $kn % 3 == 1 };
}

# ----- definitions ---------------------------------------------------------

sub _id_column
{
	my ($s) = @_;

	return 'id bigint NOT NULL' if $s->{key} =~ /bigint|composite/;
	return 'id uuid NOT NULL' if $s->{key} eq 'uuid';
	return 'id text COLLATE "und-x-icu" NOT NULL' if $s->{key} eq 'text';
	return 'id text COLLATE stress.loose NOT NULL';
}

sub _table
{
	my ($s) = @_;
	my @columns = (
		$s->_id_column, 'own integer NOT NULL', 'kn bigint NOT NULL',
		'grp integer NOT NULL', $s->{null_key} ? ('at timestamptz', 'born timestamptz') : 'at timestamptz NOT NULL',
		'n bigint NOT NULL CHECK (n > -1000000000)',
		"hits integer NOT NULL DEFAULT 0", 'code text', 'tag text',
		'body text', 'ref bigint', 'act text', "note varchar(30) DEFAULT 'x'",
		'twice bigint GENERATED ALWAYS AS (n * 2) STORED',
		$s->{numbered} eq 'serial' ? 'numbered bigserial'
		: $s->{numbered} ? "numbered bigint GENERATED $s->{numbered} AS IDENTITY" : (),
		map { "gone$_ text DEFAULT 'gone'" } 1 .. $s->{dropped});
	my @order = map { $_->[1] } sort { $a->[0] <=> $b->[0] } map { [ rand, $_ ] } @columns;
	my $with = $s->{fillfactor} ? " WITH (fillfactor = $s->{fillfactor})" : '';
	my @sql = ("CREATE TABLE $s->{table} (\n\t" . join(",\n\t", @order) . ')'
		  . ($s->{parted} ? " PARTITION BY $s->{parted}" : $with));

	push @sql, "ALTER TABLE $s->{table} DROP COLUMN gone$_" for 1 .. $s->{dropped};
	push @sql, $s->_partitions($with) if $s->{parted};
	push @sql, "ALTER TABLE $s->{table} ALTER body SET STORAGE $s->{storage}" if $s->{storage};
	push @sql, "ALTER TABLE $s->{table} ADD CONSTRAINT t_key PRIMARY KEY ("
	  . join(', ', $s->_key_columns) . ')';
	push @sql, "CREATE UNIQUE INDEX t_code ON $s->{table} (code)" if $s->{code_unique};
	push @sql, "CREATE INDEX t_own ON $s->{table} (own, grp) INCLUDE (n)";
	push @sql, "CREATE INDEX t_note ON $s->{table} (lower(note)) WHERE n > 10";
	push @sql, "CREATE INDEX t_ref ON $s->{table} (ref)";
	push @sql, map { "ALTER TABLE $_ REPLICA IDENTITY FULL" } $s->{table}, $s->_leaves if $s->{replica_full};
	return @sql;
}

sub _leaves { my ($s) = @_; return @{ $s->{leaves} || [] }; }

# Made after columns were dropped, they have theirs in other places.
sub _partitions
{
	my ($s, $with) = @_;
	my @bounds = $s->{parted} =~ /LIST/ ? ('FOR VALUES IN (0, 1, 2)', 'FOR VALUES IN (3, 4)', 'DEFAULT')
	  : map { "FOR VALUES WITH (MODULUS 3, REMAINDER $_)" } 0 .. 2;

	return map { "CREATE TABLE $s->{leaves}[$_] PARTITION OF $s->{table} $bounds[$_]$with" } 0 .. 2;
}

sub _keys
{
	my ($s) = @_;
	my @columns = $s->_key_columns;
	my $type = $s->{key} =~ /bigint|composite/ ? 'bigint' : $s->{key} eq 'uuid' ? 'uuid'
	  : $s->{key} eq 'text' ? 'text COLLATE "und-x-icu"' : 'text COLLATE stress.loose';
	my @sql = ("CREATE TABLE stress.p (id bigint PRIMARY KEY, own integer, note text)",
		"INSERT INTO stress.p SELECT g, g % $s->{writers}, 'old'"
		  . " FROM generate_series(0, $s->{writers} * 7 - 1) AS g",
		"CREATE TABLE stress.c (id bigint PRIMARY KEY, own integer NOT NULL,"
		  . " t_grp integer, t_id $type)",
		'CREATE INDEX ON stress.c (t_id, t_grp)');

	push @sql, "ALTER TABLE $s->{table} ADD CONSTRAINT t_ref_fkey FOREIGN KEY (ref)"
	  . " REFERENCES stress.p ON DELETE $s->{parent} ON UPDATE CASCADE" if $s->{parent};
	push @sql, 'ALTER TABLE stress.c ADD CONSTRAINT c_t FOREIGN KEY ('
	  . join(', ', map { "t_$_" } @columns) . ") REFERENCES $s->{table}"
	  . " ON DELETE $s->{child} ON UPDATE CASCADE" . ($s->{deferred} || '') if $s->{child};
	return @sql;
}

sub _functions
{
	my ($s) = @_;
	my $t = $s->{table};
	my $same = join ' AND ', map { "x.$_ = NEW.$_" } $s->_key_columns;
	my $again = sub {
		my $from = shift;

		return "INSERT INTO $t (" . join(', ', @columns) . ') VALUES ('
		  . join(', ', map { $_ eq 'act' ? 'NULL' : $_ eq 'hits'
			  ? "$from.hits + 1" : "$from.$_" } @columns) . ');';
	};

	return (<<"SQL", <<"SQL", <<"SQL");
CREATE FUNCTION stress.act() RETURNS trigger LANGUAGE plpgsql AS \$\$
BEGIN
	IF pg_trigger_depth() > 1 THEN
		RETURN NULL;
	ELSIF TG_OP = 'DELETE' THEN
		IF OLD.act = 'phoenix' THEN @{[ $again->('OLD') ]} END IF;
	ELSIF NEW.act = 'self' THEN
		UPDATE $t AS x SET hits = hits + 1 WHERE $same;
	ELSIF NEW.act = 'gone' THEN
		DELETE FROM $t AS x WHERE $same;
	ELSIF NEW.act = 'again' THEN
		DELETE FROM $t AS x WHERE $same;
		@{[ $again->('NEW') ]}
	END IF;
	RETURN NULL;
END \$\$
SQL
CREATE FUNCTION stress.late() RETURNS trigger LANGUAGE plpgsql AS \$\$
BEGIN
	IF NEW.act = 'late' THEN
		UPDATE $t AS x SET hits = hits + 1, act = NULL WHERE $same AND act = 'late';
	END IF;
	RETURN NULL;
END \$\$
SQL
CREATE FUNCTION stress.before() RETURNS trigger LANGUAGE plpgsql AS \$\$
BEGIN
	NEW.note := 'n' || NEW.n;
	RETURN NEW;
END \$\$
SQL
}

sub _triggers
{
	my ($s) = @_;
	my ($t, $x) = ($s->{table}, $s->{trigger_names});

	return (
		"CREATE TRIGGER ${x}_before BEFORE INSERT OR UPDATE ON $t"
		  . " FOR EACH ROW EXECUTE FUNCTION stress.before()",
		"CREATE TRIGGER ${x}_act AFTER INSERT OR UPDATE OR DELETE ON $t"
		  . " FOR EACH ROW EXECUTE FUNCTION stress.act()",
		"CREATE CONSTRAINT TRIGGER ${x}_late AFTER INSERT OR UPDATE ON $t"
		  . " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION stress.late()");
}

# All that is there before the rows.
sub before_rows
{
	my ($s) = @_;

	stream($s->{seed}, 'columns');
	return ('CREATE EXTENSION partshift', 'CREATE EXTENSION amcheck',
		'CREATE SCHEMA stress',
		q{CREATE COLLATION stress.loose (provider = icu, deterministic = false, locale = 'und-u-ks-level2')},
		'CREATE TABLE stress.marker (writer integer, txn integer, PRIMARY KEY (writer, txn))',
		'CREATE TABLE stress.aside (n integer)',
		'CREATE TABLE stress.truncated (epoch bigint PRIMARY KEY)',
		'CREATE SEQUENCE stress.epoch', "SELECT nextval('stress.epoch')",
		q{CREATE FUNCTION stress.body(tag text) RETURNS text LANGUAGE sql IMMUTABLE AS
$$ SELECT string_agg(md5(split_part(tag, ':', 1) || '.' || g), '' ORDER BY g)
   FROM generate_series(1, split_part(tag, ':', 2)::integer) AS g $$},
		$s->_table, $s->_functions);
}

# All that comes with them, and the rights of those who write.
sub after_rows
{
	my ($s) = @_;
	my @sql = ($s->_keys, $s->_triggers);
	my $t = $s->{table};

	push @sql, "ALTER TABLE $t ADD COLUMN extra integer NOT NULL DEFAULT 7" if $s->{late_column};
	push @sql, "ALTER TABLE $t ALTER body SET COMPRESSION pglz" if $s->{compression};
	push @sql, 'GRANT USAGE, CREATE ON SCHEMA stress TO stress_owner',
	  'GRANT USAGE ON SCHEMA stress TO stress_app',
	  map { "ALTER TABLE $_ OWNER TO stress_owner" } $t, $s->_leaves, 'stress.p', 'stress.c';
	push @sql, 'GRANT ALL ON ALL TABLES IN SCHEMA stress TO stress_app',
	  'GRANT ALL ON ALL SEQUENCES IN SCHEMA stress TO stress_app',
	  'GRANT SET ON PARAMETER session_replication_role TO stress_app';
	push @sql, "ALTER TABLE $t ENABLE ROW LEVEL SECURITY",
	  "CREATE POLICY all_rows ON $t USING (n > -1000000000)" if $s->{row_security};
	push @sql, "VACUUM (ANALYZE) $t" if chance(50);
	return @sql;
}

1;
