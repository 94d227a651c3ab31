/*-------------------------------------------------------------------------
 *
 * phases.c
 *	  Which step comes next.
 *
 * The leader of a job asks again after every step what the job's row says:
 * an operator may have paused it, asked for something else or changed its
 * settings.  Each step commits its own work, so that nothing here has to be
 * remembered but the helpers it has started, and those only to know when to
 * start others.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "copy.h"
#include "ending.h"
#include "index.h"
#include "job.h"
#include "keeper.h"
#include "launch.h"
#include "phases.h"
#include "prepare.h"
#include "reconcile.h"
#include "rewire.h"
#include "sql.h"
#include "swap.h"
#include "throttle.h"
#include "verify.h"

#define MAX_HELPERS 63
#define HELPER_INTERVAL 1000	/* milliseconds between two looks */

static BackgroundWorkerHandle *helpers[MAX_HELPERS];

/* Start the helpers that the job should have and has not. */
static void
start_helpers(const PshJob *job)
{
	static TimestampTz last_look = 0;
	TimestampTz now = GetCurrentTimestamp();
	int			i;

	if (!TimestampDifferenceExceeds(last_look, now, HELPER_INTERVAL))
		return;
	last_look = now;
	for (i = 0; i < job->workers - 1 && i < MAX_HELPERS; i++)
	{
		PshOrder	order = {0};
		MemoryContext caller;
		pid_t		pid;

		if (helpers[i] &&
			GetBackgroundWorkerPid(helpers[i], &pid) != BGWH_STOPPED)
			continue;
		if (helpers[i])
			pfree(helpers[i]);
		helpers[i] = NULL;
		order.database = MyDatabaseId;
		order.role = PSH_ROLE_HELPER;
		order.job_id = job->id;
		order.number = i + 1;
		caller = MemoryContextSwitchTo(TopMemoryContext);
		if (!psh_launch(&order, &helpers[i]))
			helpers[i] = NULL;	/* no slot: fewer workers then */
		MemoryContextSwitchTo(caller);
	}
}

/*
 * Change the job's row and, where it is another, its phase, because of the
 * request that was read.  The operator may have asked for something else
 * since; that is then the request to follow.
 */
static void
answer_request(const PshJob *job, const char *query, PshPhase phase)
{
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(job->id)};
	PshJob	   *locked;

	psh_txn_begin("changing the job");
	locked = psh_job_lock(job->id);
	if (locked->request != NULL && strcmp(locked->request, job->request) == 0)
	{
		psh_sql(SPI_OK_UPDATE, query, 1, types, values, NULL);
		if (locked->phase != phase)
			psh_job_advance(locked, phase);
	}
	psh_txn_commit();
}

static void
advance(int job_id, PshPhase next)
{
	psh_txn_begin("entering the next phase");
	psh_job_advance(psh_job_lock(job_id), next);
	psh_txn_commit();
}

static PshStep
lead_prepare(PshJob *job)
{
	PshStep		step = PSH_STEP_FINISHED;

	/* Keys are not extended while the table is locked. */
	if (!psh_job_locks(job))
		step = psh_rewire_extend(job);
	if (step != PSH_STEP_FINISHED)
		return step;
	step = psh_prepare_run(job);
	return step == PSH_STEP_FINISHED ? PSH_STEP_AGAIN : step;
}

static PshStep
lead_copy(PshJob *job)
{
	PshStep		step;

	if (psh_prepare_restart_if_moved(job->id))
		return PSH_STEP_AGAIN;
	start_helpers(job);
	psh_throttle_set(job, job->workers);
	step = psh_copy_run(job->id);
	if (step != PSH_STEP_FINISHED)
		return step;
	advance(job->id, PSH_PHASE_INDEX);
	return PSH_STEP_AGAIN;
}

static PshStep
lead_index(PshJob *job)
{
	static int	prepared = 0;
	PshStep		step;

	if (prepared != job->id)
	{
		if (psh_index_prepare(job) != PSH_STEP_FINISHED)
			return PSH_STEP_AGAIN;
		prepared = job->id;
	}
	start_helpers(job);
	step = psh_index_build(job);
	if (step != PSH_STEP_FINISHED)
		return step;
	step = psh_index_finish(job);
	if (step == PSH_STEP_FINISHED)
	{
		prepared = 0;
		return PSH_STEP_AGAIN;
	}
	return step;
}

/* What is locked has changed nowhere and needs no mirror. */
static PshStep
lead_mirror(PshJob *job)
{
	if (psh_job_locks(job))
	{
		advance(job->id, PSH_PHASE_REWIRE);
		return PSH_STEP_AGAIN;
	}
	if (psh_prepare_restart_if_moved(job->id))
		return PSH_STEP_AGAIN;
	(void) psh_prepare_mirror(job->id);
	return PSH_STEP_AGAIN;
}

