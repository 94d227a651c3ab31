/*-------------------------------------------------------------------------
 *
 * worker.c
 *	  The background processes of a conversion.
 *
 * A leader holds a session-level lock on its job, so that there is only one;
 * it takes step after step until there is nothing to do, and exits.  No process
 * stays behind while a job waits for its operator.
 *
 * Errors of a step abort its transaction and nothing else.  A lock that was
 * not to be had in time, a deadlock (we ask to be the victim, by a low
 * deadlock_timeout) or a serialization failure is tried again after a rest
 * that grows, with whoever is in the way named on the job; any other error
 * stops the job, which keeps its phase and can be resumed.
 *
 * SIGTERM is handled by die(): such a process waits for locks, and must be
 * able to leave from there.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/elog.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"

#include "compat.h"
#include "fence.h"
#include "job.h"
#include "keeper.h"
#include "launch.h"
#include "maintain.h"
#include "phases.h"
#include "sql.h"
#include "throttle.h"
#include "worker.h"

#define REST_MS 100				/* when others hold what is left */
#define FIRST_RETRY_MS 100.0
#define LAST_RETRY_MS 10000.0
#define PATIENCE_MS 5000		/* for another leader to end */

/*
 * Of the lock on a job.  It is of the advisory kind, because that alone
 * outlives the abort of a transaction; the server's SQL functions use 1 and 2,
 * so that no user can take ours.
 */
#define LEADER_LOCK 3

static PshOrder order;

/* The server's, as it was before this process set its own. */
static int	users_deadlock_timeout = 0;

/*
 * Settings that no role, database or file may change for us.
 *
 * The detector looks once, soon after a wait of ours has begun.  A circle that
 * a user's wait closes later is left to us to break by giving up before his
 * detector looks, whatever partshift.lock_timeout says.
 */
static void
force_settings(void)
{
	static const struct
	{
		const char *name;
		const char *value;
	}			forced[] =
	{
		{"search_path", "pg_catalog, pg_temp"},
		{"statement_timeout", "0"},
		{"transaction_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_deferrable", "off"},
		{"session_replication_role", "replica"},
		{"synchronous_commit", "off"},
		{"deadlock_timeout", "50ms"},
		{"jit", "off"},
		{"max_parallel_maintenance_workers", "0"},
		{"max_parallel_workers_per_gather", "0"},
		{"default_tablespace", ""},
		{"standard_conforming_strings", "on"},
		{"transform_null_equals", "off"},
		{"array_nulls", "on"},
		{"timezone", "UTC"},
		{"datestyle", "ISO, YMD"},
		{"intervalstyle", "postgres"},
		{"extra_float_digits", "1"},
		{"bytea_output", "hex"},
	};
	char		timeout[32];
	int			i;

	if (users_deadlock_timeout == 0)
		users_deadlock_timeout = DeadlockTimeout;
	for (i = 0; i < lengthof(forced); i++)
		if (GetConfigOption(forced[i].name, true, false) != NULL)
			SetConfigOption(forced[i].name, forced[i].value, PGC_SUSET,
							PGC_S_OVERRIDE);
	snprintf(timeout, sizeof(timeout), "%dms",
			 Min(partshift_lock_timeout, Max(users_deadlock_timeout / 2, 1)));
	SetConfigOption("lock_timeout", timeout, PGC_SUSET, PGC_S_OVERRIDE);
}

/*
 * Sleep, but see to signals and to a changed configuration.
 */
void
psh_worker_nap(long milliseconds)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 milliseconds, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
		force_settings();
	}
}

/* Begin only when the transaction that gave the order has ended. */
static void
await_caller(void)
{
	if (!TransactionIdIsValid(order.caller))
		return;
	StartTransactionCommand();
	XactLockTableWait(order.caller, NULL, NULL, XLTW_None);
	CommitTransactionCommand();
}

static bool
is_installed(void)
{
	bool		installed;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	installed = OidIsValid(psh_extension_owner()) &&
		OidIsValid(get_namespace_oid("partshift", true));
	CommitTransactionCommand();
	return installed;
}

