# A snapshot from before the tables became equal that lives on in another
# transaction, which has imported it: who exported it is gone, and it is waited
# for all the same.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PartshiftTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('imported');
my $rows = "SELECT string_agg(concat_ws(' ', id, note), ', ' ORDER BY id) FROM t";
my $seen = '1 old, 2 old, 3 old';

sub query { return $node->safe_psql('postgres', $_[0]) }

# A session whose snapshot is another's.
sub import_from
{
	my ($exporter) = @_;
	my $name = ask($exporter, 'SELECT pg_export_snapshot()');

	return hold($node, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;
		SET TRANSACTION SNAPSHOT '$name'; SELECT count(*) FROM elsewhere");
}

# Whether the job waits for a session.
sub waits_for
{
	my ($job, $session) = @_;
	my $waits = "phase = 'rewire' AND blocker_pid = $session->{pid}";

	await($node, "SELECT $waits OR phase IN ('verify', 'ready', 'swap', 'done')
		FROM partshift.job WHERE job_id = $job");
	return query("SELECT $waits FROM partshift.job WHERE job_id = $job") eq 't';
}

query(q{
	CREATE TABLE elsewhere (a integer);
	CREATE TABLE t (id integer PRIMARY KEY, note text);
	INSERT INTO t SELECT g, 'old' FROM generate_series(1, 3) g});

my $first = hold($node,
	'SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM elsewhere');
$first->{pid} = ask($first, 'SELECT pg_backend_pid()');
my $job = start_job($node, "'t', 'hash', 'id', partitions => 2, legacy_name => 't_old'");
ok(waits_for($job, $first), 'the conversion waits for a snapshot');

# The list of those to wait for was made before this one began.
my $second = import_from($first);
$second->{pid} = ask($second, 'SELECT pg_backend_pid()');
query(q{UPDATE t SET note = 'new' WHERE id = 2; DELETE FROM t WHERE id = 3});
release($first);
ok(waits_for($job, $second), 'it waits for who has imported the snapshot');

# And once more, from the one that was imported.
my $third = import_from($second);
$third->{pid} = ask($third, 'SELECT pg_backend_pid()');
release($second);
ok(waits_for($job, $third), 'it waits for who has imported that');
is(ask($third, $rows), $seen, 'who has it sees the rows of then');
is( query("SELECT relkind FROM pg_class WHERE relname = 't'"),
	'r', 'nothing has been exchanged');

release($third);
ok( await($node, "SELECT phase = 'done' FROM partshift.job WHERE job_id = $job"),
	'it goes on when nobody has it any more');
equal_tables($node, 't', 't_old', 'both tables are equal');
is(query($rows), '1 old, 2 new', 'the table has the rows of now');

$node->stop;
done_testing();
