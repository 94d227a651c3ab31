/*-------------------------------------------------------------------------
 *
 * sql.c
 *	  Transactions of a worker, SPI with parameters, and changes of user.
 *
 * Values travel as parameters, never inside a text.  What may evaluate an
 * expression of the table's owner (a default, a CHECK, an index expression,
 * an operator of his) runs as that owner in a security-restricted operation
 * with a fixed search_path, never as the superuser that a worker is.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "pgstat.h"
#include "tcop/dest.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"

#include "fence.h"
#include "sql.h"

/*
 * Begin a transaction of a worker: SPI connected, a snapshot active.
 */
void
psh_txn_begin(const char *activity)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	pgstat_report_activity(STATE_RUNNING, activity);
	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_connect();
}

/*
 * Commit what psh_txn_begin() began.
 */
void
psh_txn_commit(void)
{
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
}

/*
 * The role that owns the extension, or InvalidOid when the extension is not
 * installed in this database.
 */
Oid
psh_extension_owner(void)
{
	Relation	rel = table_open(ExtensionRelationId, AccessShareLock);
	Oid			owner = InvalidOid;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber,
				F_NAMEEQ, CStringGetDatum("partshift"));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		owner = ((Form_pg_extension) GETSTRUCT(tuple))->extowner;
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return owner;
}

static void
set_until_restore(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

/*
 * Become userid until psh_user_restore().  Restricted is for a role that does
 * not trust us nor we it: no temporary objects, no change of role, and its
 * row security does not hide its own rows from the conversion.  Otherwise
 * userid is ours, and no setting of the session shall change what our SQL
 * means.  An error in between needs no restoring: the end of the transaction
 * does it.
 */
void
psh_user_switch(Oid userid, bool restricted, PshUser *saved)
{
	int			context;

	GetUserIdAndSecContext(&saved->userid, &saved->sec_context);
	context = saved->sec_context | SECURITY_LOCAL_USERID_CHANGE;
	if (restricted)
		context |= SECURITY_RESTRICTED_OPERATION | SECURITY_NOFORCE_RLS;
	SetUserIdAndSecContext(userid, context);
	saved->guc_nest = NewGUCNestLevel();
	set_until_restore("search_path", "pg_catalog, pg_temp");
	if (!restricted)
	{
		set_until_restore("standard_conforming_strings", "on");
		set_until_restore("transform_null_equals", "off");
		set_until_restore("array_nulls", "on");
	}
}

/*
 * Be again who psh_user_switch() found.
 */
void
psh_user_restore(const PshUser *saved)
{
	AtEOXact_GUC(false, saved->guc_nest);
	SetUserIdAndSecContext(saved->userid, saved->sec_context);
}

/*
 * Run a query with parameters and return the number of rows.  SPI must be
 * connected; the rows stay in SPI_tuptable until the next call.  The current
 * memory context stays the caller's, which SPI would change to its own.
 */
uint64
psh_sql(int expected, const char *query, int nargs,
		Oid *types, Datum *values, const char *nulls)
{
	MemoryContext caller = CurrentMemoryContext;
	int			result = SPI_execute_with_args(query, nargs, types, values,
											   nulls, false, 0);

	MemoryContextSwitchTo(caller);
	if (result != expected)
		elog(ERROR, "query returned %s instead of %s: %s",
			 SPI_result_code_string(result),
			 SPI_result_code_string(expected), query);
	return SPI_processed;
}

/*
 * A column of a row of the last result; row from 0, column from 1.  It lives
 * as long as the result.
 */
Datum
psh_sql_value(int row, int column, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc,
						 column, isnull);
}

/*
 * The same as text, NULL for a null; allocated in the current context.
 */
char *
psh_sql_text(int row, int column)
{
	return SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc,
						column);
}

/*
 * Run one command through SPI as the given role; InvalidOid: as we are.
 * Returns the value of a query that yields one bigint, 0 for others.
 */
