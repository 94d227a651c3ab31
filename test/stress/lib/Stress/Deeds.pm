=head1 NAME

Stress::Deeds - what an operator, or misfortune, does to a job

=head1 DESCRIPTION

Stress::Operator's base class.  Each deed is drawn from its number, so that a
replay draws the same ones.

=cut

package Stress::Deeds;

use strict;
use warnings;

use Stress::Checks;
use Stress::Random;
use Time::HiRes qw(usleep);

# Deeds that are for the tables, and those for processes and orders.
my @to_tables = (
	\&vacuum_full, (\&vacuum_full_leaf) x 2, (\&vacuum_full_log) x 2, \&cluster, \&vacuum,
	\&analyze, (\&forbidden) x 2, \&reindex, \&reindex_concurrently, (\&compare) x 4);
my @to_others = (
	(\&pause) x 2, (\&alter) x 2, \&abort, (\&kill_process) x 2, (\&terminate_worker) x 2,
	\&cancel_worker, (\&terminate_writer) x 2, \&restart, \&compare, \&verify,
	(\&old_snapshot) x 2, \&hold_lock, \&checkpoint);

sub deed
{
	my ($o, $state) = @_;

	stream($o->{schema}{seed}, 'deed', ++$o->{deed});
	if (chance(70))
	{
		my $deed = one_of(@to_tables, @to_others);

		$o->_persist(sub { $deed->($o, $state) });
	}
	return;
}

# Hold the job in its phase, do several things to its tables, let it go.
sub linger
{
	my ($o, $state) = @_;

	stream($o->{schema}{seed}, 'linger', $o->{lingers}--);
	$o->_try("SELECT partshift.pause($o->{job})") or return;
	$o->did("linger in $state->{phase}");
	for (1 .. between(2, 5))
	{
		my $deed = one_of(@to_tables);

		usleep(1000 * between(0, 700));
		$o->_persist(sub { $deed->($o, $state) });
	}
	$o->_persist(sub { $o->_try("SELECT partshift.resume($o->{job})") });
	return;
}

# A process was ended, or the server.
sub stopped
{
	my ($o, $what, $state) = @_;

	$o->{stopped}{ $state->{phase} . ($state->{reverse} ne '0' ? ', on the way back' : '') }++;
	$o->did($what);
	return;
}

sub did { my ($o, $what) = @_; $o->{done}{$what}++; $o->{session}->note("-- $what"); return; }

sub _patient { my ($o, @sql) = @_; return $o->_try("SET lock_timeout = '500ms'", @sql, 'RESET lock_timeout'); }

# ----- orders --------------------------------------------------------------

sub pause
{
	my ($o) = @_;

	$o->_try("SELECT partshift.pause($o->{job})") or return;
	$o->did('pause');
	usleep(1000 * between(0, 1500));
	$o->_try("SELECT partshift.resume($o->{job})");
	return;
}

sub alter
{
	my ($o) = @_;

	$o->_try("SELECT partshift.alter_job($o->{job}, workers => " . between(1, 4)
		  . ', cost_delay => ' . one_of(0, 2, 10) . ')') && $o->did('alter_job');
	return;
}

sub abort
{
	my ($o) = @_;

	return if $o->{aborts} == 0 || chance(50);
	$o->_try("SELECT partshift.abort($o->{job})") or return;
	$o->{aborts}--;
	$o->did('abort');
	return;
}

# The conversion's own comparison.
sub verify
{
	my ($o) = @_;
	my $state = $o->state;

	return if $state->{request} || $state->{phase} !~ /done|ready/;
	$o->_try("SELECT partshift.verify($o->{job})") or return;
	$o->did('verify');
	return;
}

# ----- tables --------------------------------------------------------------

# Names of the shadow's or the new table's leaves, or of the logs.
sub _tables
{
	my ($o, $of) = @_;

	return map { $_->[0] } @{ $o->{session}->rows("SELECT format('%I.%I', n.nspname, c.relname) FROM partshift.job AS j"
		  . ($of eq 'leaves' ? ' JOIN pg_inherits AS i ON i.inhparent = j.shadow' : '')
		  . ' JOIN pg_class AS c ON c.oid ' . ($of eq 'leaves' ? '= i.inhrelid' : 'IN (j.log, j.postponed)')
		  . " JOIN pg_namespace AS n ON n.oid = c.relnamespace"
		  . " WHERE j.job_id = $o->{job} ORDER BY c.oid") };
}

