=head1 NAME

PartshiftTest - what the tests of this directory share

=head1 DESCRIPTION

A server with room for conversions, waiting for a phase, comparing two tables
in one snapshot, writing down a database's definitions, and pgbench in the
background.  Nothing here relies on what it tests: it reads catalogs and the
job's row, and compares by SQL.

=cut

package PartshiftTest;

use strict;
use warnings;

use Exporter 'import';
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

our @EXPORT = qw(
  new_server start_job job_state reach ended await fast differences equal_tables
  definitions catalog_rows triggers_of internal_names same_definitions
  load_start load_stop load_lines server_errors hold release ask
);

my $patience = $PostgreSQL::Test::Utils::timeout_default || 180;

# A server with the extension; further arguments are lines of configuration.
sub new_server
{
	my ($name, @lines) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init(allows_streaming => 1);
	$node->append_conf('postgresql.conf', join("\n", <<'CONF', @lines) . "\n");
max_worker_processes = 32
max_prepared_transactions = 20
max_connections = 40
shared_buffers = 64MB
autovacuum_naptime = 1s
log_statement = none
log_line_prefix = '%m [%p] %a %e '
timezone = UTC
statement_timeout = 2min
CONF
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION partshift');
	return $node;
}

# Start a conversion, with the text of convert()'s arguments; its number.
sub start_job
{
	my ($node, $arguments, $database) = @_;

	return $node->safe_psql($database || 'postgres',
		"SELECT partshift.convert($arguments)");
}

# "phase, status", and the error if there is one.
sub job_state
{
	my ($node, $job, $database) = @_;

	return $node->safe_psql($database || 'postgres', qq{
		SELECT concat_ws(', ', phase, status, request,
			error_sqlstate || ' ' || error_message)
		FROM partshift.job WHERE job_id = $job});
}

# Wait until a query's only value is true; a failed test when that takes too
# long.
sub await
{
	my ($node, $query, $database) = @_;
	my $until = time + $patience;

	while (time < $until)
	{
		return 1
		  if $node->safe_psql($database || 'postgres', $query) eq 't';
		usleep(50_000);
	}
	return fail("it becomes true: $query");
}

# Wait until a job is in a state, which is a test; the job's end, or its
# failure, is the end of the wait.
sub reach
{
	my ($node, $job, $wanted, $database) = @_;
	my $until = time + $patience;
	my $is;

	do
	{
		$is = job_state($node, $job, $database);
		if ($is eq $wanted)
		{
			pass("job is in state: $wanted");
			return 1;
		}
		usleep(50_000);
	} while (time < $until && $is =~ /, active/);
	is($is, $wanted, "job is in state: $wanted");
	return 0;
}

# Wait for one of the states that a job ends in.
sub ended
{
	my ($node, $job, $status, $database) = @_;

	await($node, qq{
		SELECT status IN ('failed', '$status') FROM partshift.job
		WHERE job_id = $job}, $database);
	return is(
		$node->safe_psql($database || 'postgres', qq{
			SELECT concat_ws(' ', status, error_message)
			FROM partshift.job WHERE job_id = $job}),
		$status, "job ends as: $status");
}

# Let a job that was slowed down go on at full speed.
sub fast
{
	my ($node, $job) = @_;

	$node->safe_psql('postgres',
		"SELECT partshift.alter_job($job, cost_delay => 0)");
	return;
}

# The columns of a table, in their order, as a list for a query.
sub columns_of
{
	my ($node, $table, $database) = @_;

	return $node->safe_psql($database || 'postgres', qq{
		SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum)
		FROM pg_attribute WHERE attrelid = '$table'::regclass
			AND attnum > 0 AND NOT attisdropped});
}

# Rows that one table has and the other has not, in one snapshot; at most ten.
# Rows are compared as text, which tells apart what "=" may not.
sub differences
{
	my ($node, $one, $other, $database) = @_;
	my $columns = columns_of($node, $one, $database);
	my ($a, $b) =
	  map { "SELECT row($columns)::text AS r FROM $_" } ($one, $other);

	return $node->safe_psql($database || 'postgres', qq{
		WITH a AS MATERIALIZED ($a), b AS MATERIALIZED ($b)
		(SELECT 'only in $one: ' || r
		 FROM (TABLE a EXCEPT ALL TABLE b) x LIMIT 5)
		UNION ALL
		(SELECT 'only in $other: ' || r
		 FROM (TABLE b EXCEPT ALL TABLE a) x LIMIT 5)
		UNION ALL
		SELECT 'both are empty' WHERE NOT EXISTS (TABLE a)
			AND NOT EXISTS (TABLE b)});
}

