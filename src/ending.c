/*-------------------------------------------------------------------------
 *
 * ending.c
 *	  The ways a conversion ends: finalized, rolled back, aborted.
 *
 * Each can be done over from its beginning after a crash: what is gone
 * already is passed over, and the job's row says that it has ended in the
 * transaction that does the last of it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "capture.h"
#include "ending.h"
#include "neighbours.h"
#include "source.h"
#include "sql.h"

static void
end_job(int job_id, const char *status)
{
	Oid			types[2] = {INT4OID, TEXTOID};
	Datum		values[2];

	values[0] = Int32GetDatum(job_id);
	values[1] = CStringGetTextDatum(status);
	psh_sql(SPI_OK_UPDATE,
			"UPDATE partshift.job SET status = $2, request = NULL,"
			" blocker_pid = NULL, blocker = NULL, ended_at = clock_timestamp()"
			" WHERE job_id = $1",
			2, types, values, NULL);
	psh_sql(SPI_OK_DELETE,
			"DELETE FROM partshift.unplaced WHERE job_id = $1",
			1, types, values, NULL);
	psh_sql(SPI_OK_SELECT, "SELECT partshift.settle_policy($1, $2)",
			2, types, values, NULL);
}

static bool
keeps_legacy(int job_id)
{
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(job_id)};
	bool		isnull;

	psh_sql(SPI_OK_SELECT,
			"SELECT coalesce((options ->> 'keep_legacy')::boolean, true)"
			" FROM partshift.job WHERE job_id = $1",
			1, types, values, NULL);
	return DatumGetBool(psh_sql_value(0, 1, &isnull));
}

static void
require_phase(const PshJob *job, bool swapped, const char *verb)
{
	if ((job->phase == PSH_PHASE_DONE && !job->reverse) != swapped)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot %s job %d in phase %s", verb, job->id,
						psh_phase_name(job->phase))));
}

static void
keep_backup(int job_id)
{
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(job_id)};

	psh_sql(SPI_OK_SELECT, "SELECT partshift.keep_backup($1)", 1, types,
			values, NULL);
}

/*
 * Let legacy stop following the new table, and drop it unless it is to be
 * kept as a backup.  Dropping is a second transaction, so that nobody waits for the new
 * table while we wait for legacy.
 */
PshStep
psh_ending_finalize(PshJob *job)
{
	PshJob	   *locked;

	psh_txn_begin("finalize");
	locked = psh_job_lock(job->id);
	require_phase(locked, true, "finalize");
	if (get_rel_name(locked->shadow) != NULL)
	{
		/* The new table is in use: one timeout for all of its partitions. */
		(void) psh_source_lock(locked->shadow, AccessExclusiveLock);
		psh_triggers_drop(locked->shadow, locked);
	}
	psh_txn_commit();

	psh_txn_begin("finalize");
	locked = psh_job_lock(job->id);
	(void) psh_source_lock(locked->relid, AccessExclusiveLock);
	if (!keeps_legacy(locked->id) && get_rel_name(locked->relid) != NULL)
		psh_sql_run(InvalidOid,
					psprintf("DROP TABLE %s",
							 quote_qualified_identifier(get_namespace_name(get_rel_namespace(locked->relid)),
														get_rel_name(locked->relid))));
	else
	{
		psh_sql_run_steps("SELECT run_as, command"
						  " FROM partshift.retire_commands($1)", locked->id);
		if (keeps_legacy(locked->id))
			keep_backup(locked->id);
	}
	end_job(locked->id, "finalized");
	psh_txn_commit();
	return PSH_STEP_FINISHED;
}

/*
 * Drop the partitioned table after a swap back: the end of a rollback.
 */
PshStep
psh_ending_drop_new(PshJob *job)
{
	PshJob	   *locked;

	psh_txn_begin("dropping the partitioned table");
	locked = psh_job_lock(job->id);
	if (locked->phase != PSH_PHASE_DONE || !locked->reverse)
		elog(ERROR, "job %d has not been swapped back", locked->id);
	end_job(locked->id, "rolled_back");
	psh_sql_run_steps("SELECT run_as, command"
					  " FROM partshift.abort_commands($1)", locked->id);
	psh_txn_commit();
	return PSH_STEP_FINISHED;
}

/*
 * Take back what was prepared for a rollback: the new table stays in use.
 */
static void
give_up_rollback(const PshJob *job)
{
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(job->id)};

	psh_sql_run_steps("SELECT run_as, command"
					  " FROM partshift.unwire_commands($1)", job->id);
	psh_sql(SPI_OK_DELETE,
			"DELETE FROM partshift.task WHERE job_id = $1 AND phase = 'rewire'",
			1, types, values, NULL);
	psh_sql(SPI_OK_UPDATE,
			"UPDATE partshift.job SET reverse = false, request = NULL"
			" WHERE job_id = $1",
			1, types, values, NULL);
	psh_job_advance(job, PSH_PHASE_DONE);
}

/*
 * Undo everything done so far.  Before the swap nothing of the conversion is
 * left; while a rollback is being prepared, that alone is undone and the job
 * is in phase done again.  Returns AGAIN when foreign keys have come or gone
 * meanwhile.
 *
 * The mirror and the shadow's foreign keys go in one transaction: a key that
 * outlived the mirror would be checked against rows that no longer come.
 */
PshStep
psh_ending_abort(PshJob *job)
{
	MemoryContext keep = CurrentMemoryContext;
	bool		back;
	bool		ready;
	PshJob	   *locked;
	List	   *relations;
	instr_time	since;

	psh_txn_begin("abort");
	back = psh_job_lock(job->id)->reverse;
	MemoryContextSwitchTo(keep);
	relations = psh_neighbours_list(job->id, back);
	psh_txn_commit();

	psh_txn_begin("abort");
	locked = psh_job_lock(job->id);
	if (locked->phase == PSH_PHASE_DONE)
		require_phase(locked, false, "abort");
	ready = psh_neighbours_lock(job->id, back, relations, &since);
	if (ready && back)
		give_up_rollback(locked);
	else if (ready)
	{
		if (get_rel_name(locked->relid) != NULL)
			psh_triggers_drop(locked->relid, locked);
		psh_sql_run_steps("SELECT run_as, command"
						  " FROM partshift.abort_commands($1)", locked->id);
		end_job(locked->id, "aborted");
	}
	psh_txn_commit();
	MemoryContextSwitchTo(keep);
	return ready ? PSH_STEP_FINISHED : PSH_STEP_AGAIN;
}
