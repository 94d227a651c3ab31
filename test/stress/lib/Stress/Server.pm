=head1 NAME

Stress::Server - the private server, and what is done to it

=cut

package Stress::Server;

use strict;
use warnings;

use Time::HiRes qw(usleep);

my @settings = ('max_connections = 60', 'max_pred_locks_per_transaction = 1024',
	'autovacuum_naptime = 1s');

sub new { my ($class, %args) = @_; return bless {%args}, $class; }

sub _pg_ctl
{
	my ($v, @args) = @_;

	return system("pg_ctl -s -w -t 120 -D '$v->{data}' -l '$v->{log}/server.log' @args"
		  . " >>'$v->{log}/pg_ctl.log' 2>&1 </dev/null") == 0;
}

# Stop the server in this mode and start it again.
sub restart
{
	my ($v, $mode) = @_;

	$v->_pg_ctl('stop', '-m', $mode);
	$v->_pg_ctl('start') or die "cannot start the server, see $v->{log}/server.log";
	return;
}

# Start it anew with these lines of configuration, which its own includes.
sub configure
{
	my ($v, @lines) = @_;
	my $text = join '', map { "$_\n" } @settings, @lines;

	return if defined $v->{configuration} && $v->{configuration} eq $text;
	open my $file, '>', "$v->{data}/stress.conf" or die $!;
	print $file $text;
	close $file;
	$v->{configuration} = $text;
	$v->restart('fast');
	return;
}

sub version { my ($v) = @_; my ($text) = `postgres --version` =~ /(\d\S*)/; return $text; }

sub log_size { my ($v) = @_; return -s "$v->{log}/server.log"; }

# Lines of the server's log, from a place on, that must not be there.
sub complaints
{
	my ($v, $from) = @_;
	my @bad;

	open my $file, '<', "$v->{log}/server.log" or die $!;
	seek $file, $from, 0;
	while (<$file>)
	{
		push @bad, $_ if /TRAP:|PANIC:|terminated by signal (?!9\b|3\b|15\b)|leak|own a lock|still active|could not open relation|cache lookup failed|XX000/;
	}
	return @bad > 10 ? @bad[ 0 .. 9 ] : @bad;
}

1;
