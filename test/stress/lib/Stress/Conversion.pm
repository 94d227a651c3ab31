=head1 NAME

Stress::Conversion - one seed: a table, its writers, its operator, its checks

=cut

package Stress::Conversion;

use strict;
use warnings;

use POSIX ();
use Storable qw(retrieve);
use Stress::Checks;
use Stress::Operator;
use Stress::Random;
use Stress::Schema;
use Stress::Session;
use Stress::Watch;
use Stress::Writer;
use Time::HiRes qw(time usleep);

sub new
{
	my ($class, %args) = @_;
	my $r = bless { counts => {}, longest => {}, %args }, $class;

	$r->{schema} = Stress::Schema->new(map { $_ => $args{$_} } qw(seed rows writers));
	$r->{database} = "stress$r->{seed}";
	$r->{directory} = "$args{log}/seed$r->{seed}";
	mkdir $r->{directory} or die "cannot make $r->{directory}: $!";
	return $r;
}

sub _session
{
	my ($r, %args) = @_;

	return Stress::Session->new(log => "$r->{directory}/operator", database => $r->{database},
		settings => ["SET statement_timeout = '120s'"], %args)->connect;
}

# The table with its rows.
sub _create
{
	my ($r) = @_;
	my $s = $r->{schema};
	my $c = $r->_session(database => 'postgres');
	my @rows;

	$c->run("DO \$\$ BEGIN CREATE ROLE $_ LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END \$\$")
	  for qw(stress_owner stress_app);
	$c->run("DROP DATABASE IF EXISTS $r->{database}");
	$c->run("CREATE DATABASE $r->{database}");
	$c->close;
	$c = $r->{session} = $r->_session;
	$c->run($_) for $s->before_rows;
	@rows = map { $s->copy_line($s->initial_row($_)) } -$Stress::Schema::shared .. -1, 1 .. $s->{rows};
	$c->run("CREATE TRIGGER first BEFORE INSERT ON $s->{table} FOR EACH ROW EXECUTE FUNCTION stress.before()");
	$c->copy("$s->{table} (" . join(', ', @Stress::Schema::columns) . ')', \@rows);
	$c->run("DROP TRIGGER first ON $s->{table}");
	$c->run($_) for $s->after_rows;
	return;
}

sub _start_writers
{
	my ($r) = @_;

	for my $number (0 .. $r->{writers} - 1)
	{
		my $pid = fork;

		die "cannot fork: $!" unless defined $pid;
		if (!$pid)
		{
			eval {
				Stress::Writer->new(schema => $r->{schema}, number => $number,
					database => $r->{database}, directory => $r->{directory},
					log => $r->{directory})->work;
				1;
			} or warn $@;
			POSIX::_exit(0);
		}
		push @{ $r->{pids} }, $pid;
	}
	return;
}

sub _touch { my ($r, $name) = @_; open my $f, '>', "$r->{directory}/$name" or die $!; return; }

sub _models
{
	my ($r) = @_;

	return map { retrieve("$r->{directory}/model.$_") } 0 .. $r->{writers} - 1;
}

# Stop the writers between two transactions; false when one does not come.
sub _quiet
{
	my ($r) = @_;
	my $until = time + 90;

	$r->_touch('pause');
	until (@{[ glob "$r->{directory}/resting.*" ]} == $r->{writers})
	{
		return 0 if $r->{operator}->writer_failed;
		if (time > $until)
		{
			$r->{operator}->fail('the writers do not come to rest');
			return 0;
		}
		usleep(50_000);
	}
	return 1;
}

# All that must hold while nobody writes; with both tables if they are there.
sub _check
{
	my ($r, $when) = @_;
	my ($o, $c) = @$r{qw(operator session)};
	my @bad;

	$r->_check_job if $when eq 'done';
	@bad = ledger($c, $r->{schema}, $r->_models);
	$o->fail("$when: the table is not what was written", @bad, $r->_history(@bad)) if @bad;
	@bad = sound($c);
	$o->fail("$when: amcheck", @bad) if @bad;
	return;
}

