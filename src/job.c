/*-------------------------------------------------------------------------
 *
 * job.c
 *	  The job row, in memory and in the table.
 *
 * The row is all that a worker knows after a crash.  Whoever changes a phase
 * holds the row locked FOR UPDATE, and takes that lock before any lock on a
 * table, so that an operator's command and a phase never wait for each other
 * crosswise.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/xid8.h"

#include "job.h"
#include "sql.h"

#define JOB_COLUMNS \
	"SELECT relid, shadow, log, postponed, owner, key_index," \
	" schema_name, table_name, identity_columns," \
	" phase, status, request, swap_mode, swap_requested, verify_mode," \
	" workers, cost_delay, cost_limit, reverse," \
	" coalesce((options->>'reverse_sync')::boolean, true)," \
	" log_file, log_block, last_reconcile_xid," \
	" horizon_xmin, horizon_xmax, horizon_xip, horizon_overflowed," \
	" fingerprint, keeper_pid," \
	" plan #>> '{computed,column}', (plan #>> '{computed,derived}')::boolean," \
	" (plan #>> '{computed,type}')::oid," \
	" (plan #>> '{computed,collation}')::oid, plan #>> '{computed,tree}'," \
	" coalesce((options->>'lock_writes')::boolean, false)" \
	" FROM partshift.job WHERE job_id = $1"

static const char *const phase_names[] = {
	"prepare", "copy", "index", "mirror", "reconcile",
	"rewire", "verify", "ready", "swap", "done"
};

static const char *const status_names[] = {
	"active", "paused", "failed", "aborted", "rolled_back", "finalized"
};

/*
 * The phase's name, as it stands in the table.
 */
const char *
psh_phase_name(PshPhase phase)
{
	return phase_names[phase];
}

static int
index_of(const char *name, const char *const *names, int n)
{
	int			i;

	for (i = 0; i < n; i++)
		if (strcmp(name, names[i]) == 0)
			return i;
	elog(ERROR, "unrecognized word in table partshift.job: %s", name);
}

static Datum
column(int n, bool *isnull)
{
	Datum		value = psh_sql_value(0, n, isnull);

	return *isnull ? (Datum) 0 : value;
}

static List *
names_of(Datum array)
{
	List	   *names = NIL;
	Datum	   *elements;
	int			n,
				i;

	deconstruct_array(DatumGetArrayTypeP(array), NAMEOID, NAMEDATALEN, false,
					  TYPALIGN_CHAR, &elements, NULL, &n);
	for (i = 0; i < n; i++)
		names = lappend(names, pstrdup(NameStr(*DatumGetName(elements[i]))));
	return names;
}

static void
read_horizon(PshHorizon *horizon)
{
	bool		isnull;
	Datum		array;

	horizon->xmin = DatumGetFullTransactionId(column(24, &isnull));
	if (isnull)
		return;
	horizon->xmax = DatumGetFullTransactionId(column(25, &isnull));
	array = column(26, &isnull);
	if (!isnull)
	{
		Datum	   *elements;
		int			i;

		deconstruct_array(DatumGetArrayTypeP(array), XID8OID, 8,
						  FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &elements, NULL,
						  &horizon->nxip);
		horizon->xip = palloc(sizeof(FullTransactionId) *
							  Max(horizon->nxip, 1));
		for (i = 0; i < horizon->nxip; i++)
			horizon->xip[i] = DatumGetFullTransactionId(elements[i]);
	}
	horizon->overflowed = DatumGetBool(column(27, &isnull));
}

static PshComputed *
read_computed(void)
{
	char	   *name = psh_sql_text(0, 30);
	PshComputed *computed;
	bool		isnull;

	if (name == NULL)
		return NULL;
	computed = palloc(sizeof(PshComputed));
	computed->column = name;
	computed->derived = DatumGetBool(column(31, &isnull));
	computed->type = DatumGetObjectId(column(32, &isnull));
	computed->collation = DatumGetObjectId(column(33, &isnull));
	computed->tree = psh_sql_text(0, 34);
	return computed;
}

