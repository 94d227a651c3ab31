# After the swap, and after more writes of all kinds, the way back keeps every
# write and leaves the definitions as they were before the conversion; the
# table can then be converted again, for good.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PartshiftTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('rollback');

sub query { return $node->safe_psql('postgres', $_[0]) }

# "copy" is written with the same statements as the table.
query(q{
	CREATE ROLE keeper NOLOGIN;
	CREATE ROLE reader;
	CREATE SCHEMA shop AUTHORIZATION keeper;
	GRANT USAGE ON SCHEMA shop TO reader;
	SET ROLE keeper;
	CREATE TABLE shop.customer (id integer PRIMARY KEY);
	INSERT INTO shop.customer SELECT generate_series(1, 50);
	CREATE TABLE shop.sale (
		id serial,
		gone integer,
		day date NOT NULL,
		number bigint GENERATED ALWAYS AS IDENTITY (START 1000 INCREMENT 3),
		customer integer REFERENCES shop.customer ON DELETE SET NULL,
		amount numeric(12, 2) DEFAULT 1 CONSTRAINT positive CHECK (amount > 0),
		doubled numeric GENERATED ALWAYS AS (amount * 2) STORED,
		note text COLLATE "C" DEFAULT 'none',
		PRIMARY KEY (id, day)
	) WITH (fillfactor = 80);
	ALTER TABLE shop.sale DROP COLUMN gone;
	ALTER TABLE shop.sale ALTER note SET STORAGE EXTERNAL;
	CREATE INDEX by_note ON shop.sale (lower(note)) WHERE amount > 5;
	CREATE UNIQUE INDEX by_number ON shop.sale (number, day) INCLUDE (amount);
	COMMENT ON INDEX shop.by_note IS 'for searches';
	COMMENT ON TABLE shop.sale IS 'what was sold';
	COMMENT ON COLUMN shop.sale.note IS 'anything';
	CREATE TABLE shop.line (
		sale integer, day date, n integer,
		CONSTRAINT of_sale FOREIGN KEY (sale, day) REFERENCES shop.sale
			ON UPDATE CASCADE ON DELETE CASCADE DEFERRABLE);
	CREATE FUNCTION shop.stamp() RETURNS trigger LANGUAGE plpgsql
		AS 'BEGIN NEW.note := coalesce(NEW.note, ''stamped''); RETURN NEW; END';
	CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON shop.sale
		FOR EACH ROW EXECUTE FUNCTION shop.stamp();
	CREATE TRIGGER never AFTER DELETE ON shop.sale
		FOR EACH STATEMENT EXECUTE FUNCTION shop.stamp();
	ALTER TABLE shop.sale DISABLE TRIGGER never;
	GRANT SELECT, UPDATE (note) ON shop.sale TO reader;
	ALTER TABLE shop.sale ENABLE ROW LEVEL SECURITY;
	CREATE POLICY cheap ON shop.sale TO reader USING (amount < 100);
	INSERT INTO shop.sale (day, customer, amount, note)
		SELECT date '2024-01-01' + g % 200, 1 + g % 50, 1 + g % 17, repeat('n', 60)
		FROM generate_series(1, 4000) g;
	INSERT INTO shop.line SELECT id, day, 1 FROM shop.sale WHERE id % 10 = 0;
	RESET ROLE;
	CREATE TABLE shop.copy (LIKE shop.sale);
	INSERT INTO shop.copy TABLE shop.sale;
	VACUUM ANALYZE;
});

my $convert = "'shop.sale', 'range', 'day', every => '1 month', premake => 1";
my $round = 0;

# Writes of all kinds, to the table and to the copy.
sub write_all
{
	my $values;

	$round++;
	$values = "date '2024-02-10' + g, 3, g + $round, 'round $round'";
	query(qq{
		WITH new AS (INSERT INTO shop.sale (day, customer, amount, note)
			SELECT $values FROM generate_series(1, 30) g RETURNING *)
		INSERT INTO shop.copy (id, day, number, customer, amount, doubled, note)
		SELECT id, day, number, customer, amount, doubled, note FROM new;
		WITH new AS (INSERT INTO shop.sale (day, customer, amount, note)
			VALUES ('2031-01-01', 1, 9, NULL), ('1999-01-01', 2, 8, repeat('wide', 4000))
			RETURNING *)
		INSERT INTO shop.copy TABLE new});
	for my $table ('shop.sale', 'shop.copy')
	{
		my ($double, $twice) =
		  $table eq 'shop.copy'
		  ? (', doubled = (amount + 1) * 2', ', doubled = 2 * amount * 2')
		  : ('', '');

		query(qq{
			UPDATE $table SET amount = amount + 1 $double WHERE id % 7 = $round;
			UPDATE $table SET day = day + 40 WHERE id % 11 = $round;
			UPDATE $table SET id = - id WHERE id % 13 = $round AND id % 10 <> 0;
			UPDATE $table SET id = id + 100000, day = day - 40
				WHERE id BETWEEN $round * 300 AND $round * 300 + 5;
			DELETE FROM $table WHERE id % 17 = $round;
			BEGIN;
			UPDATE $table SET note = 'kept' WHERE id % 19 = $round;
			SAVEPOINT a;
			DELETE FROM $table WHERE id % 3 = 0;
			UPDATE $table SET day = day + 40;
			ROLLBACK TO a;
			COMMIT;
			BEGIN;
			UPDATE $table SET amount = 2 * amount $twice WHERE id % 23 = $round;
			PREPARE TRANSACTION 'p';
			COMMIT PREPARED 'p';
			BEGIN;
			DELETE FROM $table;
			ROLLBACK});
	}
	query(qq{DELETE FROM shop.customer WHERE id = 10 + $round;
		UPDATE shop.copy SET customer = NULL WHERE customer = 10 + $round});
	return;
}