# Both tables are equal, and the conversion says so too.
sub _check_job
{
	my ($r) = @_;
	my ($o, $c) = @$r{qw(operator session)};
	my $state = $o->state;
	my ($found, @bad) = equal_tables($c, $r->{schema}, $o->{job});

	return if $state->{status} ne 'active' || $state->{phase} ne 'done';
	$o->fail('there are not two tables to compare') unless $found;
	$o->fail('new and legacy differ', @bad) if @bad;
	@bad = map { "dropped out at $_->[0]: $_->[1]" }
	  @{ $c->rows('SELECT extract(epoch FROM dropped_at), reason FROM partshift.dropout') };
	$o->fail('legacy does not follow', @bad) if @bad;
	$o->_try("DELETE FROM partshift.verification WHERE job_id = $o->{job}",
		"SELECT partshift.verify($o->{job})");
	$o->drive(sub { !$_[0]{request} }, 1) or return;
	@bad = map { "@$_" } @{ $c->rows("SELECT leaf, source_rows, shadow_rows FROM partshift.verification"
		  . " WHERE NOT equal AND job_id = $o->{job}") };
	$o->fail('verify finds differences', @bad) if @bad;
	$o->fail('verify has left no result')
	  unless $c->value("SELECT count(*) FROM partshift.verification WHERE job_id = $o->{job}");
	return;
}

# What the writers' logs say about the first number among the differences.
sub _history
{
	my ($r, @bad) = @_;
	my ($kn) = map { /number (-?\d+)/ ? $1 : () } @bad or return;
	my $key = quotemeta key_value($r->{schema}, $kn, 0);
	my @lines;

	for my $log (sort glob "$r->{directory}/writer.*")
	{
		open my $file, '<', $log or next;
		my $keep;

		while (<$file>)
		{
			push @lines, substr($_, 0, 240) if $keep && /transaction \d+:/;
			$keep = 0 if /transaction \d+:/;
			next unless /'$key'| $kn\b/i;
			$keep = 1;
			push @lines, substr($_, 0, 240);
		}
	}
	@lines = sort @lines;
	splice @lines, 0, @lines - 25 if @lines > 25;
	chomp @lines;
	return ("history of $kn:", @lines);
}

sub _resume_writers { my ($r) = @_; unlink "$r->{directory}/pause"; return; }

sub _end_writers
{
	my ($r) = @_;

	return unless $r->{pids};
	$r->_touch('stop');
	unlink "$r->{directory}/pause";
	waitpid $_, 0 for @{ delete $r->{pids} };
	for my $name (sort glob "$r->{directory}/failed.*")
	{
		open my $file, '<', $name or die $!;
		my ($number) = $name =~ /(\d+)$/;
		my $text = join '', <$file>;

		$r->{operator}->fail("writer $number: $text", $r->_history($text));
	}
	return;
}

# Rollback or finalize, under fire.
sub _finish
{
	my ($r) = @_;
	my $o = $r->{operator};

	stream($r->{seed}, 'end');
	my $order = one_of('rollback', 'finalize', 'rollback');
	my $is = $order eq 'rollback' ? 'rolled_back' : 'finalized';

	$o->trouble_for($r->{seconds} / 3, 1);
	$o->drive(sub { !$_[0]{request} && $_[0]{status} eq 'active' }, 1) or return 0;
	$r->{order} = $o->{order} = $order;
	return $o->drive(sub { $_[0]{status} eq $is });
}

sub _story
{
	my ($r) = @_;
	my $o = $r->{operator};
	my $third = $r->{seconds} / 3;

	$o->trouble_for($r->{seconds}, 2);
	$o->drive(sub { $_[0]{phase} eq 'done' && !$_[0]{request} && $_[0]{reverse} eq '0' }) or return;
	$r->_quiet or return;
	$r->_check('done');
	$r->_resume_writers;
	return if @{ $o->{failures} };
	$o->trouble($third) or return;
	if ($r->_quiet) { $r->_check('done'); }
	$r->_resume_writers;
	return if @{ $o->{failures} };
	$r->_finish or return;
	usleep(1_000_000 * ($third > 3 ? 3 : $third));
	return;
}

# What the writers have counted; the longest statement of all.
sub _read_counts
{
	my ($r) = @_;

	for my $name (glob "$r->{directory}/counts.*")
	{
		open my $file, '<', $name or next;
		while (<$file>)
		{
			my ($n, $what) = /^(\S+) (.*)/ or next;

			if ($what ne 'longest') { $r->{counts}{$what} += $n; }
			elsif ($n > ($r->{longest}{'statement of a writer'} || 0))
			{
				$r->{longest}{'statement of a writer'} = $n;
			}
		}
	}
	return;
}

