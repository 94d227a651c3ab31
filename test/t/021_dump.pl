# A dump of a converted database restores and compares equal.  So does one
# that was taken during a conversion, but for what belongs to the job: where
# it is restored there is no job, and nothing of one stands in anybody's way.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PartshiftTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('dump', 'wal_level = logical');
my $directory = PostgreSQL::Test::Utils::tempdir;

sub query
{
	my ($query, $database) = @_;

	return $node->safe_psql($database || 'postgres', $query);
}

# Dump a database, with rows; the file's name.
sub dump_of
{
	my ($database, $file) = @_;

	PostgreSQL::Test::Utils::system_or_bail('pg_dump', '-d', $node->connstr($database),
		'-f', "$directory/$file");
	return "$directory/$file";
}

# Restore a file in a new database, where no command may fail.
sub restore
{
	my ($file, $database, @settings) = @_;

	query("CREATE DATABASE $database");
	local $ENV{PGOPTIONS} = join ' ', map { "-c $_" } @settings;
	my ($out, $err) = ('', '');
	ok( IPC::Run::run(
			[ 'psql', '-qX', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr($database), '-f', $file ],
			'>', \$out, '2>', \$err),
		"$database: restored without an error")
	  or diag($err);
	return $err;
}

# What a dump makes, each with its rows or its statements: objects by name.
sub objects_in
{
	my ($file) = @_;
	my $text = slurp_file($file) =~ s/^\\(un)?restrict .*$//mgr;

	# A setting is given only where it changes, which the order decides.
	$text =~ s/^SET default_.*$//mg;
	$text =~ s/\n{2,}/\n/g;
	return map { s/^(.*)\n--\n//; ($1 => $_) }
	  grep { !/^--\n-- PostgreSQL database dump/ } split /^--\n-- (?=Name: |Data for )/m, $text;
}

# Names of what is in one dump only, or is not the same in both.
sub changes
{
	my ($before, $after) = @_;
	my %before = objects_in($before);
	my %after = objects_in($after);
	my %all = (%before, %after);

	return sort map { s/; Schema: .*//r =~ s/^Name: //r }
	  grep { ($before{$_} // '') ne ($after{$_} // '') } keys %all;
}

# That a restored database is what was dumped but for these objects; the
# conversions in it are over.
sub restored_equal
{
	my ($file, $database, @gone) = @_;

	is_deeply([ changes($file, dump_of($database, "$database.again")) ],
		[ sort @gone ], "$database: dumped again it is the same, without what is to go");
	is(query(q{SELECT string_agg(tgname, ' ') FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = tgfoid
		WHERE p.pronamespace = 'partshift'::regnamespace AND p.proname !~ '^fill_'
			AND tgrelid <> 'partshift.job'::regclass}, $database),
		'', "$database: no trigger of a conversion");
	is(query("SELECT count(*) FROM partshift.job", $database), 0, "$database: no job");
	is(query(q{SELECT string_agg(relname, ' ') FROM pg_class
		WHERE relname ~ '^(log|postponed)_\d'}, $database), '', "$database: no log");
	return;
}

# That the application can write what it did, on both sides of foreign keys.
sub writes_as_before
{
	my ($database) = @_;
	my ($code, $out, $err) = $node->psql($database, q{
		INSERT INTO shop.sale (id, day, customer) VALUES (9001, '2026-02-03', 7);
		INSERT INTO shop.line VALUES (9001, '2026-02-03', 1);
		UPDATE shop.sale SET id = 9002 WHERE id = 9001;
		DELETE FROM shop.sale WHERE customer = 7;
		DELETE FROM shop.customer WHERE id = 7;
		INSERT INTO shop.customer VALUES (7);
		SET client_min_messages = warning;
		TRUNCATE shop.sale CASCADE;
		INSERT INTO shop.sale (day, customer) VALUES ('2026-02-03', 8)}, on_error_stop => 1);

	is($err, '', "$database: the application writes as before");
	($code, $out, $err) = $node->psql($database, "INSERT INTO shop.line VALUES (5, '2026-01-01', 1)");
	like($err, qr/violates foreign key constraint "of_sale"/, "$database: its foreign keys are enforced");
	return;
}

# That the extension can be used there, with the same numbers of jobs, and
# be dropped.
sub extension_as_new
{
	my ($database, @clean) = @_;

	query(join('; ', @clean), $database) if @clean;
	query("INSERT INTO shop.sale (day, customer) SELECT date '2026-01-01' + g % 90, 1 + g % 5"
		  . ' FROM generate_series(1, 300) AS g', $database);
	query('CREATE TABLE shop.other (id integer PRIMARY KEY); INSERT INTO shop.other VALUES (1)', $database);
	my $job = start_job($node, "'shop.other', 'hash', 'id', partitions => 2", $database);
	is($job, 1, "$database: the numbers of jobs begin anew");
	reach($node, $job, 'done, active', $database);
	query("SELECT partshift.finalize($job)", $database);
	ended($node, $job, 'finalized', $database);
	is(query("SELECT string_agg(detail, ' ') FROM partshift.plan('shop.sale', 'range', 'day',"
			  . " every => '1 month', legacy_name => 'spare') WHERE severity = 'error'", $database),
		'', "$database: the table could be converted");
	my ($code, $out, $err) = $node->psql($database, 'DROP EXTENSION partshift');
	is($err, '', "$database: the extension can be dropped without CASCADE");
	return;
}

query(q{
	CREATE ROLE keeper NOLOGIN;
	CREATE ROLE reader;
	CREATE SCHEMA shop AUTHORIZATION keeper;
	GRANT USAGE ON SCHEMA shop TO reader;
	ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO reader;
	SET ROLE keeper;
	CREATE TABLE shop.customer (id integer PRIMARY KEY);
	INSERT INTO shop.customer SELECT generate_series(1, 50);
	CREATE TABLE shop.sale (
		id serial,
		gone integer,
		day date NOT NULL,
		number bigint GENERATED ALWAYS AS IDENTITY (START 1000 INCREMENT 3),
		customer integer CONSTRAINT to_customer REFERENCES shop.customer,
		amount numeric(12, 2) DEFAULT 1 CONSTRAINT positive CHECK (amount > 0),
		doubled numeric GENERATED ALWAYS AS (amount * 2) STORED,
		note text COLLATE "C" DEFAULT 'it''s',
		PRIMARY KEY (id, day)
	) WITH (fillfactor = 80);
	ALTER TABLE shop.sale DROP COLUMN gone;
	ALTER TABLE shop.sale ALTER note SET STORAGE EXTERNAL, ALTER day SET STATISTICS 50;
	CREATE INDEX by_note ON shop.sale (lower(note)) WHERE amount > 5;
	CREATE STATISTICS shop.both ON customer, amount FROM shop.sale;
	COMMENT ON TABLE shop.sale IS 'what was sold';
	COMMENT ON COLUMN shop.sale.note IS 'anything';
	CREATE TABLE shop.line (sale integer, day date, n integer,
		CONSTRAINT of_sale FOREIGN KEY (sale, day) REFERENCES shop.sale
			ON UPDATE CASCADE ON DELETE CASCADE);
	CREATE FUNCTION shop.stamp() RETURNS trigger LANGUAGE plpgsql
		AS 'BEGIN NEW.note := coalesce(NEW.note, ''stamped''); RETURN NEW; END';
	CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON shop.sale
		FOR EACH ROW EXECUTE FUNCTION shop.stamp();
	GRANT SELECT, UPDATE (note) ON shop.sale TO reader;
	ALTER TABLE shop.sale ENABLE ROW LEVEL SECURITY;
	CREATE POLICY cheap ON shop.sale TO reader USING (amount < 100);
	CREATE VIEW shop.dear AS SELECT id, day FROM shop.sale WHERE amount > 50;
	CREATE MATERIALIZED VIEW shop.days AS SELECT day, count(*) FROM shop.sale GROUP BY day ORDER BY day;
	INSERT INTO shop.sale (day, customer, amount)
	SELECT date '2026-01-01' + g % 90, 1 + g % 50, 1 + g % 99 FROM generate_series(1, 4000) AS g;
	INSERT INTO shop.line SELECT id, day, 1 FROM shop.sale WHERE id % 3 = 0;
	RESET ROLE;
	CREATE PUBLICATION sales FOR TABLE shop.sale (id, day, note) WITH (publish_via_partition_root = true);
	REFRESH MATERIALIZED VIEW shop.days});

# While rows are copied.
my $file;
my $job = start_job($node, "'shop.sale', 'range', 'day', every => '1 month', premake => 0,"
	  . " swap => 'manual', cost_delay => 100, cost_limit => 1");
await($node, "SELECT phase = 'copy' FROM partshift.job WHERE job_id = $job");
$file = dump_of('postgres', 'copy.sql');
like(job_state($node, $job), qr/^copy, active/, 'it was dumped during the copy');
restore($file, 'copied');
restored_equal($file, 'copied');
writes_as_before('copied');
extension_as_new('copied', "DROP TABLE shop.sale_ps$job");

# When all is mirrored, and foreign keys lead to the new table and from it.
fast($node, $job);
reach($node, $job, 'ready, active');
$file = dump_of('postgres', 'ready.sql');
like(restore($file, 'mirrored'), qr/foreign key "of_sale_ps$job" of table .*line is not kept/,
	'what is not restored is said');
restored_equal($file, 'mirrored', "line of_sale_ps$job; Type: FK CONSTRAINT",
	"sale_ps$job to_customer; Type: FK CONSTRAINT");
writes_as_before('mirrored');
is(query("SELECT obj_description('shop.sale_ps$job'::regclass)", 'mirrored'),
	"Belongs to conversion job $job and is not in use.", 'the copy says what it is');
extension_as_new('mirrored', "DROP TABLE shop.sale_ps$job");

# When the new table is in use and the old one follows it.
query("SELECT partshift.swap($job)");
reach($node, $job, 'done, active');
is(query("SELECT obj_description('shop.sale'::regclass)"), 'what was sold', 'the new table has its comment');
$file = dump_of('postgres', 'done.sql');
restore($file, 'swapped');
restored_equal($file, 'swapped', "sale partshift_reverse_$job; Type: TRIGGER");
writes_as_before('swapped');
extension_as_new('swapped');

# The same with event triggers at rest: the trigger is there and does nothing.
restore($file, 'quiet', 'session_replication_role=replica');
is(query("SELECT count(*) FROM pg_trigger WHERE tgname = 'partshift_reverse_$job' AND tgparentid = 0", 'quiet'),
	1, 'quiet: the trigger was restored');
writes_as_before('quiet');
is(query("SELECT count(*) FROM partshift.dropout", 'quiet'), 0, 'quiet: and does nothing');

# Its numbers may mean anything there: the target an index, the rest what it should.
my ($target, $home) = split /\|/, query(
	"SELECT 'shop.by_note'::regclass::oid, 'shop.sale'::regclass::oid", 'quiet');
query("DROP TRIGGER partshift_reverse_$job ON shop.sale; CREATE TRIGGER partshift_reverse_$job"
	  . ' AFTER INSERT OR UPDATE OR DELETE ON shop.sale FOR EACH ROW EXECUTE FUNCTION'
	  . " partshift.reverse_row('1', '$target', '$home', '1', 'id', 'day')", 'quiet');
writes_as_before('quiet');

# On its way back.
query('CREATE TABLE hold_up ()');
my $reader = hold($node, 'LOCK TABLE shop.customer IN ACCESS SHARE MODE; DECLARE c CURSOR FOR TABLE shop.line; FETCH c');
query("SELECT partshift.rollback($job)");
await($node, "SELECT reverse AND phase IN ('swap', 'ready') FROM partshift.job WHERE job_id = $job");
$file = dump_of('postgres', 'back.sql');
release($reader);
restore($file, 'returned');
my $legacy = query("SELECT legacy_name FROM partshift.job WHERE job_id = $job");
restored_equal($file, 'returned', "$legacy to_customer; Type: FK CONSTRAINT",
	"line of_sale_ps$job; Type: FK CONSTRAINT", "sale partshift_reverse_$job; Type: TRIGGER");
writes_as_before('returned');
extension_as_new('returned');
ended($node, $job, 'rolled_back');
is(query("SELECT obj_description('shop.sale'::regclass)"), 'what was sold', 'the old table has its comment again');

# Converted for good, with foreign keys extended.
query('ALTER TABLE shop.line DROP CONSTRAINT of_sale; ALTER TABLE shop.sale DROP CONSTRAINT sale_pkey,'
	  . ' ADD PRIMARY KEY (id); ALTER TABLE shop.line ADD CONSTRAINT of_sale FOREIGN KEY (sale)'
	  . ' REFERENCES shop.sale ON UPDATE CASCADE ON DELETE CASCADE');
$job = start_job($node, "'shop.sale', 'range', 'day', every => '1 month', premake => 0,"
	  . ' foreign_keys => \'extend\', extend_columns => \'{"of_sale": {"day": "sale_day"}}\'');
reach($node, $job, 'done, active');
query("SELECT partshift.finalize($job)");
ended($node, $job, 'finalized');
$file = dump_of('postgres', 'finalized.sql');
restore($file, 'finalized');
restored_equal($file, 'finalized');
is(query("INSERT INTO shop.sale (id, day) VALUES (9001, '2026-02-03');"
		. ' INSERT INTO shop.line (sale) VALUES (9001) RETURNING sale_day', 'finalized'),
	'2026-02-03', 'finalized: the extended key is filled');
my ($code, $out, $err) = $node->psql('finalized', 'DROP EXTENSION partshift');
like($err, qr/cannot drop extension partshift/, 'finalized: the triggers that fill it need the extension');

is(server_errors($node, 0) =~ s/^.*(violates foreign key|cannot drop extension).*\n?//mgr, '',
	'the server logged no other error');
done_testing();
