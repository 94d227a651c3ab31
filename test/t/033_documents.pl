# Every command of the documents is run: those for psql by the scenes of
# test/doc, each in a database of its own where it is job 1, the others here.

use strict;
use warnings;

use File::Basename 'dirname';
use FindBin;
use lib $FindBin::RealBin;

use Documents;
use PartshiftTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $root = dirname(dirname($FindBin::RealBin));
my @documents = map { s/^\Q$root\E\///r } "$root/README.md", glob("$root/doc/*.md $root/doc/*/*.md");
my $reference = 'doc/partshift.md';

my $cron = -e PostgreSQL::Test::Cluster->new('probe')->config_data('--pkglibdir') . '/pg_cron.so';
my $node = new_server('documents', 'wal_level = logical', 'fsync = off',
	$cron ? ("shared_preload_libraries = 'pg_cron'", 'cron.use_background_workers = on') : ());

sub query { return $node->safe_psql($_[1] || 'postgres', $_[0]) }

sub make_database
{
	my ($name) = @_;

	query("CREATE DATABASE $name TEMPLATE documents");
	return $name;
}

# Give a script to psql; its exit status, and what it wrote to both outputs.
sub run_script
{
	my ($database, $script) = @_;

	return $node->psql($database, $script, on_error_stop => 1, timeout => 300);
}

# What is the same each time a line of output is printed.
sub shape
{
	my ($text) = @_;

	return $text =~ s/\[[#.]+\]/[bar]/gr =~ s/\d+/0/gr;
}

# Whether a command ends well, or badly, as it is wanted to, when a shell is
# given it.
sub shell
{
	my ($wanted, $command, %environment) = @_;

	my ($result, $out, $err);

	local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port, %environment);
	delete @ENV{ 'MAKEFLAGS', 'MAKELEVEL', 'MFLAGS' };
	$result = IPC::Run::run([ 'sh', '-ec', $command ], '>', \$out, '2>', \$err) ? 1 : 0;
	diag("$command\n$out$err") if $result != $wanted;
	return $result == $wanted;
}

read_documents($root, @documents);
query('CREATE DATABASE documents');
query(slurp_file("$root/test/doc/template.sql"), 'documents');

my $number = 0;

for my $scene (map { scenes($_) } sort glob("$root/test/doc/*.scenes"))
{
	my $play = eval { directions($scene) };
	my @lacking;
	my ($code, $out, $err);

	fail($scene->{name}), diag($@), next unless $play;
	@lacking = grep {
		query("SELECT count(*) FROM pg_available_extensions WHERE name = '$_'") eq '0'
	} @{ $play->{needs} };

  SKIP:
	{
		skip "@lacking is not installed", 1 if @lacking;
		($code, $out, $err) = run_script(make_database('scene' . ++$number), $play->{script});
		ok($code == 0 && index(shape($err), shape($play->{output})) >= 0, $scene->{name})
		  or diag("$err\n$play->{output}");
	}
}

# A subscriber to all tables is given what the document says before it commits.
subtest 'publications of everything' => sub {
	my ($publisher, $subscriber) = map { make_database($_) } 'publisher', 'subscriber';
	my $block = 'Publications of everything';
	my $source = $node->connstr($publisher) =~ s/'//gr;
	my ($session, $for_subscriber);

	query('DROP EXTENSION partshift; CREATE SCHEMA shop; CREATE TABLE shop.orders (id bigint PRIMARY KEY)', $_)
	  for $publisher, $subscriber;
	query('INSERT INTO shop.orders SELECT generate_series(1, 500);
		CREATE PUBLICATION everything FOR ALL TABLES WITH (publish_via_partition_root = true)', $publisher);
	query(q{SELECT pg_create_logical_replication_slot('everything', 'pgoutput')}, $publisher);
	query("CREATE SUBSCRIPTION everything CONNECTION '$source' PUBLICATION everything
		WITH (create_slot = false, copy_data = false)", $subscriber);
	query('CREATE EXTENSION partshift', $_) for $publisher, $subscriber;
	query(q{SELECT setval(pg_get_serial_sequence('partshift.job', 'job_id'), 6)}, $publisher);
	$session = hold($node, 'COMMIT', $publisher);
	ask($session, scalar take($reference, $block, qr/BEGIN|convert/));
	$for_subscriber = take($reference, $block, qr/COMMIT/);
	query(join('', $for_subscriber =~ /^-- {3}(.*;\n)/mg), $subscriber);
	ask($session, 'COMMIT');
	release($session);
	reach($node, 7, 'done, active', $publisher);
	query('INSERT INTO shop.orders SELECT generate_series(501, 600)', $publisher);
	await($node, 'SELECT count(*) = 100 OR (SELECT apply_error_count > 0 FROM pg_stat_subscription_stats)
		FROM shop.orders', $subscriber);
	is(query('SELECT count(*) FROM shop.orders', $subscriber), '100', 'the subscriber goes on');
	is(query('SELECT apply_error_count FROM pg_stat_subscription_stats', $subscriber), '0',
		'and met no error');
	query('DROP SUBSCRIPTION everything', $subscriber);
};

# What helps when the library is gone needs one that can be moved away.
my $library = $node->config_data('--pkglibdir') . '/partshift.so';

END
{
	local $?;
	rename "$library.away", $library if $library && -e "$library.away";
}

SKIP:
{
	my $write = 'INSERT INTO orders (customer_id) VALUES (1)';
	my $drop = take($reference, 'Removing and upgrading');
	my $free = take($reference, 'Removing and upgrading #2');
	my @said;

	skip 'the installation is not writable', 5 unless -w $library;
	make_database('gone');
	query(q{CREATE ROLE keeper LOGIN;
		CALL make_orders(100);
		ALTER TABLE orders OWNER TO keeper;
		SELECT partshift.convert('orders', 'hash', 'customer_id', partitions => 2, swap => 'manual')}, 'gone');
	reach($node, 1, 'ready, active', 'gone');
	rename $library, "$library.away" or die "$library: $!";
	@said = map { (run_script('gone', $_))[2] } $write,
	  "SET SESSION AUTHORIZATION keeper;\n$free$write", $drop;
	rename "$library.away", $library or die "$library: $!";
	like($said[0], qr/could not access file/, 'without the library nobody writes');
	unlike($said[1], qr/ERROR/, 'the owner of a table frees it');
	unlike($said[2], qr/ERROR/, 'the owner of the extension drops it');
	is(query('SELECT count(*) FROM orders', 'gone'), '101', 'and the application writes');
}

# Commands for a shell.
subtest 'installation' => sub {
	my $directory = PostgreSQL::Test::Utils::tempdir;

	for my $path ('README.md', $reference)
	{
		my $database = 'fresh_' . ($path =~ /README/ ? 'readme' : 'reference');

		query("CREATE DATABASE $database");
		ok(shell(1, "cd '$root'\n" . take($path, 'Installation'),
				DESTDIR => $directory, PGDATABASE => $database), "$path: Installation");
		is(query(q{SELECT count(*) FROM pg_extension WHERE extname = 'partshift'}, $database), '1',
			'the extension is there');
	}
	my $installed = `find '$directory' -name 'partshift*' -printf '%f '`;
	like($installed, qr/\b\Q$_\E /, "$_ is installed")
	  for 'partshift.so', 'partshift.control', 'partshift--1.0.sql', 'partshift.md';
};

# Who calls maintain(): each way makes partitions that are missing, and is
# told when it fails.
my $shop = 'shop';
my $partitions = q{SELECT count(*) FROM pg_inherits WHERE inhparent = 'orders'::regclass};

sub make_managed
{
	my ($database) = @_;

	query(q{CREATE TABLE orders (created_at date NOT NULL) PARTITION BY RANGE (created_at);
		SELECT partshift.manage('orders', every => '1 month')}, $database);
	return;
}

sub forget_partitions
{
	query(q{DO $$ DECLARE leaf regclass; BEGIN
		FOR leaf IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'orders'::regclass
		LOOP EXECUTE format('DROP TABLE %s', leaf); END LOOP; END $$}, $shop);
	return;
}

sub maintains
{
	my ($name, $command) = @_;

	ok(shell(1, $command), "$name: it runs");
	is(query($partitions, $shop), '4', 'and makes partitions');
	forget_partitions();
	query(q{SELECT format('CREATE TABLE %I ()', to_char(now(), '"orders_p"YYYYMM')) \gexec}, $shop);
	ok(shell(0, $command), 'it says when it fails');
	query(q{SELECT format('DROP TABLE %I', to_char(now(), '"orders_p"YYYYMM')) \gexec}, $shop);
	forget_partitions();
	return;
}

subtest 'cron and systemd' => sub {
	my $line = take($reference, 'Who calls it #2');
	my %unit = (
		'partshift-maintain.service' => scalar take($reference, 'Who calls it #3'),
		'partshift-maintain.timer' => scalar take($reference, 'Who calls it #4'));
	my $directory = PostgreSQL::Test::Utils::tempdir;
	my ($command) = $line =~ /^[\d*]+(?: \*){4} postgres (.*)\n$/;
	my ($start) = $unit{'partshift-maintain.service'} =~ /^ExecStart=(.*)$/m;

	make_database($shop);
	make_managed($shop);
	maintains('cron', $command);
	$start =~ s/^\/usr\/bin\/psql/psql/ unless -x '/usr/bin/psql';
	maintains('systemd', $start);
	append_to_file("$directory/$_", $unit{$_}) for keys %unit;
  SKIP:
	{
		skip 'systemd-analyze is not here', 1 unless -x '/usr/bin/systemd-analyze' && -x '/usr/bin/psql';
		my ($out, $err) = run_command([ 'systemd-analyze', 'verify', map { "$directory/$_" } sort keys %unit ]);
		is("$out$err", '', 'systemd takes the units');
	}
};

SKIP:
{
	skip 'pg_cron is not installed', 2 unless $cron;
	query('CREATE EXTENSION pg_cron; CREATE EXTENSION IF NOT EXISTS partshift');
	make_managed('postgres');
	query(take_span($reference, q{SELECT cron.schedule('partitions', '5 * * * *', 'SELECT partshift.maintain()');}));
	is(query('SELECT schedule FROM cron.job'), '5 * * * *', 'pg_cron takes it');
	query(query('SELECT command FROM cron.job'));
	is(query($partitions), '4', 'what it will run makes partitions');
}

subtest 'the launcher' => sub {
	is(query($partitions, $shop), '0', 'no partition is there');
	$node->append_conf('postgresql.conf', join "\n",
		take_span($reference, "shared_preload_libraries = 'partshift'"), scalar take($reference, 'Who calls it'));
	$node->restart;
	await($node, "SELECT ($partitions) = 4", $shop);
	is(query('SHOW partshift.maintenance_interval'), '1h', 'the launcher made partitions, and will again');
};

subtest 'nothing is left out' => sub {
	# make test runs this, and make demo is run by itself; test/monitoring has
	# the exporter and promtool; a private server has no systemd.
	take('README.md', 'partshift #2');
	take('doc/monitoring/README.md', 'Monitoring #2');
	take_span('doc/monitoring/README.md', 'promtool test rules alerts_test.yml');
	take_span($reference, 'systemctl enable --now partshift-maintain.timer');
	is(join("\n", untaken()), '', 'every command of the documents has a scene');
};

done_testing();