sub equal_tables
{
	my ($node, $one, $other, $name, $database) = @_;

	return is(differences($node, $one, $other, $database), '', $name);
}

# The definitions of all that is in a database.
sub definitions
{
	my ($node, $database) = @_;
	my ($out, $err) = run_command([
		'pg_dump', '--schema-only', '-d',
		$node->connstr($database || 'postgres') ]);

	die "pg_dump failed: $err" if $out !~ /database dump complete/;
	$out =~ s/^\\(un)?restrict .*$//mg;
	return $out;
}

# Compare two of them, and show the lines that are in one only.
sub same_definitions
{
	my ($before, $after, $name) = @_;
	my %left;

	return 1 if ok($before eq $after, $name);
	$left{$_}++ for split /\n/, $before;
	$left{$_}-- for split /\n/, $after;
	diag(($left{$_} > 0 ? '- ' : '+ ') . $_)
	  for grep { $left{$_} } sort keys %left;
	diag("the lines are the same, in another order")
	  unless grep { $_ } values %left;
	return 0;
}

# What the catalogs hold, row by row: what a conversion that was undone may
# not have added to, nor taken from.
sub catalog_rows
{
	my ($node, $database) = @_;
	my @parts;
	my @described = qw(pg_class pg_type pg_proc pg_constraint pg_attrdef
	  pg_trigger pg_policy pg_namespace pg_statistic_ext pg_publication);

	push @parts,
	  "SELECT pg_describe_object('$_'::regclass, oid, 0) FROM $_"
	  for @described;
	push @parts, 'SELECT concat_ws($$ $$,'
	  . ' pg_describe_object(classid, objid, objsubid), deptype,'
	  . ' pg_describe_object(refclassid, refobjid, refobjsubid))'
	  . ' FROM pg_depend WHERE classid <> 0 AND objid >= 16384';
	push @parts, 'SELECT format($$%s %s %s$$, inhrelid::regclass,'
	  . ' inhparent::regclass, inhseqno) FROM pg_inherits';
	push @parts, 'SELECT format($$%s %s %s %s$$, attrelid::regclass, attname,'
	  . ' atthasdef, attacl) FROM pg_attribute WHERE attrelid >= 16384';
	push @parts, 'SELECT format($$%s %s %s %s %s %s %s %s$$, oid::regclass,'
	  . ' relacl, relhasindex, relhasrules, relowner, relrowsecurity,'
	  . ' relreplident, reloptions) FROM pg_class WHERE oid >= 16384';
	push @parts,
	  'SELECT format($$%s %s$$, seqrelid::regclass, seqtypid) FROM pg_sequence';
	return $node->safe_psql($database || 'postgres',
		'SELECT o FROM (' . join(' UNION ALL ', @parts) . ') x (o) ORDER BY 1');
}

# Every trigger of a table, those that users do not see included.
sub triggers_of
{
	my ($node, $table) = @_;

	return $node->safe_psql('postgres', qq{
		SELECT string_agg(concat_ws(' ', tgfoid::regproc, tgenabled,
			tgisinternal), E'\\n' ORDER BY tgfoid::regproc::text, oid)
		FROM pg_trigger WHERE tgrelid = '$table'::regclass});
}

# Relations and triggers that the extension made and that are not its own.
sub internal_names
{
	my ($node, $database) = @_;

	return $node->safe_psql($database || 'postgres', q{
		SELECT c.oid::regclass::text FROM pg_class c
		WHERE (c.relnamespace = 'partshift'::regnamespace AND NOT EXISTS (
				SELECT FROM pg_depend d JOIN pg_class m ON m.oid = d.objid
					LEFT JOIN pg_index i ON i.indrelid = m.oid
				WHERE d.deptype = 'e' AND c.oid IN (m.oid, i.indexrelid)
					OR d.deptype = 'i' AND d.classid = 'pg_class'::regclass
					AND d.objid = c.oid))
			OR c.relname ~ '_ps\d+(_\d+)?$|^(log|postponed)_\d+$'
		UNION ALL
		SELECT format('%s: %s', t.tgrelid::regclass, t.tgname)
		FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
		WHERE p.pronamespace = 'partshift'::regnamespace
			AND t.tgrelid <> 'partshift.job'::regclass
		UNION ALL
		SELECT nspname FROM pg_namespace WHERE nspname ~ '^partshift_'
		ORDER BY 1});
}

