# A streaming standby that is promoted in the middle of a conversion, the
# primary having died: resume() goes on with the job there.  One conversion
# and its rollback pass through a server for each of the phases that last.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Ledger;
use PartshiftTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $slowly = 'cost_delay => 10, cost_limit => 1';
my $node = new_server('first');
my $servers = 1;
my $round = 0;
my $job;

sub query { return $node->safe_psql('postgres', $_[0]) }

# Clients write until the primary dies, and all that they were told is
# committed has reached the standby.
sub promoted_in
{
	my ($phase, @holders) = @_;
	my $standby = PostgreSQL::Test::Cluster->new('server' . ++$servers);
	my ($clients, $kept);

	await($node, "SELECT phase = '$phase' OR status <> 'active'
		FROM partshift.job WHERE job_id = $job");
	$node->backup("base$servers");
	$standby->init_from_backup($node, "base$servers", has_streaming => 1);
	$standby->start;
	query('UPDATE mark SET n = 0');
	$clients = clients_start($node);
	await($node, 'SELECT min(n) > 20 FROM mark');
	$kept = clients_stop($clients);
	is(join("\n", @{ $kept->{wrong} }), '',
		"$phase: clients have what they committed");
	query('INSERT INTO kept SELECT ' . ++$round . ', id, ref, note FROM t');
	reach($node, $job, "$phase, active");
	$node->wait_for_catchup($standby);
	$node->stop('immediate');
	$_->{run}->kill_kill for @holders;
	$standby->promote;
	$node->clean_node;
	$node = $standby;
	is(job_state($node, $job), "$phase, active", "$phase: the job is there");
	is(query("SELECT count(*) FROM pg_stat_activity
		WHERE backend_type = 'partshift worker'"), '0', 'no worker is');
	is(query(qq{
		SELECT count(*) FROM (
			(SELECT id, ref, note FROM t EXCEPT ALL
			 SELECT id, ref, note FROM kept WHERE round = $round)
			UNION ALL
			(SELECT id, ref, note FROM kept WHERE round = $round EXCEPT ALL
			 SELECT id, ref, note FROM t)) d}),
		'0', 'the table holds what was written');
	return;
}

sub both_equal
{
	my ($phase) = @_;
	my $other = query("SELECT CASE phase WHEN 'done' THEN relid ELSE shadow END::regclass
		FROM partshift.job WHERE job_id = $job");

	return equal_tables($node, 't', $other, "$phase: both tables are equal");
}

sub resume { query("SELECT partshift.resume($job)"); return; }

my $writing = 'LOCK TABLE t IN ROW EXCLUSIVE MODE';
my $reading = 'LOCK TABLE t IN ACCESS SHARE MODE';
my $child = 'LOCK TABLE child IN ROW EXCLUSIVE MODE';
my $holder;

query($_) for split /;/, make_tables(3000, 1000);
query('CREATE TABLE kept (round integer, id integer, ref integer, note text);
	INSERT INTO t SELECT -g, 1, $$mine$$ FROM generate_series(1, 100) g');
$job = start_job($node,
	"'t', 'hash', 'id', partitions => 2, workers => 1, swap => 'manual', $slowly");
await($node, "SELECT sum(rows) > 0 FROM partshift.task WHERE job_id = $job");
promoted_in('copy');
query('UPDATE t SET note = $$changed$$ WHERE id < 0');
$holder = hold($node, $writing);
query("SELECT partshift.alter_job($job, cost_delay => 0)");
resume();

promoted_in('mirror', $holder);
$holder = hold($node, 'SELECT FROM t WHERE id = -1 FOR UPDATE');
resume();

promoted_in('reconcile', $holder);
$holder = hold($node, $child);
resume();

promoted_in('rewire', $holder);
resume();

promoted_in('ready');
both_equal('ready');
query("SELECT partshift.swap($job)");

promoted_in('done');
both_equal('done');
$holder = hold($node, $reading);
query("SELECT partshift.rollback($job)");

promoted_in('swap', $holder);
resume();
ended($node, $job, 'rolled_back');
is(internal_names($node), '', 'nothing of the conversion is left');
is(query(qq{
	SELECT count(*) FROM (SELECT id, ref, note FROM t EXCEPT ALL
		SELECT id, ref, note FROM kept WHERE round = $round) d}),
	'0', 'the table holds what was written');

done_testing();