my $before = definitions($node);
my ($job, $legacy, $reader);

subtest 'converted' => sub {
	$job = start_job($node, "$convert, swap => 'manual'");
	reach($node, $job, 'ready, active');
	write_all();
	query("SELECT partshift.swap($job)");
	reach($node, $job, 'done, active');
	isnt(definitions($node), $before, 'the definitions are others');
	equal_tables($node, 'shop.sale', 'shop.copy', 'the table has every write');
};

subtest 'written to' => sub {
	$legacy = query("SELECT legacy FROM partshift.jobs WHERE job_id = $job");
	write_all();
	equal_tables($node, 'shop.sale', 'shop.copy', 'the table has every write');
	equal_tables($node, 'shop.sale', $legacy, 'the legacy table has every write');
	is(query("SELECT rollback_possible FROM partshift.jobs WHERE job_id = $job"),
		't', 'there is a way back');
	query("SELECT partshift.verify($job)");
	await($node, "SELECT request IS NULL FROM partshift.job WHERE job_id = $job");
	is(query("SELECT count(*) > 1 AND bool_and(equal) FROM partshift.verification
		WHERE job_id = $job"), 't', 'verify finds them equal');
};

# An abort of the way back leaves the new table in use, and followed.
subtest 'rollback given up' => sub {
	my $converted = catalog_rows($node);

	$reader = hold($node, 'SELECT FROM shop.sale LIMIT 1');
	query("SELECT partshift.rollback($job)");
	await($node, "SELECT phase = 'swap' AND blocker_pid IS NOT NULL
		FROM partshift.job WHERE job_id = $job");
	query("SELECT partshift.abort($job)");
	release($reader);
	await($node, "SELECT NOT reverse FROM partshift.job WHERE job_id = $job");
	reach($node, $job, 'done, active');
	same_definitions($converted, catalog_rows($node),
		'the catalogs are those of the converted table');
	is(query("SELECT rollback_possible FROM partshift.jobs WHERE job_id = $job"),
		't', 'there still is a way back');
	write_all();
	equal_tables($node, 'shop.sale', $legacy, 'the legacy table has every write');
};

subtest 'rolled back' => sub {
	write_all();
	query("SELECT partshift.rollback($job)");
	ended($node, $job, 'rolled_back');
	equal_tables($node, 'shop.sale', 'shop.copy', 'the table has every write');
	same_definitions($before, definitions($node),
		'the definitions are what they were');
	is(internal_names($node), '', 'nothing of the conversion is left');
	is(query('SELECT count(*) FROM shop.line l LEFT JOIN shop.sale s
		ON (s.id, s.day) = (l.sale, l.day) WHERE s.id IS NULL'),
		'0', 'the foreign key holds');
	is(query("SELECT relkind FROM pg_class WHERE oid = 'shop.sale'::regclass"),
		'r', 'the table is plain');
	write_all();
	equal_tables($node, 'shop.sale', 'shop.copy', 'it can be written to');
};

subtest 'converted again' => sub {
	$job = start_job($node, "$convert, keep_legacy => false");
	reach($node, $job, 'done, active');
	write_all();
	equal_tables($node, 'shop.sale', 'shop.copy', 'the table has every write');
	$legacy = query("SELECT legacy FROM partshift.jobs WHERE job_id = $job");
	equal_tables($node, 'shop.sale', $legacy, 'the legacy table has every write');
	query("SELECT partshift.finalize($job)");
	ended($node, $job, 'finalized');
	is(query("SELECT to_regclass('$legacy')"), '', 'the legacy table is gone');
	is(internal_names($node), '', 'no trigger is left');
	write_all();
	equal_tables($node, 'shop.sale', 'shop.copy', 'the table has every write');
	is(query("SELECT relkind FROM pg_class WHERE oid = 'shop.sale'::regclass"),
		'p', 'the table is partitioned');
	like(
		($node->psql('postgres', "SELECT partshift.rollback($job)"))[2],
		qr/cannot rollback job/, 'there is no way back any more');
};

# Two things that legacy holds unique and the new table does not end the way
# back; the write goes on.
subtest 'dropped out' => sub {
	query(q{
		CREATE TABLE shop.once (id integer PRIMARY KEY, part integer NOT NULL);
		INSERT INTO shop.once SELECT g, g FROM generate_series(1, 100) g});
	$job = start_job($node, q{'shop.once', 'hash', 'part', partitions => 3});
	reach($node, $job, 'done, active');
	query('INSERT INTO shop.once VALUES (1, 1000)');
	is(query('SELECT count(*) FROM shop.once WHERE id = 1'),
		'2', 'the write has succeeded');
	is(query("SELECT rollback_possible || ' ' || (rollback_lost_at IS NOT NULL)
		FROM partshift.jobs WHERE job_id = $job"),
		'false true', 'the way back is lost, with the time');
	like(
		($node->psql('postgres', "SELECT partshift.rollback($job)"))[2],
		qr/no longer follows/, 'a rollback is refused');
	query("SELECT partshift.finalize($job)");
	ended($node, $job, 'finalized');
};

done_testing();
