/*-------------------------------------------------------------------------
 *
 * maintain.c
 *	  Maintenance of partitions, in a worker.
 *
 * One table after the other, one thing after the other: each commits by
 * itself, so that no lock is kept while something else is waited for, and
 * what fails takes nothing with it.  It is noted in the log, and the next run
 * begins with a new list.
 *
 * A session-level lock keeps two runs from the same table.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "chore.h"
#include "launch.h"
#include "maintain.h"
#include "sql.h"
#include "worker.h"

#define TRIES 8
#define FIRST_RETRY_MS 100.0

/* SQL's advisory locks have 1 or 2 here, jobs 3, vacuum 19. */
#define LOCK_CLASS_MAINTAIN 23

static const PshOrder *order;
static int64 run;
static TimestampTz moment;

/* A DETACH was begun that cannot be ended while somebody waits for us. */
static bool left_pending = false;

/* One of this table was begun and not ended: the server allows no other. */
static bool blocked;

static void
describe_error(void *arg)
{
	errcontext("maintaining table %s", ((PshManaged *) arg)->name);
}

/* Do it, once; the error that ended it, or NULL. */
static ErrorData *
try_chore(void (*action) (PshManaged *, PshChore *),
		  PshManaged *table, PshChore *chore)
{
	MemoryContext context = CurrentMemoryContext;
	ErrorData  *volatile failure = NULL;
	ErrorContextCallback callback;

	callback.callback = describe_error;
	callback.arg = table;
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	PG_TRY();
	{
		action(table, chore);
	}
	PG_CATCH();
	{
		failure = psh_worker_recover(context);
	}
	PG_END_TRY();
	error_context_stack = callback.previous;
	MemoryContextSwitchTo(context);
	return failure;
}

static void
log_alone(const PshManaged *table, const char *action, const char *object,
		  const char *status, const char *sqlstate, const char *detail)
{
	MemoryContext context = CurrentMemoryContext;

	psh_txn_begin("recording the maintenance");
	psh_chore_log(table, action, object, status, -1, sqlstate, detail);
	psh_txn_commit();
	MemoryContextSwitchTo(context);
}

/* Do it, in several tries if need be, and log it if it could not be done. */
static bool
do_chore(void (*action) (PshManaged *, PshChore *),
		 PshManaged *table, PshChore *chore)
{
	double		rest = FIRST_RETRY_MS;
	ErrorData  *failure = NULL;
	int			i;

	for (i = 0; i < TRIES; i++)
	{
		CHECK_FOR_INTERRUPTS();
		failure = try_chore(action, table, chore);
		if (failure == NULL)
			return true;
		if (!psh_worker_may_retry(failure))
			break;
		psh_worker_nap((long) (rest * (0.5 + pg_prng_double(&pg_global_prng_state))));
		rest *= 1.5;
	}
	log_alone(table, chore->action, chore->object,
			  i == TRIES || failure->sqlerrcode == ERRCODE_OBJECT_IN_USE ?
			  "deferred" : "failed",
			  unpack_sql_state(failure->sqlerrcode),
			  failure->detail ?
			  psprintf("%s (%s)", failure->message, failure->detail) :
			  failure->message);
	return false;
}