static PshJob *
read_job(int job_id, const char *query)
{
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(job_id)};
	PshJob	   *job;
	bool		isnull;

	if (psh_sql(SPI_OK_SELECT, query, 1, types, values, NULL) == 0)
		return NULL;
	job = palloc0(sizeof(PshJob));
	job->id = job_id;
	job->relid = DatumGetObjectId(column(1, &isnull));
	job->shadow = DatumGetObjectId(column(2, &isnull));
	job->log = DatumGetObjectId(column(3, &isnull));
	job->postponed = DatumGetObjectId(column(4, &isnull));
	job->owner = DatumGetObjectId(column(5, &isnull));
	job->key_index = DatumGetObjectId(column(6, &isnull));
	job->schema_name = psh_sql_text(0, 7);
	job->table_name = psh_sql_text(0, 8);
	job->identity = names_of(column(9, &isnull));
	job->phase = index_of(psh_sql_text(0, 10), phase_names,
						  lengthof(phase_names));
	job->status = index_of(psh_sql_text(0, 11), status_names,
						   lengthof(status_names));
	job->request = psh_sql_text(0, 12);
	job->swap_manual = strcmp(psh_sql_text(0, 13), "manual") == 0;
	job->swap_requested = DatumGetBool(column(14, &isnull));
	job->verify_mode = psh_sql_text(0, 15);
	job->workers = DatumGetInt32(column(16, &isnull));
	job->cost_delay = DatumGetFloat8(column(17, &isnull));
	job->cost_limit = DatumGetInt32(column(18, &isnull));
	job->reverse = DatumGetBool(column(19, &isnull));
	job->reverse_sync = DatumGetBool(column(20, &isnull));
	job->log_file = DatumGetObjectId(column(21, &isnull));
	job->log_block = DatumGetInt64(column(22, &isnull));
	job->last_reconcile_xid = DatumGetFullTransactionId(column(23, &isnull));
	read_horizon(&job->horizon);
	job->fingerprint = psh_sql_text(0, 28);
	job->keeper_pid = DatumGetInt32(column(29, &isnull));
	job->computed = read_computed();
	job->lock_writes = DatumGetBool(column(35, &isnull));
	return job;
}

/*
 * Read a job, or return NULL when there is none.  SPI must be connected; what
 * is returned lives in the current memory context.
 */
PshJob *
psh_job_load(int job_id)
{
	return read_job(job_id, JOB_COLUMNS);
}

/*
 * The same in a transaction of its own, outside of any.
 */
PshJob *
psh_job_read(int job_id)
{
	MemoryContext caller = CurrentMemoryContext;
	PshJob	   *job;

	psh_txn_begin("reading the job");
	MemoryContextSwitchTo(caller);
	job = psh_job_load(job_id);
	psh_txn_commit();
	MemoryContextSwitchTo(caller);
	return job;
}

/*
 * Lock a job's row until the end of the transaction and read it.  Raises
 * UNDEFINED_OBJECT when there is none.
 */
PshJob *
psh_job_lock(int job_id)
{
	PshJob	   *job = read_job(job_id, JOB_COLUMNS " FOR UPDATE");

	if (job == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("job %d does not exist", job_id)));
	return job;
}

/*
 * Make `next` the job's phase, in the current transaction.  The caller holds
 * the job's row.
 */
void
psh_job_advance(const PshJob *job, PshPhase next)
{
	Oid			types[2] = {INT4OID, TEXTOID};
	Datum		values[2];

	values[0] = Int32GetDatum(job->id);
	values[1] = CStringGetTextDatum(psh_phase_name(next));
	psh_sql(SPI_OK_INSERT,
			"INSERT INTO partshift.phase_log (job_id, phase, started_at)"
			" SELECT job_id, phase, phase_started_at FROM partshift.job"
			" WHERE job_id = $1",
			1, types, values, NULL);
	psh_sql(SPI_OK_UPDATE,
			"UPDATE partshift.job SET phase = $2,"
			" phase_started_at = clock_timestamp(), lock_tries = 0,"
			" blocker_pid = NULL, blocker = NULL"
			" WHERE job_id = $1",
			2, types, values, NULL);
}

/*
 * Record that a job cannot go on until an operator resumes it, and why.  An
 * error that some event trigger raised tells as its hint which one it was.
 */
void
psh_job_fail(int job_id, const ErrorData *error)
{
	const char *texts[] = {
		unpack_sql_state(error->sqlerrcode), error->message, error->detail,
		error->hint, error->context
	};
	Oid			types[lengthof(texts) + 1] = {INT4OID};
	Datum		values[lengthof(texts) + 1] = {Int32GetDatum(job_id)};
	char		nulls[lengthof(texts) + 2] = " ";
	int			i;

	for (i = 0; i < lengthof(texts); i++)
	{
		types[i + 1] = TEXTOID;
		values[i + 1] = texts[i] ? CStringGetTextDatum(texts[i]) : (Datum) 0;
		nulls[i + 1] = texts[i] ? ' ' : 'n';
	}
	psh_sql(SPI_OK_UPDATE,
			"UPDATE partshift.job SET status = 'failed', error_sqlstate = $2,"
			" error_message = $3, error_detail = $4,"
			" error_hint = coalesce($5, partshift.event_trigger_hint($6)),"
			/* After the swap nothing depends on a comparison. */
			" request = CASE WHEN request = 'verify' AND phase = 'done' AND NOT reverse"
			" THEN NULL ELSE request END"
			" WHERE job_id = $1 AND status = 'active'",
			lengthof(types), types, values, nulls);
}
