# The owner of a converted table is a plain role that would like to be more.
# Wherever the server evaluates something of his, a function says to the
# server's log where and as whom it runs, and a superuser's rights would be
# used at once.  In no phase does it run as anybody but its owner, and in a
# writer's session as nobody as whom it would not run without a conversion.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PartshiftTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('hostile');
my $place = 0;

sub query { return $node->safe_psql('postgres', $_[0]) }
sub as { my ($role, $sql) = @_; return query("SET SESSION AUTHORIZATION $role; $sql") }

# What the hostile code has said since the last call: hashes of "place as
# user", in workers, whose name the server leaves out of its log, and in
# sessions.
sub said
{
	my $log = slurp_file($node->logfile, $place);
	my %said = (worker => {}, session => {});

	$place = -s $node->logfile;
	while ($log =~ /^\S+ \S+ \S+ \[\d+\] (.*?) \w{5} LOG:  hostile (.*) as (\w+) for (\w+)$/mg)
	{
		$said{ $1 eq '' ? 'worker' : 'session' }{"$2 as $3"}++;
	}
	return \%said;
}

sub only_as
{
	my ($said, $users, $name) = @_;
	my @wrong = grep { !/ as (?:$users)$/ } sort keys %$said;

	return is("@wrong", '', $name);
}

sub is_plain
{
	return is(query("SELECT string_agg(rolname, ' ') FROM pg_roles
		WHERE rolsuper AND rolname IN ('mallory', 'victim', 'writer')"), '', $_[0]);
}

# Functions that run code by every volatility, and names that the search path
# would find before the server's own.
query(q{
	ALTER DATABASE postgres SET search_path = m, public, pg_catalog;
	ALTER ROLE postgres SET search_path = pg_catalog, public;
	CREATE ROLE mallory LOGIN;
	CREATE ROLE victim LOGIN;
	CREATE ROLE writer LOGIN;
	CREATE ROLE watcher LOGIN IN ROLE pg_monitor;
	CREATE SCHEMA m AUTHORIZATION mallory;
	CREATE SCHEMA v AUTHORIZATION victim;
	GRANT USAGE ON SCHEMA m, v TO PUBLIC;
	SET SESSION AUTHORIZATION mallory;
	SET search_path = pg_catalog;
	CREATE FUNCTION m.say(place text) RETURNS integer LANGUAGE plpgsql AS $$
	BEGIN
		RAISE LOG 'hostile % as % for %', place, current_user, session_user;
		IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)
			AND (current_user <> session_user
				OR pg_catalog.current_setting('application_name') ~ '^partshift')
		THEN
			ALTER ROLE mallory SUPERUSER;
		END IF;
		RETURN 1;
	END $$;
	CREATE FUNCTION m.spy(n integer, place text) RETURNS integer LANGUAGE plpgsql
		IMMUTABLE AS 'BEGIN PERFORM m.say(place); RETURN n; END';
	CREATE FUNCTION m.spy(t text, place text) RETURNS text LANGUAGE plpgsql
		IMMUTABLE AS 'BEGIN PERFORM m.say(place); RETURN t; END';
	CREATE FUNCTION m.fired() RETURNS trigger LANGUAGE plpgsql
		AS 'BEGIN PERFORM m.say(TG_NAME); RETURN coalesce(NEW, OLD); END';
	CREATE FUNCTION m.distance(a float8, b float8) RETURNS float8 LANGUAGE plpgsql
		IMMUTABLE AS 'BEGIN PERFORM m.say(''subtype_diff''); RETURN a - b; END';
	CREATE TYPE m.span AS RANGE (subtype = float8, subtype_diff = m.distance);
	CREATE DOMAIN m.amount AS integer CHECK (m.spy(VALUE, 'domain') >= 0);
	CREATE TYPE m.pair AS (a m.amount);
	CREATE TYPE m.color AS ENUM ('red', 'green', 'blue');
	CREATE FUNCTION m.color_text(c m.color) RETURNS text LANGUAGE plpgsql AS
		'BEGIN PERFORM m.say(''cast''); RETURN enum_out(c); END';
	CREATE CAST (m.color AS text) WITH FUNCTION m.color_text(m.color) AS ASSIGNMENT;
	CREATE FUNCTION m.format(text, VARIADIC text[]) RETURNS text LANGUAGE sql
		AS $$ SELECT CASE m.say('format()') WHEN 1 THEN 'SELECT 1' END $$;
	CREATE FUNCTION m.quote_ident(text) RETURNS text LANGUAGE sql
		AS $$ SELECT CASE m.say('quote_ident()') WHEN 1 THEN $1 END $$;
	CREATE FUNCTION m.same(integer, integer) RETURNS boolean LANGUAGE sql
		AS $$ SELECT m.say('operator') = 1 AND $1 OPERATOR(pg_catalog.=) $2 $$;
	CREATE OPERATOR m.= (LEFTARG = integer, RIGHTARG = integer, FUNCTION = m.same);
	CREATE FUNCTION m.same(oid, oid) RETURNS boolean LANGUAGE sql
		AS $$ SELECT m.say('operator') = 1 AND $1 OPERATOR(pg_catalog.=) $2 $$;
	CREATE OPERATOR m.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = m.same);
});