/* What the table needs, in the caller's memory. */
static List *
list_chores(PshManaged *table)
{
	MemoryContext keep = CurrentMemoryContext;
	Oid			types[2] = {OIDOID, TIMESTAMPTZOID};
	Datum		values[2];
	List	   *chores = NIL;
	int			n;
	int			i;

	psh_txn_begin("looking for what a table needs");
	values[0] = ObjectIdGetDatum(table->relid);
	values[1] = TimestampTzGetDatum(moment);
	n = (int) psh_sql(SPI_OK_SELECT,
					  "SELECT c.action, c.object, c.leaf, c.lower, c.upper,"
					  " w.code, w.message, m.key_column, m.move_rows,"
					  " i.inhdetachpending"
					  " FROM partshift.managed AS m,"
					  " partshift.list_chores(m.relid, $2) WITH ORDINALITY AS c"
					  " (action, object, leaf, lower, upper, rows, problem, place)"
					  " LEFT JOIN pg_inherits AS i ON i.inhrelid = c.leaf,"
					  " partshift.why_not(c.problem, m, c.rows) AS w"
					  " WHERE m.relid = $1 ORDER BY c.place",
					  2, types, values, NULL);
	MemoryContextSwitchTo(keep);
	for (i = 0; i < n; i++)
	{
		PshChore   *chore = palloc0(sizeof(PshChore));
		Datum		value;
		bool		isnull;

		chore->action = psh_sql_text(i, 1);
		chore->object = psh_sql_text(i, 2);
		value = psh_sql_value(i, 3, &isnull);
		chore->leaf = isnull ? InvalidOid : DatumGetObjectId(value);
		chore->lower = psh_sql_text(i, 4);
		chore->upper = psh_sql_text(i, 5);
		chore->sqlstate = psh_sql_text(i, 6);
		chore->problem = psh_sql_text(i, 7);
		table->column = psh_sql_text(i, 8);
		table->move_rows = DatumGetInt32(psh_sql_value(i, 9, &isnull));
		value = psh_sql_value(i, 10, &isnull);
		chore->pending = !isnull && DatumGetBool(value);
		chores = lappend(chores, chore);
	}
	psh_txn_commit();
	MemoryContextSwitchTo(keep);
	return chores;
}

/*
 * A DETACH that was begun ends only when no snapshot is older, and whoever
 * waits for us has one: that is left to a worker that nobody waits for.
 */
static void
detach(PshManaged *table, PshChore *chore)
{
	if (blocked)
	{
		log_alone(table, chore->action, chore->object, "deferred", "55006",
				  "Another partition has to be detached first.");
		return;
	}
	if (chore->pending && TransactionIdIsValid(order->waiting))
	{
		blocked = left_pending = true;
		log_alone(table, chore->action, chore->object, "deferred", "55006",
				  "It goes on after the transaction that waits for this.");
		return;
	}
	if (do_chore(psh_chore_detach, table, chore))
		(void) do_chore(psh_chore_retire, table, chore);
	else if (chore->pending || chore->begun)
	{
		blocked = true;
		left_pending = TransactionIdIsValid(order->waiting);
	}
}

static void
do_one(PshManaged *table, PshChore *chore)
{
	if (chore->problem)
		log_alone(table, chore->action, chore->object, "failed",
				  chore->sqlstate, chore->problem);
	else if (strcmp(chore->action, "create") == 0)
		(void) do_chore(psh_chore_create, table, chore);
	else if (strcmp(chore->action, "analyze") == 0)
		(void) do_chore(psh_chore_analyze, table, chore);
	else if (strcmp(chore->action, "detach") == 0 && chore->lower)
		detach(table, chore);
	else
		(void) do_chore(psh_chore_retire, table, chore);
}

static void
do_all(PshManaged *table, PshChore *unused)
{
	List	   *chores = list_chores(table);
	ListCell   *cell;

	foreach(cell, chores)
		do_one(table, lfirst(cell));
}

static void
record_end(PshManaged *table)
{
	MemoryContext keep = CurrentMemoryContext;
	Oid			types[3] = {INT8OID, OIDOID, TIMESTAMPTZOID};
	Datum		values[3];

	psh_txn_begin("recording the maintenance");
	values[0] = Int64GetDatum(run);
	values[1] = ObjectIdGetDatum(table->relid);
	values[2] = TimestampTzGetDatum(moment);
	psh_sql(SPI_OK_SELECT, "SELECT partshift.end_chores($1, $2, $3)", 3,
			types, values, NULL);
	psh_txn_commit();
	MemoryContextSwitchTo(keep);
}

