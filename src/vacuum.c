/*-------------------------------------------------------------------------
 *
 * vacuum.c
 *	  VACUUM and ANALYZE of the new tables, run by workers.
 *
 * A leaf is vacuumed when it is filled and indexed, so that index-only scans
 * and plans are good from the first query after the swap.  VACUUM commits
 * transactions of its own and so cannot hold the lock on its task's row: a
 * session-level lock says instead that a leaf is taken.  It has the form of
 * an advisory lock with a fourth field that SQL's functions never use, and
 * is gone with the worker.  Vacuuming a leaf twice after a crash does no
 * harm.
 *
 * vacuum() is called directly, as autovacuum does: a statement would analyze
 * every leaf again with its parent.  It becomes the table's owner itself.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/vacuum.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "pgstat.h"
#include "storage/bufmgr.h"
#include "storage/lock.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "freeze.h"
#include "sql.h"
#include "vacuum.h"

/* SQL's advisory locks have 1 or 2 here. */
#define LOCK_CLASS_VACUUM	19

/* More leaves than there can be workers: one of them must be free. */
#define MAX_CANDIDATES		65

static void
init_params(VacuumParams *params, bits32 options)
{
	memset(params, 0, sizeof(VacuumParams));
	params->options = options;
	params->freeze_min_age = -1;
	params->freeze_table_age = -1;
	params->multixact_freeze_min_age = -1;
	params->multixact_freeze_table_age = -1;
	params->log_min_duration = -1;
	params->index_cleanup = VACOPTVALUE_UNSPECIFIED;
	params->truncate = VACOPTVALUE_UNSPECIFIED;
	params->nworkers = -1;
}

static void
vacuum_relation(Oid relid, bits32 options, MemoryContext context)
{
	bool		own_transactions = (options & VACOPT_VACUUM) != 0;
	MemoryContext old = MemoryContextSwitchTo(context);
	List	   *relations;
	VacuumParams params;
	BufferAccessStrategy strategy;

	relations = list_make1(makeVacuumRelation(NULL, relid, NIL));
	strategy = GetAccessStrategy(BAS_VACUUM);
	init_params(&params, options);

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	pgstat_report_activity(STATE_RUNNING,
						   own_transactions ? "vacuuming a partition" :
						   "analyzing the partitioned table");
	/* Alone, ANALYZE runs in our transaction and needs our snapshot. */
	if (!own_transactions)
		PushActiveSnapshot(GetTransactionSnapshot());
	psh_vacuum(relations, &params, strategy, context);
	if (!own_transactions)
		PopActiveSnapshot();
	CommitTransactionCommand();
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
	MemoryContextSwitchTo(old);
}

static void
run_vacuum(Oid relid, bits32 options)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext,
												  "partshift vacuum",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext portal_context = PortalContext;

	PG_TRY();
	{
		vacuum_relation(relid, options, context);
	}
	PG_FINALLY();
	{
		PortalContext = portal_context;
		MemoryContextDelete(context);
	}
	PG_END_TRY();
}

/*
 * Gather statistics of a partitioned table as a whole.  Called outside a
 * transaction.
 */
void
psh_vacuum_analyze(Oid relid)
{
	run_vacuum(relid, VACOPT_ANALYZE);
}

/*
 * Read the leaves that could be vacuumed now, or see whether the given one
 * could.  Returns how many there are, and whether any leaf is left at all.
 */
