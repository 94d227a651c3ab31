# Every routine of the extension, as the catalog lists them, is called with
# arguments that nobody had in mind: nulls, extremes, arrays with other bounds,
# OIDs of everything that is not a table, of other people's tables, of what
# was dropped.  None may end the server's process, raise an internal error, or
# give a role anything; the trigger functions are tried as triggers of all
# kinds.  FUZZ_SEED and FUZZ_CALLS, the number of calls of each, try others.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PartshiftTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('fuzz', "max_worker_processes = 64");
my $seed = $ENV{FUZZ_SEED} || 1;
my $calls = $ENV{FUZZ_CALLS} || 12;

# What pg_describe_object() answers to a superuser who asks for nonsense.
my $describe = '(unrecognized|unsupported) object class|objectSubId for object class';

sub query { return $node->safe_psql('postgres', $_[0]) }
sub as { my ($role, $sql) = @_; return query("SET SESSION AUTHORIZATION $role; $sql") }

query(q{
	CREATE ROLE keeper LOGIN;
	CREATE ROLE stranger LOGIN;
	CREATE SCHEMA shop AUTHORIZATION keeper;
	GRANT USAGE ON SCHEMA shop TO PUBLIC;
	CREATE SCHEMA attic AUTHORIZATION stranger;
	SET SESSION AUTHORIZATION keeper;
	CREATE TABLE shop.sale (id integer PRIMARY KEY, day date NOT NULL, note text DEFAULT 'x',
		CHECK (id > 0));
	CREATE INDEX sale_note ON shop.sale (lower(note)) WHERE id > 5;
	INSERT INTO shop.sale SELECT g, date '2026-01-01' + g, 'note ' || g FROM generate_series(1, 100) g;
	CREATE TABLE shop.waits (LIKE shop.sale INCLUDING ALL);
	INSERT INTO shop.waits TABLE shop.sale;
	CREATE TABLE shop.line (id integer PRIMARY KEY, sale integer REFERENCES shop.sale);
	CREATE TABLE shop.bare (a integer, b text);
	CREATE TABLE shop.parted (id integer) PARTITION BY RANGE (id);
	CREATE TABLE shop.part PARTITION OF shop.parted DEFAULT;
	CREATE VIEW shop.seen AS SELECT 1 AS one;
	CREATE MATERIALIZED VIEW shop.stored AS SELECT 1 AS one;
	CREATE TYPE shop.pair AS (a integer, b text);
	CREATE SEQUENCE shop.counter;
	CREATE TABLE shop.gone (id integer PRIMARY KEY);
	CREATE UNLOGGED TABLE shop.light (id integer PRIMARY KEY);
	SET SESSION AUTHORIZATION stranger;
	CREATE TABLE attic.own (id integer PRIMARY KEY, n integer NOT NULL);
	INSERT INTO attic.own SELECT g, g % 5 FROM generate_series(1, 20) g;
	RESET SESSION AUTHORIZATION;
	CREATE TABLE public.value (type text, value text);
	GRANT SELECT ON public.value TO PUBLIC;
	CREATE TABLE public.result (role text, state text, call text, message text);
	GRANT INSERT ON public.result TO PUBLIC;
	INSERT INTO public.value SELECT 'oid', c.oid FROM pg_class c
		WHERE relnamespace IN ('shop'::regnamespace, 'attic'::regnamespace)
			OR c.oid IN ('pg_class'::regclass, 'pg_class_oid_index'::regclass,
				'pg_database'::regclass, 'partshift.job'::regclass)
			OR c.oid IN (SELECT reltoastrelid FROM pg_class WHERE oid = 'shop.sale'::regclass);
});

my $waits = as('keeper', q{SELECT partshift.convert('shop.waits', 'range', 'id',
	bounds => '[1, 50, 200]', swap => 'manual')});
reach($node, $waits, 'ready, active');
my $done = as('keeper', q{SELECT partshift.convert('shop.sale', 'hash', 'id', partitions => 2)});
reach($node, $done, 'done, active');

