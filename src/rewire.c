/*-------------------------------------------------------------------------
 *
 * rewire.c
 *	  The phase rewire: foreign keys of the table that gets the name next.
 *
 * The statements are computed once and stored as tasks.  Each is a
 * transaction of its own together with the mark that it is done, so a worker
 * that comes after a crash goes on with the first that is not.  Only the
 * leader runs them, in order.  A table that refers to itself gets the columns
 * of its extended keys in the same way, in phase prepare.
 *
 * A statement that validates a key can take long.  The job's row is therefore
 * not locked meanwhile: an operator's request must not wait for it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "pgstat.h"
#include "utils/builtins.h"

#include "keeper.h"
#include "rewire.h"
#include "snapshots.h"
#include "sql.h"
#include "throttle.h"

#define CONCURRENT_BUILD "CREATE INDEX CONCURRENTLY"

static bool
has_tasks(int job_id, PshPhase phase)
{
	Oid			types[2] = {INT4OID, TEXTOID};
	Datum		values[2];

	values[0] = Int32GetDatum(job_id);
	values[1] = CStringGetTextDatum(psh_phase_name(phase));
	return psh_sql(SPI_OK_SELECT,
				   "SELECT FROM partshift.task"
				   " WHERE job_id = $1 AND phase = $2 LIMIT 1",
				   2, types, values, NULL) > 0;
}

/*
 * Store the statements to run, unless they are stored.  Those of the first
 * swap give way to those of a rollback; a task's object is the table that
 * gets the name.
 */
PshStep
psh_rewire_prepare(PshJob *job)
{
	Oid			types[3] = {INT4OID, BOOLOID, OIDOID};
	Datum		values[3];

	values[0] = Int32GetDatum(job->id);
	values[1] = BoolGetDatum(job->reverse);
	values[2] = ObjectIdGetDatum(job->reverse ? job->relid : job->shadow);

	psh_txn_begin("preparing foreign keys");
	(void) psh_job_lock(job->id);
	psh_sql(SPI_OK_DELETE,
			"DELETE FROM partshift.task"
			" WHERE job_id = $1 AND phase = 'rewire' AND object <> $3",
			3, types, values, NULL);
	if (!has_tasks(job->id, PSH_PHASE_REWIRE))
		psh_sql(SPI_OK_INSERT,
				"INSERT INTO partshift.task"
				" (job_id, phase, task_no, object, run_as, command)"
				" SELECT $1, 'rewire', t.n, $3, t.run_as, t.command"
				" FROM partshift.rewire_tasks($1, $2)"
				" WITH ORDINALITY AS t (run_as, command, n)",
				3, types, values, NULL);
	psh_txn_commit();
	return PSH_STEP_FINISHED;
}

/*
 * Find and lock the first task not done.  Returns its number, or -1.
 */
static int
next_task(const PshJob *job, Oid *run_as, char **command)
{
	Oid			types[2] = {INT4OID, TEXTOID};
	Datum		values[2];
	Datum		user;
	bool		isnull;

	values[0] = Int32GetDatum(job->id);
	values[1] = CStringGetTextDatum(psh_phase_name(job->phase));
	if (psh_sql(SPI_OK_SELECT,
				"SELECT task_no, run_as, command FROM partshift.task"
				" WHERE job_id = $1 AND phase = $2 AND NOT done"
				" ORDER BY task_no LIMIT 1 FOR UPDATE",
				2, types, values, NULL) == 0)
		return -1;
	user = psh_sql_value(0, 2, &isnull);
	*run_as = isnull ? InvalidOid : DatumGetObjectId(user);
	*command = psh_sql_text(0, 3);
	return DatumGetInt32(psh_sql_value(0, 1, &isnull));
}

static void
mark_done(const PshJob *job, int task_no)
{
	Oid			types[3] = {INT4OID, INT4OID, TEXTOID};
	Datum		values[3];

	values[0] = Int32GetDatum(job->id);
	values[1] = Int32GetDatum(task_no);
	values[2] = CStringGetTextDatum(psh_phase_name(job->phase));
	psh_sql(SPI_OK_UPDATE,
			"UPDATE partshift.task SET done = true"
			" WHERE job_id = $1 AND phase = $3 AND task_no = $2",
			3, types, values, NULL);
}

/*
 * A statement that builds an index while the table is written has transactions
 * of its own.  If it ends and the mark is lost, it finds the index next time.
 */
