# However long partshift.lock_timeout is, a writer who closes a circle of waits
# with a worker must not be the victim of the deadlock: the worker gives up
# before the writer's detector looks.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PartshiftTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = new_server('patience', "partshift.lock_timeout = '1min'");

sub query { return $node->safe_psql('postgres', $_[0]) }

# Wait until a worker waits for the table that another session has locked.
sub worker_waits
{
	return await($node, q{SELECT EXISTS (
		SELECT FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
		WHERE NOT l.granted AND l.relation = 'parent'::regclass
			AND a.backend_type = 'partshift worker')});
}

query(q{
	CREATE TABLE parent (id integer PRIMARY KEY);
	INSERT INTO parent VALUES (1);
	CREATE TABLE child (id integer PRIMARY KEY,
		parent integer REFERENCES parent ON DELETE CASCADE);
	INSERT INTO child SELECT g, 1 FROM generate_series(1, 100) AS g});

# The new table's key is added in a transaction that locks both tables, and
# then the parent again, more strongly.
my $job = start_job($node, q{'child', 'hash', 'id', partitions => 2, swap => 'manual'});
my $reader = hold($node, 'LOCK TABLE parent IN ROW SHARE MODE');

worker_waits();
usleep(200_000);    # the worker has looked for a deadlock by now
is(ask($reader, 'UPDATE child SET parent = 1 WHERE id = 1 RETURNING id'),
	'1', 'a writer who has locked the parent goes on');
release($reader);
reach($node, $job, 'ready, active');
query("SELECT partshift.swap($job)");
reach($node, $job, 'done, active');
unlike(slurp_file($node->logfile), qr/deadlock detected/, 'nobody has met a deadlock');

$node->stop;
done_testing();
