=head1 NAME

Ledger - clients that write, and keep their own account of what they wrote

=head1 DESCRIPTION

A client is a process with one connection.  Each of its transactions changes
some rows of its own: inserts, updates, changes keys, deletes, and adds rows to
a table whose foreign key follows.  What has committed is kept in the client,
outside of the database.  If the connection is lost at a commit, a row that
was updated with the rest tells which way it went; one that was acknowledged
must be there.  Rows with an id below 0 are left to the test.

Any error but the loss of the connection is reported, unless its SQLSTATE is
permitted.

	make_tables     t, child and parent, and the marks
	clients_start   ... until
	clients_stop    which returns what was wrong, and how much was committed

=cut

package Ledger;

use strict;
use warnings;

use DBD::Pg;
use DBI;
use Exporter 'import';
use POSIX ();
use PostgreSQL::Test::Utils;
use Storable qw(nstore retrieve);
use Time::HiRes qw(time usleep);

our @EXPORT = qw(make_tables clients_start clients_stop);

my $clients = 2;
my $starts = 0;					# each has numbers of its own
my $patience = 120;				# seconds without a server

# The statements that make the tables, with so many rows of such a width.
sub make_tables
{
	my ($rows, $width, $tablespace) = @_;
	my $where = $tablespace ? "TABLESPACE $tablespace" : '';

	return qq{
		CREATE TABLE parent (id integer PRIMARY KEY);
		INSERT INTO parent SELECT generate_series(0, 9);
		CREATE TABLE t (id integer PRIMARY KEY, ref integer REFERENCES parent,
			note text NOT NULL) WITH (fillfactor = 70) $where;
		INSERT INTO t SELECT g, g % 10, repeat('n', $width)
		FROM generate_series(1, $rows) g;
		CREATE INDEX t_note ON t (note, ref);
		CREATE TABLE child (no text PRIMARY KEY, id integer NOT NULL
			REFERENCES t ON UPDATE CASCADE ON DELETE CASCADE);
		CREATE INDEX ON child (id);
		CREATE TABLE mark (client integer PRIMARY KEY, n integer NOT NULL);
		INSERT INTO mark SELECT g, 0 FROM generate_series(0, $clients - 1) g;
		VACUUM ANALYZE};
}

sub _read_tables
{
	my ($dbh) = @_;
	my %t = map { ($_->[0] => "$_->[1] $_->[2]") }
	  @{ $dbh->selectall_arrayref('SELECT id, ref, note FROM t WHERE id > 0') };
	my %child = map { @$_ }
	  @{ $dbh->selectall_arrayref('SELECT no, id FROM child') };

	return (\%t, \%child);
}

# A connection, or an error.
sub connect_once
{
	my ($node) = @_;

	return DBI->connect('dbi:Pg:dbname=postgres host=' . $node->host . ' port='
		  . $node->port, undef, undef,
		{ RaiseError => 1, PrintError => 0, PrintWarn => 0,
			AutoInactiveDestroy => 1, pg_server_prepare => 0 });
}

# A connection, as soon as there is a server.
sub _connect
{
	my ($node) = @_;
	my $until = time + $patience;
	my $dbh;

	until ($dbh = eval { connect_once($node) })
	{
		die "no connection in $patience s: $@" if time > $until;
		usleep(50_000);
	}
	return $dbh;
}

# ----- in a client ---------------------------------------------------------

# Some operations of one transaction, on copies of what is known.
sub _draw
{
	my ($c, $t, $child) = @_;
	my @ids = sort { $a <=> $b } keys %$t;
	my @sql;

	for (0 .. int rand 3)
	{
		my $id = $ids[ rand @ids ];
		my $what = int rand 6;
		my $new = 2 * (1_000_000 + ++$c->{last}) + $c->{number};
		my $note = "$c->{number} $c->{n} " . '-' x rand 80;
		my $ref = int rand 10;

		next unless exists $t->{$id};
		if ($what <= 1)
		{
			push @sql, "UPDATE t SET note = '$note', ref = $ref WHERE id = $id";
			$t->{$id} = "$ref $note";
		}
		elsif ($what == 2)
		{
			push @sql, "INSERT INTO t VALUES ($new, $ref, '$note')";
			$t->{$new} = "$ref $note";
		}
		elsif ($what == 3)
		{
			push @sql, "UPDATE t SET id = $new WHERE id = $id";
			$t->{$new} = delete $t->{$id};
			$child->{$_} = $new for grep { $child->{$_} == $id } keys %$child;
		}
		elsif ($what == 4 && @ids > 50)
		{
			push @sql, "DELETE FROM t WHERE id = $id";
			delete $t->{$id};
			delete @$child{ grep { $child->{$_} == $id } keys %$child };
		}
		else
		{
			push @sql, "INSERT INTO child VALUES ('$c->{number}.$new', $id)";
			$child->{"$c->{number}.$new"} = $id;
		}
	}
	return (@sql, "UPDATE mark SET n = $c->{n} WHERE client = $c->{number}");
}