static void
maintain_table(PshManaged *table)
{
	PshChore	all = {0};
	LOCKTAG		tag;

	all.action = "list";
	blocked = false;
	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, table->relid, 0,
						 LOCK_CLASS_MAINTAIN);
	if (LockAcquire(&tag, ExclusiveLock, true, true) == LOCKACQUIRE_NOT_AVAIL)
	{
		log_alone(table, "list", NULL, "deferred", "55006",
				  "Another run of maintenance is at work on the table.");
		return;
	}
	(void) do_chore(do_all, table, &all);
	record_end(table);
	LockRelease(&tag, ExclusiveLock, true);
}

/* Tables that a query with the one table and the requester yields. */
static List *
list_tables(const char *query)
{
	MemoryContext keep = CurrentMemoryContext;
	Oid			types[2] = {OIDOID, OIDOID};
	Datum		values[2];
	char		nulls[3] = "  ";
	List	   *tables = NIL;
	bool		isnull;
	int			n;
	int			i;

	psh_txn_begin("looking for tables to maintain");
	if (run == 0)
	{
		psh_sql(SPI_OK_SELECT, "SELECT nextval('partshift.maintenance_run')",
				0, NULL, NULL, NULL);
		run = DatumGetInt64(psh_sql_value(0, 1, &isnull));
	}
	nulls[0] = OidIsValid(order->relid) ? ' ' : 'n';
	values[0] = ObjectIdGetDatum(order->relid);
	values[1] = ObjectIdGetDatum(OidIsValid(order->requester) ?
								 order->requester : psh_extension_owner());
	n = (int) psh_sql(SPI_OK_SELECT, query, 2, types, values, nulls);
	MemoryContextSwitchTo(keep);
	for (i = 0; i < n; i++)
	{
		PshManaged *table = palloc0(sizeof(PshManaged));

		table->run = run;
		table->relid = DatumGetObjectId(psh_sql_value(i, 1, &isnull));
		table->owner = DatumGetObjectId(psh_sql_value(i, 2, &isnull));
		table->name = psh_sql_text(i, 3);
		tables = lappend(tables, table);
	}
	psh_txn_commit();
	MemoryContextSwitchTo(keep);
	return tables;
}

/* Have somebody go on when whoever waits for us has ended. */
static void
launch_successor(void)
{
	PshOrder	next = *order;

	next.caller = order->waiting;
	next.waiting = InvalidTransactionId;
	next.run = 0;
	(void) psh_launch(&next, NULL);
}

/*
 * Maintain one table, or all that the requester may have maintained, and drop
 * backups, as the order says.
 */
void
psh_maintain(const PshOrder *what)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext,
												  "partshift maintenance",
												  ALLOCSET_DEFAULT_SIZES);
	PshManaged	whole = {0};
	PshChore	drop = {0};
	ListCell   *cell;

	MemoryContextSwitchTo(context);
	SetConfigOption("application_name", "partshift maintenance",
					PGC_USERSET, PGC_S_SESSION);
	order = what;
	run = what->run;
	moment = what->moment ? what->moment : GetCurrentTimestamp();
	if (what->partitions)
		foreach(cell, list_tables("SELECT relation, owner, name"
								  " FROM partshift.maintained_tables($1, $2)"))
			maintain_table(lfirst(cell));
	drop.action = "drop";
	if (what->backups)
		foreach(cell, list_tables("SELECT relation, owner, name"
								  " FROM partshift.expired_backups($1, $2)"))
			(void) do_chore(psh_chore_drop_backup, lfirst(cell), &drop);

	whole.run = run;
	whole.owner = OidIsValid(what->requester) ? what->requester :
		BOOTSTRAP_SUPERUSERID;
	whole.name = "";
	log_alone(&whole, "run", NULL, "done", NULL, NULL);
	if (left_pending)
		launch_successor();
}
