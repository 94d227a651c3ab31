# What an operator sees: the application's statements in the plan, slots that
# keep WAL, who holds an old snapshot, and the lines of wait().

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PartshiftTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('watch', 'wal_level = logical',
	"shared_preload_libraries = 'pg_stat_statements'");

sub query { return $node->safe_psql($_[1] || 'postgres', $_[0]) }

# What the plan says about one topic, as a role.
sub said
{
	my ($topic, $arguments, $role) = @_;

	return query(($role ? "SET ROLE $role; " : '') . qq{
		SELECT concat_ws(' | ', severity, object, replace(detail, chr(10), ' / '), hint)
		FROM partshift.plan($arguments) WHERE topic = '$topic' ORDER BY detail});
}

query(q{
	CREATE EXTENSION pg_stat_statements;
	CREATE ROLE owner LOGIN;
	CREATE ROLE app LOGIN;
	CREATE SCHEMA shop AUTHORIZATION owner;
	GRANT USAGE ON SCHEMA shop TO app;
	SET ROLE owner;
	CREATE TABLE shop.orders (id integer PRIMARY KEY, customer integer NOT NULL, v text);
	CREATE TABLE shop.customers (id integer PRIMARY KEY);
	CREATE VIEW shop.bought AS SELECT customer AS who, v, id FROM shop.orders WHERE v <> 'x';
	CREATE VIEW shop.again AS SELECT upper(v) AS v, who FROM shop.bought;
	CREATE VIEW shop.either AS SELECT who FROM shop.again UNION ALL SELECT customer FROM shop.orders;
	CREATE VIEW shop.others AS SELECT who FROM shop.again EXCEPT SELECT id FROM shop.customers;
	CREATE VIEW shop.counts AS SELECT customer, count(*) FROM shop.orders GROUP BY customer;
	CREATE VIEW shop.some AS SELECT customer FROM shop.orders LIMIT 100;
	CREATE VIEW shop."a (b)" AS SELECT * FROM shop.orders;
	CREATE VIEW shop.regulars AS SELECT id FROM shop.orders WHERE customer = 8;
	INSERT INTO shop.orders SELECT g, g % 50, 'v' FROM generate_series(1, 2000) g;
	GRANT ALL ON ALL TABLES IN SCHEMA shop TO app});

# Statements that an application runs, and how often; each has its own limit.
my %prunes = (
	'SELECT * FROM shop.orders WHERE customer = 1 LIMIT 11' => 1,
	'SELECT * FROM shop.orders WHERE 2 = customer AND v = $$v$$ LIMIT 12' => 1,
	'SELECT * FROM shop.orders WHERE customer IN (1, 2) LIMIT 13' => 1,
	'SELECT * FROM shop.orders o JOIN shop.customers c ON c.id = o.customer LIMIT 14' => 1,
	'SELECT * FROM shop.orders WHERE customer = 1 OR customer = 3 LIMIT 15' => 1,
	'SELECT (SELECT max(v) FROM shop.orders o WHERE o.customer = c.id) FROM shop.customers c LIMIT 16' => 1,
	'UPDATE shop.orders SET v = $$w$$ WHERE customer = 7 AND id = 1' => 1,
	'SELECT * FROM shop.orders WHERE customer > 1 LIMIT 21' => 0,
	'SELECT * FROM shop.orders WHERE customer <> 1 LIMIT 22' => 0,
	'SELECT * FROM shop.orders WHERE customer = id LIMIT 23' => 0,
	'SELECT * FROM shop.orders WHERE customer = 1 OR v = $$v$$ LIMIT 24' => 0,
	'SELECT * FROM shop.orders WHERE NOT customer = 1 LIMIT 25' => 0,
	'SELECT * FROM shop.orders WHERE customer + 1 = 5 LIMIT 26' => 0,
	'DELETE FROM shop.orders WHERE id = 5' => 0,
	'SELECT * FROM (SELECT id, customer AS c FROM shop.orders) o WHERE c = 1 LIMIT 31' => 1,
	'SELECT * FROM shop.again WHERE who = 1 LIMIT 32' => 1,
	'SELECT * FROM shop."a (b)" WHERE v = $$b$$ LIMIT 46' => 0,
	'SELECT * FROM shop.either WHERE who = 1 LIMIT 33' => 1,
	'SELECT * FROM shop.counts WHERE customer = 1 LIMIT 34' => 1,
	'SELECT * FROM shop.regulars LIMIT 35' => 1,
	'SELECT * FROM shop.customers c JOIN shop.bought b ON b.who = c.id LIMIT 36' => 1,
	'UPDATE shop.bought SET v = $$y$$ WHERE who = 9' => 1,
	'SELECT * FROM shop.again WHERE v = $$V$$ LIMIT 41' => 0,
	'SELECT * FROM shop.bought WHERE id = 1 LIMIT 42' => 0,
	'SELECT * FROM shop.some WHERE customer = 1 LIMIT 43' => 0,
	'SELECT * FROM shop.others WHERE who = 1 LIMIT 44' => 0,
	'SELECT * FROM shop.counts WHERE count = 1 LIMIT 45' => 0,
	'DELETE FROM shop.bought WHERE id = 6' => 0,
	'WITH o AS (SELECT * FROM shop.orders LIMIT 27) SELECT count(*) FROM o WHERE customer = 1' => 0,
);

