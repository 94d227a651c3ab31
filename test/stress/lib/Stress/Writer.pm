=head1 NAME

Stress::Writer - a process that writes, and knows what it has written

=head1 DESCRIPTION

One transaction after the other, each drawn from the seed, the writer's number
and its own; one that fails for a permitted reason is made again.  Whether a
transaction whose end was not heard of has committed is told by a row that it
inserted with the rest.

A writer ends when told to by a file, leaves its model in another, and what it
saw that it should not have seen in a third.

=cut

package Stress::Writer;

use strict;
use warnings;

use DBD::Pg;
use Storable qw(nstore);
use Stress::Model;
use Stress::Moves;
use Stress::Random;
use Stress::Schema;
use Stress::Session;
use Stress::Shared;
use Stress::Tally;
use Time::HiRes qw(time usleep);

my $patience = 15;				# seconds for one statement

sub new
{
	my ($class, %args) = @_;
	my $w = bless { txn => 0, child => 0, target => 0, count => {}, %args }, $class;
	my $s = $w->{schema};

	$w->{model} = Stress::Model->new($s, $w->{number});
	for (my $kn = $w->{number} || $s->{writers}; $kn <= $s->{rows}; $kn += $s->{writers})
	{
		$w->{model}{row}{$kn} = $s->initial_row($kn);
	}
	return $w;
}

# ----- for the moves -------------------------------------------------------

sub run
{
	my ($w, $sql, $want) = @_;

	if ($w->{single})
	{
		$sql = $w->_marker . "; $sql";
		$w->{marked} = 1;
	}
	return said($w, $sql, $w->{session}->run($sql, $want));
}

sub rows
{
	my ($w, $sql) = @_;
	my $rows = $w->{session}->rows($sql);

	said($w, $sql, scalar @$rows);
	return $rows;
}

sub copy
{
	my ($w, $into, $lines) = @_;

	$w->{session}->copy($into, $lines);
	said($w, 'COPY', scalar @$lines);
	return;
}

# A point to which the transaction can be undone.
sub mark { my ($w) = @_; return [ $w->{model}->mark, scalar @{ $w->{said} } ]; }

sub undo_to
{
	my ($w, $mark) = @_;

	$w->{model}->undo($mark->[0]);
	splice @{ $w->{said} }, $mark->[1];
	return;
}
sub wrong { my ($w, $message) = @_; $w->{session}->fail($message); return; }

sub rest
{
	my ($w, $low, $high) = @_;

	my $rest = between($low, $high);

	return if $w->hurries;
	# Where tables are truncated all lock the table from their beginning.
	usleep(1000 * ($w->{schema}{truncates} ? $rest / 5 : $rest)) unless $w->{single};
	return;
}

# Told that the conversion must get its locks: no long transactions.
sub hurries { my ($w) = @_; return -e "$w->{directory}/hurry"; }

sub next_child { my ($w) = @_; return $w->{number} + $w->{schema}{writers} * ++$w->{child}; }
sub fresh_code { my ($w) = @_; return "w$w->{number}.$w->{txn}." . ++$w->{codes}; }

# What ON CONFLICT must name: it is longer after a swap that extends the key.
sub conflict_target
{
	my ($w) = @_;
	my $s = $w->{schema};

	return join ', ', $s->_key_columns, $w->{target} ? $s->{by} : ();
}

# Run what may meet an error; undef when it does, else its rows.
sub accepted
{
	my ($w, $state, $sql) = @_;
	my $rows;

	$w->{session}->run('SAVEPOINT trial') unless $w->{single};
	$rows = eval { $w->rows($sql) };
	return $rows if $rows;
	die $@ if !ref $@ || $@->{state} ne $state;
	$w->{session}->run('ROLLBACK TO trial') unless $w->{single};
	return;
}