static int
read_candidates(int job_id, Oid leaf, int *task_nos, Oid *leaves,
				bool *any_left)
{
	Oid			types[2] = {INT4OID, OIDOID};
	Datum		values[2] = {Int32GetDatum(job_id), ObjectIdGetDatum(leaf)};
	bool		isnull;
	int			n;
	int			i;

	psh_txn_begin("looking for partitions to vacuum");
	n = (int) psh_sql(SPI_OK_SELECT,
					  "SELECT t.task_no, t.object FROM partshift.task t"
					  " WHERE t.job_id = $1 AND t.phase = 'index'"
					  " AND NOT t.done AND t.other IS NULL"
					  " AND $2 IN (t.object, 0)"
					  " AND t.object NOT IN ("
					  "SELECT b.object FROM partshift.task b"
					  " WHERE b.job_id = $1 AND b.phase = 'index'"
					  " AND NOT b.done AND b.other IS NOT NULL)"
					  " ORDER BY t.task_no LIMIT " CppAsString2(MAX_CANDIDATES),
					  2, types, values, NULL);
	Assert(n <= MAX_CANDIDATES);
	for (i = 0; i < n; i++)
	{
		task_nos[i] = DatumGetInt32(psh_sql_value(i, 1, &isnull));
		leaves[i] = DatumGetObjectId(psh_sql_value(i, 2, &isnull));
	}
	*any_left = psh_sql(SPI_OK_SELECT,
						"SELECT FROM partshift.task"
						" WHERE job_id = $1 AND phase = 'index'"
						" AND NOT done LIMIT 1",
						1, types, values, NULL) > 0;
	psh_txn_commit();
	return n;
}

/*
 * Whether the task is still undone; somebody may have finished it before we
 * had its lock.
 */
static bool
task_undone(int job_id, int task_no)
{
	Oid			types[2] = {INT4OID, INT4OID};
	Datum		values[2] = {Int32GetDatum(job_id), Int32GetDatum(task_no)};
	bool		undone;

	psh_txn_begin("looking for partitions to vacuum");
	undone = psh_sql(SPI_OK_SELECT,
					 "SELECT FROM partshift.task WHERE job_id = $1"
					 " AND phase = 'index' AND task_no = $2 AND NOT done",
					 2, types, values, NULL) > 0;
	psh_txn_commit();
	return undone;
}

static void
finish_task(int job_id, int task_no)
{
	Oid			types[2] = {INT4OID, INT4OID};
	Datum		values[2] = {Int32GetDatum(job_id), Int32GetDatum(task_no)};

	psh_txn_begin("vacuuming a partition");
	psh_sql(SPI_OK_UPDATE,
			"UPDATE partshift.task SET done = true"
			" WHERE job_id = $1 AND phase = 'index' AND task_no = $2",
			2, types, values, NULL);
	psh_txn_commit();
}

/*
 * Vacuum and analyze one leaf whose indexes are built, the given one if it is
 * valid.  Called outside a transaction.  Returns PSH_STEP_AGAIN when one was
 * vacuumed, else PSH_STEP_FINISHED when no task of the phase is left,
 * PSH_STEP_REST when others work on what is left.
 */
PshStep
psh_vacuum_leaf(const PshJob *job, Oid leaf)
{
	int			task_nos[MAX_CANDIDATES];
	Oid			leaves[MAX_CANDIDATES];
	bool		any_left;
	int			n = read_candidates(job->id, leaf, task_nos, leaves, &any_left);
	int			i;

	for (i = 0; i < n; i++)
	{
		LOCKTAG		tag;

		SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, leaves[i], 0,
							 LOCK_CLASS_VACUUM);
		if (LockAcquire(&tag, ExclusiveLock, true, true) ==
			LOCKACQUIRE_NOT_AVAIL)
			continue;
		PG_TRY();
		{
			if (task_undone(job->id, task_nos[i]))
			{
				if (job->lock_writes)
					psh_freeze_leaf(leaves[i]);
				run_vacuum(leaves[i], PSH_VACUUM_OPTIONS);
				finish_task(job->id, task_nos[i]);
			}
		}
		PG_FINALLY();
		{
			LockRelease(&tag, ExclusiveLock, true);
		}
		PG_END_TRY();
		return PSH_STEP_AGAIN;
	}
	return any_left ? PSH_STEP_REST : PSH_STEP_FINISHED;
}