# What the victim and a superuser have to do with mallory's tables.
query(q{
	SET SESSION AUTHORIZATION victim;
	SET search_path = pg_catalog;
	CREATE TABLE v.customer (id integer PRIMARY KEY, n integer);
	INSERT INTO v.customer SELECT g, g FROM generate_series(1, 20) g;
	GRANT SELECT, REFERENCES ON v.customer TO mallory;
	SET SESSION AUTHORIZATION mallory;
	CREATE TABLE m.t (
		id integer PRIMARY KEY,
		n integer DEFAULT m.spy(5, 'default'),
		pair m.pair DEFAULT '(3)'::m.pair,
		span m.span DEFAULT '[1,2]',
		amount m.amount DEFAULT 4,
		twice integer GENERATED ALWAYS AS (m.spy(n, 'generated') + m.spy(1, 'generated constant')) STORED,
		customer integer REFERENCES v.customer ON DELETE SET NULL,
		parent integer REFERENCES m.t,
		CHECK (m.spy(n, 'check') > m.spy(0, 'check constant')));
	CREATE INDEX ON m.t ((m.spy(n, 'index') + m.spy(7, 'index constant')));
	CREATE INDEX ON m.t (n) WHERE m.spy(n, 'predicate') > m.spy(0, 'predicate constant');
	CREATE INDEX ON m.t USING gist (span);
	ALTER TABLE m.t ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
	CREATE POLICY all_rows ON m.t
		USING (m.spy(n, 'policy') + m.spy(8, 'policy constant') > 0 AND pair IS DISTINCT FROM '(1)'::m.pair);
	CREATE TRIGGER before_row BEFORE INSERT OR UPDATE ON m.t
		FOR EACH ROW WHEN (m.spy(NEW.n, 'when') > 0 AND NEW.pair IS DISTINCT FROM '(2)'::m.pair)
		EXECUTE FUNCTION m.fired();
	CREATE TRIGGER after_row AFTER INSERT OR UPDATE OR DELETE ON m.t
		FOR EACH ROW EXECUTE FUNCTION m.fired();
	CREATE CONSTRAINT TRIGGER deferred AFTER INSERT OR UPDATE ON m.t
		DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION m.fired();
	ALTER TABLE m.t ENABLE ALWAYS TRIGGER after_row, ENABLE ALWAYS TRIGGER deferred;
	INSERT INTO m.t (id, span, customer) SELECT g, m.span(g, g + 1), 1 + g % 20
		FROM generate_series(1, 80) g;
	GRANT SELECT, INSERT, UPDATE, DELETE, REFERENCES ON m.t TO writer, victim;
	SET SESSION AUTHORIZATION victim;
	CREATE TABLE v.child (id integer PRIMARY KEY, t integer REFERENCES m.t ON UPDATE CASCADE ON DELETE CASCADE);
	INSERT INTO v.child SELECT g, g FROM generate_series(1, 30) g;
	RESET SESSION AUTHORIZATION;
	CREATE TABLE public.audit (id integer PRIMARY KEY, t integer REFERENCES m.t ON DELETE SET NULL);
	INSERT INTO public.audit SELECT g, g FROM generate_series(1, 30) g;
});

# The same writes each time, by three users, of rows that nobody else writes.
my $written = 1000;

