=head1 NAME

TestModule - libraries that only tests load

=cut

package TestModule;

use strict;
use warnings;

use Exporter 'import';
use File::Copy ();
use FindBin;
use PostgreSQL::Test::Utils;

our @EXPORT = qw(build_module);

# Compile a module of test/modules in a directory of its own; the path of the
# library, to be preloaded.
sub build_module
{
	my ($name) = @_;
	my $source = "$FindBin::RealBin/../modules/$name";
	my $directory = PostgreSQL::Test::Utils::tempdir;

	File::Copy::copy("$source/$_", $directory) or die "$source/$_: $!"
	  for ('Makefile', "$name.c");

	# What the make that runs the tests was given is not for this one.
	local @ENV{qw(MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES)};
	delete @ENV{qw(MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES)};
	PostgreSQL::Test::Utils::system_or_bail('make', '-s', '-C', $directory,
		'with_llvm=no', 'PG_CONFIG=pg_config');
	return "$directory/$name.so";
}

1;