int64
psh_sql_run(Oid run_as, const char *command)
{
	MemoryContext caller = CurrentMemoryContext;
	PshUser		saved;
	int64		value = 0;
	int			result;

	if (OidIsValid(run_as))
		psh_user_switch(run_as, true, &saved);
	psh_fence_expect(OidIsValid(run_as));
	result = SPI_execute(command, false, 0);
	psh_fence_expect(false);
	MemoryContextSwitchTo(caller);
	if (result < 0)
		elog(ERROR, "could not run command (%s): %s",
			 SPI_result_code_string(result), command);
	if (result == SPI_OK_SELECT && SPI_processed == 1 &&
		SPI_gettypeid(SPI_tuptable->tupdesc, 1) == INT8OID)
	{
		bool		isnull;
		Datum		datum = psh_sql_value(0, 1, &isnull);

		value = isnull ? 0 : DatumGetInt64(datum);
	}
	if (OidIsValid(run_as))
		psh_user_restore(&saved);
	return value;
}

static PlannedStmt *
parse_utility(const char *command)
{
	PlannedStmt *stmt = makeNode(PlannedStmt);
	RawStmt    *raw = linitial_node(RawStmt, pg_parse_query(command));

	stmt->commandType = CMD_UTILITY;
	stmt->canSetTag = true;
	stmt->utilityStmt = raw->stmt;
	stmt->stmt_location = raw->stmt_location;
	stmt->stmt_len = raw->stmt_len;
	return stmt;
}

/*
 * Run a command that begins and ends transactions of its own, as CREATE INDEX
 * CONCURRENTLY does; outside a transaction.  It waits for others without
 * holding them up, so there need be no limit to that: patience is in
 * milliseconds, 0 for ever.
 */
void
psh_sql_run_alone(const char *command, int patience)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext context = AllocSetContextCreate(TopMemoryContext,
												  "partshift command",
												  ALLOCSET_DEFAULT_SIZES);
	const char *timeout = pstrdup(GetConfigOption("lock_timeout", false, false));

	pgstat_report_activity(STATE_RUNNING, command);
	SetConfigOption("lock_timeout", psprintf("%d", patience), PGC_SUSET,
					PGC_S_OVERRIDE);
	PG_TRY();
	{
		StartTransactionCommand();
		MemoryContextSwitchTo(context);
		PortalContext = context;
		PushActiveSnapshot(GetTransactionSnapshot());
		ProcessUtility(parse_utility(command), command, false,
					   PROCESS_UTILITY_TOPLEVEL, NULL, NULL, None_Receiver,
					   NULL);
		if (ActiveSnapshotSet())
			PopActiveSnapshot();
		CommitTransactionCommand();
	}
	PG_FINALLY();
	{
		PortalContext = NULL;
		SetConfigOption("lock_timeout", timeout, PGC_SUSET, PGC_S_OVERRIDE);
		MemoryContextSwitchTo(caller);
		MemoryContextDelete(context);
	}
	PG_END_TRY();
	pgstat_report_activity(STATE_IDLE, NULL);
}

/*
 * Run the commands that a query with parameters yields as (run_as oid,
 * command text), in its order, all in this transaction, and return how many
 * they were.
 */
int
psh_sql_run_list(const char *query, int nargs, Oid *types, Datum *values)
{
	int			n = (int) psh_sql(SPI_OK_SELECT, query, nargs, types, values,
								  NULL);
	Oid		   *run_as = palloc(sizeof(Oid) * Max(n, 1));
	char	  **command = palloc(sizeof(char *) * Max(n, 1));
	int			i;

	for (i = 0; i < n; i++)
	{
		bool		isnull;
		Datum		user = psh_sql_value(i, 1, &isnull);

		run_as[i] = isnull ? InvalidOid : DatumGetObjectId(user);
		command[i] = psh_sql_text(i, 2);
	}
	for (i = 0; i < n; i++)
		psh_sql_run(run_as[i], command[i]);
	return n;
}

/*
 * The same for a query whose only parameter is the number of a job.
 */
int
psh_sql_run_steps(const char *query, int job_id)
{
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(job_id)};

	return psh_sql_run_list(query, 1, types, values);
}
