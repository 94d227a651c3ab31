/*-------------------------------------------------------------------------
 *
 * snapshots.c
 *	  Waiting for snapshots that are older than the end of reconcile.
 *
 * In every snapshot taken after the last commit of reconcile the two tables
 * hold the same rows.  Who still has an older one would see another table
 * after the swap, and could not change rows through a new foreign key that it
 * cannot see.  So those that have one now are listed, once, and we wait until
 * each of them has ended or taken a newer one; whoever comes later is no
 * concern of ours, unless he has imported his snapshot from one of them.
 *
 * The worker waits without a snapshot, without a lock and outside of any
 * transaction, so nobody can wait for it.  The list lives as long as the
 * process: after a restart the wait begins again, which is only longer.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "snapshots.h"
#include "sql.h"

/* How long one call waits before the caller may look at requests. */
#define CALL_MS 1000
#define FIRST_NAP_MS 5
#define LONGEST_NAP_MS 200

/* Vacuum and index builds read no rows for anybody. */
#define HARMLESS (PROC_IS_AUTOVACUUM | PROC_IN_VACUUM | PROC_IN_SAFE_IC)

/* The wait of the job that this process works on. */
static struct
{
	int			job_id;			/* 0: none */
	bool		over;
	TimestampTz since;
	VirtualTransactionId *old;
	int			nold;
	int			reported_pid;
}			current;

static TransactionId
newest_that_counts(const PshJob *job)
{
	if (FullTransactionIdIsValid(job->last_reconcile_xid))
		return XidFromFullTransactionId(job->last_reconcile_xid);
	return ReadNextTransactionId();
}

static void
list_older(TransactionId limit)
{
	MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);

	if (current.old)
		pfree(current.old);
	current.old = GetCurrentVirtualXIDs(limit, true, false, HARMLESS,
										&current.nold);
	MemoryContextSwitchTo(caller);
}

static void
start_wait(const PshJob *job)
{
	current.job_id = job->id;
	current.over = false;
	current.since = GetCurrentTimestamp();
	current.reported_pid = 0;
	list_older(newest_that_counts(job));
}

/*
 * List those whose snapshot is older than any that can be taken now: they
 * have imported it from somebody who was on the list.
 */
static void
list_importers(const PshJob *job)
{
	TransactionId newest = newest_that_counts(job);
	TransactionId limit = GetOldestActiveTransactionId();

	TransactionIdRetreat(limit);
	list_older(TransactionIdPrecedes(limit, newest) ? limit : newest);
}

/*
 * Forget those of the list that are gone.
 */
static void
prune(const PshJob *job)
{
	int			nnow;
	VirtualTransactionId *now = GetCurrentVirtualXIDs(newest_that_counts(job),
													  true, false, HARMLESS,
													  &nnow);
	int			kept = 0;
	int			i;
	int			j;

	for (i = 0; i < current.nold; i++)
	{
		for (j = 0; j < nnow; j++)
			if (VirtualTransactionIdEquals(current.old[i], now[j]))
				break;
		if (j < nnow)
			current.old[kept++] = current.old[i];
	}
	current.nold = kept;
	pfree(now);
}

/*
 * Put down on the job whom it waits for; pid 0 for nobody.
 */
static void
report(const PshJob *job, int pid)
{
	Oid			types[2] = {INT4OID, INT4OID};
	Datum		values[2];
	MemoryContext caller = CurrentMemoryContext;

	if (pid == current.reported_pid)
		return;
	values[0] = Int32GetDatum(job->id);
	values[1] = Int32GetDatum(pid);
	psh_txn_begin("waiting for old snapshots");
	psh_sql(SPI_OK_UPDATE,
			"UPDATE partshift.job SET blocker_pid = nullif($2, 0),"
			" (blocker_role, blocker) = (SELECT a.usesysid, a.query"
			" FROM pg_stat_activity AS a WHERE a.pid = $2)"
			" WHERE job_id = $1",
			2, types, values, NULL);
	psh_txn_commit();
	MemoryContextSwitchTo(caller);
	current.reported_pid = pid;
}

static int
first_pid(void)
{
	PGPROC	   *proc = psh_vxid_process(current.old[0]);

	return proc ? proc->pid : 0;
}

static void
give_up_if_due(const PshJob *job)
{
	int			pid;

	if (partshift_swap_timeout <= 0 ||
		!TimestampDifferenceExceeds(current.since, GetCurrentTimestamp(),
									partshift_swap_timeout))
		return;
	pid = first_pid();
	current.job_id = 0;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_IN_USE),
			 psh_job_locks(job) ?
			 errmsg("could not lock table \"%s\" against writing: an old snapshot is still in use",
					job->table_name) :
			 errmsg("could not swap table \"%s\": an old snapshot is still in use",
					job->table_name),
			 errdetail("Process %d has held a snapshot since before the tables became equal.",
					   pid),
			 errhint("End that transaction, or increase partshift.swap_timeout, and resume the conversion.")));
}

/*
 * Wait a while for the snapshots that are older than the end of reconcile.
 * Returns FINISHED when none is left, and AGAIN when the caller should look at
 * its requests and call again.  Raises OBJECT_IN_USE after
 * partshift.swap_timeout; calling again then begins a new wait.  Called
 * outside of a transaction.
 */
PshStep
psh_snapshots_wait(const PshJob *job)
{
	TimestampTz began = GetCurrentTimestamp();
	int			nap = FIRST_NAP_MS;

	if (current.job_id == job->id && current.over)
		return PSH_STEP_FINISHED;
	if (current.job_id != job->id)
		start_wait(job);

	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		prune(job);
		if (current.nold == 0)
			list_importers(job);
		if (current.nold == 0)
		{
			report(job, 0);
			current.over = true;
			return PSH_STEP_FINISHED;
		}
		give_up_if_due(job);
		if (TimestampDifferenceExceeds(began, GetCurrentTimestamp(), CALL_MS))
			return PSH_STEP_AGAIN;
		report(job, first_pid());
		if (WaitLatch(MyLatch,
					  WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					  nap, PG_WAIT_EXTENSION) & WL_LATCH_SET)
		{
			ResetLatch(MyLatch);
			return PSH_STEP_AGAIN;
		}
		nap = Min(nap * 2, LONGEST_NAP_MS);
	}
}

/*
 * Wait for those snapshots for so long and no longer, and return whether they
 * are gone.  Runs no transaction, so that nothing can fail.
 */
bool
psh_snapshots_gone(const PshJob *job, int milliseconds)
{
	TimestampTz began = GetCurrentTimestamp();

	start_wait(job);
	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		prune(job);
		if (current.nold == 0)
			list_importers(job);
		if (current.nold == 0 ||
			TimestampDifferenceExceeds(began, GetCurrentTimestamp(),
									   milliseconds))
			break;
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 FIRST_NAP_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
	current.job_id = 0;
	return current.nold == 0;
}