# What the jobs have left to read about what they did.
sub _read_jobs
{
	my ($r) = @_;
	my $c = $r->{session};
	my $counts = $r->{counts};

	$counts->{"result, jobs $_->[0]"} = $_->[1]
	  for @{ $c->rows('SELECT status, count(*) FROM partshift.job GROUP BY 1 ORDER BY 1') };
	@$counts{ 'result, jobs', 'result, swaps', 'result, identities reconciled', 'result, retries of locks' } =
	  @{ $c->rows('SELECT count(*), count(swapped_at), sum(reconciled), sum(lock_tries) FROM partshift.job')->[0] };
	$counts->{'result, rows copied'} =
	  $c->value("SELECT coalesce(sum(rows), 0) FROM partshift.task WHERE phase = 'copy'");
	$counts->{'result, rows left to the log as unsure'} =
	  $c->value("SELECT coalesce(sum(unsure), 0) FROM partshift.task WHERE phase = 'copy'");
	$r->{longest}{'locks of a swap held'} =
	  ($c->value('SELECT max(swap_lock_ms) FROM partshift.job') || 0) / 1000;
	return;
}

# Numbers to be summed up, and times of which the longest counts.
sub figures
{
	my ($r) = @_;
	my %counts = (%{ $r->{counts} }, seeds => 1, map({ ("schema, $_" => 1) } $r->{schema}->traits),
		map({ ("stop, $_" => $r->{operator}{stopped}{$_}) } keys %{ ($r->{operator} || {})->{stopped} || {} }),
		map { ("act, $_" => $r->{operator}{done}{$_}) } keys %{ ($r->{operator} || {})->{done} || {} });

	return (\%counts, $r->{longest});
}

# How long a writer has waited for nobody but the conversion.
sub _check_waits
{
	my ($r) = @_;
	my $file;
	my ($longest, $what) = open($file, '<', "$r->{directory}/waited") ? <$file> =~ /(\S+) (.*)/ : ();

	return $r->{operator}->fail('nobody has watched the waits') unless defined $longest;
	$r->{longest}{'wait of a writer for the conversion'} = $longest;
	$r->{operator}->fail("a writer waited $longest s for the conversion", $what)
	  if $longest > $r->{stall};
	return;
}

sub _summary
{
	my ($r) = @_;
	my $counts = $r->{counts};
	my $done = $r->{operator}{done};

	return join ', ', $r->{order} || 'unfinished',
	  map({ ($counts->{$_} || 0) . " $_" } qw(committed undone lost)),
	  sprintf('longest wait %.2f s', $r->{longest}{'wait of a writer for the conversion'} || 0),
	  map { "$done->{$_} $_" } sort keys %$done;
}

# Run the seed; the failures.
sub run
{
	my ($r) = @_;
	my $s = $r->{schema};
	my $o;
	my $from;

	$r->{server}->configure("partshift.lock_timeout = '$s->{lock_timeout}ms'",
		$s->{preload} ? "shared_preload_libraries = 'partshift'" : ());
	$from = $r->{server}->log_size;
	$r->_create;
	$o = $r->{operator} = Stress::Operator->new(schema => $s, session => $r->{session},
		server => $r->{server}, directory => $r->{directory});
	eval {
		push @{ $r->{pids} }, Stress::Watch->start(map { $_ => $r->{$_} } qw(database directory));
		$r->_start_writers;
		usleep(300_000);
		$o->convert;
		$r->_story;
		1;
	} or $o->fail(ref $@ ? "operator: $@->{state}: $@->{message}\n\t$@->{statement}" : $@);
	$r->_end_writers;
	$r->_read_counts;
	$r->_check_waits;
	if (!@{ $o->{failures} })
	{
		eval {
			$r->_check('end');
			my @left = leftovers($r->{session});
			$o->fail('something is left', @left) if @left;
			1;
		} or $o->fail(ref $@ ? "checks: $@->{state}: $@->{message}\n\t$@->{statement}" : $@);
	}
	my @complaints = $r->{server}->complaints($from);
	$o->fail("the server's log", @complaints) if @complaints;
	eval { $r->_read_jobs; 1 } or $o->fail(ref $@ ? "figures: $@->{message}" : $@);
	$r->{summary} = $r->_summary;
	return @{ $o->{failures} };
}

# Take the database away, if it lets us.
sub drop
{
	my ($r) = @_;

	eval {
		my $c = $r->{session}->connect;

		$c->run($_->[0]) for @{ $c->rows("SELECT format('ROLLBACK PREPARED %L', gid)"
			  . ' FROM pg_prepared_xacts WHERE database = current_database()') };
		$c->close;
		$c = $r->_session(database => 'postgres');
		$c->run("DROP DATABASE $r->{database} WITH (FORCE)");
		$c->close;
		1;
	} or print '# the database is left: ', ref $@ ? $@->{message} : $@, "\n";
	return;
}

1;
