/*-------------------------------------------------------------------------
 *
 * swap.c
 *	  The exchange of the two tables.
 *
 * A swap is three transactions' worth of care.  Nothing is asked for while a
 * snapshot older than the end of reconcile is in use.  Then one transaction
 * writes down every statement.  The last one locks, checks that what was
 * planned still holds, and has only catalogs to change; it is done over from
 * the first when a lock does not come in time.
 *
 * The way back is the same with the tables' parts exchanged: "from" loses the
 * application's name, "to" gets it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "portability/instr_time.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/timeout.h"

#include "capture.h"
#include "default_leaf.h"
#include "dependents.h"
#include "keeper.h"
#include "labels.h"
#include "neighbours.h"
#include "privileges.h"
#include "sequences.h"
#include "snapshots.h"
#include "sql.h"
#include "swap.h"

/*
 * Conditions of triggers and definitions of views are parsed under the locks,
 * which may call functions of their owners: those have so long, in
 * milliseconds, before the swap is given up (57014).
 */
#define LONGEST_EXCHANGE 5000

/* What is found out before the locks. */
typedef struct SwapPlan
{
	Oid			from;
	Oid			to;
	List	   *relations;		/* to lock, in this order */
	int			ncommands;
	Oid		   *run_as;
	char	  **commands;
	Oid			spare_leaf;		/* DEFAULT partition to drop if empty */
} SwapPlan;

static bool
is_true(int nargs, Datum *job_id, const char *query)
{
	Oid			types[1] = {INT4OID};
	Datum		answer;
	bool		isnull;

	if (psh_sql(SPI_OK_SELECT, query, nargs, types, job_id, NULL) == 0)
		return false;
	answer = psh_sql_value(0, 1, &isnull);
	return !isnull && DatumGetBool(answer);
}

/*
 * A swap back needs a legacy table that has every write since.
 */
static void
check_way_back(const PshJob *job)
{
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(job->id)};
	char	   *obstacle;

	psh_sql(SPI_OK_SELECT,
			"SELECT partshift.rollback_obstacle(j) FROM partshift.job AS j"
			" WHERE j.job_id = $1",
			1, types, values, NULL);
	obstacle = psh_sql_text(0, 1);
	if (obstacle != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot roll back the conversion of table \"%s\"",
						job->table_name),
				 errdetail_internal("%s", obstacle)));
}

/*
 * What must hold both before the locks, where failing costs nothing, and
 * under them.
 */
static void
check_unchanged(const PshJob *job)
{
	Datum		job_id = Int32GetDatum(job->id);

	if (job->reverse)
		check_way_back(job);
	else if (OidIsValid(job->postponed) &&
			 is_true(0, NULL,
					 psprintf("SELECT EXISTS (SELECT FROM partshift.%s)",
							  quote_identifier(get_rel_name(job->postponed)))))
		elog(ERROR, "rows of table \"%s\" are still to be reconciled",
			 job->table_name);

	/* An error of the kind that is tried again, after another look. */
	if (job->computed && !job->reverse && psh_unplaced_any(job->id))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("rows without a partition key were written to table \"%s\"",
						job->table_name)));

	if (!is_true(1, &job_id,
				 "SELECT CASE WHEN j.reverse"
				 " THEN partshift.fingerprint(j.shadow) = j.plan ->> 'new_fingerprint'"
				 " ELSE partshift.fingerprint(j.relid) = j.fingerprint END"
				 " FROM partshift.job AS j WHERE j.job_id = $1"))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("definition of table \"%s\" has changed since it was recorded",
						job->table_name),
				 job->reverse ?
				 errhint("Undo the change and resume the conversion.") :
				 errhint("Undo the change and resume the conversion, or abort it and begin again.")));
	psh_dependents_check(job);
}

static void
check_mirror(const PshJob *job, Oid from)
{
	if (!psh_triggers_in_place(from, job->reverse ? PSH_TRIGGER_REVERSE :
							   PSH_TRIGGER_MIRROR, job))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("triggers of the conversion of table \"%s\" are missing or disabled",
						job->table_name),
				 job->reverse ?
				 errhint("Finalize the conversion: the legacy table may have missed writes.") :
				 errhint("Abort the conversion and begin again.")));
}

