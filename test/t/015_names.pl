# Everything bears the same name, and the name is hard: quotes, newlines,
# backslashes, words and placeholders of formats, comments, 63 bytes, letters
# that would be cut in half.  Role, schema, table, column, constraints, index,
# trigger, policy, sequence, function, partitions, values, tablespace, and the
# database.  It is converted, written to, and rolled back, and all names are
# what they were.

use strict;
use warnings;
use utf8;

use FindBin;
use lib $FindBin::RealBin;

use Encode qw(encode);
use PartshiftTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my @names = map { encode('UTF-8', $_) } (
	q{a"b}, q{it's '' $$}, "line\nbreak\r\n\t", q{back\\slash\\n\\'},
	'%I %s %1$I %% {table}_{bound}', q{$1 :x :'y' :"z" ?}, 'select',
	'a"; DROP TABLE x; -- /*', ' ', 'x' x 63, 'ä' x 31 . 'x',
	"\x{1F418}" x 15 . 'abc');

my $database = encode('UTF-8', q{it's "a" \\ databasé %s $1});
my $node = new_server('names', 'max_worker_processes = 64');
my (%job, %before);

sub ident { return '"' . $_[0] =~ s/"/""/gr . '"' }
sub literal { return "E'" . $_[0] =~ s/([\\'])/$1$1/gr . "'" }

# Another name where one is taken: as long, with another end.
sub another
{
	my ($name, $end) = @_;

	utf8::decode($name);
	chop $name while length(encode('UTF-8', $name)) + length($end) > 63;
	return encode('UTF-8', $name) . $end;
}

# Roles, databases and tablespaces may not have a line break.
sub in_a_line { return $_[0] =~ s/[\r\n]+/ /gr }

sub query { return $node->safe_psql($database, $_[0]) }

# The names of all that belongs to a table.
sub all_names
{
	my ($schema) = @_;

	return query(qq{SELECT string_agg(encode(convert_to(x, 'UTF8'), 'escape'), E'\\n' ORDER BY x COLLATE "C") FROM pg_namespace s, LATERAL (
		SELECT relkind::text || relname::text FROM pg_class WHERE relnamespace = s.oid AND relname !~ 'legacy_\\d+\$'
		UNION ALL SELECT attname::text FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid
			WHERE relnamespace = s.oid AND attnum > 0 AND relkind = 'r'
		UNION ALL SELECT conname::text FROM pg_constraint WHERE connamespace = s.oid
		UNION ALL SELECT tgname::text FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid
			WHERE relnamespace = s.oid AND NOT tgisinternal AND tgenabled = 'O'
		UNION ALL SELECT polname::text FROM pg_policy p JOIN pg_class c ON c.oid = polrelid WHERE relnamespace = s.oid) y (x)
		WHERE s.nspname = } . literal($schema));
}

sub rows
{
	my ($n) = @_;
	my $name = ident($n);

	return query("SELECT string_agg(t::text, ',' ORDER BY t::text) FROM $name.$name t");
}

$node->safe_psql('postgres', 'CREATE DATABASE ' . ident($database));
query('CREATE EXTENSION partshift');

for my $n (@names)
{
	my $name = ident($n);
	my $role = ident(in_a_line($n));
	my $key = ident(another($n, 'K'));
	my $index = ident(another($n, 'I'));
	my $sequence = ident(another($n, 'S'));
	my $child = ident(another($n, 'C'));
	my $value = literal($n);
	my $directory = PostgreSQL::Test::Utils::tempdir;

	query("CREATE ROLE $role");
	query("CREATE TABLESPACE $role LOCATION '$directory'");
	query("CREATE SCHEMA $name AUTHORIZATION $role; GRANT CREATE ON TABLESPACE $role TO $role");
	query(qq{SET ROLE $role;
		CREATE SEQUENCE $name.$sequence;
		CREATE FUNCTION $name.$name() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
		CREATE TABLE $name.$name ($name text NOT NULL, id integer DEFAULT nextval(} . literal("$name.$sequence") . qq{),
			CONSTRAINT $key PRIMARY KEY (id, $name),
			CONSTRAINT $name CHECK ($name <> $value || 'x')) TABLESPACE $role;
		CREATE INDEX $index ON $name.$name ($name) WHERE $name <> $value || 'y';
		CREATE TABLE $name.$child ($name text, id integer,
			CONSTRAINT $name FOREIGN KEY ($name, id) REFERENCES $name.$name ($name, id) ON UPDATE CASCADE ON DELETE CASCADE);
		CREATE TRIGGER $name BEFORE INSERT ON $name.$name
			FOR EACH ROW WHEN (NEW.$name <> $value || 'z') EXECUTE FUNCTION $name.$name($value);
		ALTER TABLE $name.$name ENABLE ROW LEVEL SECURITY;
		CREATE POLICY $name ON $name.$name TO $role USING ($name <> $value || 'p');
		COMMENT ON TABLE $name.$name IS $value;
		INSERT INTO $name.$name VALUES ($value), ('other'), ($value);
		INSERT INTO $name.$child TABLE $name.$name});
	$before{$n} = all_names($n);
}

for my $n (@names)
{
	my $role = ident(in_a_line($n));
	my $name = ident($n);
	my $value = literal($n);

	$job{$n} = query(qq{SET ROLE $role; SELECT partshift.convert(} . literal("$name.$name") . qq{, 'list', $value,
		lists => jsonb_build_object(} . literal(another($n, 'P')) . qq{, jsonb_build_array($value)),
		name_format => '{bound}', legacy_name => } . literal(another($n, 'L')) . ')');
}

for my $n (@names)
{
	my $name = ident($n);
	my $value = literal($n);
	my $shown = $n =~ s/[^ -~]/?/gr;
	my $rows;

	subtest $shown => sub {
		reach($node, $job{$n}, 'done, active', $database);
		is(query("SELECT relation = format('%I.%I', $value, $value)
				AND legacy = format('%I.%I', $value, " . literal(another($n, 'L')) . ") FROM partshift.jobs
				WHERE job_id = $job{$n}"), 't', 'the views name it');
		is(query("SELECT count(*) FROM pg_inherits i JOIN pg_class c ON c.oid = inhrelid
			WHERE inhparent = " . literal("$name.$name") . "::regclass AND (relname = " . literal(another($n, 'P')) . "
				OR relname = 'default')"), 2, 'the partitions have their names');
		query("INSERT INTO $name.$name VALUES ($value), ('more'); UPDATE $name.$name SET $name = $name || '2' WHERE id = 3;
			DELETE FROM $name.$name WHERE id = 2");
		$rows = rows($n);
		query("SELECT partshift.verify($job{$n})");
		await($node, "SELECT request IS NULL FROM partshift.job WHERE job_id = $job{$n}", $database);
		is(query("SELECT bool_and(equal) FROM partshift.verification WHERE job_id = $job{$n}"), 't', 'both are equal');
		like(($node->psql($database, "ALTER TABLE $name." . ident(another($n, 'L')) . ' ADD COLUMN more integer'))[2],
			qr/while conversion job $job{$n} is in progress/, 'DDL is refused');
		query("SELECT partshift.rollback($job{$n})");
		ended($node, $job{$n}, 'rolled_back', $database);
		is(rows($n), $rows, 'no write is lost');
		is(all_names($n), $before{$n}, 'all names are as before');
	};
}
is(internal_names($node, $database), '', 'nothing is left');
done_testing();