# Run what must meet an error.
sub refused
{
	my ($w, $state, $sql) = @_;

	# An extended key that can be deferred may be checked at commit only.
	$w->{session}->run('SAVEPOINT trial') unless $w->{single};
	eval { $w->{session}->run($_) for $sql, $w->{single} ? () : 'SET CONSTRAINTS ALL IMMEDIATE' };
	$w->{session}->fail("not refused with $state", $sql) unless $@;
	die $@ if !ref $@ || $@->{state} ne $state;
	$w->{session}->run('ROLLBACK TO trial') unless $w->{single};
	return;
}

# ----- transactions --------------------------------------------------------

sub _marker
{
	my ($w) = @_;

	return "INSERT INTO stress.marker VALUES ($w->{number}, $w->{txn})";
}

# Whether the rows that the model has were truncated since.
sub _read_epoch
{
	my ($w) = @_;
	my $m = $w->{model};
	my $epoch = $w->{session}->value('SELECT last_value FROM stress.epoch');
	my $truncated = $epoch > $m->{epoch} && $w->{session}->value(
		"SELECT count(*) FROM stress.truncated WHERE epoch > $m->{epoch} AND epoch <= $epoch");

	$m->clear if $truncated;
	$m->final;
	$m->{epoch} = $epoch;
	return;
}

sub _begin
{
	my ($w) = @_;
	my $s = $w->{schema};

	$w->{session}->run("BEGIN ISOLATION LEVEL $w->{isolation}");
	if ($s->{truncates})
	{
		$w->{session}->run("LOCK TABLE $s->{table} IN ROW EXCLUSIVE MODE");
		$w->_read_epoch;
	}
	elsif (chance(12))
	{
		$w->{session}->rows('SELECT count(*) FROM stress.truncated');
		$w->rest(0, 800);
	}
	return;
}

# Draw the transaction and do it; its end is the caller's.
sub _body
{
	my ($w) = @_;
	my $m = $w->{model};
	my $contended = chance(30);

	$w->{isolation} = one_of(('READ COMMITTED') x 5, 'READ UNCOMMITTED',
		('REPEATABLE READ') x 4, 'SERIALIZABLE', 'SERIALIZABLE');
	$w->{contended} = $contended;
	$w->{single} = !$contended && !$w->{schema}{truncates} && chance(25);
	$w->{isolation} = 'READ COMMITTED' if $w->{single};
	$w->{ending} = one_of(('COMMIT') x 16, 'ROLLBACK', 'PREPARE');
	return random_move($w) if $w->{single};
	$w->_begin;
	for (1 .. one_of(1, 1, 2, 3, 4, 6))
	{
		if (chance(25))
		{
			my $mark = $w->mark;

			$w->{session}->run('SAVEPOINT s');
			$w->{savepoints} = 1;
			random_move($w) for 1 .. between(1, 2);
			if (chance(40))
			{
				$w->{session}->run('ROLLBACK TO s');
				$w->undo_to($mark);
			}
			elsif (chance(50)) { $w->{session}->run('RELEASE s'); }
		}
		else { random_move($w); }
		$w->rest(0, one_of(20, 100, 100, 600)) if chance(8);
	}
	shared_moves($w) if $contended;
	$w->{session}->run('SET CONSTRAINTS ALL IMMEDIATE'), $m->settle if chance(8);
	return;
}

sub _truncate
{
	my ($w) = @_;
	my $s = $w->{schema};
	my $epoch;

	$w->{truncating} = 1;
	$w->{contended} = 1;
	$w->{ending} = one_of('COMMIT', 'COMMIT', 'ROLLBACK');
	$w->{isolation} = one_of('READ COMMITTED', 'REPEATABLE READ');
	$w->{session}->run("BEGIN ISOLATION LEVEL $w->{isolation}");
	$w->{session}->run("SET LOCAL lock_timeout = '1s'");
	$w->{session}->run("LOCK TABLE $s->{table} IN ACCESS EXCLUSIVE MODE");
	$w->_read_epoch;
	$w->run("TRUNCATE $s->{table}, stress.c");
	$epoch = $w->{session}->value("SELECT nextval('stress.epoch')");
	$w->{session}->run("INSERT INTO stress.truncated VALUES ($epoch)", 1);
	$w->{model}->clear;
	$w->{new_epoch} = $epoch;
	random_move($w) for 1 .. below(4);
	return;
}

