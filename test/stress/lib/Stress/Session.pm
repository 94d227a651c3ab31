=head1 NAME

Stress::Session - one connection, with what it said written down

=head1 DESCRIPTION

Errors are raised as hashes: state, message, statement; state is "lost" when
the connection is gone and "wrong" when the server did something else than
the model foretold.

=cut

package Stress::Session;

use strict;
use warnings;

use DBI;
use DBD::Pg;
use Time::HiRes qw(time usleep);

sub new
{
	my ($class, %args) = @_;
	my $c = bless { longest => 0, %args }, $class;

	open $c->{file}, '>>', $args{log} or die "cannot write $args{log}: $!"
	  if $args{log};
	return $c;
}

sub note
{
	my ($c, $text) = @_;

	syswrite $c->{file}, sprintf("%.3f %s\n", time, $text) if $c->{file};
	return;
}

sub _open
{
	my ($c) = @_;

	$c->{dbh} = DBI->connect("dbi:Pg:dbname=$c->{database}", $c->{role} || 'postgres', '',
		{ RaiseError => 1, PrintError => 0, PrintWarn => 0, AutoCommit => 1,
			AutoInactiveDestroy => 1, pg_server_prepare => 0, pg_enable_utf8 => 0 });
	$c->{dbh}{pg_placeholder_dollaronly} = 1;
	$c->{dbh}->do('SET client_min_messages = warning');
	$c->{dbh}->do($_) for @{ $c->{settings} || [] };
	($c->{pid}) = $c->{dbh}->selectrow_array('SELECT pg_backend_pid()');
	return;
}

# Connect, waiting for a server that is being restarted.
sub connect
{
	my ($c, $patience) = @_;
	my $until = time + ($patience || 60);

	$c->{dbh}->disconnect if $c->{dbh};
	until (eval { $c->_open; 1 })
	{
		die $c->_error('lost', "cannot connect: $@", '') if time > $until;
		usleep(100_000);
	}
	$c->note("connected as $c->{pid}");
	return $c;
}

sub _error
{
	my ($c, $state, $message, $sql) = @_;

	return { state => $state, message => $message, statement => substr($sql, 0, 600) };
}

sub _run
{
	my ($c, $sql, $what) = @_;
	my $begin = time;
	my $result = eval { $what->($c->{dbh}) };
	my $error = $@;
	my $took = time - $begin;

	if ($error)
	{
		my $state = $c->{dbh}->state || '08000';

		$state = 'lost' if $state =~ /^(57P0[1-3]|08)/
		  || ($state !~ /^(23|40|42|55)/ && !$c->{dbh}->ping);
		$c->note("$state: $sql -- $error");
		die $c->_error($state, $error, $sql);
	}
	$c->{longest} = $took if $took > $c->{longest};
	if ($took > 2)
	{
		$c->note(sprintf 'slow: %.1f s', $took);
		push @{ $c->{slow} }, [ $begin, $took, substr($sql, 0, 200) ];
	}
	return $result;
}

# Run a statement; it must touch so many rows, if that is given.
sub run
{
	my ($c, $sql, $want) = @_;
	my $rows = 0 + $c->_run($sql, sub { $_[0]->do($sql) });

	$c->note("$rows: $sql");
	die $c->_error('wrong', "touched $rows rows, not $want", $sql)
	  if defined $want && $rows != $want;
	return $rows;
}

# Run a query; its rows.
sub rows
{
	my ($c, $sql) = @_;
	my $rows = $c->_run($sql, sub { $_[0]->selectall_arrayref($sql) });

	$c->note(scalar(@$rows) . ": $sql");
	return $rows;
}

sub value { my ($c, $sql) = @_; my $rows = $c->rows($sql); return @$rows ? $rows->[0][0] : undef; }

# COPY lines into a table.
sub copy
{
	my ($c, $into, $lines) = @_;

	$c->_run("COPY $into", sub {
		my $dbh = shift;

		$dbh->do("COPY $into FROM STDIN");
		$dbh->pg_putcopydata($_) for @$lines;
		$dbh->pg_putcopyend;
	});
	$c->note(scalar(@$lines) . " rows: COPY $into: "
		. join ' ', map { (split /\t/)[2] } @$lines[ 0 .. ($#$lines < 30 ? $#$lines : 30) ]);
	return;
}

sub fail
{
	my ($c, $message, $sql) = @_;

	$c->note("wrong: $message");
	die $c->_error('wrong', $message, $sql || '');
}

sub close
{
	my ($c) = @_;

	$c->{dbh}->disconnect if $c->{dbh};
	delete $c->{dbh};
	return;
}

1;