# Start pgbench with scripts, a hash of [weight, text] by name, until
# load_stop.  Retries what is class 40 and reports each error.
sub load_start
{
	my ($node, $scripts, @options) = @_;
	my $directory = PostgreSQL::Test::Utils::tempdir;
	my %load = (out => '', err => '');
	my @files;

	for my $name (sort keys %$scripts)
	{
		my ($weight, $text) = @{ $scripts->{$name} };

		append_to_file("$directory/$name", $text);
		push @files, '-f', "$directory/$name\@$weight";
	}
	local $ENV{PGHOST} = $node->host;
	local $ENV{PGPORT} = $node->port;
	$load{run} = IPC::Run::start(
		[
			$node->installed_command('pgbench'), '-n', '-T', 900,
			'--max-tries', 1000, '--verbose-errors', '-r', @options,
			@files, 'postgres' ],
		'<', \undef, '>', \$load{out}, '2>', \$load{err});
	return \%load;
}

# The number of lines that pgbench has written about errors.
sub load_lines
{
	my ($load, $pattern) = @_;

	return scalar grep { /$pattern/ } split /\n/, $load->{err};
}

# End it, in order: -T is kept by SIGALRM.  Every client must have come this
# far, and every script have been run; errors other than those that are
# retried end a client.
sub load_stop
{
	my ($load, $name) = @_;
	my ($unused, $done);

	$load->{run}->signal('ALRM');
	$load->{run}->finish;
	is($load->{run}->result(0), 0, "$name: no client met an error")
	  or diag($load->{err} =~ s/^.*repeats the transaction.*\n//mgr);
	unlike($load->{err}, qr/aborted/, "$name: no client was aborted");
	($done) = $load->{out} =~ /transactions actually processed: (\d+)/;
	cmp_ok($done || 0, '>', 0, "$name: transactions were processed");
	$unused = () = $load->{out} =~ /^ - 0 transactions/mg;
	is($unused, 0, "$name: every script was run")
	  or diag($load->{out});
	note("$done transactions; deadlocks: "
		  . load_lines($load, 'deadlock detected')
		  . ', serialization failures: '
		  . load_lines($load, 'could not serialize|to be locked was already'));
	return;
}

# Errors in the server's log, from a place on, without those that are tried
# again or that the server's own stop makes.
sub server_errors
{
	my ($node, $from) = @_;
	my $log = slurp_file($node->logfile, $from);

	return join "\n",
	  grep { /(ERROR|FATAL|PANIC): / && !/ (40001|40P01|55P03) / }
	  grep { !/canceling autovacuum task|due to administrator command/ }
	  split /\n/, $log;
}

# A session that goes on while the test does others' work: begin a
# transaction in it with some commands.
sub hold
{
	my ($node, $commands, $database) = @_;
	my %session = (in => '', out => '', err => '');

	$session{run} = IPC::Run::start(
		[
			$node->installed_command('psql'), '-XAtq', '-v',
			'ON_ERROR_STOP=1', '-d',
			$node->connstr($database || 'postgres') ],
		'<', \$session{in}, '>', \$session{out}, '2>', \$session{err},
		IPC::Run::timeout($patience));
	ask(\%session, "BEGIN; $commands");
	return \%session;
}

# Run commands in such a session; what they print.
sub ask
{
	my ($session, $commands) = @_;
	my $end = '= end of answer =';

	$session->{out} = '';
	$session->{in} = "$commands;\n\\echo $end\n";
	$session->{run}->pump
	  until $session->{out} =~ s/$end\n// || $session->{err} =~ /\S/;
	die $session->{err} if $session->{err} =~ /ERROR|FATAL/;
	chomp(my $answer = $session->{out});
	return $answer;
}

# End the sessions' transactions, and the sessions.
sub release
{
	for my $session (@_)
	{
		ask($session, 'ROLLBACK');
		$session->{in} = "\\q\n";
		$session->{run}->finish;
	}
	return;
}

1;
