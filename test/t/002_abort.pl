# A conversion that is aborted leaves nothing behind, in whichever phase: the
# definitions, the catalogs' rows, the triggers and the data are what they
# were.  The phases are held with ordinary locks.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PartshiftTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('abort');
my $slowly = 'cost_delay => 10, cost_limit => 1, workers => 1';
my %before;

# Event triggers, which refuse DDL on the tables of a job, do not fire then.
my $unguarded = 'SET session_replication_role = replica;';

$node->safe_psql('postgres', q{
	CREATE ROLE keeper NOLOGIN;
	CREATE ROLE reader;
	CREATE SCHEMA shop AUTHORIZATION keeper;
	GRANT USAGE ON SCHEMA shop TO reader;
	SET ROLE keeper;
	CREATE TABLE shop.customer (id integer PRIMARY KEY);
	INSERT INTO shop.customer SELECT generate_series(1, 50);
	CREATE TABLE shop.orders (
		id serial PRIMARY KEY,
		gone integer,
		number bigint GENERATED ALWAYS AS IDENTITY (START 1000 INCREMENT 3),
		customer integer NOT NULL REFERENCES shop.customer
			ON DELETE CASCADE DEFERRABLE,
		parent integer REFERENCES shop.orders,
		amount numeric(12, 2) DEFAULT 1 CONSTRAINT positive CHECK (amount > 0),
		doubled numeric GENERATED ALWAYS AS (amount * 2) STORED,
		note text COLLATE "C" DEFAULT 'none'
	) WITH (fillfactor = 80, toast.autovacuum_enabled = off);
	ALTER TABLE shop.orders DROP COLUMN gone;
	ALTER TABLE shop.orders ALTER note SET STORAGE EXTERNAL,
		ALTER customer SET STATISTICS 200;
	CREATE INDEX by_note ON shop.orders (lower(note)) WHERE amount > 5;
	CREATE UNIQUE INDEX by_number ON shop.orders (number, id) INCLUDE (amount);
	COMMENT ON TABLE shop.orders IS 'what was sold';
	COMMENT ON COLUMN shop.orders.note IS 'anything';
	COMMENT ON CONSTRAINT positive ON shop.orders IS 'no gifts';
	COMMENT ON INDEX shop.by_note IS 'for searches';
	CREATE TABLE shop.line (
		id integer PRIMARY KEY,
		order_id integer NOT NULL
			CONSTRAINT of_order REFERENCES shop.orders ON UPDATE CASCADE);
	CREATE FUNCTION shop.stamp() RETURNS trigger LANGUAGE plpgsql
		AS 'BEGIN NEW.note := coalesce(NEW.note, ''stamped''); RETURN NEW; END';
	CREATE TRIGGER b_stamp BEFORE INSERT OR UPDATE ON shop.orders
		FOR EACH ROW EXECUTE FUNCTION shop.stamp();
	CREATE TRIGGER a_off AFTER DELETE ON shop.orders
		FOR EACH STATEMENT EXECUTE FUNCTION shop.stamp();
	ALTER TABLE shop.orders DISABLE TRIGGER a_off;
	COMMENT ON TRIGGER b_stamp ON shop.orders IS 'never null';
	GRANT SELECT, UPDATE (note) ON shop.orders TO reader;
	ALTER TABLE shop.orders ENABLE ROW LEVEL SECURITY;
	CREATE POLICY cheap ON shop.orders TO reader USING (amount < 100);
	INSERT INTO shop.orders (customer, amount, note)
		SELECT 1 + g % 50, 1 + g % 17, repeat('n', 100) FROM generate_series(1, 3000) g;
	UPDATE shop.orders SET parent = id / 2 WHERE id % 3 = 0;
	DELETE FROM shop.orders WHERE id % 10 = 7 AND id > 1500;
	INSERT INTO shop.line SELECT id, id FROM shop.orders WHERE id % 10 = 0;
	RESET ROLE;
	CREATE SCHEMA kept;
	CREATE TABLE kept.orders AS TABLE shop.orders;

	CREATE TABLE shop.plain (id integer PRIMARY KEY, note text);
	INSERT INTO shop.plain SELECT g, repeat('p', 100) FROM generate_series(1, 3000) g;
	CREATE TABLE kept.plain AS TABLE shop.plain;
	VACUUM ANALYZE;
	});

sub query { return $node->safe_psql('postgres', $_[0]) }

