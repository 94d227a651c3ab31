/*-------------------------------------------------------------------------
 *
 * manage.c
 *	  The SQL functions of maintenance.
 *
 * Rights are those of ALTER TABLE, as for conversions.  maintain() has the
 * work done by a worker and waits for it, because a function cannot commit:
 * otherwise the locks on one table would be kept while another is waited for,
 * one failure would undo everything, and DETACH ... CONCURRENTLY could not be
 * had.  The worker begins at once and sees what was committed before.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "launch.h"
#include "sql.h"

PG_FUNCTION_INFO_V1(partshift_manage_table);
PG_FUNCTION_INFO_V1(partshift_run_maintenance);
PG_FUNCTION_INFO_V1(partshift_order_backup);
PG_FUNCTION_INFO_V1(partshift_run_cleanup);
PG_FUNCTION_INFO_V1(partshift_inspect);

static void
require_owner(Oid relid)
{
	char	   *name = get_rel_name(relid);

	if (name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relid)));
	if (!psh_owns_relation(relid, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER,
					   get_relkind_objtype(get_rel_relkind(relid)), name);
}

/*
 * manage_table(relation regclass, options jsonb): record a policy, or with
 * null forget it.
 */
Datum
partshift_manage_table(PG_FUNCTION_ARGS)
{
	Oid			types[2] = {OIDOID, JSONBOID};
	Datum		values[2];
	PshUser		saved;

	PreventCommandDuringRecovery("partshift.manage()");
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("relation must not be null")));
	require_owner(PG_GETARG_OID(0));
	values[0] = PG_GETARG_DATUM(0);
	values[1] = PG_ARGISNULL(1) ? (Datum) 0 : PG_GETARG_DATUM(1);
	psh_user_switch(psh_extension_owner(), false, &saved);
	SPI_connect();
	psh_sql(SPI_OK_SELECT, PG_ARGISNULL(1) ?
			"SELECT partshift.forget_policy($1)" :
			"SELECT partshift.record_policy($1, $2)",
			PG_ARGISNULL(1) ? 1 : 2, types, values, NULL);
	SPI_finish();
	psh_user_restore(&saved);
	PG_RETURN_VOID();
}

static void
await_worker(BackgroundWorkerHandle *handle)
{
	BgwHandleStatus status = BGWH_STOPPED;

	PG_TRY();
	{
		status = WaitForBackgroundWorkerShutdown(handle);
	}
	PG_CATCH();
	{
		TerminateBackgroundWorker(handle);
		PG_RE_THROW();
	}
	PG_END_TRY();
	if (status == BGWH_POSTMASTER_DIED)
		proc_exit(1);
}

/*
 * Have a worker do it, and return when it is done: the number of the run.
 */
static int64
run_worker(Oid relid, Oid requester, TimestampTz moment, bool backups)
{
	PshOrder	order = {0};
	BackgroundWorkerHandle *handle;
	bool		isnull;

	psh_sql(SPI_OK_SELECT, "SELECT nextval('partshift.maintenance_run')", 0,
			NULL, NULL, NULL);
	order.database = MyDatabaseId;
	order.role = PSH_ROLE_MAINTAINER;
	order.relid = relid;
	order.requester = requester;
	order.waiting = GetTopTransactionId();
	order.run = DatumGetInt64(psh_sql_value(0, 1, &isnull));
	order.moment = moment;
	order.partitions = !backups;
	order.backups = backups;
	if (!psh_launch(&order, &handle))
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("could not start a background worker for the maintenance"),
				 errhint("You might need to increase max_worker_processes.")));
	await_worker(handle);
	return order.run;
}

/*
 * What the run has logged, which this transaction's snapshot may be too old
 * to show.  Raises an error if it failed: nothing that was done is undone by
 * that.
 */
static char *
read_report(int64 run, MemoryContext caller)
{
	Oid			types[1] = {INT8OID};
	Datum		values[1] = {Int64GetDatum(run)};
	bool		isnull;
	char	   *report;
	int64		failures;

	PushActiveSnapshot(GetLatestSnapshot());
	if (SPI_execute_with_args("SELECT report, ended, failures, failed"
							  " FROM partshift.run_report($1)",
							  1, types, values, NULL, true,
							  0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the log of the maintenance");
	PopActiveSnapshot();
	if (!DatumGetBool(psh_sql_value(0, 2, &isnull)))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the maintenance did not come to its end"),
				 errhint("The server's log says why.")));
	failures = DatumGetInt64(psh_sql_value(0, 3, &isnull));
	if (failures > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg_plural("maintenance failed in %lld place",
							   "maintenance failed in %lld places",
							   (unsigned long) failures,
							   (long long) failures),
				 errdetail("%s", psh_sql_text(0, 4)),
				 errhint("What else was to be done is done: see partshift.maintenance.")));
	report = MemoryContextStrdup(caller, psh_sql_text(0, 1));
	return report;
}

/*
 * run_maintenance(relation regclass, moment timestamptz, dry_run boolean)
 * returns jsonb.
 */
