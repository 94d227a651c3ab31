# A comparison is shared out between parallel workers: all of both tables is
# read once, whoever reads it, and when there is no worker the leader does it.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PartshiftTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('parallel', 'log_min_messages = debug1');

sub query { return $node->safe_psql('postgres', $_[0]) }

# Compare at a rate at which the leader sleeps at each page, so that a worker
# that has started finds something to do.  Returns how many have.
sub compare
{
	my ($job) = @_;
	my $offset = -s $node->logfile;
	my @helpers;

	query("SELECT partshift.alter_job($job, cost_delay => 4, cost_limit => 1);"
		  . " SELECT partshift.verify($job)");
	await($node, "SELECT request IS NULL OR status = 'failed' FROM partshift.job WHERE job_id = $job");
	@helpers = slurp_file($node->logfile, $offset) =~ /helping to compare the tables of job $job$/mg;
	return scalar @helpers;
}

sub sums
{
	my ($job) = @_;

	return query(qq{SELECT sum(source_rows), sum(shadow_rows), bool_and(equal), count(*)
		FROM partshift.verification WHERE job_id = $job});
}

query(q{
	CREATE TABLE goods (id integer PRIMARY KEY, note text);
	INSERT INTO goods SELECT i, repeat('x', 100) FROM generate_series(1, 20000) i});
my $job = start_job($node,
	"'goods', 'hash', 'id', partitions => 4, workers => 3, cost_delay => 0, swap => 'manual'");
reach($node, $job, 'ready, active');

is(compare($job), 2, 'as many compare as the job has workers');
is(sums($job), '20000|20000|t|4', 'nothing is read twice or left out');

query('ALTER SYSTEM SET max_parallel_workers = 0; SELECT pg_reload_conf()');
is(compare($job), 0, 'no worker helps where there is none to be had');
is(sums($job), '20000|20000|t|4', 'the leader reads everything');
query('ALTER SYSTEM RESET max_parallel_workers; SELECT pg_reload_conf()');

# One that is ended before it is done does not fail the job.
query("SELECT partshift.alter_job($job, cost_delay => 20, cost_limit => 1); SELECT partshift.verify($job)");
await($node, q{SELECT count(pg_terminate_backend(pid)) > 0 FROM pg_stat_activity WHERE backend_type = 'parallel worker'});
query("SELECT partshift.alter_job($job, cost_delay => 0)");
await($node, "SELECT request IS NULL OR status = 'failed' FROM partshift.job WHERE job_id = $job");
like(job_state($node, $job), qr/ready, active/, 'a worker that is ended fails nobody');
is(sums($job), '20000|20000|t|4', 'it is all read again');

my ($leaf) = split /\n/, query("SELECT inhrelid::regclass FROM pg_inherits, partshift.job
	WHERE job_id = $job AND inhparent = shadow ORDER BY 1 DESC");
query("SET session_replication_role = replica; UPDATE $leaf SET note = 'y' || substr(note, 2)
	WHERE id = (SELECT max(id) FROM $leaf)");
compare($job);
like(job_state($node, $job), qr/failed.* XX001 .*differ/, 'a row that differs is found');
is(query("SELECT count(*), min(array_length(identities, 1)) FROM partshift.verification
	WHERE job_id = $job AND NOT equal"), '1|1', 'it is the only one');

done_testing();
