# What gives the source another file, or takes blocks from it, while rows are
# copied: the copy begins again where it has to, and both tables are equal.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PartshiftTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('moves');
my $round = 0;

sub query { return $node->safe_psql('postgres', $_[0]) }

sub make_table
{
	query(q{
		CREATE TABLE t (id integer PRIMARY KEY, part integer NOT NULL, note text);
		INSERT INTO t SELECT g, g, repeat('n', 100) FROM generate_series(1, 3000) g;
		CREATE INDEX by_part ON t (part);
		DELETE FROM t WHERE id % 3 = 0;
		CREATE TABLE kept AS TABLE t;
		VACUUM ANALYZE});
	return;
}

# The same change in the table and in the copy that tells what it should hold.
sub change
{
	$round++;
	query(join("\n", 'BEGIN;', (map { qq{
			INSERT INTO $_ SELECT $round * 100000 + g, g, 'new $round' FROM generate_series(1, 20) g;
			UPDATE $_ SET note = 'changed $round' WHERE id % 31 = 1;
			UPDATE $_ SET part = part + 1 WHERE id % 37 = 1;
			UPDATE $_ SET id = - id WHERE id % 41 = $round AND id > 100;
			DELETE FROM $_ WHERE id % 43 = $round AND id > 100;
		} } ('t', 'kept')), 'COMMIT;'));
	return;
}

sub start_slowly
{
	my $job = start_job($node, "'t', 'hash', 'id', partitions => 3,"
		  . " swap => 'manual', workers => 1, cost_delay => 10, cost_limit => 1");

	await($node, "SELECT sum(rows) > 0 FROM partshift.task WHERE job_id = $job");
	change();
	reach($node, $job, 'copy, active');
	return $job;
}

sub shadow_of
{
	my ($job) = @_;

	return query("SELECT shadow::regclass FROM partshift.job WHERE job_id = $job");
}

