# Event triggers of users and of other extensions: those that fire for the
# statements of a conversion may watch, change or refuse them; the tables of
# the application are none the worse for it.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PartshiftTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('events');

sub query { return $node->safe_psql($_[1] || 'postgres', $_[0]) }

# An event trigger whose function has this body; it fires for workers, too.
sub event_trigger
{
	my ($name, $event, $body) = @_;

	query(qq{CREATE OR REPLACE FUNCTION public.$name() RETURNS event_trigger
		LANGUAGE plpgsql AS \$\$ $body \$\$;
		CREATE EVENT TRIGGER $name ON $event EXECUTE FUNCTION public.$name();
		ALTER EVENT TRIGGER $name ENABLE ALWAYS});
	return;
}

my $round = 0;

sub change
{
	$round++;
	query(qq{INSERT INTO $_ VALUES ($round * 1000, 'new');
		UPDATE $_ SET note = 'changed' WHERE id = $round;
		DELETE FROM $_ WHERE id = 100 + $round}) for ('t', 'kept');
	return;
}

sub error_of
{
	my ($job) = @_;

	await($node, "SELECT status = 'failed' FROM partshift.job WHERE job_id = $job");
	return query(qq{SELECT concat_ws(E'\\n', phase, error_sqlstate || ' ' || error_message,
		error_hint) FROM partshift.job WHERE job_id = $job});
}

my $frozen = "BEGIN RAISE 'definitions are frozen'; END";
my $refusal = qr/P0001 definitions are frozen\nEvent trigger "frozen" fires for the statements/;

query(q{
	CREATE ROLE keeper;
	CREATE ROLE thief;
	CREATE TABLE t (id integer PRIMARY KEY, note text, CHECK (id > 0));
	INSERT INTO t SELECT g, repeat('n', 100) FROM generate_series(1, 900) g;
	ALTER TABLE t OWNER TO keeper;
	CREATE TABLE child (id integer PRIMARY KEY, t integer REFERENCES t);
	CREATE TABLE kept AS TABLE t;
	CREATE TABLE seen (event text, tag text, login name DEFAULT session_user,
		role name DEFAULT current_user);
	GRANT ALL ON seen TO PUBLIC});

my $convert = q{'t', 'hash', 'id', partitions => 2};

# Ordinary ones rest while the workers are at it; those that fire always see
# it all, and do no harm by seeing.
subtest 'event triggers that watch' => sub {
	my ($job, $legacy);
	my $note = q{BEGIN INSERT INTO public.seen VALUES (tg_event, tg_tag); END};

	for my $event ('ddl_command_start', 'ddl_command_end', 'sql_drop', 'table_rewrite')
	{
		event_trigger("note_$event", $event, $note);
		query("ALTER EVENT TRIGGER note_$event ENABLE");
	}
	query('TRUNCATE seen');
	$job = start_job($node, $convert);
	reach($node, $job, 'done, active');
	query("SELECT partshift.rollback($job)");
	ended($node, $job, 'rolled_back');
	is(query('SELECT count(*) FROM seen'), '0', 'ordinary ones do not fire');

	query("ALTER EVENT TRIGGER note_$_ ENABLE ALWAYS")
	  for ('ddl_command_start', 'ddl_command_end', 'sql_drop', 'table_rewrite');
	is(query(qq{SELECT string_agg(object, ' ' ORDER BY object)
			FROM partshift.plan($convert) WHERE topic = 'event trigger'}),
		'note_ddl_command_end note_ddl_command_start note_sql_drop note_table_rewrite',
		'a plan names those that will fire');
	query('TRUNCATE seen');
	$job = start_job($node, $convert);
	reach($node, $job, 'done, active');
	change();
	$legacy = query("SELECT legacy FROM partshift.jobs WHERE job_id = $job");
	equal_tables($node, 't', $legacy, 'legacy follows');
	query("SELECT partshift.rollback($job)");
	ended($node, $job, 'rolled_back');
	equal_tables($node, 't', 'kept', 'the table holds what was written');
	is(query(q{SELECT count(*) FROM seen WHERE event = 'ddl_command_end'
			AND tag = 'CREATE TABLE'}) > 1, 1, 'those that fire always have seen it');
	is(internal_names($node), '', 'nothing is left');
	query("DROP EVENT TRIGGER note_$_")
	  for ('ddl_command_start', 'ddl_command_end', 'sql_drop', 'table_rewrite');
};