sub _prepare_transaction
{
	my ($w) = @_;

	$w->{gid} = "stress $w->{number} $w->{txn}";
	$w->{session}->run("PREPARE TRANSACTION '$w->{gid}'");
	usleep(1000 * between(0, one_of(50, 50, 100, 800)));
	$w->{session}->connect if chance(30);
	if (chance(70)) { $w->{session}->run("COMMIT PREPARED '$w->{gid}'"); }
	else
	{
		$w->{session}->run("ROLLBACK PREPARED '$w->{gid}'");
		$w->{rolled_back} = 1;
	}
	$w->{gid} = undef;
	return;
}

sub _end
{
	my ($w) = @_;

	return if $w->{single};
	if ($w->{ending} eq 'ROLLBACK')
	{
		$w->{session}->run('ROLLBACK');
		$w->{rolled_back} = 1;
		return;
	}
	$w->{session}->run($w->_marker, 1);
	$w->{marked} = 1;
	if ($w->{ending} eq 'PREPARE') { $w->_prepare_transaction; }
	else { $w->{session}->run('COMMIT'); }
	return;
}

sub _try
{
	my ($w) = @_;
	my $s = $w->{schema};

	stream($s->{seed}, 'writer', $w->{number}, $w->{txn});
	@$w{qw(marked rolled_back gid single codes new_epoch truncating savepoints)} =
	  (0, 0, undef, 0, 0, undef, 0, 0);
	$w->{said} = [];
	if ($s->{truncates} && chance(0.1)) { $w->_truncate; }
	else { $w->_body; }
	$w->_end;
	return;
}

# The transaction is over: keep what it did, or forget it.
sub _conclude
{
	my ($w, $committed) = @_;
	my $m = $w->{model};

	if ($committed)
	{
		$m->settle;
		$m->{epoch} = $w->{new_epoch} if $w->{new_epoch};
	}
	else { $m->undo(0); }
	$m->final;
	$w->{session}->note("transaction $w->{txn}: " . ($committed ? 'committed' : 'undone'));
	tally($w, $committed);
	return;
}

# The connection went: find out what became of the transaction.
sub _resolve
{
	my ($w) = @_;
	my $c = $w->{session};
	my $pid = $c->{pid};

	$w->{count}{lost}++;
	$c->connect;
	while ($c->value("SELECT count(*) FROM pg_stat_activity WHERE pid = $pid AND pid <> pg_backend_pid()"))
	{
		usleep(50_000);
	}
	return $c->run("COMMIT PREPARED '$w->{gid}'") || 1
	  if $w->{gid} && $c->value("SELECT count(*) FROM pg_prepared_xacts WHERE gid = '$w->{gid}'");
	return $w->{marked} && $c->value(
		"SELECT count(*) FROM stress.marker WHERE writer = $w->{number} AND txn = $w->{txn}");
}

# Whether an error is one that would be seen without a conversion, too.
sub _permitted
{
	my ($w, $error) = @_;
	my $state = $error->{state};

	# What refers to a table whose key is extended is filled by an update.
	return 1 if $state eq '40001' && $w->{isolation} eq 'REPEATABLE READ'
	  && $w->{schema}{extended} && $w->{schema}{child};
	return 1 if $state eq '40001' && ($w->{isolation} eq 'SERIALIZABLE'
		|| $w->{contended} && ($w->{isolation} eq 'REPEATABLE READ'
			|| $error->{message} =~ /moved to another partition/));
	return 1 if $state eq '53200' && $error->{message} =~ /RWConflictPool|max_pred_locks/;
	return 1 if $state eq '55P03' && $w->{truncating};
	if ($state eq '42P10' && $w->{schema}{extended})
	{
		$w->{target} = 1 - $w->{target};
		return 1;
	}
	return 0;
}

