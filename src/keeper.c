/*-------------------------------------------------------------------------
 *
 * keeper.c
 *	  Keeping writers from a source that has no triggers.
 *
 * With lock_writes => true nothing follows the source: it is locked instead,
 * in SHARE mode, from before its first block is read until the swap has
 * committed.  The lock must outlive errors.  A session-level lock on a table
 * is gone when a transaction of its process aborts, and a leader's do, each
 * time a lock does not come in time.  So a process of its own has it, the
 * keeper, which from then on runs no transaction and waits for nothing but
 * its end.
 *
 * The leader joins the keeper's lock group, like a parallel worker.  Then the
 * keeper's lock does not stand in the way of the leader's ACCESS EXCLUSIVE,
 * which is asked for before that of the writers who wait; and when a try
 * fails, nothing has been let go.
 *
 * The keeper never takes the lock twice.  So who finds it holding the lock
 * knows that it has held it since it said so first, and that nobody has
 * written.  A leader has one keeper at most.  If that is gone, or the leader
 * is new, what was copied is worth nothing: it is dropped and the job begins
 * again.
 *
 * A snapshot from before the lock may show other rows than the source has
 * now.  The keeper waits for those as soon as it has the lock, for as long as
 * one try for a lock may last, and if some are left lets go and waits for
 * them without it: one of them may be about to write, and wait for us.  Of
 * later snapshots none has to be waited for, because freeze.c makes the rows
 * of the shadow visible to all.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/xid8.h"

#include "keeper.h"
#include "launch.h"
#include "neighbours.h"
#include "snapshots.h"
#include "sql.h"

#define LOOK_MS 1000			/* how often to look for the leader */

/* The leader's keeper, if it has started one. */
static BackgroundWorkerHandle *keeper = NULL;
static int	keeper_pid = 0;		/* once it holds the lock */

static void
run_with_job(int expected, const char *query, int job_id)
{
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(job_id)};

	psh_sql(expected, query, 1, types, values, NULL);
}

static LockRelId
lock_id(const PshJob *job)
{
	LockRelId	id;

	id.relId = job->relid;
	id.dbId = MyDatabaseId;
	return id;
}

/* A process that ends outside a transaction takes no such lock with it. */
static void
let_go_at_exit(int code, Datum arg)
{
	AbortOutOfAnyTransaction();
	LockReleaseAll(DEFAULT_LOCKMETHOD, true);
}

static void
lock_source(const PshJob *job)
{
	LockRelId	id = lock_id(job);

	if (MyProc->lockGroupLeader == NULL)
	{
		BecomeLockGroupLeader();
		before_shmem_exit(let_go_at_exit, 0);
	}
	StartTransactionCommand();
	pgstat_report_activity(STATE_RUNNING, "waiting for writers of the table");
	LockRelationIdForSession(&id, ShareLock);
	CommitTransactionCommand();
}

/*
 * The id of a transaction that began under the lock: who sees its end sees
 * all that was ever written to the source.
 */
static FullTransactionId
mark_moment(void)
{
	FullTransactionId moment;

	psh_txn_begin("waiting for old snapshots");
	moment = GetTopFullTransactionId();
	psh_txn_commit();
	return moment;
}

/* Tell the leader that nobody can write from now on. */
static void
announce(const PshJob *job)
{
	Oid			types[3] = {INT4OID, INT4OID, XID8OID};
	Datum		values[3];

	values[0] = Int32GetDatum(job->id);
	values[1] = Int32GetDatum(MyProcPid);
	values[2] = FullTransactionIdGetDatum(job->last_reconcile_xid);
	psh_txn_begin("locking the table against writing");
	psh_sql(SPI_OK_UPDATE,
			"UPDATE partshift.job SET keeper_pid = $2,"
			" last_reconcile_xid = $3, blocker_pid = NULL, blocker = NULL"
			" WHERE job_id = $1",
			3, types, values, NULL);
	psh_txn_commit();
}