static void
build_concurrently(const PshJob *job, int task_no, const char *command)
{
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(job->id)};

	psh_txn_begin("rewire");
	psh_sql(SPI_OK_SELECT, "SELECT partshift.drop_unfinished_indexes($1)",
			1, types, values, NULL);
	psh_txn_commit();
	psh_sql_run_alone(command, 0);
	psh_txn_begin("rewire");
	mark_done(job, task_no);
	psh_txn_commit();
}

/*
 * Run a statement and mark it done.  One that yields a number has left so many
 * rows to others and is run again: then false is returned.
 */
static bool
run_statement(const PshJob *job, int task_no, Oid run_as, const char *command)
{
	int64		left;

	pgstat_report_activity(STATE_RUNNING, command);
	psh_throttle_set(job, 1);
	psh_throttle_start();
	left = psh_sql_run(run_as, command);
	psh_throttle_rest();
	if (left == 0)
		mark_done(job, task_no);
	return left == 0;
}

/*
 * Run the next statement of the job's phase.  Returns AGAIN while there may be
 * more, REST when the next one has to wait for others; FINISHED, in a
 * transaction, when all are done.
 */
static PshStep
run_next(const PshJob *job)
{
	MemoryContext keep = CurrentMemoryContext;
	int			task_no;
	Oid			run_as;
	char	   *command;
	bool		done;

	psh_txn_begin("rewire");
	MemoryContextSwitchTo(keep);
	task_no = next_task(job, &run_as, &command);
	if (task_no < 0)
		return PSH_STEP_FINISHED;
	if (strncmp(command, CONCURRENT_BUILD, strlen(CONCURRENT_BUILD)) == 0)
	{
		psh_txn_commit();
		MemoryContextSwitchTo(keep);
		build_concurrently(job, task_no, command);
		return PSH_STEP_AGAIN;
	}
	done = run_statement(job, task_no, run_as, command);
	psh_txn_commit();
	return done ? PSH_STEP_AGAIN : PSH_STEP_REST;
}

/*
 * Run the next statement.  Returns AGAIN while there may be more, REST when
 * the next one has to wait for others; FINISHED once the job has gone on to
 * verify.
 *
 * A transaction with a snapshot older than the end of reconcile would fail
 * to serialize when an action of a new key met a row it cannot see, hence the
 * wait before the first of them.
 */
PshStep
psh_rewire_run(PshJob *job)
{
	PshStep		step;

	if (psh_throttle_pay() > 0)
		return PSH_STEP_AGAIN;
	if (!psh_job_locks(job) && psh_snapshots_wait(job) != PSH_STEP_FINISHED)
		return PSH_STEP_AGAIN;
	if (psh_job_locks(job))
		psh_keeper_break_circles(job);
	step = run_next(job);
	if (step == PSH_STEP_FINISHED)
	{
		psh_job_advance(psh_job_lock(job->id), PSH_PHASE_VERIFY);
		psh_txn_commit();
	}
	return step;
}

/*
 * Give a table that refers to itself the columns by which its keys are
 * extended, before the shadow is made after it.  Returns FINISHED when it has
 * them, filled.
 */
PshStep
psh_rewire_extend(PshJob *job)
{
	Oid			types[2] = {INT4OID, OIDOID};
	Datum		values[2];
	PshStep		step;

	if (OidIsValid(job->shadow))
		return PSH_STEP_FINISHED;
	if (psh_throttle_pay() > 0)
		return PSH_STEP_AGAIN;
	values[0] = Int32GetDatum(job->id);
	values[1] = ObjectIdGetDatum(job->relid);
	psh_txn_begin("preparing foreign keys");
	(void) psh_job_lock(job->id);
	if (!has_tasks(job->id, PSH_PHASE_PREPARE))
		psh_sql(SPI_OK_INSERT,
				"INSERT INTO partshift.task"
				" (job_id, phase, task_no, object, run_as, command)"
				" SELECT $1, 'prepare', t.n, $2, t.run_as, t.command"
				" FROM partshift.extension_commands($1, true)"
				" WITH ORDINALITY AS t (run_as, command, n)",
				2, types, values, NULL);
	psh_txn_commit();
	step = run_next(job);
	if (step == PSH_STEP_FINISHED)
		psh_txn_commit();
	return step;
}