sub vacuum_full
{
	my ($o) = @_;

	$o->_patient("VACUUM FULL $o->{schema}{table}") && $o->did('VACUUM FULL');
	return;
}

# Until reconcile has ended a leaf may have a stale row besides one that has
# taken its unique value; whoever builds an index of it anew meets both.
sub _of_leaf
{
	my ($o, $state, @sql) = @_;
	local $o->{accepted} = '23505' if $state->{phase} =~ /^(index|mirror|reconcile)$/;

	return $o->_patient(@sql);
}

sub vacuum_full_leaf
{
	my ($o, $state) = @_;
	my @leaves = $o->_tables('leaves') or return;

	$o->_of_leaf($state, 'VACUUM FULL ' . one_of(@leaves)) && $o->did('VACUUM FULL of a leaf');
	return;
}

sub vacuum_full_log
{
	my ($o) = @_;

	for my $log ($o->_tables('logs'))
	{
		$o->_patient("VACUUM FULL $log") && $o->did('VACUUM FULL of a log');
	}
	return;
}

# Without the mark, which would be a change of the definition.
sub cluster
{
	my ($o, $state) = @_;
	my $t = $o->{schema}->quote($o->{schema}{table});

	return if $state->{phase} eq 'done' || $o->{schema}{parted};
	$o->_patient('BEGIN', "CLUSTER $o->{schema}{table} USING t_own",
		'SET LOCAL allow_system_table_mods = on',
		"UPDATE pg_index SET indisclustered = false WHERE indrelid = $t\::regclass", 'COMMIT')
	  && $o->did('CLUSTER');
	return;
}

sub vacuum
{
	my ($o) = @_;

	$o->_patient('VACUUM ' . one_of('', '(FREEZE)', '(FREEZE, DISABLE_PAGE_SKIPPING)')
		  . " $o->{schema}{table}") && $o->did('VACUUM');
	return;
}

sub analyze { my ($o) = @_; $o->_patient("ANALYZE $o->{schema}{table}") && $o->did('ANALYZE'); return; }

sub reindex
{
	my ($o, $state) = @_;
	my $table = one_of($o->{schema}{table}, $o->_tables('leaves'));
	my $done = $table eq $o->{schema}{table} ? $o->_patient("REINDEX TABLE $table")
	  : $o->_of_leaf($state, "REINDEX TABLE $table");

	$o->did('REINDEX') if $done;
	return;
}

# One that is refused by name goes unseen when it is of the whole schema.
sub reindex_concurrently
{
	my ($o) = @_;
	my @indexes = map { $_->[0] } @{ $o->{session}->rows(
		"SELECT format('stress.%I', relname) FROM pg_class WHERE relkind = 'i'"
		  . " AND relnamespace = 'stress'::regnamespace ORDER BY oid") };
	my $what = chance(20) ? 'SCHEMA CONCURRENTLY stress'
	  : 'INDEX CONCURRENTLY ' . one_of(@indexes);

	local $o->{accepted} = '23505';
	$o->{reindexed} = 1;
	if ($o->_try("REINDEX $what")) { $o->did('REINDEX CONCURRENTLY'); }
	elsif ($o->{refusal_state} eq '55006') { $o->did('REINDEX CONCURRENTLY refused'); }
	else
	{
		$o->_try("DROP INDEX $_->[0]") for @{ $o->{session}->rows(
			'SELECT indexrelid::regclass FROM pg_index AS i JOIN pg_class AS c ON c.oid = indexrelid'
			  . " WHERE NOT indisvalid AND c.relkind = 'i' AND c.relname ~ '_cc(new|old)'"
			  . " AND relnamespace = 'stress'::regnamespace") };
	}
	return;
}

