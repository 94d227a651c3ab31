# A publication of all tables, or of a schema, is accepted: subscribers that
# have the tables that a conversion makes go on as if nothing had happened,
# others stop until they have them.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PartshiftTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $publisher = new_server('publisher', 'wal_level = logical', 'autovacuum = off');
my $subscriber = PostgreSQL::Test::Cluster->new('subscriber');
my $table = 'CREATE SCHEMA shop; CREATE TABLE shop.t (id integer PRIMARY KEY, kind integer NOT NULL, note text)';
my $arguments = "'shop.t', 'hash', 'id', partitions => 3, legacy_name => 'old'";

sub on_publisher { return $publisher->safe_psql('postgres', $_[0]) }
sub on_subscriber { return $subscriber->safe_psql('postgres', $_[0]) }

sub refusal
{
	my ($options) = @_;
	my ($code, $out, $err) = $publisher->psql('postgres', "SELECT partshift.convert($arguments$options)");

	return $err =~ s/\n(CONTEXT|LOCATION).*//sr;
}

# What both hold, once the subscriber has caught up with a publisher at rest.
sub same_rows
{
	my ($when) = @_;
	my $rows = q{SELECT count(*), md5(string_agg(t::text, ',' ORDER BY id)) FROM shop.t};

	$publisher->wait_for_catchup('sub');
	is(on_subscriber($rows), on_publisher($rows), "the subscriber has the same rows $when");
	return;
}

sub write_rows
{
	my ($from) = @_;

	on_publisher("INSERT INTO shop.t SELECT g, g % 5, 'new' FROM generate_series($from, $from + 99) AS g;"
		  . " UPDATE shop.t SET note = repeat('u', id % 3000) WHERE id % 3 = 0; DELETE FROM shop.t WHERE id = $from + 50;"
		  . " UPDATE shop.t SET id = id + 50000 WHERE id = $from + 60");
	return;
}

# The tables that subscribers need for a job; with those of the extension
# where all tables are published.
sub needed
{
	my ($job, $all) = @_;
	my $like = '(LIKE shop.t)';

	return "CREATE TABLE shop.t_ps$job $like; CREATE TABLE shop.old $like"
	  . ($all ? "; CREATE TABLE partshift.log_$job (k1 integer); CREATE TABLE partshift.postponed_$job (k1 integer)" : '');
}

sub convert_with
{
	my ($all, $options) = @_;
	my $job;

	# Its number is known before the conversion begins.
	my $session = hold($publisher, '');
	$job = ask($session, "SELECT partshift.convert($arguments, publications => 'accept', swap => 'manual'$options)");
	on_subscriber(needed($job, $all));
	ask($session, 'COMMIT');
	release($session);
	return $job;
}

sub swap_under_writes
{
	my ($job, $name) = @_;

	reach($publisher, $job, 'ready, active');
	write_rows(10000 * $job);
	same_rows("$name: before the swap");
	on_publisher("SELECT partshift.swap($job)");
	reach($publisher, $job, 'done, active');
	write_rows(10000 * $job + 5000);
	same_rows("$name: after the swap");
	return;
}

$subscriber->init;
$subscriber->start;
on_publisher("$table; INSERT INTO shop.t SELECT g, g % 5, 'old' FROM generate_series(1, 3000) AS g;"
	  . ' CREATE PUBLICATION pub FOR TABLES IN SCHEMA shop');
on_subscriber($table);
my $source = $publisher->connstr('postgres') =~ s/'//gr;
on_subscriber("CREATE SUBSCRIPTION sub CONNECTION '$source' PUBLICATION pub");
$subscriber->wait_for_subscription_sync($publisher, 'sub');
same_rows('at first');

# Refused unless accepted, and never to publish partitions by their names.
like(refusal(''), qr/publication "pub" publishes table "t".*DETAIL:.*TABLES IN SCHEMA shop.*HINT:.*option "publications" as "accept"/s,
	'a schema is refused, and the hint says how it is not');
like(refusal(", publications => 'accept'"), qr/would publish the partitions of table "t" under their own names/,
	'accepted or not, a publication has to publish the table as a whole');
on_publisher('ALTER PUBLICATION pub SET (publish_via_partition_root = true)');
like(on_publisher("SELECT severity || ': ' || detail || hint FROM partshift.plan($arguments, publications => 'accept')"
			. " WHERE topic = 'publication'"),
	qr/^warning: publication "pub" publishes what the conversion makes.*Create these tables on every subscriber/s,
	'accepted, it is a warning');

# A schema: to the end and back, with the old table following.
my $job = convert_with(0, '');
swap_under_writes($job, 'a schema');
await($publisher, "SELECT NOT plan ? 'inventory' FROM partshift.job WHERE job_id = $job");
is(on_publisher("SELECT string_agg(concat_ws(' ', object, state, before), ', ') FROM partshift.carried_object"
		. " WHERE job_id = $job AND class = 'publication'"),
	'pub same for TABLES IN SCHEMA shop', 'it is told what became of it');
on_publisher("SELECT partshift.rollback($job)");
ended($publisher, $job, 'rolled_back');
write_rows(7000);
same_rows('a schema: after the way back');
on_subscriber("DROP TABLE shop.t_ps$job, shop.old");

# All tables, where the old one does not follow and nothing else is done to
# the partitions in the swap.
on_subscriber('CREATE EXTENSION partshift');
on_publisher('DROP PUBLICATION pub; CREATE PUBLICATION pub FOR ALL TABLES WITH (publish_via_partition_root = true)');
like(refusal(''), qr/publication "pub" publishes table "t".*DETAIL:.*ALL TABLES/s, 'all tables are refused');
$job = convert_with(1, ', reverse_sync => false');
swap_under_writes($job, 'all tables');
on_publisher("SELECT partshift.finalize($job); DROP TABLE shop.old");
ended($publisher, $job, 'finalized');
write_rows(8000);
same_rows('all tables: at the end');
is(on_subscriber('SELECT count(*) FROM partshift.job'), 0, 'jobs do not go to the subscriber');
is(on_subscriber('SELECT count(*) FROM pg_stat_subscription_stats WHERE apply_error_count + sync_error_count > 0'),
	0, 'the subscriber met no error');

# One that has not got what it needs waits for it.
on_publisher('CREATE TABLE shop.u (id integer PRIMARY KEY); INSERT INTO shop.u VALUES (1), (2)');
on_subscriber('CREATE TABLE shop.u (id integer PRIMARY KEY)');
$job = start_job($publisher, "'shop.u', 'hash', 'id', partitions => 2, publications => 'accept', reverse_sync => false");
reach($publisher, $job, 'done, active');
on_publisher("INSERT INTO shop.t VALUES (-1, 1, 'late')");
my $from = 0;
ok($subscriber->wait_for_log(qr/target relation "shop.u_ps$job" does not exist/), 'it says which table it lacks');
is(on_subscriber('SELECT count(*) FROM shop.t WHERE id = -1'), 0, 'and stops there');
on_subscriber("CREATE TABLE shop.u_ps$job (id integer); CREATE TABLE partshift.log_$job (k1 integer);"
	  . " CREATE TABLE partshift.postponed_$job (k1 integer)");
same_rows('when it has them');

done_testing();