query(<<'SQL');
	INSERT INTO public.value SELECT 'oid', o FROM (SELECT shadow FROM partshift.job
		UNION SELECT log FROM partshift.job UNION SELECT inhrelid FROM pg_inherits
		UNION SELECT oid FROM pg_roles WHERE rolname IN ('keeper', 'stranger', 'pg_monitor')
		UNION SELECT oid FROM pg_constraint WHERE conrelid = 'shop.line'::regclass
		UNION SELECT min(oid) FROM pg_proc UNION SELECT oid FROM pg_type WHERE typname = 'pair'
		UNION SELECT unnest('{0, 1, 4294967295}'::oid[])) x (o) WHERE o IS NOT NULL;
	DROP TABLE shop.gone;
	INSERT INTO public.value SELECT 'regclass', value FROM public.value WHERE type = 'oid';
	INSERT INTO public.value SELECT t, v FROM (VALUES
		('integer', '{0, 1, 2, 3, -1, 63, 2147483647, -2147483648}'::text[]),
		('bigint', '{0, 1, 2, -1, 9223372036854775807, -9223372036854775808}'),
		('numeric', '{0, 1, -1, NaN, Infinity, 1e400, 0.000000001}'),
		('double precision', '{0, 1, -1, NaN, Infinity, -Infinity, 1e308, 1e-300}'),
		('boolean', '{true, false}'),
		('"char"', '{a, c, n, "", x}'),
		('interval', '{0, 1 day, 1 month, -1 hour, 178000000 years, 0.000001 s}'),
		('timestamp with time zone', '{2026-01-01, infinity, -infinity, 4713-01-01 BC, 294276-01-01}'),
		('timestamp without time zone', '{2026-01-01, infinity, -infinity, 4713-01-01 BC, 294276-01-01}'),
		('timestamp without time zone[]', '{"{}", "{NULL}", "{2026-01-01, infinity}", "[3:4]={2026-01-01,2026-02-01}"}'),
		('smallint[]', '{"{}", "{NULL}", "{1}", "{-1,0,32767}", "{{1},{2}}", "[5:5]={1}"}'),
		('oid[]', '{"{}", "{NULL}", "{0}", "{1259,1259}", "{{1259},{0}}", "[5:5]={1259}"}'),
		('name[]', '{"{}", "{NULL}", "{id}", "{id,id}", "{{id},{nosuch}}", "[5:5]={id}"}'),
		('jsonb', ARRAY['{}', '[]', 'null', '1', '"x"', '{"partitions": 2}', '{"partitions": -1e400}',
			'{"partitions": 2, "workers": 65}', '{"every": "1 month", "premake": 1e9}', '{"every": ""}',
			'{"bounds": []}', '{"bounds": [null, {}]}', '{"bounds": {"a": [1, 2, 3], "": ["x", null]}}',
			'{"bounds": [1, "MAXVALUE"]}', '{"lists": {"a": [1, [2]]}}', '{"lists": {"": ["x"]}}',
			'{"timezone": "x/y"}', '{"name_format": "{"}', '{"nonsense": {"a": [{}]}}',
			'[{"oid": 0, "added": null}, null, 5]', '[{"severity": "error", "sqlstate": "nope"}]',
			'{"leaves": [{"name": null}], "indexes": {}}', '{"legacy_name": "", "swap": "manual"}'])) x (t, vs),
		unnest(vs) v;
	INSERT INTO public.value SELECT t, v FROM unnest('{text, name}'::text[]) t,
		unnest(ARRAY['', 'id', 'day', 'hash', 'range', 'list', 'abort', 'pause', 'swap', 'verify', 'rollback',
			'1 month', 'UTC', '%I %s', '$1', E'a''b"c\\\\d', E'line\nbreak', 'SELECT 1', 'SELECT', 'NULL', '-1', '1e400',
			repeat('x', 70), repeat(U&'\00E4', 40), '(', '{table}_{bound}', 'id, day', '"id"']) v;
	INSERT INTO public.value SELECT 'text', repeat('a"', 100000);
	INSERT INTO public.value SELECT 'text[]', value FROM public.value WHERE type = 'name[]';
	INSERT INTO public.value SELECT 'partshift.job', j::text FROM partshift.job j;
	INSERT INTO public.value SELECT DISTINCT ON (t) t, '(' || repeat(',', n - 1) || ')' FROM (
		SELECT c.oid::regclass::text, (SELECT count(*) FROM pg_attribute a
			WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)::integer
		FROM pg_class c WHERE c.relnamespace = 'partshift'::regnamespace AND c.relkind IN ('c', 'r', 'v')
			OR c.oid IN ('pg_constraint'::regclass, 'pg_attribute'::regclass)) x (t, n);
	INSERT INTO public.value SELECT t || '[]', v FROM unnest('{partshift.leaf, partshift.finding, partshift.stretch}'::text[]) t,
		unnest('{"{}", "{NULL}", "{{NULL,NULL}}"}'::text[]) v;
	INSERT INTO public.value SELECT '"any"', '1';
	INSERT INTO public.value SELECT 'pg_node_tree', NULL;
	DELETE FROM public.value WHERE value IS NULL AND type <> 'pg_node_tree';
