/*-------------------------------------------------------------------------
 *
 * prepare.c
 *	  Making the shadow, and the two moments at which triggers change.
 *
 * Both moments hold SHARE ROW EXCLUSIVE on the source for the time of a few
 * catalog changes.  That lock waits for every transaction that has written to
 * the table and keeps new ones out, so that
 *
 * - when capture begins, all that was ever written is either committed and
 *   visible in the horizon, or will fire the trigger;
 * - when mirroring begins, no transaction has logged a change that is not yet
 *   committed, and none will log another: the log is closed.
 *
 * A writer that was waiting for the lock sees the new triggers, since taking a
 * lock processes the invalidations that our commit sent.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"

#include "capture.h"
#include "compat.h"
#include "copy.h"
#include "horizon.h"
#include "job.h"
#include "keeper.h"
#include "prepare.h"
#include "source.h"
#include "sql.h"

/* Raise when the source is no longer what was planned. */
static void
check_fingerprint(const PshJob *job)
{
	Oid			types[1] = {OIDOID};
	Datum		values[1] = {ObjectIdGetDatum(job->relid)};
	const char *fingerprint;

	psh_sql(SPI_OK_SELECT, "SELECT partshift.fingerprint($1)", 1, types,
			values, NULL);
	fingerprint = psh_sql_text(0, 1);
	if (fingerprint == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table \"%s\" no longer exists", job->table_name),
				 errhint("Abort job %d.", job->id)));
	if (strcmp(fingerprint, job->fingerprint) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("definition of table \"%s\" has changed since the conversion was planned",
						job->table_name),
				 errhint("Abort job %d and convert the table again.",
						 job->id)));
}

static void
run_with_job(int expected, const char *query, int job_id)
{
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(job_id)};

	psh_sql(expected, query, 1, types, values, NULL);
}

/* Divide the source among the workers and begin to copy. */
static void
begin_copy(const PshJob *job, List *heaps)
{
	Oid			types[2] = {INT4OID, INT8OID};
	Datum		values[2];
	int64		nblocks = psh_copy_make_tasks(job, heaps);

	values[0] = Int32GetDatum(job->id);
	values[1] = Int64GetDatum(nblocks * BLCKSZ);
	psh_sql(SPI_OK_UPDATE,
			"UPDATE partshift.job SET bytes_total = $2 WHERE job_id = $1",
			2, types, values, NULL);
	psh_job_advance(job, PSH_PHASE_COPY);
}

/* Begin capture; the caller holds the job's row. */
static void
install_capture(const PshJob *job)
{
	List	   *heaps = psh_source_lock(job->relid, ShareRowExclusiveLock);

	check_fingerprint(job);
	psh_triggers_install(job->relid, PSH_TRIGGER_CAPTURE, job);
	psh_horizon_store(job->id);
	begin_copy(job, heaps);
}

/*
 * Begin to copy what the keeper has locked, which is then all there is.  The
 * caller holds the job's row.
 */
static void
begin_locked(const PshJob *job)
{
	List	   *heaps = psh_source_lock(job->relid, AccessShareLock);

	check_fingerprint(job);
	begin_copy(job, heaps);
}

static void
create_shadow(const PshJob *job)
{
	LockRelationOid(job->relid, AccessShareLock);
	check_fingerprint(job);
	psh_sql_run_steps("SELECT run_as, command"
					  " FROM partshift.shadow_commands($1)", job->id);
	run_with_job(SPI_OK_SELECT, "SELECT partshift.shadow_created($1)",
				 job->id);
}

/*
 * Phase prepare: make the shadow and the log in one transaction, begin
 * capture in the next.  Returns REST while the keeper waits for its lock.
 */
PshStep
psh_prepare_run(const PshJob *job)
{
	if (!OidIsValid(job->shadow))
	{
		psh_txn_begin("creating the shadow table");
		create_shadow(psh_job_lock(job->id));
		psh_txn_commit();
	}

	if (job->lock_writes && !psh_keeper_start(job))
		return PSH_STEP_REST;

	psh_txn_begin("beginning to copy");
	if (job->lock_writes)
		begin_locked(psh_job_lock(job->id));
	else
		install_capture(psh_job_lock(job->id));
	psh_txn_commit();
	return PSH_STEP_FINISHED;
}

/*
 * Phase mirror: from the commit on, whoever writes to the source writes to
 * the shadow as well.  Does nothing when the source was given another file:
 * the caller begins again.
 */
PshStep
psh_prepare_mirror(int job_id)
{
	PshJob	   *job;
	PshStep		step = PSH_STEP_AGAIN;

	psh_txn_begin("installing mirror triggers");
	job = psh_job_lock(job_id);
	if (!psh_source_has_moved(job, ShareRowExclusiveLock))
	{
		check_fingerprint(job);
		if (!psh_triggers_in_place(job->relid, PSH_TRIGGER_CAPTURE, job))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("capture trigger of table \"%s\" is missing or disabled",
							job->table_name),
					 errhint("Abort job %d and convert the table again.",
							 job->id)));
		psh_triggers_install(job->relid, PSH_TRIGGER_MIRROR, job);
		psh_triggers_disable(job->relid, PSH_TRIGGER_CAPTURE, job);
		psh_job_advance(job, PSH_PHASE_RECONCILE);
		step = PSH_STEP_FINISHED;
	}
	psh_txn_commit();
	return step;
}

/*
 * When the source was given another file since the horizon, throw away the
 * shadow and begin with the first phase again, and return true.  Only for the
 * phases in which the shadow does not follow yet.
 */
bool
psh_prepare_restart_if_moved(int job_id)
{
	PshJob	   *job;
	bool		moved;

	psh_txn_begin("looking for the source's file");
	job = psh_job_load(job_id);
	moved = psh_source_has_moved(job, AccessShareLock);
	psh_txn_commit();
	if (!moved)
		return false;

	psh_txn_begin("beginning again");
	job = psh_job_lock(job_id);
	ereport(LOG,
			(errmsg("table \"%s\" was rewritten or truncated: job %d copies it again",
					job->table_name, job_id)));
	(void) psh_source_lock(job->relid, AccessExclusiveLock);
	psh_triggers_drop(job->relid, job);
	psh_sql_run_steps("SELECT run_as, command"
					  " FROM partshift.abort_commands($1, false)", job_id);
	run_with_job(SPI_OK_SELECT, "SELECT partshift.watch_itself($1)", job_id);
	run_with_job(SPI_OK_DELETE,
				 "DELETE FROM partshift.task"
				 " WHERE job_id = $1 AND phase <> 'prepare'", job_id);
	run_with_job(SPI_OK_UPDATE,
				 "UPDATE partshift.job SET shadow = NULL, log = NULL,"
				 " postponed = NULL, log_block = 0 WHERE job_id = $1", job_id);
	psh_job_advance(job, PSH_PHASE_PREPARE);
	psh_txn_commit();
	return true;
}