sub write_all
{
	for my $role ('mallory', 'writer', 'postgres')
	{
		my $last = $written += 10;

		as($role, qq{SET search_path = pg_catalog;
			INSERT INTO m.t (id, customer, span)
				SELECT $last + g, 1 + g, m.span(g, g + 1) FROM generate_series(1, 9) g;
			UPDATE m.t SET n = n + 1 WHERE id BETWEEN $last AND $last + 5;
			UPDATE m.t SET id = -id WHERE id = $last + 6;
			DELETE FROM m.t WHERE id BETWEEN $last + 7 AND $last + 8});
	}
	$written += 10;
	query("DELETE FROM m.t WHERE id = $written / 10 % 30;
		UPDATE m.t SET id = 5000 + $written WHERE id = 51 + $written / 10 % 30");
	return;
}

said();
write_all();
my $without = said()->{session};
ok(keys %$without > 20, 'the functions are called without a conversion')
  or diag(join "\n", sort keys %$without);
is_plain('and mallory gains nothing');

# How an insertion splits a GiST index depends on the rows.
$without->{"subtype_diff as $_"} = 1 for 'writer', 'postgres';

# Writers' sessions may see no more than without us, but as mallory.
sub writers_are_safe
{
	my ($said, $name) = @_;
	my @more = grep { !/ as mallory$/ && !$without->{$_} } sort keys %$said;

	return is("@more", '', "$name: nothing more runs as a writer");
}

# Let go on what a phase waits for, after writes that it will have to deal with.
my @gates;

sub gate
{
	my ($table) = @_;

	push @gates, hold($node, "LOCK TABLE $table IN ROW EXCLUSIVE MODE");
	return;
}

sub step
{
	my ($job, $name, $wait) = @_;

	await($node, "SELECT $wait FROM partshift.job WHERE job_id = $job");
	write_all();
	my $said = said();
	only_as($said->{worker}, 'mallory', "$name: workers run it as its owner");
	writers_are_safe($said->{session}, $name);
	is_plain("$name: mallory gains nothing");
	return $said;
}

my $arguments = "'m.t', 'hash', 'id', partitions => 2, swap => 'manual', cost_delay => 0";
my ($job, $said);

subtest 'converted' => sub {
	my $leaf = 'm.t_p1';

	said();
	gate('m.t');
	as('mallory', "SELECT partshift.plan($arguments)");
	$job = as('mallory', "SELECT partshift.convert($arguments)");
	await($node, "SELECT lock_tries > 0 FROM partshift.job WHERE job_id = $job");
	is(as('mallory', 'SELECT blocker FROM partshift.progress'),
		'<insufficient privilege>', 'a statement of another is not shown');
	like(as('watcher', 'SELECT blocker FROM partshift.progress'), qr/LOCK TABLE/,
		'but to monitoring roles');
	is(as($_, 'SELECT count(*) FROM partshift.jobs'), 0, "$_ sees no job")
	  for 'writer', 'victim';
	gate($leaf);
	release(shift @gates);
	$said = step($job, 'copy and index', "phase = 'index' AND lock_tries > 0");
	ok($said->{worker}{'domain as mallory'}, 'the shadow is made by its owner');
	as('mallory', q{CREATE OR REPLACE FUNCTION m.spy(n integer, place text)
		RETURNS integer LANGUAGE plpgsql IMMUTABLE
		AS 'BEGIN PERFORM m.say(place || '' changed''); RETURN n; END'});
	$without->{ s/ as / changed as /r } = 1 for keys %$without;
	gate('public.audit');
	release(shift @gates);
	$said = step($job, 'mirror, reconcile and rewire', "phase = 'rewire' AND lock_tries > 0");
	ok($said->{worker}{"$_ changed as mallory"}, "it does run: $_")
	  for 'index', 'index constant', 'predicate constant';

	# A process evaluates constants once: let a new one validate the key.
	as('mallory', "SELECT partshift.pause($job)");
	await($node, "SELECT worker_pid IS NULL FROM partshift.jobs WHERE job_id = $job");
	release(shift @gates);
	as('mallory', "SELECT partshift.resume($job)");
	reach($node, $job, 'ready, active');
	step($job, 'rewire and verify', 'true');
	gate('m.t');
	as('mallory', "SELECT partshift.swap($job)");
	step($job, 'before the swap', "phase = 'swap' AND lock_tries > 0");
	release(shift @gates);
	reach($node, $job, 'done, active');
	step($job, 'done', 'true');
	as('mallory', "SELECT partshift.verify($job)");
	await($node, "SELECT request IS NULL FROM partshift.job WHERE job_id = $job");
	is(query("SELECT bool_and(equal) FROM partshift.verification WHERE job_id = $job"),
		't', 'both tables are equal');
};

subtest 'rolled back' => sub {
	gate('m.t');
	as('mallory', "SELECT partshift.rollback($job)");
	step($job, 'rollback', "phase IN ('rewire', 'swap') AND reverse AND lock_tries > 0");
	release(shift @gates);
	ended($node, $job, 'rolled_back');
	step($job, 'rolled back', 'true');
	is(query('SELECT count(*) FROM v.child c LEFT JOIN m.t ON t.id = c.t WHERE t.id IS NULL'),
		0, 'the foreign key holds');
};

subtest 'finalized' => sub {
	$job = as('mallory', "SELECT partshift.convert($arguments, keep_legacy => false)");
	reach($node, $job, 'ready, active');
	as('mallory', "SELECT partshift.swap($job)");
	reach($node, $job, 'done, active');
	step($job, 'swap', 'true');
	as('mallory', "SELECT partshift.finalize($job)");
	ended($node, $job, 'finalized');
	step($job, 'finalize', 'true');
	is(internal_names($node), '', 'nothing is left');
};

# The expression of a computed key, in every phase and in every session.
subtest 'computed key' => sub {
	my $expression = "m.spy(n, 'key') + m.spy(0, 'key constant')";
	my $writes = sub {
		for my $role ('mallory', 'writer', 'postgres')
		{
			my $id = $written += 10;

			as($role, qq{SET search_path = pg_catalog;
				INSERT INTO m.keyed (id, n) SELECT $id + g, g FROM generate_series(1, 5) g;
				UPDATE m.keyed SET n = n + 1 WHERE id IN ($id + 1, $id - 7);
				UPDATE m.keyed SET k = NULL WHERE id = $id + 2;
				DELETE FROM m.keyed WHERE id = $id + 3});
		}
	};
	my $safe = sub {
		my ($name) = @_;

		$said = said();
		only_as($said->{$_}, 'mallory', "$name: as the owner, in every $_") for 'worker', 'session';
		is_plain("$name: mallory gains nothing");
	};

	as('mallory', q{CREATE TABLE m.keyed (id integer PRIMARY KEY, n integer, k integer);
		INSERT INTO m.keyed SELECT g, g FROM generate_series(1, 50) g;
		GRANT SELECT, INSERT, UPDATE, DELETE ON m.keyed TO writer});
	for my $how (['k', 'null_key'], ['d', 'derive'])
	{
		my $call = "('m.keyed', 'list', '$how->[0]', $how->[1] => \$\$$expression\$\$, "
		  . q{lists => '{"a": [1, 2, 3]}', swap => 'manual')};

		said();
		query("SELECT partshift.plan$call");
		$safe->("$how->[1], plan");
		gate('m.keyed');
		$job = as('mallory', "SELECT partshift.convert$call");
		await($node, "SELECT shadow IS NOT NULL FROM partshift.job WHERE job_id = $job");
		gate('m.keyed_a');
		release(shift @gates);
		await($node, "SELECT phase = 'index' AND lock_tries > 0 FROM partshift.job WHERE job_id = $job");
		$writes->();
		$safe->("$how->[1], copy and capture");
		ok($said->{session}{'key changed as mallory'}, "$how->[1] does run in sessions");
		release(shift @gates);
		reach($node, $job, 'ready, active');
		$writes->();
		as('mallory', "SELECT partshift.swap($job)");
		reach($node, $job, 'done, active');
		$safe->("$how->[1], to the swap");
		query("UPDATE m.keyed SET id = id + 100000 WHERE id % 5 = 0; DELETE FROM m.keyed WHERE id % 7 = 0");
		as('mallory', "SELECT partshift.rollback($job)");
		ended($node, $job, 'rolled_back');
		$said = said();
		only_as($said->{worker}, 'mallory', "$how->[1], back: as the owner, in every worker");
		is_plain("$how->[1], back: mallory gains nothing");
	}
	as('mallory', 'DROP TABLE m.keyed');
};