static Oid
find_spare_leaf(const PshJob *job)
{
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(job->id)};
	Datum		leaf;
	bool		isnull;

	if (job->reverse ||
		psh_sql(SPI_OK_SELECT,
				"SELECT i.inhrelid FROM partshift.job AS j"
				" JOIN pg_inherits AS i ON i.inhparent = j.shadow"
				" JOIN pg_class AS c ON c.oid = i.inhrelid"
				" WHERE j.job_id = $1"
				" AND c.relname = (j.plan ->> 'default_leaf')::name"
				" AND j.plan ->> 'default_partition' = 'drop'",
				1, types, values, NULL) == 0)
		return InvalidOid;
	leaf = psh_sql_value(0, 1, &isnull);
	return psh_default_leaf_empty(DatumGetObjectId(leaf)) ?
		DatumGetObjectId(leaf) : InvalidOid;
}

static void
read_commands(SwapPlan *plan, const PshJob *job)
{
	Oid			types[2] = {INT4OID, BOOLOID};
	Datum		values[2];
	int			i;

	values[0] = Int32GetDatum(job->id);
	values[1] = BoolGetDatum(job->reverse);
	plan->ncommands = (int)
		psh_sql(SPI_OK_SELECT,
				"SELECT c.run_as, c.command FROM partshift.swap_commands($1, $2)"
				" WITH ORDINALITY AS c (run_as, command, n) ORDER BY c.n",
				2, types, values, NULL);
	plan->run_as = palloc0(sizeof(Oid) * Max(plan->ncommands, 1));
	plan->commands = palloc0(sizeof(char *) * Max(plan->ncommands, 1));
	for (i = 0; i < plan->ncommands; i++)
	{
		bool		isnull;
		Datum		user = psh_sql_value(i, 1, &isnull);

		plan->run_as[i] = isnull ? InvalidOid : DatumGetObjectId(user);
		plan->commands[i] = psh_sql_text(i, 2);
	}
}

/*
 * Find out what the swap will do, in a transaction of its own, and keep it in
 * the given context.
 */
static SwapPlan *
prepare(int job_id, MemoryContext keep)
{
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(job_id)};
	PshJob	   *job;
	SwapPlan   *plan;

	psh_txn_begin("preparing the swap");
	MemoryContextSwitchTo(keep);
	plan = palloc0(sizeof(SwapPlan));
	job = psh_job_lock(job_id);
	plan->from = job->reverse ? job->shadow : job->relid;
	plan->to = job->reverse ? job->relid : job->shadow;
	if (job->computed && !job->reverse)
		psh_unplaced_settle(job_id);
	check_unchanged(job);
	if (!job->reverse)
	{
		psh_sql(SPI_OK_UPDATE,
				"UPDATE partshift.job SET plan = plan || jsonb_build_object("
				"'dropped_keys', partshift.dropped_foreign_keys(job_id))"
				" WHERE job_id = $1",
				1, types, values, NULL);
		psh_sql(SPI_OK_SELECT, "SELECT partshift.take_inventory($1)",
				1, types, values, NULL);
	}
	plan->relations = psh_neighbours_list(job_id, true);
	plan->spare_leaf = find_spare_leaf(job);
	read_commands(plan, job);
	psh_txn_commit();
	MemoryContextSwitchTo(keep);
	return plan;
}

/*
 * Write down that the swap is done and how long the locks have been held.
 */
static void
record(const PshJob *job, instr_time since)
{
	Oid			types[2] = {INT4OID, FLOAT8OID};
	Datum		values[2];
	instr_time	held;

