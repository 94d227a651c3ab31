# A subscriber follows a table through its conversion and back: it is sent one
# table under one name, and each change once.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PartshiftTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $publisher = new_server('publisher', 'wal_level = logical');
my $subscriber = PostgreSQL::Test::Cluster->new('subscriber');
my $table = 'CREATE TABLE t (id integer PRIMARY KEY, kind integer NOT NULL, n integer, note text)';
my $writes = <<'SQL';
\set id random(1, 2000)
\set far random(1000000, 100000000)
INSERT INTO t VALUES (:id * 10 + :client_id, :id % 5, 0, 'new') ON CONFLICT DO NOTHING;
UPDATE t SET n = n + 1, note = repeat(:id || ' ', 400) WHERE id = (:id / 2) * 10 + :client_id;
UPDATE t SET id = :far * 10 + :client_id WHERE id = (:id / 3) * 10 + :client_id;
DELETE FROM t WHERE id = (:id / 5) * 10 + :client_id;
SQL

sub on_publisher { return $publisher->safe_psql('postgres', $_[0]) }
sub on_subscriber { return $subscriber->safe_psql('postgres', $_[0]) }

# What both hold, once the subscriber has caught up with a publisher at rest.
sub same_rows
{
	my ($when) = @_;
	my $rows = 'SELECT count(*), sum(n), md5(string_agg(t::text, \',\' ORDER BY id)) FROM'
	  . ' (SELECT id, kind, n, note FROM t) t';

	$publisher->wait_for_catchup('sub');
	is(on_subscriber($rows), on_publisher($rows), "the subscriber has the same rows $when");
	return;
}

# Have pgbench write until the code has returned.
sub under_load
{
	my ($name, $code) = @_;
	my $load = load_start($publisher, { writes => [ 1, $writes ] }, '-c', 3);

	$code->();
	return load_stop($load, $name);
}

$subscriber->init;
$subscriber->start;
on_publisher("$table; INSERT INTO t SELECT g, g % 5, 0, 'old' FROM generate_series(1, 3000) g;"
	  . ' CREATE PUBLICATION pub FOR TABLE t WITH (publish_via_partition_root = true)');
on_subscriber($table);
my $source = $publisher->connstr('postgres') =~ s/'//gr;
on_subscriber("CREATE SUBSCRIPTION sub CONNECTION '$source' PUBLICATION pub");
$subscriber->wait_for_subscription_sync($publisher, 'sub');
same_rows('at first');

my $job;
under_load(
	'the conversion',
	sub {
		$job = start_job($publisher, "'t', 'hash', 'id', partitions => 3, swap => 'manual'");
		reach($publisher, $job, 'ready, active');
	});
same_rows('while it waits for the swap');
under_load(
	'the swap',
	sub {
		on_publisher("SELECT partshift.swap($job)");
		reach($publisher, $job, 'done, active');
	});
same_rows('after the swap');
is(on_publisher("SELECT string_agg(tablename, ', ') FROM pg_publication_tables"), 't',
	'the publication has the new table and no other');
under_load(
	'the way back',
	sub {
		on_publisher("SELECT partshift.rollback($job)");
		ended($publisher, $job, 'rolled_back');
	});
same_rows('after the way back');
is(on_subscriber("SELECT count(*) FROM pg_stat_subscription_stats"
		. ' WHERE apply_error_count + sync_error_count > 0'), 0, 'the subscriber met no error');

# Other publications would not do.
my ($code, $out, $error) = (0, '', '');
on_publisher('CREATE PUBLICATION leaves FOR TABLE t');
($code, $out, $error) = $publisher->psql('postgres',
	"SELECT partshift.convert('t', 'hash', 'kind', partitions => 3)");
like($error, qr/publication "leaves" would publish the partitions/, 'one that would not is refused');

done_testing();
