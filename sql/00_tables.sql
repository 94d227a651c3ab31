CREATE SCHEMA partshift;

/*
 * partshift 1.0: the state of the conversions.
 *
 * Everything that is needed to go on after a crash is in these tables; the
 * workers keep nothing anywhere else.  No configuration dump is declared for
 * them: they are the state of this server, and half a job restored elsewhere
 * would be a lie.  No foreign keys join them, because a worker's update of a
 * task must not lock the job's row.
 */
CREATE TABLE partshift.job (
	job_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	relid oid NOT NULL,
	schema_name name NOT NULL,
	table_name name NOT NULL,
	owner oid NOT NULL,
	strategy text NOT NULL CHECK (strategy IN ('hash', 'range', 'list')),
	key_columns name[] NOT NULL,
	identity_columns name[] NOT NULL,
	key_index oid NOT NULL,
	options jsonb NOT NULL,
	plan jsonb NOT NULL,
	fingerprint text NOT NULL,
	legacy_name name NOT NULL,

	phase text NOT NULL DEFAULT 'prepare'
		CHECK (phase IN ('prepare', 'copy', 'index', 'mirror', 'reconcile',
						 'rewire', 'verify', 'ready', 'swap', 'done')),
	status text NOT NULL DEFAULT 'active'
		CHECK (status IN ('active', 'paused', 'failed', 'aborted',
						  'rolled_back', 'finalized')),
	request text
		CHECK (request IN ('pause', 'abort', 'rollback', 'finalize', 'verify')),
	swap_mode text NOT NULL DEFAULT 'auto' CHECK (swap_mode IN ('auto', 'manual')),
	swap_requested boolean NOT NULL DEFAULT false,
	verify_mode text NOT NULL DEFAULT 'full'
		CHECK (verify_mode IN ('full', 'count', 'none')),
	workers integer NOT NULL DEFAULT 2 CHECK (workers BETWEEN 1 AND 64),
	cost_delay double precision NOT NULL DEFAULT -1,
	cost_limit integer NOT NULL DEFAULT -1,

	shadow oid,
	log oid,
	postponed oid,
	horizon_xmin xid8,
	horizon_xmax xid8,
	horizon_xip xid8[],
	horizon_overflowed boolean,
	log_file oid,
	keeper_pid integer,
	log_block bigint NOT NULL DEFAULT 0,
	reconciled bigint NOT NULL DEFAULT 0,
	postponed_rows bigint NOT NULL DEFAULT 0,
	last_reconcile_xid xid8,
	reverse boolean NOT NULL DEFAULT false,

	worker_pid integer,
	rows_estimate bigint NOT NULL DEFAULT 0,
	bytes_total bigint NOT NULL DEFAULT 0,
	throttled_ms double precision NOT NULL DEFAULT 0,
	replica_lag bigint NOT NULL DEFAULT 0,
	lock_tries integer NOT NULL DEFAULT 0,
	blocker_pid integer,
	blocker_role oid,
	blocker text,
	swap_lock_ms double precision,
	error_sqlstate text,
	error_message text,
	error_detail text,
	error_hint text,
	created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	phase_started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	swapped_at timestamptz,
	ended_at timestamptz
);

COMMENT ON TABLE partshift.job IS
'one row for each conversion: all that is needed to go on after a crash';
COMMENT ON COLUMN partshift.job.relid IS
'the source; after the swap the same table is the legacy table';
COMMENT ON COLUMN partshift.job.shadow IS
'the partitioned table; after the swap it bears the source''s name';
COMMENT ON COLUMN partshift.job.identity_columns IS
'columns of the key, then the partition key columns that it lacks';
COMMENT ON COLUMN partshift.job.key_index IS
'the unique index of the source that finds a row, 0 if none does';
COMMENT ON COLUMN partshift.job.keeper_pid IS
'the process that has locked the source against writing, once it has';
COMMENT ON COLUMN partshift.job.reverse IS
'the swap that is being prepared gives the name back to the legacy table';

CREATE UNIQUE INDEX job_relid_key ON partshift.job (relid)
	WHERE status IN ('active', 'paused', 'failed');

CREATE TABLE partshift.task (
	job_id integer NOT NULL,
	phase text NOT NULL,
	task_no integer NOT NULL,
	object oid,
	other oid,
	run_as oid,
	command text,
	next_block bigint,
	end_block bigint,
	rows bigint NOT NULL DEFAULT 0,
	skipped bigint NOT NULL DEFAULT 0,
	unsure bigint NOT NULL DEFAULT 0,
	bytes bigint NOT NULL DEFAULT 0,
	throttled_ms double precision NOT NULL DEFAULT 0,
	result oid,
	done boolean NOT NULL DEFAULT false,
	PRIMARY KEY (job_id, phase, task_no)
) WITH (fillfactor = 50);

/* With a thousand leaves there are thousands of tasks, most of them done. */
CREATE INDEX task_undone_idx ON partshift.task (job_id, phase, task_no)
	WHERE NOT done;
CREATE INDEX task_undone_object_idx ON partshift.task (job_id, object)
	WHERE NOT done;

COMMENT ON TABLE partshift.task IS
'pieces of a phase that workers claim with a row lock: ranges of blocks, indexes to build, statements to run';

CREATE TABLE partshift.phase_log (
	job_id integer NOT NULL,
	phase text NOT NULL,
	started_at timestamptz NOT NULL,
	ended_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

COMMENT ON TABLE partshift.phase_log IS
'how long each phase of a job took';

CREATE INDEX phase_log_job_idx ON partshift.phase_log (job_id);

CREATE TABLE partshift.verification (
	job_id integer NOT NULL,
	verified_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	mode text NOT NULL,
	leaf text NOT NULL,
	source_rows bigint NOT NULL,
	shadow_rows bigint NOT NULL,
	source_sum numeric,
	shadow_sum numeric,
	equal boolean NOT NULL,
	identities text[]
);

COMMENT ON TABLE partshift.verification IS
'the last comparison of both tables, leaf by leaf, in one snapshot';

CREATE INDEX verification_job_idx ON partshift.verification (job_id);

CREATE TABLE partshift.dropout (
	job_id integer NOT NULL,
	dropped_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	reason text NOT NULL
);

COMMENT ON TABLE partshift.dropout IS
'legacy tables that could no longer follow the new table, and why: their conversion cannot be rolled back';

CREATE INDEX dropout_job_idx ON partshift.dropout (job_id);

CREATE TABLE partshift.unplaced (
	job_id integer NOT NULL,
	noted_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

COMMENT ON TABLE partshift.unplaced IS
'notes of transactions that wrote a row to a source whose computed partition key has no value for it';

CREATE TABLE partshift.carried_object (
	job_id integer NOT NULL,
	class text NOT NULL,
	object text NOT NULL,
	state text NOT NULL,
	reason text,
	before text,
	after text
);

COMMENT ON TABLE partshift.carried_object IS
'what each object of the table became in the swap, with its definitions before and after';

CREATE INDEX carried_object_job_idx ON partshift.carried_object (job_id);

/*
 * A publication FOR ALL TABLES has these as well, and refuses to delete from a
 * table whose rows it cannot name.
 */
ALTER TABLE partshift.phase_log REPLICA IDENTITY FULL;
ALTER TABLE partshift.verification REPLICA IDENTITY FULL;
ALTER TABLE partshift.dropout REPLICA IDENTITY FULL;
ALTER TABLE partshift.carried_object REPLICA IDENTITY FULL;
ALTER TABLE partshift.unplaced REPLICA IDENTITY FULL;