	INSTR_TIME_SET_CURRENT(held);
	INSTR_TIME_SUBTRACT(held, since);
	values[0] = Int32GetDatum(job->id);
	values[1] = Float8GetDatum(INSTR_TIME_GET_MILLISEC(held));
	if (!job->reverse)
		psh_sql(SPI_OK_SELECT, "SELECT partshift.pass_policy($1)",
				1, types, values, NULL);
	psh_job_advance(job, PSH_PHASE_DONE);
	psh_sql(SPI_OK_UPDATE,
			job->reverse ?
			"UPDATE partshift.job SET swap_lock_ms = $2, swap_requested = false"
			" WHERE job_id = $1" :
			"UPDATE partshift.job SET swap_lock_ms = $2, swap_requested = false,"
			" swapped_at = clock_timestamp(), log = NULL, postponed = NULL,"
			" plan = plan || jsonb_build_object("
			"'new_fingerprint', partshift.fingerprint(shadow),"
			" 'new_leaves', (SELECT jsonb_agg(i.inhrelid::bigint)"
			" FROM pg_inherits AS i WHERE i.inhparent = shadow))"
			" WHERE job_id = $1",
			2, types, values, NULL);
}

/*
 * A publication of more than a list of tables may have sent rows of the leaves
 * under the name that the new table had; walsenders look it up again when the
 * leaf has changed, not when its parent has.
 */
static void
publish_anew(const PshJob *job)
{
	ListCell   *cell;

	foreach(cell, find_inheritance_children(job->shadow, NoLock))
		CacheInvalidateRelcacheByRelid(lfirst_oid(cell));
}

static void
exchange(const SwapPlan *plan, const PshJob *job)
{
	List	   *dependents = psh_dependents_read(job);
	int			i;

	psh_triggers_drop(plan->from, job);
	for (i = 0; i < plan->ncommands; i++)
		psh_sql_run(plan->run_as[i], plan->commands[i]);
	psh_privileges_copy(plan->from, plan->to);
	psh_labels_copy(plan->from, plan->to);
	psh_sequences_exchange(plan->from, plan->to);
	psh_dependents_redefine(dependents);
	if (OidIsValid(plan->spare_leaf))
	{
		if (psh_default_leaf_empty(plan->spare_leaf))
			psh_default_leaf_drop(plan->spare_leaf);
		else
			ereport(LOG,
					(errmsg("partition \"%s\" is kept because it is not empty",
							get_rel_name(plan->spare_leaf))));
	}
	if (!job->reverse && job->reverse_sync)
		psh_triggers_install(plan->to, PSH_TRIGGER_REVERSE, job);
	publish_anew(job);
}

/*
 * Exchange the tables.  Returns AGAIN while it waits for old snapshots, or
 * when the operator has asked for something else meanwhile, and FINISHED when
 * the job has gone on to done.  Raises an error of lock_timeout when a lock
 * does not come, to be retried, and others that need the operator.
 */
PshStep
psh_swap_run(PshJob *job)
{
	MemoryContext keep = CurrentMemoryContext;
	SwapPlan   *plan;
	PshJob	   *locked;
	instr_time	since;
	bool		ready;

	if (!psh_job_locks(job) && psh_snapshots_wait(job) != PSH_STEP_FINISHED)
		return PSH_STEP_AGAIN;
	if (psh_job_locks(job))
		psh_keeper_break_circles(job);
	MemoryContextSwitchTo(keep);
	plan = prepare(job->id, keep);

	psh_txn_begin("swap");
	locked = psh_job_lock(job->id);
	ready = locked->status == PSH_STATUS_ACTIVE && locked->request == NULL &&
		locked->phase == PSH_PHASE_SWAP && locked->reverse == job->reverse &&
		psh_neighbours_lock(job->id, true, plan->relations, &since) &&
		(!psh_job_locks(locked) || psh_keeper_holds(locked));
	if (ready)
	{
		enable_timeout_after(STATEMENT_TIMEOUT, LONGEST_EXCHANGE);
		check_unchanged(locked);
		if (!psh_job_locks(locked))
			check_mirror(locked, plan->from);
		exchange(plan, locked);
		record(locked, since);
		disable_timeout(STATEMENT_TIMEOUT, false);
	}
	psh_txn_commit();
	MemoryContextSwitchTo(keep);
	return ready ? PSH_STEP_FINISHED : PSH_STEP_AGAIN;
}

/*
 * Record what became of everything that the table carried, unless that is
 * done; after the swap, in a transaction of its own.
 */
void
psh_swap_report(const PshJob *job)
{
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(job->id)};

	psh_txn_begin("comparing what was carried");
	psh_sql(SPI_OK_SELECT, "SELECT partshift.report_carried($1)",
			1, types, values, NULL);
	psh_txn_commit();
}