static PshStep
lead_reconcile(PshJob *job)
{
	PshStep		step;

	psh_throttle_set(job, 1);	/* nobody else works on the job */
	step = psh_reconcile_run(job->id);
	return step == PSH_STEP_FINISHED ? PSH_STEP_AGAIN : step;
}

static PshStep
lead_rewire(PshJob *job)
{
	static int	prepared = 0;
	int			direction = job->reverse ? -job->id : job->id;
	PshStep		step;

	if (prepared != direction)
	{
		if (psh_rewire_prepare(job) != PSH_STEP_FINISHED)
			return PSH_STEP_AGAIN;
		prepared = direction;
	}
	step = psh_rewire_run(job);
	if (step == PSH_STEP_FINISHED)
		prepared = 0;
	return step == PSH_STEP_FINISHED ? PSH_STEP_AGAIN : step;
}

static PshStep
lead_ready(PshJob *job)
{
	if (job->swap_manual && !job->swap_requested && !job->reverse)
		return psh_job_locks(job) ? PSH_STEP_REST : PSH_STEP_FINISHED;
	advance(job->id, PSH_PHASE_SWAP);
	return PSH_STEP_AGAIN;
}

static PshStep
lead_phase(PshJob *job)
{
	switch (job->phase)
	{
		case PSH_PHASE_PREPARE:
			return lead_prepare(job);
		case PSH_PHASE_COPY:
			return lead_copy(job);
		case PSH_PHASE_INDEX:
			return lead_index(job);
		case PSH_PHASE_MIRROR:
			return lead_mirror(job);
		case PSH_PHASE_RECONCILE:
			return lead_reconcile(job);
		case PSH_PHASE_REWIRE:
			return lead_rewire(job);
		case PSH_PHASE_VERIFY:
			{
				PshStep		step = psh_verify_run(job);

				return step == PSH_STEP_FINISHED ? PSH_STEP_AGAIN : step;
			}
		case PSH_PHASE_READY:
			return lead_ready(job);
		case PSH_PHASE_SWAP:
			{
				PshStep		step = psh_swap_run(job);

				if (step == PSH_STEP_FINISHED)
					psh_keeper_stop();
				return step == PSH_STEP_FINISHED ? PSH_STEP_AGAIN : step;
			}
		case PSH_PHASE_DONE:
			break;
	}
	if (job->reverse)
	{
		(void) psh_ending_drop_new(job);
		return PSH_STEP_AGAIN;
	}
	psh_swap_report(job);
	return PSH_STEP_FINISHED;
}

/* What an operator asked for comes before the phase's own work. */
static PshStep
lead_request(PshJob *job)
{
	if (strcmp(job->request, "abort") == 0)
	{
		psh_keeper_stop();
		(void) psh_ending_abort(job);
	}
	else if (strcmp(job->request, "finalize") == 0)
	{
		psh_swap_report(job);
		(void) psh_ending_finalize(job);
	}
	else if (strcmp(job->request, "rollback") == 0)
	{
		psh_swap_report(job);
		answer_request(job,
					   "UPDATE partshift.job SET reverse = true, request = NULL"
					   " WHERE job_id = $1", PSH_PHASE_REWIRE);
	}
	else
	{
		if (!psh_verify_compare(job, "full") && job->phase != PSH_PHASE_DONE)
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("source and shadow of table \"%s\" differ",
							job->table_name),
					 errhint("See partshift.verification, then abort the conversion.")));
		answer_request(job,
					   "UPDATE partshift.job SET request = NULL"
					   " WHERE job_id = $1", job->phase);
	}
	return PSH_STEP_AGAIN;
}

/*
 * Take the next step of a job, as its leader; outside a transaction.  Returns
 * PSH_STEP_FINISHED when there is nothing to do until an operator says so.
 */
PshStep
psh_phases_lead(int job_id)
{
	PshJob	   *job = psh_job_read(job_id);

	if (job == NULL || job->status != PSH_STATUS_ACTIVE)
		return PSH_STEP_FINISHED;
	if (psh_keeper_is_lost(job) &&
		(job->request == NULL || strcmp(job->request, "abort") != 0))
		return psh_keeper_lost(job);
	if (job->request != NULL)
		return lead_request(job);
	return lead_phase(job);
}

/*
 * Take a task of the present phase, as helper `number`.  Returns
 * PSH_STEP_FINISHED when there is none to take.
 */
PshStep
psh_phases_help(int job_id, int number)
{
	PshJob	   *job = psh_job_read(job_id);
	PshStep		step = PSH_STEP_FINISHED;

	if (job == NULL || job->status != PSH_STATUS_ACTIVE ||
		job->request != NULL || number >= job->workers)
		return PSH_STEP_FINISHED;
	if (job->phase == PSH_PHASE_COPY)
	{
		psh_throttle_set(job, job->workers);
		step = psh_copy_run(job_id);
	}
	else if (job->phase == PSH_PHASE_INDEX)
		step = psh_index_build(job);
	return step == PSH_STEP_AGAIN ? step : PSH_STEP_FINISHED;
}
