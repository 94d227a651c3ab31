# What the documents name is there, and what is there is named: functions and
# their arguments, settings, views and columns, files, links.

use strict;
use warnings;

use File::Basename 'dirname';
use FindBin;
use lib $FindBin::RealBin;

use PartshiftTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $root = dirname(dirname($FindBin::RealBin));
my %text = map { s/^\Q$root\E\///r => slurp_file($_) }
  "$root/README.md", glob("$root/doc/*.md $root/doc/*/*.md");
my $reference = $text{'doc/partshift.md'};
my $node = PostgreSQL::Test::Cluster->new('reference');

$node->init;
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION partshift');

sub query { return $node->safe_psql('postgres', $_[0]) }
sub rows { return split /\n/, query($_[0]) }

# Functions that PUBLIC may execute only because others that it calls do so.
my %internal = map { $_ => 1 } qw(acts_for can_see check_command hash_remainder
  is_loaded order_job watch manage_table run_maintenance run_cleanup order_backup
  inspect check_partman end_policy grid_of is_number bound_rank leaf_bounds make_template
  partman_schema register_partman step_months step_pattern time_step);
# Relations that views and policies read.
my %read = map { $_ => 1 } qw(waiting range_grid);

my (%function, %relation, %parameter);

for (rows(q{SELECT p.proname, pg_get_function_arguments(p.oid), coalesce(pg_get_function_result(p.oid), '')
		FROM pg_proc p WHERE p.pronamespace = 'partshift'::regnamespace}))
{
	my ($name, $arguments, $result) = split /\|/, $_, 3;

	$arguments =~ s/, OUT .*//;
	push @{ $function{$name} }, [ $arguments, $result ];
	$parameter{$_} = 1 for $arguments =~ /(?:^|, )(\w+) /g;
}
$relation{$_} = 1
  for rows(q{SELECT relname FROM pg_class WHERE relnamespace = 'partshift'::regnamespace AND relkind IN ('r', 'v')});

# A declaration, without what may be written in more than one way.
sub plain
{
	my ($declaration) = @_;

	return lc($declaration) =~ s/timestamp with time zone/timestamptz/gr =~ s/::[a-z ]+//gr
	  =~ s/^in |, \Kin //gr =~ s/\s+//gr;
}

subtest 'functions' => sub {
	my $public = q{SELECT DISTINCT p.proname FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
		WHERE p.pronamespace = 'partshift'::regnamespace AND a.grantee = 0 AND a.privilege_type = 'EXECUTE' ORDER BY 1};

	for my $name (grep { !$internal{$_} } rows($public))
	{
		ok($reference =~ /`(?:CALL )?(?:partshift\.)?$name\(/, "the reference has $name()");
	}
	is(join(' ', grep { !$function{$_} } sort keys %internal), '', 'no other is excused');
};

# What is said as partshift.x, in text or in an example.
subtest 'names' => sub {
	my @settings = rows(q{LOAD 'partshift'; SELECT name FROM pg_settings WHERE name LIKE 'partshift.%'});
	my %known = (
		(map { ("partshift.$_" => 1) } keys %relation), (map { ($_ => 1) } @settings));

	for my $path (sort keys %text)
	{
		my $said = $text{$path};
		my %lacking;

		# Logs are called after a job.
		$said =~ s/partshift\.(?:log|postponed)_//g;
		while ($said =~ /\bpartshift\.(?!md\b)(\w+)(\(?)/g)
		{
			$lacking{"partshift.$1" . ($2 ? '()' : '')} = 1
			  unless $2 ? $function{$1} : $known{"partshift.$1"} || $function{$1};
		}
		is(join(' ', sort keys %lacking), '', "$path names what is there");
		is(join(' ', grep { !$parameter{$_} } $said =~ /\b(\w+) => /g), '', 'and arguments that are');
	}
	for my $name (sort grep { !$read{$_} } rows(q{SELECT DISTINCT c.relname FROM pg_class c, aclexplode(c.relacl) a
			WHERE c.relnamespace = 'partshift'::regnamespace AND c.relkind IN ('r', 'v') AND a.grantee = 0}))
	{
		ok($reference =~ /`partshift\.$name`/, "the reference has partshift.$name");
	}
};

# A declaration in the reference is that of the catalog, as far as it goes.
subtest 'declarations' => sub {
	my $checked = 0;
	my $prose = $reference =~ s/^\s*```.*?^\s*```//gmsr =~ s/\s+/ /gr;

	while ($prose =~ /`(?:CALL )?(?:partshift\.)?(\w+)\((\w+ \w[^`]*)\)(?: returns ([^`]*))?`/g)
	{
		my ($name, $arguments, $result) = ($1, $2, $3);

		# A table that is returned has parentheses of its own.
		($arguments, $result) = ($1, "$2)") if $arguments =~ /^(.*)\) returns (table \(.*)$/;
		ok($function{$name}, "there is $name()") or next;
		my ($is, $returns) = @{ $function{$name}[0] };
		$is =~ s/ DEFAULT [^,]*//g unless $arguments =~ /DEFAULT/;
		$checked++;
		is(plain($arguments), $arguments =~ s/, \.\.\.$// ? substr(plain($is), 0, length plain($arguments)) . ',...' : plain($is),
			"arguments of $name()");
		is(plain($result), plain($returns), "result of $name()") if defined $result;
	}
	cmp_ok($checked, '>', 15, 'declarations were found');
};

# The rows of the first table below a text: its cells, without backquotes.
sub table_below
{
	my ($place) = @_;
	my ($table) = $reference =~ /\Q$place\E.*?\n\| -[^\n]*\n((?:\|[^\n]*\n)+)/s;

	return map { [ map { s/^\s+|\s+$//gr =~ s/^`([^`]*)`$/$1/r } split /\|/, s/^\||\|$//gr ] } split /\n/, $table;
}

# Arguments in the order of the catalog, with their types.
subtest 'options' => sub {
	my %of = (convert => "`partshift.create_job(", manage => '`partshift.manage(relation regclass, ...)`');

	for my $name (sort keys %of)
	{
		my @documented = map { "$_->[0] $_->[1]" } table_below($of{$name});
		my @is = map { s/ DEFAULT .*//r } split /, /, $function{$name}[0][0];

		shift @is if $documented[0] !~ /^relation /;
		is(join("\n", sort @documented), join("\n", sort @is), "arguments of $name()");
	}
};

# Values of options are taken, with one strategy at least.
subtest 'values' => sub {
	my %ways = (
		hash => "'id', partitions => 4", range => "'at', every => '1 month'",
		list => "'id', partitions => 4");
	my %options;

	query('CREATE TABLE t (id integer PRIMARY KEY, at timestamptz NOT NULL, "createdAt" timestamptz, owner text)');
	for my $said (map { s/\s+/ /gr } values %text)
	{
		$options{"$1 => $2"} = $1 while $said =~ /`(\w+) => ([^`]*)`/g;
	}
	for my $option (grep { !/ N$/ && " $function{convert}[0][0]" =~ / $options{$_} / } sort keys %options)
	{
		my @taken = grep {
			my $others = $ways{$_} =~ s/, $options{$option} => .*//r;

			0 == ($node->psql('postgres', qq{
				SELECT 1 / (count(*) = 0)::integer
				FROM partshift.plan('t', '$_', $others, $option)
				WHERE severity = 'error' AND detail LIKE '%option "$options{$option}"%'}))[0];
		} sort keys %ways;
		isnt("@taken", '', $option);
	}
	cmp_ok(scalar(keys %options), '>', 15, 'options were found');
};

subtest 'settings' => sub {
	my %documented = map { $_->[0] => $_->[1] =~ s/ //gr } table_below('## Settings');

	is(join("\n", map { "$_ $documented{$_}" } sort keys %documented),
		join("\n", map { s/\|/ /r } rows(q{LOAD 'partshift';
			SELECT name, current_setting(name) FROM pg_settings WHERE name LIKE 'partshift.%' ORDER BY name COLLATE "C"})),
		'settings and their defaults');
};

# Columns of the views that have a table in the reference.
subtest 'columns' => sub {
	for my $view ('jobs', 'progress')
	{
		my @documented = map { $_->[0] } table_below("\n`partshift.$view`\n");
		my %named = map { $_ => 1 } map { /\w+/g } @documented;
		my @is = rows(qq{SELECT attname FROM pg_attribute WHERE attrelid = 'partshift.$view'::regclass AND attnum > 0});
		my %is = map { $_ => 1 } @is;

		# "error_sqlstate ... error_hint" stands for all between.
		if (grep { / \.\.\. / } @documented) { $named{$_} = 1 for grep { /^error_/ } @is }
		is(join(' ', sort keys %named), join(' ', sort @is), "columns of $view");
	}
	for ("counters: " . join(' ', $reference =~ /`partshift\.counters` counts(.*?)The last three/s),
		"events: " . join(' ', $reference =~ /`partshift\.events` says(.*?)Rows are added/s))
	{
		my ($view, $said) = /^(\w+): (.*)$/s;

		for my $column (rows(qq{SELECT attname FROM pg_attribute WHERE attrelid = 'partshift.$view'::regclass AND attnum > 0}))
		{
			ok($said =~ /`$column`/ || $column =~ /^(job_id|relation)$/, "column $column of $view");
		}
	}
	my %details = map { $_->[0] => $_->[1] } table_below('Four tables hold the details');
	is(scalar(keys %details), 4, 'four tables');
	for my $table (sort keys %details)
	{
		for my $column (rows(qq{SELECT attname FROM pg_attribute WHERE attrelid = '$table'::regclass AND attnum > 0}))
		{
			ok($details{$table} =~ /`$column`/, "column $column of $table");
		}
	}
};

# The reference's tables of errors quote messages that somebody raises: the
# first one of a line, unless it is cut.
subtest 'messages' => sub {
	my $source = join "\n", map { slurp_file($_) } glob("$root/src/*.c $root/sql/[0-9]*.sql");
	my ($checked, @formats, @nobody) = (0);
	# One is the server's, one continues in the next.
	my %excused = map { $_ => 1 } 'canceling statement due to statement timeout', 'constraint "c"';

	$source =~ s/"\s*\n\s*"//g;
	push @formats, $1 =~ s/\\"/"/gr while $source =~ /"((?:[^"\\\n]|\\.)*)"/g;
	push @formats, $1 =~ s/''/'/gr while $source =~ /'((?:[^'\n]|'')*)'/g;
	# A name is a word or two; what is hardly more than names would be anything.
	for (splice @formats)
	{
		my @words = split /%(?:\d\$)?(?:ll)?[sILud]|%(?![\w.])/, $_, -1;

		push @formats, join '\S+(?: \S+)?', map { quotemeta } @words if join('', @words) =~ tr/a-z// > 7;
	}
	for (map { $reference =~ /\n(#+ $_\n.*?)\n## /s } 'What is refused', 'Errors of a running job',
		'Errors of maintenance')
	{
		for my $message (grep { !/\.\.\./ && !$excused{$_} } /^\| `([^`]+)`/mg)
		{
			$checked++;
			push @nobody, $message unless grep { $message =~ /^$_$/ } @formats;
		}
	}
	cmp_ok($checked, '>', 80, 'messages were found');
	is(join("\n", @nobody), '', 'all of them are raised');
};

subtest 'alerts' => sub {
	my %rules = slurp_file("$root/doc/monitoring/alerts.yml") =~ /- alert: (\w+).*?severity: (\w+)/gs;
	my %documented = $text{'doc/monitoring/README.md'} =~ /^\| (Partshift\w+) \| (\w+) \|/mg;

	is_deeply(\%documented, \%rules, 'alerts and their severity');
};

# The anchor that a heading has.
sub anchor { return lc($_[0]) =~ s/[^\w\- ]//gr =~ s/ /-/gr }

subtest 'links and files' => sub {
	my %anchors = map { my $path = $_; $path => { map { anchor($_) => 1 } $text{$path} =~ /^#+ (.*)$/mg } } keys %text;

	for my $path (sort keys %text)
	{
		my @broken;
		my $prose = $text{$path} =~ s/^\s*```.*?^\s*```//gmsr;

		for my $link ($prose =~ /\]\(([^)\s]+)\)/g)
		{
			my ($file, $place) = $link =~ /^([^#]*)#?(.*)$/;
			next if $link =~ /^https?:/;
			my $target = $file eq '' ? $path : dirname($path) . "/$file";

			1 while $target =~ s/[^\/]+\/\.\.\///;
			$target =~ s/^(?:\.\/)+//;
			push @broken, $link
			  unless -e "$root/$target" && ($place eq '' || $anchors{$target}{$place});
		}
		push @broken, grep { !-e "$root/" . s/ .*//r } $prose =~ /`((?:test|src|sql|doc)\/[\w.\/ -]*\w)`/g;
		push @broken, grep { slurp_file("$root/Makefile") !~ /^$_:|^\.PHONY:.*\b$_\b/m && !/installcheck/ } $prose =~ /`make (\w+)`/g;
		is(join(' ', @broken), '', "$path: links and files are there");
	}
};

done_testing();