# The same change in the table and in the copy that tells what it should hold.
sub change
{
	my ($table, $set, $where) = @_;

	query("UPDATE shop.$table SET $set WHERE $where;
		UPDATE kept.$table SET $set WHERE $where");
	return;
}

sub remember
{
	my ($table) = @_;

	%before = (
		definitions => definitions($node),
		catalog => catalog_rows($node),
		triggers => triggers_of($node, "shop.$table"));
	return;
}

# The partition that holds a row.
sub leaf_of
{
	my ($job, $id) = @_;

	return query(qq{
		SELECT c.oid::regclass FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
			JOIN partshift.job j ON j.shadow = i.inhparent
		WHERE job_id = $job AND satisfies_hash_partition(j.shadow, 4,
			substring(pg_get_expr(relpartbound, c.oid) FROM 'remainder (\\d+)')::integer,
			$id)});
}

# Start slowly, and return when rows are being copied.
sub start_slowly
{
	my ($table, $options) = @_;
	my $job = start_job($node, "'shop.$table', 'hash', 'id', partitions => 4,"
		  . " $slowly, $options");

	await($node, "SELECT phase = 'copy' FROM partshift.job WHERE job_id = $job");
	await($node, "SELECT sum(rows) > 0 FROM partshift.task WHERE job_id = $job");
	return $job;
}

sub abort_job
{
	my ($job) = @_;

	query("SELECT partshift.abort($job)");
	return;
}

# The job has ended, and all is as it was.
sub nothing_left
{
	my ($job, $table) = @_;

	ended($node, $job, 'aborted');
	same_definitions($before{definitions}, definitions($node),
		'the definitions are what they were');
	same_definitions($before{catalog}, catalog_rows($node),
		'the catalogs are what they were');
	is(triggers_of($node, "shop.$table"),
		$before{triggers}, 'the triggers are what they were');
	is(internal_names($node), '', 'nothing of the conversion is left');
	equal_tables($node, "shop.$table", "kept.$table", 'the data is unchanged');
	return;
}

subtest 'prepare' => sub {
	remember('orders');
	my $writer = hold($node, 'LOCK TABLE shop.orders IN ROW EXCLUSIVE MODE');
	my $job = start_job($node, "'shop.orders', 'hash', 'id', partitions => 4");

	await($node, "SELECT shadow IS NOT NULL FROM partshift.job WHERE job_id = $job");
	reach($node, $job, 'prepare, active');
	abort_job($job);
	release($writer);
	nothing_left($job, 'orders');
};

subtest 'before the first step' => sub {
	my $job = query(q{
		BEGIN;
		SELECT partshift.convert('shop.orders', 'hash', 'id', partitions => 4) AS job \gset
		SELECT partshift.abort(:job) \g /dev/null
		COMMIT;
		SELECT :job});

	nothing_left($job, 'orders');
};

subtest 'copy' => sub {
	my $job = start_slowly('orders', "swap => 'manual'");

	change('orders', "note = 'while it was copied'", 'id % 7 = 0');
	reach($node, $job, 'copy, active');
	abort_job($job);
	nothing_left($job, 'orders');
};

subtest 'paused' => sub {
	my $job = start_slowly('orders', "swap => 'manual'");

	query("SELECT partshift.pause($job)");
	is(job_state($node, $job), 'copy, paused', 'the job is paused');
	change('orders', "note = 'while it was paused'", 'id % 7 = 1');
	abort_job($job);
	nothing_left($job, 'orders');
};

subtest 'index' => sub {
	my $job = start_slowly('orders', "swap => 'manual'");
	my $user = hold($node, 'LOCK TABLE ' . leaf_of($job, 1) . ' IN ROW EXCLUSIVE MODE');

	fast($node, $job);
	reach_phase($job, 'index');
	abort_job($job);
	release($user);
	nothing_left($job, 'orders');
};

subtest 'mirror' => sub {
	my $job = start_slowly('orders', "swap => 'manual'");
	my $writer = hold($node, 'LOCK TABLE shop.orders IN ROW EXCLUSIVE MODE');

	fast($node, $job);
	reach_phase($job, 'mirror');
	abort_job($job);
	release($writer);
	nothing_left($job, 'orders');
};

subtest 'reconcile' => sub {
	my $job = start_slowly('orders', "swap => 'manual'");
	my $user;

	change('orders', "note = 'to be reconciled'", 'id IN (5, 6)');
	$user = hold($node, 'SELECT FROM shop.orders WHERE id = 5 FOR UPDATE');
	fast($node, $job);
	reach_phase($job, 'reconcile');
	await($node, "SELECT postponed_rows > 0 FROM partshift.job WHERE job_id = $job");
	change('orders', "note = 'mirrored'", 'id IN (6, 8)');
	abort_job($job);
	release($user);
	nothing_left($job, 'orders');
};

subtest 'rewire' => sub {
	my $writer = hold($node, 'LOCK TABLE shop.line IN ROW EXCLUSIVE MODE');
	my $job = start_job($node, "'shop.orders', 'hash', 'id', partitions => 4,"
		  . " swap => 'manual'");

	reach_phase($job, 'rewire');
	change('orders', "note = 'mirrored'", 'id = 9');
	abort_job($job);
	release($writer);
	nothing_left($job, 'orders');
};

# The table that nothing refers to: foreign keys would be in the way before.
subtest 'verify' => sub {
	my ($job, $user, $reader);

	remember('plain');
	$job = start_slowly('plain', "swap => 'manual'");
	change('plain', "note = 'to be reconciled'", 'id = 1');
	$user = hold($node, 'SELECT FROM shop.plain WHERE id = 1 FOR UPDATE');
	fast($node, $job);
	reach_phase($job, 'reconcile');
	$reader = hold($node, 'LOCK TABLE '
		  . query(q{SELECT c.oid::regclass FROM pg_inherits i
				JOIN pg_class c ON c.oid = i.inhrelid
				JOIN partshift.job j ON j.shadow = i.inhparent
				WHERE c.oid <> '} . leaf_of($job, 1)
			  . qq{'::regclass AND job_id = $job LIMIT 1})
		  . ' IN ACCESS EXCLUSIVE MODE');
	release($user);
	reach_phase($job, 'verify');
	abort_job($job);
	release($reader);
	nothing_left($job, 'plain');
};

subtest 'ready' => sub {
	remember('orders');
	my $job = start_job($node, "'shop.orders', 'hash', 'id', partitions => 4,"
		  . " swap => 'manual'");

	reach($node, $job, 'ready, active');
	isnt(catalog_rows($node), $before{catalog}, 'the catalogs were changed');
	isnt(triggers_of($node, 'shop.orders'),
		$before{triggers}, 'there were triggers');
	change('orders', "note = 'mirrored'", 'id % 7 = 2');
	abort_job($job);
	nothing_left($job, 'orders');
};

subtest 'swap, waiting for a lock' => sub {
	my $job = start_job($node, "'shop.orders', 'hash', 'id', partitions => 4,"
		  . " swap => 'manual'");
	my $reader;

	reach($node, $job, 'ready, active');
	$reader = hold($node, 'SELECT FROM shop.orders LIMIT 1');
	query("SELECT partshift.swap($job)");
	reach_phase($job, 'swap');
	await($node, "SELECT blocker_pid IS NOT NULL FROM partshift.job WHERE job_id = $job");
	abort_job($job);
	release($reader);
	nothing_left($job, 'orders');
};

# Who has an old snapshot keeps the conversion from going on, but not the
# abort.
subtest 'waiting for a snapshot' => sub {
	my $old = hold($node,
		'SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 1');
	my $job = start_job($node, "'shop.orders', 'hash', 'id', partitions => 4");

	await($node, "SELECT blocker_pid IS NOT NULL FROM partshift.job WHERE job_id = $job");
	like(job_state($node, $job), qr/^(rewire|swap), active$/, 'the job waits');
	abort_job($job);
	nothing_left($job, 'orders');
	release($old);
};

subtest 'failed' => sub {
	my $job = start_job($node, "'shop.orders', 'hash', 'id', partitions => 4,"
		  . " swap => 'manual'");

	reach($node, $job, 'ready, active');
	query("$unguarded ALTER TABLE shop.orders SET (fillfactor = 70)");
	query("SELECT partshift.swap($job)");
	await($node, "SELECT status = 'failed' FROM partshift.job WHERE job_id = $job");
	query("$unguarded ALTER TABLE shop.orders SET (fillfactor = 80)");
	abort_job($job);
	nothing_left($job, 'orders');
};

# Once more from the beginning: an abort is in nobody's way.
subtest 'converted after all' => sub {
	my $job = start_job($node, "'shop.orders', 'hash', 'id', partitions => 4");

	reach($node, $job, 'done, active');
	equal_tables($node, 'shop.orders', 'kept.orders', 'the data is unchanged');
	like(
		scalar(($node->psql('postgres', "SELECT partshift.abort($job)"))[2]),
		qr/cannot abort job/, 'there is no abort after the swap');
	query("SELECT partshift.rollback($job)");
	ended($node, $job, 'rolled_back');
	equal_tables($node, 'shop.orders', 'kept.orders', 'the data is unchanged');
};

subtest 'the table is gone' => sub {
	my $job = start_slowly('plain', "swap => 'manual'");

	query("$unguarded DROP TABLE shop.plain");
	fast($node, $job);
	await($node, "SELECT status = 'failed' FROM partshift.job WHERE job_id = $job");
	abort_job($job);
	ended($node, $job, 'aborted');
	is(internal_names($node), '', 'nothing of the conversion is left');
};

# A phase that is held, so that the job stays in it.
sub reach_phase
{
	my ($job, $phase) = @_;

	return reach($node, $job, "$phase, active");
}

done_testing();