static void
set_lock_tag(LOCKTAG *tag)
{
	Oid			job_table;

	StartTransactionCommand();
	job_table = get_relname_relid("job", get_namespace_oid("partshift", false));
	CommitTransactionCommand();
	SET_LOCKTAG_ADVISORY(*tag, MyDatabaseId, job_table, order.job_id,
						 LEADER_LOCK);
}

/* End the other processes of a job that is to be aborted. */
static void
stop_others(void)
{
	Oid			types[2] = {TEXTOID, INT4OID};
	Datum		values[2];

	psh_txn_begin("stopping the workers of the job");
	values[0] = CStringGetTextDatum(psprintf("partshift job %d", order.job_id));
	values[1] = Int32GetDatum(order.job_id);
	psh_sql(SPI_OK_SELECT,
			"SELECT pg_terminate_backend(a.pid)"
			" FROM pg_stat_activity AS a, partshift.job AS j"
			" WHERE j.job_id = $2 AND j.request = 'abort'"
			" AND a.backend_type = 'partshift worker'"
			" AND a.datid = (SELECT oid FROM pg_database"
			" WHERE datname = current_database())"
			" AND a.pid <> pg_backend_pid() AND a.application_name = $1",
			2, types, values, NULL);
	psh_txn_commit();
}

/*
 * Become the job's leader, or give up when another one stays.  One that is
 * about to exit may not have seen the order that this process was started
 * for, so it is given time to do so.
 */
static bool
become_leader(void)
{
	LOCKTAG		tag;
	int			waited;

	set_lock_tag(&tag);
	for (waited = 0; waited <= PATIENCE_MS; waited += REST_MS)
	{
		LockAcquireResult result;

		StartTransactionCommand();
		result = LockAcquire(&tag, ExclusiveLock, true, true);
		CommitTransactionCommand();
		if (result != LOCKACQUIRE_NOT_AVAIL)
			return true;
		stop_others();
		psh_worker_nap(REST_MS);
	}
	return false;
}

static void
record_pid(void)
{
	Oid			types[2] = {INT4OID, INT4OID};
	Datum		values[2];

	psh_txn_begin("recording the worker");
	values[0] = Int32GetDatum(order.job_id);
	values[1] = Int32GetDatum(MyProcPid);
	psh_sql(SPI_OK_UPDATE,
			"UPDATE partshift.job SET worker_pid = $2 WHERE job_id = $1",
			2, types, values, NULL);
	psh_txn_commit();
}

/*
 * Whether an error is one that may be gone at the next try.  An order to shut
 * down was a parallel worker's: our own would not have come as an error.
 */
bool
psh_worker_may_retry(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
		error->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN ||
		error->sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED ||
		error->sqlerrcode == ERRCODE_T_R_SERIALIZATION_FAILURE;
}

/* Name on the job who seems to be in the way. */
static PshStep
record_blocker(void)
{
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(order.job_id)};

	psh_txn_begin("looking for who is in the way");
	psh_sql(SPI_OK_SELECT, "SELECT partshift.record_blocker($1)", 1, types,
			values, NULL);
	psh_txn_commit();
	return PSH_STEP_AGAIN;
}

static void
record_failure(const ErrorData *error)
{
	psh_txn_begin("recording an error");
	psh_job_fail(order.job_id, error);
	psh_txn_commit();
}

/*
 * Clean up after an error; returns a copy of it, in that context.
 */
ErrorData *
psh_worker_recover(MemoryContext context)
{
	ErrorData  *error;

	HOLD_INTERRUPTS();
	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	if (!psh_worker_may_retry(error))
		EmitErrorReport();
	FlushErrorState();
	AbortOutOfAnyTransaction();
	disable_timeout(STATEMENT_TIMEOUT, false);
	psh_fence_expect(false);
	psh_throttle_stop();
	pgstat_report_activity(STATE_IDLE, NULL);
	RESUME_INTERRUPTS();
	return error;
}

static void
describe_error(void *arg)
{
	errcontext("conversion job %d", order.job_id);
}

static PshStep
next_step(void)
{
	if (order.role == PSH_ROLE_KEEPER)
		return psh_keeper_run(order.job_id, order.number);
	return order.role == PSH_ROLE_HELPER ?
		psh_phases_help(order.job_id, order.number) :
		psh_phases_lead(order.job_id);
}