SQL

is(query(q{SELECT DISTINCT format_type(t, NULL) FROM pg_proc, unnest(proargtypes) t
	WHERE pronamespace = 'partshift'::regnamespace
		AND format_type(t, NULL) NOT IN (SELECT type FROM public.value)}),
	'', 'there are values of every type of an argument');

# Call each routine that the role may call, with all arguments null and then
# at random; what it has done is undone, unless it shall stay.
query(q{
	CREATE PROCEDURE public.fuzz(seed double precision, calls integer)
	LANGUAGE plpgsql AS $$
	DECLARE
		f record;
		call text;
		state text;
		message text;
	BEGIN
		PERFORM setseed(seed);
		FOR f IN SELECT p.oid, p.proname, p.proargtypes::oid[] AS types,
				CASE WHEN p.provariadic <> 0 THEN p.pronargs END AS variadic, n
			FROM pg_proc p, generate_series(0, calls) n
			WHERE p.pronamespace = 'partshift'::regnamespace AND p.prokind <> 'p'
				AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
				AND has_function_privilege(p.oid, 'EXECUTE')
				AND (n = 0 OR p.pronargs > 0)
			ORDER BY p.proname, p.oid, n
		LOOP
			SELECT format('SELECT count(r::text) FROM partshift.%I(%s) r', f.proname,
				string_agg(CASE WHEN a.i = f.variadic THEN 'VARIADIC ' ELSE '' END || CASE WHEN f.n = 0 OR random() < 0.05 THEN 'NULL'
					ELSE quote_nullable((SELECT v.value FROM public.value v
						WHERE v.type = format_type(a.t, NULL) ORDER BY random(), a.i LIMIT 1)) END
					|| '::' || format_type(a.t, NULL), ', ' ORDER BY a.i))
			INTO call FROM unnest(f.types) WITH ORDINALITY a (t, i);
			BEGIN
				EXECUTE call;
				RAISE SQLSTATE '0000Z';
			EXCEPTION WHEN OTHERS THEN
				state := SQLSTATE;
				message := SQLERRM;
			END;
			INSERT INTO public.result VALUES (session_user, state, left(call, 400), left(message, 400));
			COMMIT;
		END LOOP;
	END $$});

# All that a caller could have changed for good.
sub everything
{
	return join "\n", definitions($node), query(q{
		SELECT (to_jsonb(j) - 'worker_pid')::text FROM partshift.job j UNION ALL SELECT t::text FROM partshift.task t
		UNION ALL SELECT d::text FROM partshift.dropout d
		UNION ALL SELECT concat_ws(' ', rolname, rolsuper, rolcreaterole) FROM pg_roles
		UNION ALL SELECT concat_ws(' ', id, note) FROM shop.sale
		UNION ALL SELECT concat_ws(' ', id, note) FROM shop.waits
		ORDER BY 1});
}

my $before = everything();