sub times_copied
{
	my ($job) = @_;

	return query("SELECT count(*) FROM partshift.phase_log
		WHERE job_id = $job AND phase = 'prepare'");
}

# Go on to the end, with a look at both tables before and after the swap.
sub complete
{
	my ($job, $times) = @_;
	my $legacy;

	fast($node, $job);
	reach($node, $job, 'ready, active');
	is(times_copied($job), $times, "it was copied so many times: $times");
	change();
	equal_tables($node, 't',
		shadow_of($job), 'ready: both tables are equal');
	query("SELECT partshift.swap($job)");
	reach($node, $job, 'done, active');
	equal_tables($node, 't', 'kept', 'the table holds what was written');
	$legacy = query("SELECT legacy FROM partshift.jobs WHERE job_id = $job");
	query("SELECT partshift.finalize($job)");
	ended($node, $job, 'finalized');
	query("DROP TABLE t, kept, $legacy");
	is(internal_names($node), '', 'nothing of an earlier copy is left');
	return;
}

my %moves = (
	'VACUUM FULL' => 'VACUUM FULL t',
	'TRUNCATE' => 'TRUNCATE t, kept',
	'TRUNCATE and new rows' => q{BEGIN;
		TRUNCATE t, kept;
		INSERT INTO t SELECT g, g, 'after' FROM generate_series(1, 500) g;
		INSERT INTO kept TABLE t;
		COMMIT},
	'TRUNCATE in a savepoint' => q{BEGIN;
		SAVEPOINT a; TRUNCATE t, kept; ROLLBACK TO a;
		UPDATE t SET note = 'still there' WHERE id % 5 = 1;
		UPDATE kept SET note = 'still there' WHERE id % 5 = 1;
		COMMIT});

for my $move (sort keys %moves)
{
	my $times = $move =~ /savepoint/ ? 1 : 2;

	subtest "$move during the copy" => sub {
		make_table();
		my $job = start_slowly();

		query($moves{$move});
		change();
		complete($job, $times);
	};
}

# It marks the index, which is another definition; without the mark it is one
# more move.  Event triggers do not fire for a replica.
subtest 'CLUSTER during the copy' => sub {
	make_table();
	my $job = start_slowly();

	query('CLUSTER t USING by_part');
	fast($node, $job);
	await($node, "SELECT status = 'failed' FROM partshift.job WHERE job_id = $job");
	like(job_state($node, $job), qr/55000 definition of table "t" has changed/,
		'the mark is noticed');
	change();
	query('SET session_replication_role = replica; ALTER TABLE t SET WITHOUT CLUSTER');
	query("SELECT partshift.resume($job)");
	complete($job, 2);
};

# After the last block was read and before the mirror begins.
for my $move ('VACUUM FULL', 'TRUNCATE and new rows')
{
	subtest "$move between copy and mirror" => sub {
		my ($job, $holder);

		make_table();
		$job = start_slowly();
		$holder = hold($node, 'LOCK TABLE '
			  . query("SELECT inhrelid::regclass FROM pg_inherits i, partshift.job j
					WHERE inhparent = shadow AND job_id = $job LIMIT 1")
			  . ' IN ROW EXCLUSIVE MODE');
		fast($node, $job);
		reach($node, $job, 'index, active');
		query($moves{$move});
		change();
		release($holder);
		complete($job, 2);
	};
}

# The same, done by the transaction that the mirror waits for.
subtest 'TRUNCATE while the mirror waits' => sub {
	my ($job, $holder);

	make_table();
	$job = start_slowly();
	$holder = hold($node, 'LOCK TABLE t IN ROW EXCLUSIVE MODE');
	fast($node, $job);
	reach($node, $job, 'mirror, active');
	ask($holder, q{TRUNCATE t, kept;
		INSERT INTO t VALUES (7, 7, 'alone');
		INSERT INTO kept TABLE t; COMMIT});
	release($holder);
	complete($job, 2);
};

# Mirrored, it is not another file that matters.
subtest 'moves after the mirror has begun' => sub {
	my ($job, $holder);

	make_table();
	$job = start_slowly();
	query("UPDATE t SET note = 'held' WHERE id = 2; UPDATE kept SET note = 'held' WHERE id = 2");
	$holder = hold($node, 'SELECT FROM t WHERE id = 2 FOR UPDATE');
	fast($node, $job);
	reach($node, $job, 'reconcile, active');
	change();
	release($holder);
	reach($node, $job, 'ready, active');
	query('VACUUM FULL t');
	change();
	query($moves{'TRUNCATE in a savepoint'});
	change();
	equal_tables($node, 't',
		shadow_of($job), 'both tables are equal');
	query($moves{'TRUNCATE and new rows'});
	change();
	complete($job, 1);
};

# VACUUM cuts off the empty end of the table, and rows come to stand there
# again: nothing is read twice, and nothing beyond the end.
subtest 'VACUUM shortens the source' => sub {
	for my $again (0, 1)
	{
		my ($job, $blocks);

		make_table();
		$job = start_slowly();
		$blocks = query("SELECT pg_relation_size('t')");
		query(qq{DELETE FROM $_ WHERE id NOT BETWEEN 1 AND 1000
			OR note LIKE 'changed%' OR part <> id}) for ('t', 'kept');
		query('VACUUM (TRUNCATE) t');
		cmp_ok(query("SELECT pg_relation_size('t')"),
			'<', $blocks, 'the table is shorter');
		query(q{INSERT INTO t SELECT 1000000 + g, g, repeat('m', 100) FROM generate_series(1, 4000) g;
			INSERT INTO kept SELECT 1000000 + g, g, repeat('m', 100) FROM generate_series(1, 4000) g})
		  if $again;
		complete($job, 1);
	}
};

# Rows that VACUUM froze after the horizon may be old or new.
subtest 'VACUUM freezes rows during the copy' => sub {
	make_table();
	my $job = start_slowly();

	query('VACUUM (FREEZE) t');
	change();
	query('VACUUM (FREEZE) t');
	complete($job, 1);
	is(query("SELECT sum(unsure) > 0 FROM partshift.task
		WHERE job_id = $job AND phase = 'copy'"), 't', 'there were such rows');
};

done_testing();
