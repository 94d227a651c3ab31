# The library disappears, or the extension is dropped, while jobs live: what
# the application meets, and what repairs it.  Tests that need the server's
# directories to be writable are for a private installation.

use strict;
use warnings;

use File::Copy 'copy';
use FindBin;
use lib $FindBin::RealBin;

use PartshiftTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('library');
my $library = $node->config_data('--pkglibdir') . '/partshift.so';
my $update = $node->config_data('--sharedir') . '/extension/partshift--1.0--1.1.sql';
my @tables = ('copied', 'mirrored', 'reversed');

plan skip_all => 'the installation is not writable' unless -w $library;

sub hide { rename $library, "$library.away" or die "$library: $!" }
sub bring_back { rename "$library.away", $library or die "$library: $!" }

END
{
	local $?;
	bring_back() if $library && -e "$library.away";
	unlink $update if $update;
}

sub query { return $node->safe_psql($_[1] || 'postgres', $_[0]) }

# What a new session says to a command: its errors and warnings.
sub answer
{
	my ($command, %options) = @_;
	my ($code, $out, $err) = $node->psql($options{database} || 'postgres',
		"\\set VERBOSITY verbose\n$command",
		extra_params => [ '-U', $options{user} || getpwuid($<) ]);

	return join "\n",
	  map { s/^psql:[^ ]* //r } grep { /(ERROR|WARNING|HINT): / } split /\n/, $err;
}

# A write to each table, and to the one that remembers them all.
my $written = 10_000;

sub write_to
{
	my ($how, @written) = @_;

	$written++;
	$how->("INSERT INTO $_ VALUES ($written, 'later');
		UPDATE $_ SET note = 'changed' WHERE id = $written - 10000;
		INSERT INTO kept_$_ VALUES ($written, 'later');
		UPDATE kept_$_ SET note = 'changed' WHERE id = $written - 10000")
	  for @written;
	return;
}

sub make_tables
{
	my %job;

	for my $table (@tables)
	{
		query("CREATE TABLE $table (id integer PRIMARY KEY, note text);
			INSERT INTO $table SELECT g, repeat('n', 100) FROM generate_series(1, 3000) g;
			ALTER TABLE $table OWNER TO keeper;
			CREATE TABLE kept_$table AS TABLE $table");
	}
	$job{reversed} = start_job($node, q{'reversed', 'hash', 'id', partitions => 3});
	reach($node, $job{reversed}, 'done, active');
	$job{mirrored} = start_job($node,
		q{'mirrored', 'hash', 'id', partitions => 3, swap => 'manual'});
	reach($node, $job{mirrored}, 'ready, active');
	$job{copied} = start_job($node, q{'copied', 'hash', 'id', partitions => 3,
			workers => 1, cost_delay => 10, cost_limit => 1});
	await($node, "SELECT sum(rows) > 0 FROM partshift.task WHERE job_id = $job{copied}");
	return %job;
}

sub our_triggers
{
	return query(q{SELECT tgrelid::regclass, tgname FROM pg_trigger
		WHERE tgname LIKE 'partshift%'});
}

sub equal_to_kept
{
	my ($why) = @_;

	equal_tables($node, $_, "kept_$_", "$why: $_ holds what was written")
	  for @tables;
	return;
}

# Every table of the tests goes, and with it what conversions have left.
sub clean_up
{
	query('DO $$ DECLARE name text; BEGIN
		FOR name IN SELECT oid::regclass FROM pg_class
			WHERE relnamespace = $q$public$q$::regnamespace
				AND relkind IN ($q$r$q$, $q$p$q$) AND NOT relispartition
		LOOP EXECUTE $q$DROP TABLE $q$ || name; END LOOP; END $$');
	return;
}

query('CREATE ROLE keeper LOGIN');

# Sessions that have the library go on with it, others cannot write to the
# tables.  All of it is right again when the library is back.
subtest 'the library comes back' => sub {
	my %job = make_tables();
	my $session = hold($node, 'COMMIT');

	write_to(sub { ask($session, $_[0]) }, @tables);

	write_to(\&query, @tables);
	hide();
	for my $table (@tables)
	{
		like(answer("INSERT INTO $table VALUES (0)"),
			qr/ERROR: +58P01: could not access file/,
			"no new session can write to $table");
	}
	is(query('SELECT count(*) FROM copied, reversed WHERE copied.id = reversed.id
			AND copied.id = 1'), '1', 'reading goes on');
	write_to(sub { ask($session, $_[0]) }, @tables);
	like(answer('CREATE TABLE other (id integer); DROP TABLE other'),
		qr/^WARNING: .*library of extension "partshift" could not be loaded/m,
		'other definitions can be changed, with a warning');
	unlike(answer('CREATE TABLE other (id integer); DROP TABLE other'),
		qr/ERROR/, 'and without an error');
	release($session);
	bring_back();
	is(answer('CREATE TABLE other (id integer); DROP TABLE other'), '',
		'there is no warning any more');
	write_to(\&query, @tables);
	like(answer('ALTER TABLE mirrored ADD COLUMN extra integer'),
		qr/55006: cannot alter table "public.mirrored" while conversion job $job{mirrored} /,
		'the guard is back');
	query("SELECT partshift.swap($job{mirrored})");
	fast($node, $job{copied});
	reach($node, $job{$_}, 'done, active') for @tables;
	equal_to_kept('after the library is back');
	for my $table (@tables)
	{
		my $legacy = query("SELECT legacy FROM partshift.jobs WHERE job_id = $job{$table}");

		equal_tables($node, $table, $legacy, "the legacy table of $table has followed");
		query("SELECT partshift.finalize($job{$table})");
		ended($node, $job{$table}, 'finalized');
	}
	clean_up();
};

# Without it, one statement takes all triggers off the tables.
subtest 'the library is gone for good' => sub {
	my %job = make_tables();

	write_to(\&query, @tables);
	hide();
	$node->restart;
	like(answer('INSERT INTO copied VALUES (0)'), qr/ERROR: +58P01/,
		'after a restart of the server, too, nobody can write');
	like(answer('DROP EXTENSION partshift CASCADE'),
		qr/^WARNING: .*could not be loaded\nHINT: .*DROP EXTENSION partshift CASCADE/,
		'the extension can be dropped, which is what the warning says');
	is(our_triggers(), '', 'no trigger of it is left');
	is(query(q{SELECT count(*) FROM pg_event_trigger}), '0', 'nor an event trigger');
	write_to(\&query, @tables);
	equal_to_kept('without the library');
	is(answer('CREATE TABLE other (id integer); DROP TABLE other'), '',
		'definitions can be changed without a warning');
	bring_back();
	$node->restart;

	# What is left are tables that nobody writes to.
	query("DROP TABLE copied_ps$job{copied}, mirrored_ps$job{mirrored};
		CREATE EXTENSION partshift");
	my $job = start_job($node, q{'mirrored', 'hash', 'id', partitions => 3});
	reach($node, $job, 'done, active');
	write_to(\&query, @tables);
	equal_to_kept('with the library again');
	query("SELECT partshift.finalize($job)");
	ended($node, $job, 'finalized');
	clean_up();
};

# An owner who is no superuser frees his tables when there is something that
# the server cannot load, or can but is another library.
subtest 'the owner drops the triggers' => sub {
	my %job = make_tables();
	my %instead = (
		copied => sub { append_to_file($library, 'not a library') },
		mirrored => sub { copy($library =~ s/partshift\.so$/amcheck.so/r, $library) },
		reversed => sub { append_to_file($library, ''); chmod 0, $library });
	my $drop = q{DO $$
		DECLARE
			t record;
		BEGIN
			FOR t IN
				SELECT tgrelid::regclass AS relation, tgname FROM pg_trigger
				WHERE tgrelid = 'TABLE'::regclass AND tgparentid = 0
					AND tgname LIKE 'partshift\_%'
			LOOP
				EXECUTE format('DROP TRIGGER %I ON %s', t.tgname, t.relation);
			END LOOP;
		END $$};

	like(answer($drop =~ s/TABLE/mirrored/r, user => 'keeper'),
		qr/55006: cannot alter table "public.mirrored" while conversion job $job{mirrored} /,
		'with the library it is refused');
	write_to(\&query, @tables);
	hide();
	for my $table (@tables)
	{
		$instead{$table}->();
		like(answer("INSERT INTO $table VALUES (0)"),
			qr/ERROR: .*could not (load library|find function)/,
			"nobody can write to $table");
		unlike(answer($drop =~ s/TABLE/$table/r, user => 'keeper'),
			qr/ERROR/, 'the owner can drop the triggers');
		write_to(\&query, $table);
		unlink $library;
	}
	equal_to_kept('without triggers');
	bring_back();

	# The jobs cannot be continued, and say so.
	like(answer("SELECT partshift.rollback($job{reversed}); CALL partshift.wait($job{reversed})"),
		qr/ERROR: .*(missing or disabled|differ in partition)/,
		'a rollback is refused');
	query("SELECT partshift.abort($_)") for values %job;
	ended($node, $job{$_}, 'aborted') for ('copied', 'mirrored');
	reach($node, $job{reversed}, 'done, active');
	query("SELECT partshift.finalize($job{reversed})");
	ended($node, $job{reversed}, 'finalized');
	equal_to_kept('aborted');
	clean_up();
};

# Whoever gets past the guard and drops the extension leaves no trigger, even
# while workers are at it.
subtest 'the extension is dropped by force' => sub {
	make_tables();
	write_to(\&query, @tables);
	like(answer('DROP EXTENSION partshift CASCADE'),
		qr/ERROR: +55006: cannot drop extension "partshift" while conversion job \d+ is in progress/,
		'it is refused');
	query('SET session_replication_role = replica; DROP EXTENSION partshift CASCADE');
	is(our_triggers(), '', 'no trigger of it is left');
	write_to(\&query, @tables);
	equal_to_kept('without the extension');
	await($node, "SELECT count(*) = 0 FROM pg_stat_activity
		WHERE backend_type = 'partshift worker'");
	clean_up();
	query('CREATE EXTENSION partshift');
};

# The extension's owner cannot take it along, nor an update change it.
subtest 'other ways to lose the extension' => sub {
	my $job;

	query('CREATE ROLE installer SUPERUSER LOGIN; CREATE DATABASE other');
	$node->safe_psql('other', 'CREATE EXTENSION partshift;
		CREATE TABLE t (id integer PRIMARY KEY); INSERT INTO t VALUES (1);
		ALTER TABLE t OWNER TO keeper',
		extra_params => [ '-U', 'installer' ]);
	append_to_file($update, 'CREATE FUNCTION partshift.later() RETURNS integer '
		  . 'LANGUAGE sql AS $$SELECT 1$$;');
	$job = start_job($node, q{'t', 'hash', 'id', partitions => 2}, 'other');
	reach($node, $job, 'done, active', 'other');
	for my $command ('DROP OWNED BY installer CASCADE',
		'DROP EXTENSION plpgsql CASCADE',
		'DO $$ BEGIN DROP EXTENSION partshift CASCADE; END $$')
	{
		like(answer($command, database => 'other'),
			qr/ERROR: +55006: cannot drop extension "partshift" while conversion job $job is in progress/,
			"refused: $command");
	}
	for my $command ('ALTER EXTENSION partshift UPDATE TO \'1.1\'',
		'ALTER FUNCTION partshift.reverse_row() RENAME TO r')
	{
		like(answer($command, database => 'other'),
			qr/ERROR: +55006: cannot alter extension "partshift" while conversion job $job is in progress/,
			"refused: $command");
	}
	is(answer('BEGIN; REASSIGN OWNED BY keeper TO installer; ROLLBACK',
			database => 'other'),
		'', 'REASSIGN OWNED in a session without the library is not refused');
	like(answer(q{LOAD 'partshift'; REASSIGN OWNED BY keeper TO installer},
			database => 'other'),
		qr/ERROR: +55006: cannot alter table "public.\w+" while conversion job $job is in progress/,
		'in one with the library it is');
	query("INSERT INTO t VALUES (2); SELECT partshift.finalize($job)", 'other');
	ended($node, $job, 'finalized', 'other');
	is(answer(q{ALTER EXTENSION partshift UPDATE TO '1.1'}, database => 'other'),
		'', 'without a job it can be updated');
	is(answer('DROP EXTENSION partshift', database => 'other'), '',
		'and dropped without CASCADE');
	is(query(q{SELECT tgrelid::regclass, tgname FROM pg_trigger
			WHERE tgname LIKE 'partshift%'}, 'other'), '', 'nothing of it is left');
	is(query('INSERT INTO t VALUES (3); SELECT count(*) FROM t', 'other'), '3',
		'the table can be written to');
};

# Preloaded, it is missed when the server starts.
subtest 'preloaded' => sub {
	my $from;

	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'partshift'\n");
	$node->stop;
	hide();
	$from = -s $node->logfile;
	is($node->start(fail_ok => 1), 0, 'the server does not start without it');
	like(slurp_file($node->logfile, $from), qr/FATAL: .*could not access file "partshift"/,
		'and says why');
	bring_back();
	$node->start;
	query('DROP ROLE IF EXISTS nobody; CREATE TABLE t (id integer PRIMARY KEY);
		INSERT INTO t VALUES (1); ALTER TABLE t OWNER TO keeper');
	my $job = start_job($node, q{'t', 'hash', 'id', partitions => 2, swap => 'manual'});
	reach($node, $job, 'ready, active');
	like(answer('REASSIGN OWNED BY keeper TO installer'),
		qr/ERROR: +55006: cannot alter table "public.t" while conversion job $job is in progress/,
		'every session stops REASSIGN OWNED');
};

done_testing();