# One that refuses fails the job with a hint, wherever it is; what was
# committed before goes on, and so does the job when it may.
subtest 'an event trigger that refuses' => sub {
	my $before = catalog_rows($node);
	my ($job, $definitions);

	for my $event ('ddl_command_start', 'ddl_command_end')
	{
		event_trigger('frozen', $event, $frozen);
		$job = start_job($node, "$convert, swap => 'manual'");
		like(error_of($job), qr/^prepare\n$refusal/, "$event: it is refused at the beginning");
		change();
		query("SELECT partshift.abort($job)");
		ended($node, $job, 'aborted');
		query('DROP EVENT TRIGGER frozen; DROP FUNCTION frozen');
		same_definitions($before, catalog_rows($node), "$event: nothing is left");
	}

	$job = start_job($node, "$convert, swap => 'manual'");
	reach($node, $job, 'ready, active');
	event_trigger('frozen', 'ddl_command_end', $frozen);
	query("SELECT partshift.swap($job)");
	like(error_of($job), qr/^swap\n$refusal/, 'the swap is refused');
	change();
	equal_tables($node, 't',
		query("SELECT shadow::regclass FROM partshift.job WHERE job_id = $job"),
		'both tables are written to as before');
	query("SELECT partshift.abort($job)");
	like(error_of($job), qr/^swap\n$refusal/, 'so is the abort');
	change();
	equal_tables($node, 't',
		query("SELECT shadow::regclass FROM partshift.job WHERE job_id = $job"),
		'of which nothing was done');
	query("DROP EVENT TRIGGER frozen; SELECT partshift.abort($job)");
	ended($node, $job, 'aborted');
	query('DROP FUNCTION frozen');
	same_definitions($before, catalog_rows($node), 'it can be aborted later');

	$job = start_job($node, "$convert, swap => 'manual'");
	reach($node, $job, 'ready, active');
	event_trigger('frozen', 'sql_drop', $frozen);
	query("SELECT partshift.swap($job)");
	like(error_of($job), qr/^swap\n$refusal/, 'a swap that drops is refused');
	query("DROP EVENT TRIGGER frozen; SELECT partshift.resume($job)");
	reach($node, $job, 'done, active');
	change();

	query('ALTER TABLE child ADD COLUMN later integer');
	query('CREATE EVENT TRIGGER frozen ON ddl_command_start EXECUTE FUNCTION frozen();
		ALTER EVENT TRIGGER frozen ENABLE ALWAYS');
	query("SELECT partshift.rollback($job)");
	like(error_of($job), qr/^rewire\n$refusal/, 'a rollback is refused');
	change();
	query("DROP EVENT TRIGGER frozen; SELECT partshift.resume($job)");
	ended($node, $job, 'rolled_back');
	query('DROP FUNCTION frozen; ALTER TABLE child DROP COLUMN later');
	equal_tables($node, 't', 'kept', 'the table holds what was written');
	is(internal_names($node), '', 'nothing is left');
};

# One that gives new tables to somebody, or somebody rights on them, runs as
# their owner, who may do nothing of his own in a worker.
subtest 'an event trigger that changes what is made' => sub {
	my $each = q{
		DECLARE
			made text;
		BEGIN
			FOR made IN
				SELECT c.object_identity FROM pg_event_trigger_ddl_commands() c
				WHERE c.command_tag = 'CREATE TABLE' AND c.object_type = 'table'
			LOOP
				EXECUTE format('STATEMENT', made);
			END LOOP;
		END};
	my $owners = q{SELECT DISTINCT relowner::regrole FROM pg_class
		WHERE relname ~ '^t(_p\d)?$'};
	my ($job, $acl);

	query('GRANT SELECT ON t TO PUBLIC');
	$acl = query(q{SELECT relacl FROM pg_class WHERE oid = 't'::regclass});
	for my $statement ('ALTER TABLE %s OWNER TO thief', 'GRANT ALL ON %s TO thief')
	{
		event_trigger('meddler', 'ddl_command_end', $each =~ s/STATEMENT/$statement/r);
		$job = start_job($node, $convert);
		like(error_of($job),
			qr/^prepare\n42501 cannot execute .*\nEvent trigger "meddler" fires/,
			"$statement: it is refused");
		change();
		query('DROP EVENT TRIGGER meddler; DROP FUNCTION meddler');
		query("SELECT partshift.resume($job)");
		reach($node, $job, 'done, active');
		change();
		is(query($owners), 'keeper', 'the table and its partitions have their owner');
		is(query(q{SELECT relacl FROM pg_class WHERE oid = 't'::regclass}),
			$acl, 'and the table its privileges');
		equal_tables($node, 't', 'kept', 'the table holds what was written');
		query("SELECT partshift.rollback($job)");
		ended($node, $job, 'rolled_back');
		is(query($owners), 'keeper', 'after the rollback, too');
	}
	equal_tables($node, 't', 'kept', 'the table holds what was written');
	is(internal_names($node), '', 'nothing is left');
};

# A subscription would go on writing to the old table.
subtest 'a subscription made meanwhile' => sub {
	my $job = start_job($node, "$convert, swap => 'manual'");
	my $publisher = 'host=' . $node->host . ' port=' . $node->port . ' dbname=publisher';
	my ($code, $out, $err);

	reach($node, $job, 'ready, active');
	query('CREATE DATABASE publisher');
	query('CREATE TABLE t (id integer PRIMARY KEY, note text);
		SET client_min_messages = error; CREATE PUBLICATION p FOR TABLE t', 'publisher');
	($code, $out, $err) = $node->psql('postgres', qq{CREATE SUBSCRIPTION s
		CONNECTION '$publisher' PUBLICATION p
		WITH (create_slot = false, slot_name = NONE, enabled = false, copy_data = false)});
	like($err, qr/cannot alter table "public.t" while conversion job $job is in progress/,
		'it is refused');
	query("SELECT partshift.abort($job)");
	ended($node, $job, 'aborted');
};

done_testing();
