# Security labels of a table and its columns are on the new table and on its
# partitions, from the first copied row on, and on the old table again after a
# rollback.  No provider is asked about them.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PartshiftTest;
use PostgreSQL::Test::Utils;
use Test::More;
use TestModule;

# The provider is loaded in sessions only, as session_preload_libraries does.
my $node = new_server('labels', "session_preload_libraries = '" . build_module('labels') . "'");

sub query { return $node->safe_psql('postgres', $_[0]) }

# The labels of a table as "column label, ..."; those of a partition begin
# with what it is called after the table.
sub labels
{
	return query(qq{
		SELECT string_agg(concat_ws(' ', coalesce(a.attname, 'table'), l.label), ', ' ORDER BY a.attname NULLS FIRST)
		FROM pg_seclabel AS l LEFT JOIN pg_attribute AS a
			ON a.attrelid = l.objoid AND a.attnum = l.objsubid AND l.objsubid > 0
		WHERE l.objoid = '$_[0]'::regclass});
}

query(q{
	CREATE ROLE owner NOLOGIN;
	CREATE TABLE t (gone integer, id integer PRIMARY KEY, "sec ret" text, day date NOT NULL);
	ALTER TABLE t DROP COLUMN gone;
	INSERT INTO t SELECT g, 'x' || g, date '2026-01-01' + g % 60 FROM generate_series(1, 3000) AS g;
	ALTER TABLE t OWNER TO owner;
	CREATE VIEW v AS SELECT id, "sec ret" FROM t;
	SECURITY LABEL FOR paper ON TABLE t IS 'it''s secret';
	SECURITY LABEL FOR paper ON COLUMN t."sec ret" IS 'very "secret"';
	SECURITY LABEL FOR paper ON COLUMN t.day IS 'dated';
	SECURITY LABEL FOR paper ON VIEW v IS 'on view';
	SECURITY LABEL FOR paper ON COLUMN v.id IS 'seen'});
my $all = q{table it's secret, day dated, sec ret very "secret"};
my $asked = -s $node->logfile;

is(labels('t'), $all, 'the labels are there');
is(query("SELECT string_agg(severity, ' ') FROM partshift.plan('t', 'range', 'day', every => '1 month')"
		. " WHERE topic = 'label'"), '', 'they do not stand in the way');
my $job = start_job($node, "'t', 'range', 'day', every => '1 month', premake => 0, swap => 'manual',"
	  . ' cost_delay => 100, cost_limit => 1');
await($node, "SELECT phase = 'copy' FROM partshift.job WHERE job_id = $job");
is(labels("t_ps$job"), $all, 'the new table has them while it is filled');
is(labels('t_p202601'), $all, 'and so has each partition');
my ($code, $out, $err) = $node->psql('postgres', "SECURITY LABEL FOR paper ON COLUMN t.id IS 'late'");
like($err, qr/cannot alter table "public.t" while conversion job $job is in progress/,
	'none is given meanwhile');
fast($node, $job);
reach($node, $job, 'ready, active');
query("SELECT partshift.swap($job)");
reach($node, $job, 'done, active');
is(labels('t'), $all, 'the table that is in use has them');
is(labels($_), $all, "$_ has them") for 't_p202601', 't_p202602', 't_default';
is(labels('v'), 'table on view, id seen', 'the view has its own');
await($node, "SELECT NOT plan ? 'inventory' FROM partshift.job WHERE job_id = $job");
is(query("SELECT string_agg(concat_ws(' ', object, state), ', ' ORDER BY object COLLATE \"C\")"
		. " FROM partshift.carried($job) WHERE class = 'security label'"),
	'paper on column "sec ret" same, paper on column day same, paper on table same', 'and it is told');
unlike(slurp_file($node->logfile, $asked), qr/label "(?!late).*" given/, 'no provider was asked');

# One that is given after the swap has to be taken back, as a privilege has.
query("SECURITY LABEL FOR paper ON COLUMN t.id IS 'new'; SELECT partshift.rollback($job)");
await($node, "SELECT status = 'failed' FROM partshift.job WHERE job_id = $job");
like(job_state($node, $job), qr/definition of table "t" has changed since it was recorded/,
	'no way back with another label');
query("SECURITY LABEL FOR paper ON COLUMN t.id IS NULL; SELECT partshift.resume($job)");
ended($node, $job, 'rolled_back');
is(labels('t'), $all, 'the old table has its labels');

# What would not go with the name.
query("SECURITY LABEL FOR paper ON TYPE t IS 'typed'");
is(query("SELECT partshift.plan_job('t', 'hash', 'id', '{\"partitions\": 2}') -> 'findings' -> 0 ->> 'message'"),
	'type public.t has a security label of provider "paper"', 'a label of the row type is refused');

done_testing();