static void
stay(int leader_pid)
{
	pgstat_report_activity(STATE_RUNNING,
						   "keeping writers from a table that is converted");
	while (BackendPidGetProc(leader_pid) != NULL)
	{
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 LOOK_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/*
 * Be the keeper of a job for its leader: take the lock, and keep it until the
 * leader ends.  Returns AGAIN when the lock was let go because of an old
 * snapshot, FINISHED when there is nothing to keep.
 *
 * An error may have cost the lock, or have left it: whoever comes back here
 * after one exits, and the leader starts another.
 */
PshStep
psh_keeper_run(int job_id, int leader_pid)
{
	static bool locked = false;
	static FullTransactionId awaited;
	LockRelId	id;
	PshJob	   *job;

	if (locked || BackendPidGetProc(leader_pid) == NULL)
		return PSH_STEP_FINISHED;
	job = psh_job_read(job_id);
	if (job == NULL || job->status != PSH_STATUS_ACTIVE)
		return PSH_STEP_FINISHED;
	if (FullTransactionIdIsValid(awaited))
	{
		job->last_reconcile_xid = awaited;
		if (psh_snapshots_wait(job) != PSH_STEP_FINISHED)
			return PSH_STEP_AGAIN;
		awaited = InvalidFullTransactionId;
	}

	id = lock_id(job);
	lock_source(job);
	locked = true;
	job->last_reconcile_xid = mark_moment();
	if (!psh_snapshots_gone(job, partshift_lock_timeout))
	{
		UnlockRelationIdForSession(&id, ShareLock);
		locked = false;
		awaited = job->last_reconcile_xid;
		return PSH_STEP_AGAIN;
	}
	announce(job);
	stay(leader_pid);
	return PSH_STEP_FINISHED;
}

static void
stop_at_exit(int code, Datum arg)
{
	psh_keeper_stop();
}

static void
launch(const PshJob *job)
{
	static bool registered = false;
	PshOrder	order = {0};
	MemoryContext caller = CurrentMemoryContext;

	psh_txn_begin("starting the keeper");
	run_with_job(SPI_OK_UPDATE,
				 "UPDATE partshift.job SET keeper_pid = NULL"
				 " WHERE job_id = $1", job->id);
	psh_txn_commit();

	order.database = MyDatabaseId;
	order.role = PSH_ROLE_KEEPER;
	order.job_id = job->id;
	order.number = MyProcPid;
	if (!registered)
		before_shmem_exit(stop_at_exit, 0);
	registered = true;
	MemoryContextSwitchTo(TopMemoryContext);
	if (!psh_launch(&order, &keeper))
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("could not start a background worker for the conversion"),
				 errhint("You might need to increase max_worker_processes.")));
	MemoryContextSwitchTo(caller);
}

/*
 * Whether this leader has a keeper.  One that dies now is noticed by
 * psh_keeper_holds().
 */
static bool
is_there(const PshJob *job)
{
	pid_t		pid;

	return keeper != NULL && keeper_pid != 0 &&
		keeper_pid == job->keeper_pid &&
		GetBackgroundWorkerPid(keeper, &pid) == BGWH_STARTED;
}

/*
 * Whether the job needs a keeper and this leader has none, or has lost it.
 */
bool
psh_keeper_is_lost(const PshJob *job)
{
	return psh_job_locks(job) && job->phase < PSH_PHASE_DONE &&
		(job->phase > PSH_PHASE_PREPARE || keeper_pid != 0) &&
		!is_there(job);
}

/*
 * Have the source locked, as the job's leader, outside a transaction.
 * Returns whether it is.  A group is joined once only: the server does not
 * check.
 */
