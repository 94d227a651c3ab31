/*-------------------------------------------------------------------------
 *
 * launch.c
 *	  Starting the processes of a conversion.
 *
 * Every command registers a dynamic background worker at once, so that a lack
 * of slots is an error of the command, and the worker waits until the
 * command's transaction has ended.  If that rolled back, the worker finds
 * nothing to do and exits.
 *
 * A leader is started again by the postmaster ten seconds after it died, also
 * after the server recovered from a crash.  A restart of the server forgets
 * it; then partshift.resume() starts it, or the launcher, which runs where the
 * library is preloaded.  The launcher stays: it has partitions and backups
 * maintained from time to time, if it is told to.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "compat.h"
#include "launch.h"
#include "partshift.h"

#define RESTART_SECONDS 10

PGDLLEXPORT void partshift_launcher_main(Datum arg);

/*
 * Register a worker for an order.  Returns false when all slots are taken.
 * With a handle the caller is told when the worker starts and stops.
 */
bool
psh_launch(const PshOrder *order, BackgroundWorkerHandle **handle)
{
	BackgroundWorker worker = {0};

	worker.bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = order->role == PSH_ROLE_LEADER ?
		RESTART_SECONDS : BGW_NEVER_RESTART;
	strlcpy(worker.bgw_library_name, "partshift", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "partshift_worker_main", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "partshift worker", BGW_MAXLEN);
	if (order->role == PSH_ROLE_MAINTAINER)
		strlcpy(worker.bgw_name, "partshift maintenance", BGW_MAXLEN);
	else
		snprintf(worker.bgw_name, BGW_MAXLEN, "partshift worker for job %d",
				 order->job_id);
	StaticAssertStmt(sizeof(PshOrder) <= BGW_EXTRALEN,
					 "an order fits what a worker can be told");
	memcpy(worker.bgw_extra, order, sizeof(PshOrder));
	worker.bgw_notify_pid = handle ? MyProcPid : 0;
	return RegisterDynamicBackgroundWorker(&worker, handle);
}

/*
 * Start a leader for a job when the current transaction has ended.  Raises
 * CONFIGURATION_LIMIT_EXCEEDED when there is no slot for it.
 */
void
psh_launch_leader(int job_id)
{
	PshOrder	order = {0};

	order.database = MyDatabaseId;
	order.role = PSH_ROLE_LEADER;
	order.job_id = job_id;
	order.caller = GetTopTransactionId();
	if (!psh_launch(&order, NULL))
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("could not start a background worker for the conversion"),
				 errhint("You might need to increase max_worker_processes.")));
}

/*
 * Register the launcher; only while preloading.
 */
void
psh_launch_register_launcher(void)
{
	BackgroundWorker worker = {0};

	worker.bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = RESTART_SECONDS;
	strlcpy(worker.bgw_library_name, "partshift", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "partshift_launcher_main", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "partshift launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "partshift launcher", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}

/* The databases that can be connected to, in the caller's memory. */
static List *
list_databases(void)
{
	MemoryContext caller = CurrentMemoryContext;
	List	   *databases = NIL;
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);
		MemoryContext old;

		if (!database->datallowconn || database->datistemplate)
			continue;
		old = MemoryContextSwitchTo(caller);
		databases = lappend_oid(databases, database->oid);
		MemoryContextSwitchTo(old);
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
	return databases;
}

/* Have a worker see to every database, one after the other. */
static void
visit_databases(PshRole role)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext,
												  "partshift databases",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	ListCell   *cell;

	foreach(cell, list_databases())
	{
		PshOrder	order = {0};
		BackgroundWorkerHandle *handle;

		CHECK_FOR_INTERRUPTS();
		order.database = lfirst_oid(cell);
		order.role = role;
		order.partitions = true;
		order.backups = true;
		if (!psh_launch(&order, &handle))
		{
			ereport(LOG,
					(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					 role == PSH_ROLE_RESUMER ?
					 errmsg("could not look for unfinished conversions in database %u",
							order.database) :
					 errmsg("could not maintain the partitions of database %u",
							order.database),
					 errhint("You might need to increase max_worker_processes.")));
			continue;
		}
		(void) WaitForBackgroundWorkerShutdown(handle);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
}

/* Milliseconds until the next maintenance, -1 if there is none. */
static long
until_maintenance(TimestampTz last)
{
	if (partshift_maintenance_interval == 0)
		return -1;
	if (last == 0)
		return 0;
	return TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
										   TimestampTzPlusMilliseconds(last,
																	   (int64) partshift_maintenance_interval * 1000));
}

/*
 * The launcher: after a start of the server have the unfinished jobs of every
 * database resumed; then, at the interval that is set, have all of them
 * maintained.  The first time is at once: a server may be restarted more often
 * than that.
 */
void
partshift_launcher_main(Datum arg)
{
	TimestampTz last = 0;

	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);

	visit_databases(PSH_ROLE_RESUMER);
	for (;;)
	{
		long		rest = until_maintenance(last);

		if (rest == 0)
		{
			last = GetCurrentTimestamp();
			visit_databases(PSH_ROLE_MAINTAINER);
			continue;
		}
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH |
						 (rest > 0 ? WL_TIMEOUT : 0), rest, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
	}
}