# Spellings of a value are compared by the type, whose cast is its owner's.
subtest 'lists' => sub {
	as('mallory', q{SET search_path = pg_catalog;
		CREATE TABLE m.painted (id integer, color m.color, PRIMARY KEY (id, color));
		INSERT INTO m.painted SELECT g, 'red' FROM generate_series(1, 5) g});
	said();
	query(q{SELECT partshift.plan('m.painted', 'list', 'color', lists => '{"warm": ["red"]}')});
	as('mallory', q{SELECT partshift.plan('m.painted', 'list', 'color')});
	$job = as('mallory', q{SELECT partshift.convert('m.painted', 'list', 'color',
		lists => '{"warm": ["red"], "cold": ["blue"]}', default_partition => 'drop')});
	reach($node, $job, 'done, active');
	$said = said();
	only_as($_, 'mallory', 'the cast runs as its owner') for $said->{session}, $said->{worker};
	ok($said->{session}{'cast as mallory'}, 'it does run');
	is_plain('mallory gains nothing');
	as('mallory', "SELECT partshift.finalize($job)");
	ended($node, $job, 'finalized');
};

# Code in a domain's input, called while the shadow is made, that puts a table
# of its own in the shadow's place, with a bound that would be evaluated next.
subtest 'changeling' => sub {
	as('mallory', q{SET search_path = pg_catalog;
		CREATE DOMAIN m.bound AS text CHECK (m.spy(VALUE, 'bound') <> '');
		CREATE FUNCTION m.replace() RETURNS boolean LANGUAGE plpgsql AS $$
		DECLARE
			shadow text := (SELECT relname FROM pg_class WHERE relname ~ '^listed_ps\d+$'
							AND relnamespace = 'm'::regnamespace);
		BEGIN
			IF shadow IS NOT NULL THEN
				EXECUTE pg_catalog.format('ALTER TABLE m.%I RENAME TO aside', shadow);
				EXECUTE pg_catalog.format('CREATE TABLE m.%I (id integer, key m.bound, pair m.bad)
					PARTITION BY LIST (key)', shadow);
			END IF;
			RETURN true;
		END $$;
		CREATE DOMAIN m.worse AS integer CHECK (m.replace());
		CREATE TYPE m.bad AS (a m.worse);
		CREATE TABLE m.listed (id integer, key text, pair m.bad DEFAULT '(1)'::m.bad,
			PRIMARY KEY (id, key));
		INSERT INTO m.listed SELECT g, 'a' FROM generate_series(1, 9) g});
	said();
	$job = as('mallory', q{SELECT partshift.convert('m.listed', 'list', 'key', lists => '{"a": ["a"]}')});
	await($node, "SELECT status <> 'active' FROM partshift.job WHERE job_id = $job");
	like(job_state($node, $job), qr/^prepare, failed, 42501 cannot execute ALTER TABLE in an expression/,
		'no DDL in an expression');
	only_as(said()->{worker}, 'mallory', 'a bound is evaluated as the owner');
	is_plain('mallory gains nothing');
	query("UPDATE partshift.job SET error_detail = 'Key (id)=(1) is secret.' WHERE job_id = $job");
	for my $view ('jobs', 'progress')
	{
		my $detail = "SELECT error_message ~ 'DDL|ALTER', error_detail FROM partshift.$view WHERE job_id = $job";

		is(as('mallory', $detail), 't|Key (id)=(1) is secret.', "$view: the owner sees the detail");
		is(as('watcher', $detail), 't|', "$view: a monitoring role does not");
	}
	as('mallory', "SELECT partshift.abort($job)");
	ended($node, $job, 'aborted');
	is(as('watcher', 'SELECT count(*) FROM partshift.verification'), 0,
		'nor keys of rows that differ');
	isnt(as('mallory', 'SELECT count(*) FROM partshift.verification'), 0,
		'which the owner sees');
};

# What the code may try in a worker; each says so if it succeeds.
subtest 'attempts' => sub {
	as('mallory', q{SET search_path = pg_catalog;
		CREATE TABLE m.side (id integer);
		CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON m.side
			DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION m.fired();
		ALTER TABLE m.side ENABLE ALWAYS TRIGGER at_commit;
		CREATE TABLE m.attempt (command text);
		CREATE FUNCTION m.attempts() RETURNS integer LANGUAGE plpgsql AS $$
		DECLARE
			command text;
		BEGIN
			IF current_setting('application_name') !~ '^partshift' THEN
				RETURN 0;
			END IF;
			PERFORM m.say('attempts');
			FOR command IN SELECT a.command FROM m.attempt a LOOP
				BEGIN
					EXECUTE command;
					PERFORM m.say('success of ' || command);
				EXCEPTION WHEN OTHERS THEN
					NULL;
				END;
			END LOOP;
			RETURN 0;
		END $$;
		CREATE FUNCTION m.tries(n integer) RETURNS integer LANGUAGE plpgsql
			IMMUTABLE AS 'BEGIN PERFORM m.attempts(); RETURN n; END';
		INSERT INTO m.attempt VALUES
			('SET ROLE postgres'), ('SET SESSION AUTHORIZATION postgres'), ('RESET ROLE'),
			('RESET SESSION AUTHORIZATION'), ('SET LOCAL ROLE NONE'),
			('SELECT set_config(''session_replication_role'', ''origin'', false)'),
			('CREATE TEMP TABLE x (a integer)'), ('CREATE TABLE m.x (a integer)'),
			('ALTER TABLE m.tried RENAME TO stolen'), ('DROP TABLE m.tried CASCADE'),
			('ALTER TABLE m.tried DISABLE TRIGGER ALL'),
			('CREATE FUNCTION m.x() RETURNS integer LANGUAGE sql AS ''SELECT 1'''),
			('GRANT ALL ON m.tried TO PUBLIC'), ('DROP OWNED BY mallory'),
			('INSERT INTO m.side VALUES (1)'),
			('SELECT pg_terminate_backend(pg_backend_pid())'),
			('SELECT pg_cancel_backend(pg_backend_pid())'),
			('COPY m.side TO PROGRAM ''true'''), ('SELECT pg_read_file(''PG_VERSION'')'),
			('SELECT partshift.query_as(10, ''SELECT 1'')'),
			('SELECT partshift.change_job(1, ''abort'')'),
			('UPDATE partshift.job SET owner = 10'), ('DELETE FROM partshift.task'),
			('SELECT * FROM partshift.task'),
			('ALTER ROLE mallory SUPERUSER'), ('ALTER SYSTEM SET work_mem = ''1MB''');
		CREATE TABLE m.tried (id integer PRIMARY KEY, n integer);
		INSERT INTO m.tried SELECT g, g FROM generate_series(1, 20) g;
		CREATE INDEX ON m.tried (m.tries(n))});
	said();
	$job = as('mallory', q{SELECT partshift.convert('m.tried', 'hash', 'id', partitions => 2,
		swap => 'manual')});
	reach($node, $job, 'ready, active');
	$said = said()->{worker};
	ok($said->{'attempts as mallory'}, 'it was tried');
	only_as($said, 'mallory', 'as the owner only');
	is(join("\n", grep { /success/ } sort keys %$said), '', 'without success');
	is_plain('mallory gains nothing');

	# Orders are the owner's to give, from wherever.
	as('mallory', q{TRUNCATE m.attempt;
		INSERT INTO m.attempt SELECT pg_catalog.format('SELECT partshift.%s(%s)', o, } . $job . q{)
			FROM unnest('{pause, resume, verify, swap}'::text[]) o;
		INSERT INTO m.attempt VALUES ('SELECT partshift.convert(''m.side'', ''hash'', ''id'', partitions => 2)')});
	as('mallory', "SELECT partshift.abort($job)");
	ended($node, $job, 'aborted');
	$job = as('mallory', q{SELECT partshift.convert('m.tried', 'hash', 'id', partitions => 2)});
	await($node, "SELECT phase = 'done' OR status <> 'active' FROM partshift.job WHERE job_id = $job");
	only_as(said()->{worker}, 'mallory', 'orders from within run as the owner');
	as('mallory', "SELECT partshift.finalize($job)");
	ended($node, $job, 'finalized');
	is_plain('mallory gains nothing');
};

is(server_errors($node, 0) =~ /(.*(?: XX\w{3} |PANIC).*)/ ? $1 : '', '', 'no internal error');
done_testing();