bool
psh_keeper_start(const PshJob *job)
{
	BgwHandleStatus status;
	PGPROC	   *process;
	pid_t		pid;

	if (is_there(job))
		return true;
	if (keeper == NULL)
	{
		launch(job);
		return false;
	}
	status = GetBackgroundWorkerPid(keeper, &pid);
	if (status == BGWH_STOPPED)
	{
		pfree(keeper);
		keeper = NULL;
	}
	if (status != BGWH_STARTED || job->keeper_pid != pid)
		return false;
	process = BackendPidGetProc(pid);
	if (process == NULL || !BecomeLockGroupMember(process, pid))
		return false;
	keeper_pid = pid;
	return true;
}

/*
 * Whether the keeper holds its lock.  The caller has a lock on the source that
 * no writer's can join, so the answer stays true.
 */
bool
psh_keeper_holds(const PshJob *job)
{
	Oid			types[2] = {INT4OID, OIDOID};
	Datum		values[2];

	values[0] = Int32GetDatum(keeper_pid);
	values[1] = ObjectIdGetDatum(job->relid);
	return is_there(job) &&
		psh_sql(SPI_OK_SELECT,
				"SELECT FROM pg_locks AS l"
				" WHERE l.locktype = 'relation' AND l.granted"
				" AND l.mode = 'ShareLock' AND l.pid = $1 AND l.relation = $2"
				" AND l.database = (SELECT d.oid FROM pg_database AS d"
				" WHERE d.datname = current_database())",
				2, types, values, NULL) > 0;
}

/* Drop the copy and begin with the first phase again. */
static bool
begin_again(const PshJob *job)
{
	MemoryContext caller = CurrentMemoryContext;
	instr_time	since;
	List	   *relations;
	bool		ready;

	psh_txn_begin("beginning again");
	MemoryContextSwitchTo(caller);
	relations = psh_neighbours_list(job->id, false);
	psh_txn_commit();

	psh_txn_begin("beginning again");
	job = psh_job_lock(job->id);
	ready = psh_neighbours_lock(job->id, false, relations, &since);
	if (ready)
	{
		ereport(LOG,
				(errmsg("table \"%s\" was not locked all the time: job %d copies it again",
						job->table_name, job->id)));
		psh_sql_run_steps("SELECT run_as, command"
						  " FROM partshift.abort_commands($1)", job->id);
		run_with_job(SPI_OK_DELETE,
					 "DELETE FROM partshift.task WHERE job_id = $1", job->id);
		run_with_job(SPI_OK_UPDATE,
					 "UPDATE partshift.job SET shadow = NULL, keeper_pid = NULL,"
					 " request = nullif(request, 'verify')"
					 " WHERE job_id = $1", job->id);
		psh_job_advance(job, PSH_PHASE_PREPARE);
	}
	psh_txn_commit();
	MemoryContextSwitchTo(caller);
	return ready;
}

/*
 * The lock is not the one under which the job began to copy.  A leader that
 * has been in a lock group cannot join another: it has itself replaced.
 */
PshStep
psh_keeper_lost(const PshJob *job)
{
	PshOrder	order = {0};

	psh_keeper_stop();
	if (!begin_again(job) || keeper_pid == 0)
		return PSH_STEP_AGAIN;
	order.database = MyDatabaseId;
	order.role = PSH_ROLE_LEADER;
	order.job_id = job->id;
	if (!psh_launch(&order, NULL))
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("could not start a background worker for the conversion"),
				 errhint("You might need to increase max_worker_processes.")));
	return PSH_STEP_FINISHED;
}

/*
 * Cancel those who hold what the job needs and wait for the keeper.  Neither
 * side could ever go on: he waits for the swap, and the swap for him.  In a
 * transaction of its own.
 */
void
psh_keeper_break_circles(const PshJob *job)
{
	psh_txn_begin("looking for who waits in a circle");
	run_with_job(SPI_OK_SELECT, "SELECT partshift.break_circles($1)", job->id);
	psh_txn_commit();
}

/*
 * Let the writers go on, if they have been kept from it.
 */
void
psh_keeper_stop(void)
{
	if (keeper)
		TerminateBackgroundWorker(keeper);
	keeper = NULL;
}