# What must be refused before the swap, and is undone where it is not.
sub forbidden
{
	my ($o) = @_;
	my $t = $o->{schema}{table};
	my ($leaf, $log) = (($o->_tables('leaves'))[0], ($o->_tables('logs'))[0]);
	my $sql = one_of(("CREATE INDEX t_more ON $t (at)") x 3, "ALTER TABLE $t ADD more integer",
		"ALTER TABLE $t RENAME tag TO flag", "GRANT SELECT ON $t TO PUBLIC",
		"COMMENT ON COLUMN $t.n IS 'number'", "ALTER TABLE $t DISABLE TRIGGER ALL",
		"CREATE FUNCTION stress.v($t) RETURNS integer LANGUAGE sql AS 'SELECT 1'",
		'DROP INDEX stress.t_own',
		$leaf ? "ALTER TABLE $leaf SET (fillfactor = 60)" : (), $log ? "ALTER TABLE $log ADD more integer" : ());

	if (!$o->_patient('BEGIN', $sql))
	{
		$o->did($sql =~ /^CREATE INDEX/ ? 'CREATE INDEX refused' : 'other DDL refused')
		  if $o->{refusal_state} eq '55006';
		return;
	}
	my $phase = $o->{session}->value("SELECT phase FROM partshift.job WHERE job_id = $o->{job}"
		  . " AND status IN ('active', 'paused') AND phase <> 'done' AND NOT reverse");

	$o->{session}->run('ROLLBACK');
	$o->did('DDL after the swap');
	$o->fail("not refused in phase $phase: $sql") if $phase;
	return;
}

# Both tables, in one snapshot, if they must be equal now.
sub compare
{
	my ($o) = @_;
	my ($found, @bad) = equal_tables($o->{session}, $o->{schema}, $o->{job});

	$o->did('comparison') if $found;
	$o->fail('source and shadow differ', @bad) if @bad;
	return;
}

# ----- processes -----------------------------------------------------------

sub _processes
{
	my ($o, $condition) = @_;

	return map { $_->[0] } @{ $o->{session}->rows("SELECT pid FROM pg_stat_activity"
		  . " WHERE $condition AND datname = current_database() ORDER BY backend_start") };
}

sub _workers { my ($o) = @_; return $o->_processes("backend_type = 'partshift worker'"); }
sub _writers { my ($o) = @_; return $o->_processes("usename = 'stress_app'"); }

# The server takes every process down with the killed one.
sub kill_process
{
	my ($o, $state) = @_;
	my $whose = chance(75) ? 'worker' : 'writer';
	my @pids = $whose eq 'worker' ? $o->_workers : $o->_writers;

	return if !@pids || $o->{crashes} <= 0 || chance(50);
	$o->{crashes}--;
	kill 'KILL', one_of(@pids);
	$o->stopped("kill -9 of a $whose", $state);
	usleep(500_000);
	$o->{session}->connect;
	$o->{preloaded_restart} = 0;
	return;
}

sub terminate_worker
{
	my ($o, $state) = @_;
	my @pids = $o->_workers or return;

	$o->_try('SELECT pg_terminate_backend(' . one_of(@pids) . ')');
	$o->stopped('pg_terminate_backend of a worker', $state);
	return;
}

# The job then fails, and is to be resumed.
sub cancel_worker
{
	my ($o, $state) = @_;
	my @pids = $o->_workers or return;

	$o->{cancelled} = 1;
	$o->_try('SELECT pg_cancel_backend(' . one_of(@pids) . ')');
	$o->stopped('pg_cancel_backend of a worker', $state);
	return;
}

sub terminate_writer
{
	my ($o) = @_;
	my @pids = $o->_writers or return;

	$o->_try('SELECT pg_terminate_backend(' . one_of(@pids) . ')');
	$o->did('pg_terminate_backend of a writer');
	return;
}

sub restart
{
	my ($o, $state) = @_;
	my $mode = one_of('immediate', 'immediate', 'fast');

	return if $o->{crashes} <= 0 || chance(50);
	$o->{crashes}--;
	$o->stopped("restart of the server, $mode", $state);
	$o->{server}->restart($mode);
	$o->{session}->connect;
	$o->{preloaded_restart} = $o->{schema}{preload};
	return;
}

sub checkpoint { my ($o) = @_; $o->_try('CHECKPOINT') && $o->did('CHECKPOINT'); return; }

sub old_snapshot
{
	my ($o) = @_;

	$o->_try('BEGIN ISOLATION LEVEL REPEATABLE READ', 'SELECT count(*) FROM stress.marker') or return;
	usleep(1000 * between(100, 2500));
	$o->_try('COMMIT');
	$o->did('old snapshot held');
	return;
}

sub hold_lock
{
	my ($o) = @_;

	$o->_patient('BEGIN', "LOCK TABLE $o->{schema}{table} IN ROW EXCLUSIVE MODE") or return;
	usleep(1000 * between(100, 1500));
	$o->_try('COMMIT', 'RESET lock_timeout');
	$o->did('lock held');
	return;
}

1;