# One transaction, until it is over one way or the other.
sub _transaction
{
	my ($w) = @_;

	$w->{txn}++;
	for my $try (1 .. 30)
	{
		my $error;
		my $committed;

		eval { $w->_try; 1 } or $error = $@;
		if (!$error)
		{
			$w->_conclude(!$w->{rolled_back});
			return;
		}
		die $error unless ref $error;
		if ($error->{state} eq 'lost')
		{
			$committed = eval { $w->_resolve };
			while (ref $@ && $@->{state} eq 'lost' && getppid != 1) { $committed = eval { $w->_resolve }; }
			die $@ if $@;
			$w->_conclude($committed);
			return;
		}
		die $error unless $w->_permitted($error);
		$w->{count}{"error, $error->{state}"}++;
		eval { $w->{session}->run('ROLLBACK') } unless $w->{single};
		$w->{model}->undo(0);
		usleep(1000 * $try);
	}
	$w->_conclude(0);
	return;
}

# ----- the process ---------------------------------------------------------

# Told by a file, or by the end of who would have made it.
sub _told { my ($w, $what) = @_; return -e "$w->{directory}/$what" || getppid == 1 && $what eq 'stop'; }

sub _say
{
	my ($w, $what, $text) = @_;
	my $name = "$w->{directory}/$what.$w->{number}";

	open my $file, '>', "$name.new" or die "cannot write $name: $!";
	print $file $text;
	close $file;
	rename "$name.new", $name;
	return;
}

# Rest between transactions while the checks want a quiet table.
sub _pause
{
	my ($w) = @_;

	return unless $w->_told('pause');
	$w->{session}->note('resting');
	nstore($w->{model}, "$w->{directory}/model.$w->{number}");
	$w->_say(resting => '');
	usleep(20_000) while $w->_told('pause') && !$w->_told('stop');
	unlink "$w->{directory}/resting.$w->{number}";
	return;
}

sub _watch_stalls
{
	my ($w) = @_;

	for my $slow (@{ delete $w->{session}{slow} || [] })
	{
		my ($begin, $took, $sql) = @$slow;

		die { state => 'stall', message => sprintf('took %.1f s', $took), statement => $sql }
		  if $took > $patience;
	}
	return;
}

sub _settings
{
	my ($w) = @_;
	my $s = $w->{schema};
	my %type = (uuid => 'uuid', text => 'text', loose => 'text');

	return ["SET statement_timeout = '60s'", 'SET synchronous_commit = on',
		$w->{number} % 4 == 1 ? 'SET plan_cache_mode = force_generic_plan' : 'SET jit = off',
		$s->{key} eq 'composite'
		? "PREPARE bump (integer, bigint) AS UPDATE $s->{table} SET n = n + 1 WHERE grp = \$1 AND id = \$2"
		: 'PREPARE bump (' . ($type{ $s->{key} } || 'bigint')
		  . ") AS UPDATE $s->{table} SET n = n + 1 WHERE id = \$1"];
}

# Write until told to stop.
sub work
{
	my ($w) = @_;

	$w->{session} = Stress::Session->new(
		database => $w->{database}, role => 'stress_app', settings => $w->_settings,
		log => "$w->{log}/writer.$w->{number}");
	eval {
		$w->{session}->connect;
		until ($w->_told('stop'))
		{
			$w->_pause;
			$w->_transaction;
			$w->_watch_stalls;
			usleep(1000 * between(50, 300)) if $w->hurries;
		}
		1;
	} or $w->_say(failed => ref $@
		? "transaction $w->{txn}, $w->{isolation}: $@->{state}: $@->{message}\n\t$@->{statement}\n" : $@);
	nstore($w->{model}, "$w->{directory}/model.$w->{number}");
	$w->{count}{longest} = $w->{session}{longest};
	$w->_say(counts => join '', map { "$w->{count}{$_} $_\n" } sort keys %{ $w->{count} });
	$w->{session}->close;
	return;
}

1;