for my $role ('stranger', 'keeper', 'postgres')
{
	subtest $role => sub {
		my $from = -s $node->logfile;
		my ($code, $out, $err) = $node->psql('postgres',
			"SET SESSION AUTHORIZATION $role; SET search_path = pg_catalog;
			SET statement_timeout = '20min'; SET lock_timeout = '500ms';
			CALL public.fuzz(" . $seed / 1000 . ", $calls)");

		is($code, 0, 'the server lives') or diag($err);
		is(query("SELECT count(*) > 50 FROM public.result WHERE role = '$role'"), 't', 'functions were called');
		is(query("SELECT call || ': ' || message FROM public.result
			WHERE role = '$role' AND state LIKE 'XX%' AND message !~ '$describe' LIMIT 20"), '', 'no internal error');
		note(query("SELECT string_agg(s || ': ' || n, ', ') FROM (SELECT left(state, 2), count(*)
			FROM public.result WHERE role = '$role' GROUP BY 1 ORDER BY 1) x (s, n)"));
		unlike(slurp_file($node->logfile, $from), qr/PANIC|TRAP|terminated by signal/, 'nothing crashed');
		same_definitions($before, everything(), 'nothing has changed');
	};
}

# What a role may not call is refused before anything else.  (A strict
# function of a null is no call.)
is(as('stranger', q{DO $$
	DECLARE
		f regprocedure;
	BEGIN
		FOR f IN SELECT p.oid FROM pg_proc p WHERE p.pronamespace = 'partshift'::regnamespace
			AND NOT has_function_privilege(p.oid, 'EXECUTE') AND p.prokind = 'f' AND NOT p.proisstrict
			AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
		LOOP
			BEGIN
				EXECUTE format('SELECT partshift.%I(%s)', (SELECT proname FROM pg_proc WHERE oid = f),
					(SELECT string_agg(CASE WHEN provariadic <> 0 AND n = pronargs THEN 'VARIADIC ' ELSE '' END
							|| 'NULL::' || format_type(t, NULL), ', ' ORDER BY n)
					 FROM pg_proc, unnest(proargtypes) WITH ORDINALITY u (t, n) WHERE oid = f));
				RAISE 'called %', f;
			EXCEPTION WHEN insufficient_privilege THEN
				NULL;
			END;
		END LOOP;
	END $$; SELECT 'refused'}), 'refused', 'internal functions are refused to a plain role');

# Another's table and jobs, by every function of the interface.
for my $call ("convert('shop.bare', 'hash', 'a', partitions => 2)", "plan('shop.light', 'hash', 'id', partitions => 2)",
	"create_job('pg_class', 'hash', 'oid', '{}')", "plan_job('shop.sale_note', 'hash', 'oid', '{}')",
	"alter_job($waits, workers => 1)", "order_job($waits, 'nonsense')",
	map { "$_($waits)" } qw(pause resume abort swap rollback finalize verify))
{
	like(($node->psql('postgres', "SET SESSION AUTHORIZATION stranger; SELECT partshift.$call"))[2],
		qr/ERROR:  (must be owner|permission denied)/, "refused: $call");
}
for my $number ($waits, 'NULL', 0, -1, 2147483647)
{
	like(($node->psql('postgres', "SET SESSION AUTHORIZATION stranger; CALL partshift.wait($number)"))[2],
		qr/ERROR:  job (?:\S+ does not exist|must not be null)/, "wait($number) says nothing");
}

# The trigger functions, as triggers of every kind, with and without arguments.
subtest 'triggers' => sub {
	my $from = -s $node->logfile;
	my @functions = split /\n/, query(q{SELECT proname FROM pg_proc
		WHERE pronamespace = 'partshift'::regnamespace AND prorettype = 'trigger'::regtype});
	my ($sql, $code, $err);

	query(q{CREATE TABLE public.aim (id text, n integer); CREATE TABLE public.tried (id integer PRIMARY KEY, n integer);
		CREATE TABLE public.tried_parts (id integer PRIMARY KEY, n integer) PARTITION BY RANGE (id);
		CREATE TABLE public.tried_part PARTITION OF public.tried_parts DEFAULT;
		CREATE VIEW public.tried_view AS SELECT * FROM public.tried;
		GRANT TRIGGER, INSERT, SELECT ON public.tried TO stranger});
	is(@functions + 0, 11, 'the functions are found');
	for my $function (@functions)
	{
		like(($node->psql('postgres', "SET SESSION AUTHORIZATION stranger;
			CREATE TRIGGER x AFTER INSERT ON public.tried FOR EACH ROW EXECUTE FUNCTION partshift.$function()"))[2],
			qr/ERROR:  permission denied for function/, "$function is not for a plain role");
	}
	$sql = "SET client_min_messages = error;\n";
	for my $function (@functions)
	{
		for my $table ('tried', 'tried_parts', 'tried_view')
		{
			for my $kind ('BEFORE %s ROW', 'AFTER %s ROW', 'AFTER %s STATEMENT', 'BEFORE %s STATEMENT', 'INSTEAD OF %s ROW')
			{
				for my $arguments ('', "'1'", "'1', 'public.aim'", '1, AIM, HOME, BASE', '1, AIM, HOME, BASE, id',
					'1, AIM, HOME, BASE, id, n', '1, HOME, HOME, BASE, id', '1, 1259, HOME, BASE, oid', "x, y, z, '', ''",
					'1, 0, HOME, BASE, id', '1, HOME, HOME, BASE, xmin', '1, AIM, HOME, BASE' . ', id' x 40)
				{
					my ($when, $level) = split / %s /, $kind;
					my $a = $arguments =~ s/AIM/' || 'public.aim'::regclass::oid || '/gr
					  =~ s/HOME/' || 'public.$table'::regclass::oid || '/gr
					  =~ s/BASE/' || (SELECT oid FROM pg_database WHERE datname = current_database()) || '/gr;

					my $create = "CREATE TRIGGER x $when INSERT OR UPDATE OR DELETE"
					  . ($level eq 'STATEMENT' && $table ne 'tried_view' ? ' OR TRUNCATE' : '')
					  . " ON public.$table FOR EACH $level EXECUTE FUNCTION partshift.$function(";

					$sql .= "SELECT public.fire('$table', " . ($arguments =~ /AIM|HOME/ ? "'" . ($create =~ s/'/''/gr) . "$a)'"
						: "'" . ("$create$arguments)" =~ s/'/''/gr) . "'") . ");\n";
				}
			}
		}
	}
	query(q{CREATE FUNCTION public.fire(tab text, command text) RETURNS text LANGUAGE plpgsql AS $$
		DECLARE
			write text;
		BEGIN
			BEGIN
				EXECUTE command;
			EXCEPTION WHEN OTHERS THEN
				RETURN SQLSTATE;
			END;
			FOREACH write IN ARRAY '{INSERT INTO %I VALUES (1),UPDATE %I SET id = 5,DELETE FROM %I,TRUNCATE %I}'::text[] LOOP
				BEGIN
					EXECUTE format('INSERT INTO public.%I VALUES (2, 2)', tab) ;
				EXCEPTION WHEN OTHERS THEN
					INSERT INTO public.result VALUES ('trigger', SQLSTATE, command, SQLERRM);
				END;
				BEGIN
					EXECUTE format(write, tab);
				EXCEPTION WHEN OTHERS THEN
					INSERT INTO public.result VALUES ('trigger', SQLSTATE, command || ' ' || write, SQLERRM);
				END;
			END LOOP;
			EXECUTE format('DROP TRIGGER x ON public.%I', tab);
			EXECUTE 'DELETE FROM public.tried; DELETE FROM public.tried_parts';
			RETURN NULL;
		END $$});
	($code, undef, $err) = $node->psql('postgres', $sql, on_error_stop => 0);
	is($code, 0, 'the server lives') or diag($err);
	is(query("SELECT count(*) > 100 FROM public.result WHERE role = 'trigger'"), 't', 'triggers refused to fire');
	is(query("SELECT DISTINCT call || ': ' || message FROM public.result WHERE role = 'trigger'
		AND state LIKE 'XX%' LIMIT 20"), '', 'no internal error');
	unlike(slurp_file($node->logfile, $from), qr/PANIC|TRAP|terminated by signal/, 'nothing crashed');
};

# Functions of event triggers, at other events than theirs.
for my $event ('ddl_command_start', 'ddl_command_end', 'sql_drop', 'table_rewrite')
{
	for my $function (split /\n/, query(q{SELECT proname FROM pg_proc
		WHERE pronamespace = 'partshift'::regnamespace AND prorettype = 'event_trigger'::regtype}))
	{
		my ($code, undef, $err) = $node->psql('postgres', "BEGIN;
			CREATE EVENT TRIGGER x ON $event EXECUTE FUNCTION partshift.$function();
			CREATE TABLE public.made (id integer); ALTER TABLE public.made ALTER id TYPE bigint; DROP TABLE public.made;
			ROLLBACK");

		unlike($err, qr/XX\d{3}|connection|internal/, "$function at $event");
	}
}
like(($node->psql('postgres', "SELECT partshift.$_()"))[2],
	qr/ERROR:.*(?:was not called|can only be called)/, "$_() is not for queries")
  for split /\n/, query(q{SELECT proname FROM pg_proc WHERE pronamespace = 'partshift'::regnamespace
	AND prorettype IN ('trigger'::regtype, 'event_trigger'::regtype)});

query("SELECT partshift.finalize($done)");
ended($node, $done, 'finalized');
query("SELECT partshift.swap($waits)");
reach($node, $waits, 'done, active');
done_testing();