/* One step, whatever it does; *failure is the error that ended it, or NULL. */
static PshStep
take_step(PshStep (*action) (void), MemoryContext scratch, ErrorData **failure)
{
	volatile PshStep step = PSH_STEP_AGAIN;
	ErrorContextCallback callback;

	callback.callback = describe_error;
	callback.arg = NULL;
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	*failure = NULL;
	PG_TRY();
	{
		step = action();
	}
	PG_CATCH();
	{
		*failure = psh_worker_recover(scratch);
	}
	PG_END_TRY();
	error_context_stack = callback.previous;
	return step;
}

/* Take steps until there is nothing to do. */
static void
work(void)
{
	MemoryContext scratch = AllocSetContextCreate(TopMemoryContext,
												  "partshift step",
												  ALLOCSET_DEFAULT_SIZES);
	double		retry = FIRST_RETRY_MS;

	for (;;)
	{
		ErrorData  *failure;
		PshStep		step;

		MemoryContextSwitchTo(scratch);
		MemoryContextReset(scratch);
		CHECK_FOR_INTERRUPTS();
		step = take_step(next_step, scratch, &failure);
		MemoryContextSwitchTo(scratch);
		if (failure && psh_worker_may_retry(failure))
		{
			/* The job's row may be what could not be locked. */
			(void) take_step(record_blocker, scratch, &failure);
			psh_worker_nap((long) (retry * (0.5 + pg_prng_double(&pg_global_prng_state))));
			retry = Min(retry * 1.5, LAST_RETRY_MS);
			continue;
		}
		if (failure)
		{
			record_failure(failure);
			return;
		}
		retry = FIRST_RETRY_MS;
		if (step == PSH_STEP_FINISHED)
			return;
		if (step == PSH_STEP_REST)
			psh_worker_nap(REST_MS);
		else if (ConfigReloadPending)
			psh_worker_nap(0);
	}
}

/* Start a leader for each job that has something to do. */
static void
resume_jobs(void)
{
	uint64		n;
	uint64		i;
	bool		isnull;

	psh_txn_begin("resuming unfinished conversions");
	n = psh_sql(SPI_OK_SELECT,
				"SELECT job_id FROM partshift.job WHERE status = 'active'"
				" AND (request IS NOT NULL OR reverse"
				" OR phase NOT IN ('ready', 'done')"
				" OR (phase = 'done' AND plan ? 'inventory')"
				" OR (phase = 'ready'"
				" AND (swap_requested OR swap_mode = 'auto'"
				" OR keeper_pid IS NOT NULL)))",
				0, NULL, NULL, NULL);
	for (i = 0; i < n; i++)
	{
		PshOrder	leader = {0};

		leader.database = MyDatabaseId;
		leader.role = PSH_ROLE_LEADER;
		leader.job_id = DatumGetInt32(psh_sql_value(i, 1, &isnull));
		if (!psh_launch(&leader, NULL))
			ereport(LOG,
					(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					 errmsg("could not resume conversion job %d",
							leader.job_id),
					 errhint("You might need to increase max_worker_processes.")));
	}
	psh_txn_commit();
}

/*
 * The main function of every process but the launcher.
 */
void
partshift_worker_main(Datum arg)
{
	memcpy(&order, MyBgworkerEntry->bgw_extra, sizeof(PshOrder));
	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(order.database, InvalidOid, 0);

	await_caller();
	force_settings();
	psh_fence_install();
	if (!is_installed())
		proc_exit(0);
	if (order.role == PSH_ROLE_RESUMER)
	{
		resume_jobs();
		proc_exit(0);
	}
	if (order.role == PSH_ROLE_MAINTAINER)
	{
		psh_maintain(&order);
		proc_exit(0);
	}
	SetConfigOption("application_name",
					psprintf("partshift job %d", order.job_id),
					PGC_USERSET, PGC_S_SESSION);
	if (order.role == PSH_ROLE_LEADER)
	{
		if (!become_leader())
			proc_exit(0);
		record_pid();
	}
	work();
	proc_exit(0);
}