# The number of the last transaction that is there, by a new connection; the
# server may go once more before it has answered.
sub _mark_again
{
	my ($c) = @_;
	my $mark;

	until (defined $mark)
	{
		eval { $c->{dbh}->disconnect };
		$c->{dbh} = _connect($c->{node});
		eval {
			($mark) = $c->{dbh}->selectrow_array(
				"SELECT n FROM mark WHERE client = $c->{number}");
			1;
		} or $c->{dbh}->ping and die $@;
	}
	return $mark;
}

# One transaction; true when it has committed.
sub _transaction
{
	my ($c, @sql) = @_;
	my $dbh = $c->{dbh};
	my ($state, $error, $mark);

	return 1
	  if eval { $dbh->begin_work; $dbh->do($_) for @sql; $dbh->commit; 1 };
	$error = $@;
	$state = $dbh->state || '08000';
	if ($state !~ /^(08|57P0[1-3])/ && $dbh->ping)
	{
		$c->{refused}++;
		push @{ $c->{wrong} }, "$state: $error"
		  unless $state =~ $c->{permitted};
		$dbh->rollback;
		return 0;
	}
	$c->{lost}++;
	$mark = _mark_again($c);
	push @{ $c->{wrong} }, "transaction $c->{acknowledged} was acknowledged,"
	  . " and the last that is there is $mark"
	  if $mark < $c->{acknowledged};
	return $mark == $c->{n};
}

sub _client
{
	my ($c) = @_;
	my ($t, $child);

	srand($c->{number} + 1);
	$c->{dbh} = _connect($c->{node});
	($t, $child) = @$c{qw(t child)};
	delete @$t{ grep { $_ % $clients != $c->{number} } keys %$t };
	delete @$child{ grep { !/^$c->{number}\./ } keys %$child };
	while (!-e $c->{stop} && getppid == $c->{parent})
	{
		my (%t, %child);

		$c->{n}++;
		%t = %$t;
		%child = %$child;
		if (_transaction($c, _draw($c, \%t, \%child)))
		{
			($t, $child) = (\%t, \%child);
			$c->{acknowledged} = $c->{n};
			$c->{committed}++;
		}
		usleep(1000 * rand 15);
	}
	$c->{dbh}->disconnect;
	return { t => $t, child => $child,
		map { $_ => $c->{$_} } qw(committed lost refused wrong) };
}

# ----- in the test ---------------------------------------------------------

# Start the clients, with a pattern of the SQLSTATEs that they may meet.
sub clients_start
{
	my ($node, $permitted) = @_;
	my $directory = PostgreSQL::Test::Utils::tempdir;
	my $parent = $$;
	my $dbh = _connect($node);
	my ($t, $child) = _read_tables($dbh);
	my @pids;

	# All that a client does from now on may meet a server that is gone.
	$dbh->do('UPDATE mark SET n = 0');
	$dbh->disconnect;
	$starts++;
	for my $number (0 .. $clients - 1)
	{
		my $pid = fork;
		my $kept;

		die "cannot fork: $!" unless defined $pid;
		push @pids, $pid;
		next if $pid;
		$kept = eval {
			_client({ number => $number, node => $node, last => 100_000 * $starts, n => 0, parent => $parent,
				stop => "$directory/stop", t => $t, child => $child, acknowledged => 0,
				committed => 0, lost => 0, refused => 0, wrong => [],
				permitted => $permitted || qr/^never$/ });
		} || { wrong => ["client $number: $@"] };
		nstore($kept, "$directory/$number");
		POSIX::_exit(0);
	}
	return { directory => $directory, node => $node, pids => \@pids };
}

sub _unlike
{
	my ($what, $is, $should) = @_;
	my %all = (%$is, %$should);
	my @differ = grep {
		!exists $is->{$_} || !exists $should->{$_} || $is->{$_} ne $should->{$_}
	} sort keys %all;

	return map {
		sprintf '%s %s is %s, not %s', $what, $_, $is->{$_} // 'missing',
		  $should->{$_} // 'missing'
	} @differ > 5 ? @differ[ 0 .. 4 ] : @differ;
}

# End them and compare: a hash of what was wrong, and of how many transactions
# were committed, lost their connection, and were refused.
sub clients_stop
{
	my ($run) = @_;
	my %sum = (t => {}, child => {}, committed => 0, lost => 0, refused => 0,
		wrong => []);
	my ($dbh, $t, $child);

	append_to_file("$run->{directory}/stop", '');
	waitpid $_, 0 for @{ $run->{pids} };
	for my $number (0 .. $clients - 1)
	{
		my $kept = retrieve("$run->{directory}/$number");

		push @{ $sum{wrong} }, @{ $kept->{wrong} };
		next unless $kept->{t};
		$sum{$_} += $kept->{$_} for qw(committed lost refused);
		%{ $sum{t} } = (%{ $sum{t} }, %{ $kept->{t} });
		%{ $sum{child} } = (%{ $sum{child} }, %{ $kept->{child} });
	}
	$dbh = _connect($run->{node});
	($t, $child) = _read_tables($dbh);
	$dbh->disconnect;
	push @{ $sum{wrong} }, _unlike('row', $t, $sum{t}),
	  _unlike('child', $child, $sum{child});
	return \%sum;
}

1;
