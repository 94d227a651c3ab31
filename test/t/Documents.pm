=head1 NAME

Documents - what the documents say can be typed

=head1 DESCRIPTION

Finds the fenced blocks of the documents, their statements, and the commands
in running text, hands them out, and knows which of them nobody has asked for.

A I<scene> is the place of some of them: SQL for psql that makes what the
document talks about, with lines that say which text of the document comes
next. See F<test/doc/README.md>.

=cut

package Documents;

use strict;
use warnings;

use Carp 'croak';
use Exporter 'import';
use PostgreSQL::Test::Utils;

our @EXPORT = qw(read_documents take take_span scenes directions untaken);

my %documents;

# Words that begin a command of which a document can have a whole one.
my $command = qr/^(?:SELECT|CALL|INSERT|UPDATE|DELETE|DROP|CREATE|ALTER|SET
	|RESET|TRUNCATE|COPY|LOAD|GRANT|REVOKE|DO|LOCK|VACUUM|ANALYZE|REINDEX
	|psql|promtool|systemctl)\s+\S/x;

# Read the documents with these paths below a directory.
sub read_documents
{
	my ($root, @paths) = @_;

	$documents{$_} = read_document("$root/$_") for @paths;
	return;
}

sub read_document
{
	my ($path) = @_;
	my %document = (blocks => [], spans => {});
	my ($heading, $fence, $prose) = ('', undef, '');
	my %nth;

	for (split /^/, slurp_file($path))
	{
		if (/^(\s*)```(\w*)/)
		{
			$fence = undef, next if $fence;
			$fence = {
				indent => $1, language => $2, text => '',
				heading => $heading, nth => ++$nth{$heading} };
			push @{ $document{blocks} }, $fence;
		}
		elsif ($fence)
		{
			$fence->{text} .= s/^$fence->{indent}//r;
		}
		else
		{
			$heading = $1 if /^#+\s+(.*\S)/;
			$prose .= $_;
		}
	}
	for my $block (@{ $document{blocks} })
	{
		$block->{parts} = [ map { { text => $_ } }
			  $block->{language} eq 'sql' ? statements($block->{text}) : $block->{text} ];
	}
	$document{spans}{ $1 =~ s/\s+/ /gr } = 0 while $prose =~ /`([^`]+)`/g;
	return \%document;
}

# The statements of SQL for psql, each with the comment before it and that on
# its last line.
sub statements
{
	my ($text) = @_;
	my @found;
	my $now = '';

	while ($text =~ /\G (?: (?<end> (?: \A | (?<=\n)) \\ [^\n]* \n
			| ; [ \t]* (?: --[^\n]* )? \n? )
		| (?: '(?:[^']|'')*' | "[^"]*" | (\$\w*\$) .*? \g{2}
			| --[^\n]*\n? | \/\* .*? \*\/ | . ) ) /gcsx)
	{
		$now .= $&;
		push(@found, $now), $now = '' if defined $+{end};
	}
	croak "statement without a semicolon: $now"
	  if $now =~ s/^\s*--.*\n?//mgr =~ /\S/;
	return @found;
}

# The parts of a block, found by "heading" or "heading #n", all of them or
# those that match.
sub take
{
	my ($path, $place, $pattern) = @_;
	my ($heading, $nth) = $place =~ /^(.*?)(?: #(\d+))?$/;
	my ($block) = grep { $_->{heading} eq $heading && $_->{nth} == ($nth || 1) }
	  @{ $documents{$path}{blocks} };
	my @parts;

	croak "$path has no block \"$place\"" unless $block;
	@parts = grep { !defined $pattern || $_->{text} =~ $pattern } @{ $block->{parts} };
	croak "nothing of $path, \"$place\", matches $pattern" unless @parts;
	$_->{taken} = 1 for @parts;
	return wantarray ? map { $_->{text} } @parts : join '', map { $_->{text} } @parts;
}

# A text in backquotes, which must be in the document.
sub take_span
{
	my ($path, $text) = @_;

	croak "$path does not say `$text`" unless exists $documents{$path}{spans}{$text};
	$documents{$path}{spans}{$text} = 1;
	return $text;
}

# Every text in backquotes of a document.
sub spans { return sort keys %{ $documents{ $_[0] }{spans} } }

# What nobody has taken: of blocks everything; of running text commands that
# are whole, and not the form of one, such as "DROP TABLE ..." or
# "SELECT partshift.resume(job)".
sub untaken
{
	my @left;

	for my $path (sort keys %documents)
	{
		for my $block (@{ $documents{$path}{blocks} })
		{
			push @left, map { "$path, \"$block->{heading} #$block->{nth}\": $_->{text}" }
			  grep { !$_->{taken} } @{ $block->{parts} };
		}
		push @left, map { "$path: $_" } grep {
			!$documents{$path}{spans}{$_}
			  && (/$command/ && !/\.\.\./ && /[^A-Z\s*]/ && !/\((?:job|query)\b/
				|| /^partshift\.\w+\(['\d]/)
		} spans($path);
	}
	return @left;
}

# The scenes of a file, in its order: { name, document, lines }.
sub scenes
{
	my ($file) = @_;
	my ($path, @scenes);

	for (split /^/, slurp_file($file))
	{
		if (/^\@document (\S+)$/) { $path = $1 }
		elsif (/^\@scene (.*)$/)
		{
			push @scenes, { name => "$path: $1", document => $path, lines => [] };
		}
		elsif (@scenes) { push @{ $scenes[-1]{lines} }, $_ }
	}
	return @scenes;
}

# What a scene comes to: SQL for psql, what that must print by the document,
# and the extensions that it takes.
sub directions
{
	my ($scene) = @_;
	my $path = $scene->{document};
	my %found = (script => '', output => '', needs => []);

	for (@{ $scene->{lines} })
	{
		if (/^\@needs (\w+)$/) { push @{ $found{needs} }, $1 }
		elsif (/^\@output (.*)$/) { $found{output} = take($path, $1) }
		elsif (/^\@(.*)$/) { $found{script} .= direction($path, $1) }
		else { $found{script} .= $_ }
	}
	return \%found;
}

# What a line of a scene that begins with @ stands for.
sub direction
{
	my ($path, $line) = @_;

	if ($line =~ /^run (.*?)(?:: (!?)\/(.*)\/)?$/)
	{
		my ($place, $not, $pattern) = ($1, $2, $3);

		return scalar take($path, $place) unless defined $pattern;
		return scalar take($path, $place, $not ? qr/^(?!.*(?:$pattern))/s : qr/$pattern/);
	}
	if ($line =~ /^span (.*?)(?: \@\+ (.*))?$/)
	{
		my $text = take_span($path, $1) . (defined $2 ? " $2" : '');

		$text = "SELECT $text" if $text =~ /^partshift\./;
		return $text =~ /;$/ ? "$text\n" : "$text;\n";
	}
	return expect($1, $1) if $line =~ /^expect (.*)$/;
	return "$1\n" if $line =~ /^sql (.*)$/;
	if ($line =~ /^text (span )?(.*)$/)
	{
		my $text = $1 ? take_span($path, $2) : take($path, $2);

		return "\\set text " . quoted($text =~ s/--.*//mgr =~ s/\s+/ /gr) . "\n";
	}
	if ($line =~ /^fails (\w{5}) (.*)$/)
	{
		my ($state, $text) = ($1, direction($path, $2));

		croak "more than one statement: $text" if statements($text) != 1;
		return "\\set ON_ERROR_STOP off\n$text\\set state :SQLSTATE\n\\set ON_ERROR_STOP on\n"
		  . expect(":'state' = '$state'", "SQLSTATE $state of $2");
	}
	croak "unrecognized direction: $line";
}

sub expect
{
	my ($condition, $text) = @_;

	return "SELECT expect(($condition), " . quoted($text) . ");\n";
}

sub quoted { return "'" . $_[0] =~ s/'/''/gr . "'" }

1;
