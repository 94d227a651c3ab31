# REINDEX CONCURRENTLY gives an index another OID, and shows one more that is
# not valid while it is at work.  Neither stops a conversion.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use IPC::Run ();
use PartshiftTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('reindex');

sub query { return $node->safe_psql('postgres', $_[0]) }

sub reindex { return "REINDEX INDEX CONCURRENTLY $_[0]" }

query(q{
	CREATE TABLE t (id integer PRIMARY KEY, note text);
	CREATE INDEX t_note ON t (note);
	INSERT INTO t SELECT g, 'note ' || g FROM generate_series(1, 20000) AS g});

my $job = start_job($node,
	q{'t', 'hash', 'id', partitions => 2, workers => 1, swap => 'manual', cost_delay => 20, cost_limit => 100});
my ($holder, $writer, $index, %psql);

await($node, "SELECT phase = 'copy' FROM partshift.job WHERE job_id = $job");
$holder = hold($node, 'LOCK TABLE ' . query("SELECT max(inhrelid)::regclass
	FROM pg_inherits JOIN partshift.job ON inhparent = shadow") . ' IN ROW EXCLUSIVE MODE');
fast($node, $job);
await($node, "SELECT count(*) > 0 FROM partshift.task
	WHERE job_id = $job AND phase = 'index' AND other IS NOT NULL AND done");
$index = query("SELECT min(result)::regclass FROM partshift.task
	WHERE job_id = $job AND phase = 'index' AND other IS NOT NULL AND done");
is(system($node->installed_command("psql"), "-Xqd", $node->connstr("postgres"),
		map { ("-c", $_) } split /; /, reindex($index)),
	0, "a built index is made anew");
release($holder);
reach($node, $job, 'ready, active');

# One that cannot end, because it waits for a writer, and neither can the swap.
$writer = hold($node, 'DELETE FROM t WHERE id = 1');
$psql{run} = IPC::Run::start(
	[ $node->installed_command('psql'), '-XAtq', '-d', $node->connstr('postgres'),
		map { ('-c', $_) } split /; /, reindex('t_note') ],
	'>', \$psql{out}, '2>', \$psql{err});
await($node, q{SELECT count(*) = 1 FROM pg_index
	WHERE indrelid = 't'::regclass AND NOT indisvalid});
query("SELECT partshift.swap($job)");
await($node, "SELECT lock_tries > 0 OR status = 'failed' FROM partshift.job WHERE job_id = $job");
release($writer);
ok($psql{run}->finish, 'an index of the table is made anew');
reach($node, $job, 'done, active');
is(query('SELECT count(*) FROM pg_index WHERE NOT indisvalid'), '0', 'every index is valid');

$node->stop;
done_testing();
