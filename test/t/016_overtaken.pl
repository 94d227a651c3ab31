# What changes while a worker waits for a lock is seen once it has the lock.
# A worker of this server waits patiently, instead of beginning its try anew,
# which would see all that has changed in any case; its patience ends before
# that of a user's deadlock detector, which therefore has much of it.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PartshiftTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('overtaken', "partshift.lock_timeout = '2min'",
	"deadlock_timeout = '10min'");
my $job;

sub query { return $node->safe_psql('postgres', $_[0]) }

sub make_table
{
	query(q{
		DROP TABLE IF EXISTS t, t_old;
		CREATE TABLE t (id integer PRIMARY KEY, part integer NOT NULL, v text);
		INSERT INTO t SELECT g, g % 3, 'old' FROM generate_series(1, 9) g});
	return;
}

sub start
{
	my ($more) = @_;

	$job = start_job($node, "'t', 'list', 'part', partitions => 3,"
		  . " legacy_name => 't_old', swap => 'manual'"
		  . ($more ? ", $more" : ''));
	return;
}

sub job_is { return await($node, "SELECT $_[0] FROM partshift.job WHERE job_id = $job") }

# The job's worker waits for a lock on a table.
sub waits_for
{
	my ($table) = @_;

	return await($node, qq{
		SELECT EXISTS (SELECT FROM pg_locks, partshift.job
			WHERE job_id = $job AND pid = worker_pid AND NOT granted
				AND relation = '$table'::regclass)});
}

# In a session that holds a lock, ask for another, without waiting for it.
sub ask_in_vain
{
	my ($session, $command, $table) = @_;

	$session->{in} = "$command;\n";
	$session->{run}->pump_nb while length $session->{in};
	return await($node, qq{
		SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted
			AND relation = '$table'::regclass AND mode = 'ShareLock')});
}

sub shadow_of { return query("SELECT shadow::regclass FROM partshift.job WHERE job_id = $job") }

# The partition of the rows whose "part" is 1.
sub leaf
{
	return query(qq{
		SELECT inhrelid::regclass FROM pg_inherits i, pg_class c, partshift.job j
		WHERE j.job_id = $job AND inhparent = j.shadow AND c.oid = inhrelid
			AND pg_get_expr(relpartbound, c.oid) = 'FOR VALUES IN (1)'});
}

sub complete
{
	reach($node, $job, 'ready, active');
	equal_tables($node, 't', shadow_of(), 'both tables are equal');
	query("SELECT partshift.swap($job)");
	reach($node, $job, 'done, active');
	query("SELECT partshift.finalize($job)");
	ended($node, $job, 'finalized');
	return;
}

# What was committed before capture began is copied, and the horizon says so.
subtest 'a writer ends while the capture waits for him' => sub {
	make_table();
	my $writer = hold($node, q{INSERT INTO t VALUES (10, 1, 'before');
		UPDATE t SET v = 'before' WHERE id = 2});

	start();
	waits_for('t');
	ask($writer, 'COMMIT');
	release($writer);
	complete();
	is(query(q{SELECT count(*) FROM t WHERE v = 'before'}),
		'2', 'what was written is there');
};

# The first of two ranges is claimed by a worker that then waits for a
# partition; the other worker takes the second.
subtest 'two workers copy, and wait' => sub {
	my ($gate, $holder, $leaf);

	make_table();
	query(q{INSERT INTO t SELECT g, 1, repeat('x', 1000) FROM generate_series(10, 1500) g});
	$gate = hold($node, 'LOCK TABLE t IN ROW EXCLUSIVE MODE');
	start('workers => 2');
	job_is('shadow IS NOT NULL');
	$leaf = leaf();
	$holder = hold($node, "LOCK TABLE $leaf IN ACCESS EXCLUSIVE MODE");
	release($gate);
	await($node, qq{SELECT count(*) = 2 FROM pg_locks
		WHERE NOT granted AND relation = '$leaf'::regclass});
	release($holder);
	complete();
	is(query("SELECT count(*) > 1 AND sum(rows) = 1500 FROM partshift.task
		WHERE job_id = $job AND phase = 'copy'"),
		't', 'each row was copied once');
};

# Reconcile has read the source and waits for the shadow's partition, behind a
# session that waits for the writer, who has his lock on it already.
sub overtake
{
	my ($captured, $overtaking) = @_;
	my ($gate, $holder, $reconcile, $writer, $between, $leaf);

	make_table();
	$gate = hold($node, 'LOCK TABLE t IN ROW EXCLUSIVE MODE');
	start('workers => 1');		# a second one could copy in its place
	job_is('shadow IS NOT NULL');
	$leaf = leaf();
	$holder = hold($node, "LOCK TABLE $leaf IN ACCESS EXCLUSIVE MODE");
	release($gate);
	waits_for($leaf);
	query($captured);
	$reconcile = hold($node, 'LOCK TABLE '
		  . query("SELECT postponed::regclass FROM partshift.job WHERE job_id = $job")
		  . ' IN SHARE MODE');
	release($holder);
	job_is("phase = 'reconcile'");

	$writer = hold($node, q{UPDATE t SET v = 'mirrored' WHERE id = 7});
	$between = hold($node, 'SELECT');
	ask_in_vain($between, "LOCK TABLE $leaf IN SHARE MODE", $leaf);
	release($reconcile);
	waits_for($leaf);
	ask($writer, "$overtaking; COMMIT");
	release($writer, $between);
	complete();
	return;
}

subtest 'a row is updated while reconcile looks at it' => sub {
	overtake(q{UPDATE t SET v = 'captured' WHERE id = 1},
		q{UPDATE t SET v = 'overtaking' WHERE id = 1});
	is(query('SELECT v FROM t WHERE id = 1'), 'overtaking', 'it stays updated');
};

subtest 'a row is inserted again while reconcile looks for it' => sub {
	overtake('DELETE FROM t WHERE id = 1',
		q{INSERT INTO t VALUES (1, 1, 'again')});
	is(query('SELECT v FROM t WHERE id = 1'), 'again', 'it is not deleted');
};

subtest 'a row is deleted while reconcile looks at it' => sub {
	overtake(q{UPDATE t SET v = 'captured' WHERE id = 1},
		'DELETE FROM t WHERE id = 1');
	is(query('SELECT count(*) FROM t WHERE id = 1'), '0', 'it does not return');
};

# Event triggers, which would refuse this, do not fire for a replica.
my %changes = (
	'the definition changes' => [
		'ALTER TABLE t ALTER v SET STATISTICS 7',
		qr/55000 definition of table "t" has changed/ ],
	'the mirror is switched off' => [
		'ALTER TABLE t DISABLE TRIGGER ALL',
		qr/55000 triggers of the conversion of table "t" are missing/ ]);

for my $change (sort keys %changes)
{
	subtest "$change while the swap waits" => sub {
		my ($command, $error) = @{ $changes{$change} };
		my $owner;

		make_table();
		start();
		reach($node, $job, 'ready, active');
		$owner = hold($node, "SET LOCAL session_replication_role = replica; $command");
		query("SELECT partshift.swap($job)");
		waits_for('t');
		ask($owner, 'COMMIT');
		release($owner);
		job_is("status = 'failed' OR phase = 'done'");
		like(job_state($node, $job), $error, 'it is noticed');
		is(query(q{SELECT relkind FROM pg_class WHERE oid = 't'::regclass}),
			'r', 'nothing was swapped');
		query("SELECT partshift.abort($job)");
		ended($node, $job, 'aborted');
	};
}

done_testing();