subtest 'statements in the plan' => sub {
	my $arguments = q{'shop.orders', 'hash', 'customer', partitions => 8};

	query("SET ROLE app; $_") for keys %prunes;
	query(q{SET ROLE app;
		INSERT INTO shop.orders VALUES (1, 1) ON CONFLICT (id) DO NOTHING;
		INSERT INTO shop.orders VALUES (1, 2) ON CONFLICT ON CONSTRAINT orders_pkey DO UPDATE SET v = 'x';
		INSERT INTO shop.orders VALUES (1, 3) ON CONFLICT DO NOTHING;
		INSERT INTO shop.bought (id, who) VALUES (1, 4) ON CONFLICT (id) DO NOTHING;
		CREATE TEMP TABLE gone AS SELECT 1 AS customer;
		SELECT * FROM gone JOIN shop.orders USING (customer)});

	my $plan = query(qq{SELECT partshift.plan_job('shop.orders', 'hash', 'customer',
		'{"partitions": 8}')->'estimate'->'statements'});
	my %flagged = map { s/\$\d+/?/gr => 1 } split /\n/,
	  query(qq{SELECT u->>'query' FROM jsonb_array_elements(\$j\$$plan\$j\$::jsonb->'unpruned') u});
	for my $statement (sort keys %prunes)
	{
		my $known = $statement =~ s/\$\$[^\$]*\$\$|\b\d+\b/?/gr;

		is(exists $flagged{$known} ? 'looks into all' : 'prunes',
			$prunes{$statement} ? 'prunes' : 'looks into all', $statement);
	}
	is(query(qq{SELECT string_agg(u->>'query', E'\n' ORDER BY u->>'query' COLLATE "C")
			FROM jsonb_array_elements(\$j\$$plan\$j\$::jsonb->'conflicts') u}),
		"INSERT INTO shop.bought (id, who) VALUES (\$1, \$2) ON CONFLICT (id) DO NOTHING\n"
		. "INSERT INTO shop.orders VALUES (\$1, \$2) ON CONFLICT (id) DO NOTHING\n"
		. 'INSERT INTO shop.orders VALUES ($1, $2) ON CONFLICT ON CONSTRAINT orders_pkey DO UPDATE SET v = $3',
		'ON CONFLICT without the partition key');
	cmp_ok(query(qq{SELECT \$j\$$plan\$j\$::jsonb->>'unread'}), '>', 0,
		'what cannot be parsed is counted');
	unlike(said('statement', $arguments, 'owner'), qr/LIMIT/,
		'an owner does not see the statements of others');
	like(said('statement', $arguments), qr/^warning \| ON CONFLICT without the partition key \/ 1 calls: INSERT/m,
		'said in words');
	is(query(qq{BEGIN;
			SELECT FROM partshift.plan($arguments) LIMIT 0;
			SELECT count(*) FROM pg_locks WHERE relation = 'shop.orders'::regclass
				AND pid = pg_backend_pid() AND mode = 'RowExclusiveLock'}),
		'0', 'no lock of a statement that writes is left');
	query('DROP EXTENSION pg_stat_statements');
	is(said('statement', $arguments), '', 'nothing is said without pg_stat_statements');
};

subtest 'what keeps WAL' => sub {
	my $arguments = q{'shop.orders', 'hash', 'customer', partitions => 8};

	is(said('replication', $arguments), '', 'nothing does');
	query(q{SELECT pg_create_physical_replication_slot('left', true)});
	like(said('replication', $arguments),
		qr/^warning \| left \| replication slot "left" is not in use and keeps all WAL/,
		'a slot that is not in use');
	query(q{SELECT pg_drop_replication_slot('left')});
};

subtest 'who is in the way, and the lines of wait()' => sub {
	my $session = hold($node, q{SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 'a secret' FROM shop.customers});
	my $job = query(q{SET ROLE owner; SELECT partshift.convert('shop.orders', 'hash', 'customer', partitions => 2)});
	my $seen = "SELECT blocker FROM partshift.progress WHERE job_id = $job";
	my ($code, $out, $err);

	await($node, "SELECT blocker_pid IS NOT NULL AND phase IN ('rewire', 'swap') FROM partshift.job WHERE job_id = $job");
	like(query($seen), qr/a secret/, 'a superuser sees who holds an old snapshot');
	is(query("SET ROLE owner; $seen"), '<insufficient privilege>', 'the owner does not');
	is(query("SELECT count(*) > 0 FROM partshift.events WHERE job_id = $job AND kind = 'waiting'
			AND detail LIKE 'process % is in the way'"), 't', 'it is an event');
	release($session);
	($code, $out, $err) = $node->psql('postgres', "CALL partshift.wait($job)");
	is($code, 0, 'wait() returns');
	like($err, qr/NOTICE:  job $job: done\n?$/, 'with the last line');
	is(query("SELECT string_agg(kind, ' ' ORDER BY happened_at) FROM partshift.events
			WHERE job_id = $job AND kind NOT IN ('worker', 'phase', 'waiting')"),
		'created swapped', 'the events of the job');
	$job = query(q{SET ROLE owner;
		CREATE TABLE shop.slow AS SELECT g AS id, repeat('x', 500) AS v FROM generate_series(1, 20000) g;
		ALTER TABLE shop.slow ADD PRIMARY KEY (id);
		SELECT partshift.convert('shop.slow', 'hash', 'id', partitions => 2, workers => 1, cost_delay => 20, cost_limit => 200)});
	($code, $out, $err) = $node->psql('postgres', "CALL partshift.wait($job)");
	my @bars = $err =~ /NOTICE:  job $job: copy      \[(#*)\.*\] +[\d.]+ % \d+ of \d+ blocks/g;
	my @lengths = map { length } @bars;
	cmp_ok(scalar(@bars), '>', 1, 'the copy has a bar');
	is("@lengths", join(' ', sort { $a <=> $b } @lengths), 'that grows');
};

done_testing();
