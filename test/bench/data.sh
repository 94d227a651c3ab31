# data.sh: to be sourced; the data sets of the benchmarks.
#
#   make_series TABLE ROWS      D1: narrow rows of a time series over three years
#   make_documents TABLE ROWS   D2: uuid, text, jsonb, about 300 bytes
#
# Both have a primary key (id) and a secondary index, are vacuumed, frozen and
# analyzed.  Values are the same in every run.  For the data set that is
# chosen with use_series or use_documents
#
#   $columns $key $primary $secondary   name the parts of its indexes
#   $strategy                           is what convert() is given
#   make_parent TABLE                   makes what it converts to, without rows
#                                       and indexes, as a competitor would

use_series() {
	make_source=make_series
	primary="(id, at)" secondary="(device, at)"
	strategy="'range', 'at', every => '1 month'"
}

use_documents() {
	make_source=make_documents
	primary="(id)" secondary="(user_id, changed)"
	leaves=${1:-32}
	strategy="'hash', 'id', partitions => $leaves"
}

make_series() {
	sql "CREATE TABLE $1 (id bigint NOT NULL, at timestamptz NOT NULL, device integer NOT NULL,
			state integer NOT NULL, value double precision);
		INSERT INTO $1
		SELECT i, '2024-01-01 UTC'::timestamptz + i * interval '3 years' / $2, i * 7919 % 10007, i % 5, i % 997 / 7.0
		FROM generate_series(1, $2::bigint) AS i;
		ALTER TABLE $1 ADD PRIMARY KEY (id);
		CREATE INDEX ON $1 $secondary"
	sql "VACUUM (FREEZE, ANALYZE) $1"
}

make_documents() {
	sql "CREATE TABLE $1 (id uuid NOT NULL, user_id integer NOT NULL, title text NOT NULL, body jsonb,
			changed timestamptz NOT NULL DEFAULT now());
		INSERT INTO $1
		SELECT md5('x' || i)::uuid, i % 10007, repeat(md5(i::text), 5),
			jsonb_build_object('a', i, 'b', md5(i::text)), '2026-01-01 UTC'::timestamptz + i * interval '1 second'
		FROM generate_series(1, $2::bigint) AS i;
		ALTER TABLE $1 ADD PRIMARY KEY (id);
		CREATE INDEX ON $1 $secondary"
	sql "VACUUM (FREEZE, ANALYZE) $1"
}

make_parent() {
	if [ "$make_source" = make_series ]; then
		sql "CREATE TABLE $1 (LIKE source) PARTITION BY RANGE (at)"
		sql "SELECT format('CREATE TABLE $1_%s PARTITION OF $1 FOR VALUES FROM (%L) TO (%L);', n,
				at, at + interval '1 month')
			FROM generate_series(0, 36) AS n, LATERAL (SELECT '2024-01-01 UTC'::timestamptz + n * interval '1 month') AS t(at)"
	else
		sql "CREATE TABLE $1 (LIKE source) PARTITION BY HASH (id)"
		sql "SELECT format('CREATE TABLE $1_%s PARTITION OF $1 FOR VALUES WITH (MODULUS $leaves, REMAINDER %s);', n, n)
			FROM generate_series(0, $leaves - 1) AS n"
	fi >"$work/tmp/parent.sql"
	as_user psql -qX -v ON_ERROR_STOP=1 -f "$work/tmp/parent.sql"
}