Datum
partshift_run_maintenance(PG_FUNCTION_ARGS)
{
	MemoryContext caller = CurrentMemoryContext;
	Oid			types[3] = {OIDOID, OIDOID, TIMESTAMPTZOID};
	Datum		values[3];
	char		nulls[4] = "   ";
	Oid			user = GetUserId();
	bool		dry_run = !PG_ARGISNULL(2) && PG_GETARG_BOOL(2);
	TimestampTz moment = PG_ARGISNULL(1) ? GetCurrentTimestamp() :
		PG_GETARG_TIMESTAMPTZ(1);
	Oid			relid = PG_ARGISNULL(0) ? InvalidOid : PG_GETARG_OID(0);
	PshUser		saved;
	char	   *report;

	PreventCommandDuringRecovery("partshift.maintain()");
	if (TIMESTAMP_NOT_FINITE(moment))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("time of the maintenance is not finite")));
	if (OidIsValid(relid))
		require_owner(relid);
	values[0] = ObjectIdGetDatum(relid);
	nulls[0] = OidIsValid(relid) ? ' ' : 'n';
	values[1] = ObjectIdGetDatum(user);
	values[2] = TimestampTzGetDatum(moment);

	psh_user_switch(psh_extension_owner(), false, &saved);
	SPI_connect();
	if (OidIsValid(relid))
		psh_sql(SPI_OK_SELECT, "SELECT partshift.policy($1)", 1, types, values,
				NULL);
	if (dry_run)
	{
		psh_sql(SPI_OK_SELECT, "SELECT partshift.dry_report($1, $2, $3)", 3,
				types, values, nulls);
		report = MemoryContextStrdup(caller, psh_sql_text(0, 1));
	}
	else
		report = read_report(run_worker(relid, user, moment, false), caller);
	SPI_finish();
	psh_user_restore(&saved);
	PG_RETURN_DATUM(DirectFunctionCall1(jsonb_in, CStringGetDatum(report)));
}

/*
 * order_backup(backup regclass, what text, extra interval, accept boolean)
 * returns jsonb: verify or extend.
 */
Datum
partshift_order_backup(PG_FUNCTION_ARGS)
{
	MemoryContext caller = CurrentMemoryContext;
	Oid			types[4] = {OIDOID, TEXTOID, INTERVALOID, BOOLOID};
	Datum		values[4];
	char		nulls[5] = "    ";
	PshUser		saved;
	char	   *result;
	int			i;

	PreventCommandDuringRecovery("an order about a backup");
	for (i = 0; i < 4; i++)
	{
		nulls[i] = PG_ARGISNULL(i) ? 'n' : ' ';
		values[i] = PG_ARGISNULL(i) ? (Datum) 0 : PG_GETARG_DATUM(i);
	}
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("backup must not be null")));
	require_owner(PG_GETARG_OID(0));
	psh_user_switch(psh_extension_owner(), false, &saved);
	SPI_connect();
	psh_sql(SPI_OK_SELECT, "SELECT partshift.change_backup($1, $2, $3, $4)",
			4, types, values, nulls);
	result = MemoryContextStrdup(caller, psh_sql_text(0, 1));
	SPI_finish();
	psh_user_restore(&saved);
	PG_RETURN_DATUM(DirectFunctionCall1(jsonb_in, CStringGetDatum(result)));
}

/*
 * run_cleanup(backup regclass, dry_run boolean) returns jsonb.
 */
Datum
partshift_run_cleanup(PG_FUNCTION_ARGS)
{
	MemoryContext caller = CurrentMemoryContext;
	Oid			types[2] = {OIDOID, OIDOID};
	Datum		values[2];
	char		nulls[3] = "  ";
	Oid			user = GetUserId();
	Oid			relid = PG_ARGISNULL(0) ? InvalidOid : PG_GETARG_OID(0);
	bool		dry_run = PG_ARGISNULL(1) || PG_GETARG_BOOL(1);
	PshUser		saved;
	char	   *report;

	if (!dry_run)
		PreventCommandDuringRecovery("partshift.cleanup()");
	if (OidIsValid(relid))
		require_owner(relid);
	values[0] = ObjectIdGetDatum(relid);
	nulls[0] = OidIsValid(relid) ? ' ' : 'n';
	values[1] = ObjectIdGetDatum(user);
	psh_user_switch(psh_extension_owner(), false, &saved);
	SPI_connect();
	psh_sql(SPI_OK_SELECT, "SELECT partshift.list_backups($1, $2)", 2, types,
			values, nulls);
	report = MemoryContextStrdup(caller, psh_sql_text(0, 1));
	if (OidIsValid(relid) && strcmp(report, "[]") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("table \"%s\" is not a backup", get_rel_name(relid)),
				 errhint("The view partshift.backups lists them.")));
	if (!dry_run)
		report = read_report(run_worker(relid, user, 0, true), caller);
	SPI_finish();
	psh_user_restore(&saved);
	PG_RETURN_DATUM(DirectFunctionCall1(jsonb_in, CStringGetDatum(report)));
}

/*
 * inspect(relation regclass, what text) returns jsonb: what the caller may
 * know of the health of tables.
 */
Datum
partshift_inspect(PG_FUNCTION_ARGS)
{
	MemoryContext caller = CurrentMemoryContext;
	Oid			types[3] = {OIDOID, OIDOID, TEXTOID};
	Datum		values[3];
	char		nulls[4] = "   ";
	PshUser		saved;
	char	   *report;

	nulls[0] = PG_ARGISNULL(0) ? 'n' : ' ';
	values[0] = PG_ARGISNULL(0) ? (Datum) 0 : PG_GETARG_DATUM(0);
	values[1] = ObjectIdGetDatum(GetUserId());
	nulls[2] = PG_ARGISNULL(1) ? 'n' : ' ';
	values[2] = PG_ARGISNULL(1) ? (Datum) 0 : PG_GETARG_DATUM(1);
	psh_user_switch(psh_extension_owner(), false, &saved);
	SPI_connect();
	psh_sql(SPI_OK_SELECT, "SELECT partshift.inspect_as($1, $2, $3)", 3,
			types, values, nulls);
	report = MemoryContextStrdup(caller, psh_sql_text(0, 1));
	SPI_finish();
	psh_user_restore(&saved);
	PG_RETURN_DATUM(DirectFunctionCall1(jsonb_in, CStringGetDatum(report)));
}
