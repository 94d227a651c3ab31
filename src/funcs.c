/*-------------------------------------------------------------------------
 *
 * funcs.c
 *	  The SQL functions that give orders to a conversion.
 *
 * They run in the operator's session.  Rights are those of ALTER TABLE: the
 * table's owner, and whoever has his privileges.  The check is made for the
 * current user; then the function becomes the extension's owner, because
 * nobody else writes to the extension's tables.  A function that changes a
 * job starts a worker in the same transaction, so that a lack of worker slots
 * undoes the change.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"

#include "compat.h"
#include "funcs.h"
#include "job.h"
#include "launch.h"
#include "sql.h"

PG_FUNCTION_INFO_V1(partshift_create_job);
PG_FUNCTION_INFO_V1(partshift_plan_job);
PG_FUNCTION_INFO_V1(partshift_query_as);
PG_FUNCTION_INFO_V1(partshift_order_job);
PG_FUNCTION_INFO_V1(partshift_alter_job);

static void
require_table_owner(FunctionCallInfo fcinfo)
{
	Oid			relid;
	char	   *name;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("relation must not be null")));
	relid = PG_GETARG_OID(0);
	name = get_rel_name(relid);
	if (name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relid)));
	if (!psh_owns_relation(relid, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER,
					   get_relkind_objtype(get_rel_relkind(relid)), name);
}

/* Become the extension's owner, with SPI connected. */
static void
begin_as_extension(PshUser *saved)
{
	psh_user_switch(psh_extension_owner(), false, saved);
	SPI_connect();
}

static void
end_as_extension(const PshUser *saved)
{
	SPI_finish();
	psh_user_restore(saved);
}

/* Pass the arguments of a conversion, and who gave them, to an internal function. */
static void
call_with_arguments(FunctionCallInfo fcinfo, const char *query, Oid caller)
{
	Oid			types[5] = {OIDOID, TEXTOID, TEXTOID, JSONBOID, OIDOID};
	Datum		values[5];
	char		nulls[6] = "     ";
	int			i;

	for (i = 0; i < 4; i++)
	{
		nulls[i] = PG_ARGISNULL(i) ? 'n' : ' ';
		values[i] = PG_ARGISNULL(i) ? (Datum) 0 : PG_GETARG_DATUM(i);
	}
	values[4] = ObjectIdGetDatum(caller);
	psh_sql(SPI_OK_SELECT, query, 5, types, values, nulls);
}

/*
 * create_job(relation regclass, strategy text, key text, options jsonb)
 * returns integer: plan a conversion, record it and have it begun.
 */
Datum
partshift_create_job(PG_FUNCTION_ARGS)
{
	Oid			caller = GetUserId();
	PshUser		saved;
	bool		isnull;
	int			job_id;

	PreventCommandDuringRecovery("partshift.convert()");
	require_table_owner(fcinfo);
	begin_as_extension(&saved);
	call_with_arguments(fcinfo, "SELECT partshift.new_job($1, $2, $3, $4)",
						caller);
	job_id = DatumGetInt32(psh_sql_value(0, 1, &isnull));
	end_as_extension(&saved);
	psh_launch_leader(job_id);
	PG_RETURN_INT32(job_id);
}

/*
 * plan_job(same arguments) returns jsonb: the plan, with its findings.
 */
Datum
partshift_plan_job(PG_FUNCTION_ARGS)
{
	MemoryContext caller = CurrentMemoryContext;
	Oid			user = GetUserId();
	PshUser		saved;
	char	   *plan;

	require_table_owner(fcinfo);
	begin_as_extension(&saved);
	call_with_arguments(fcinfo,
						"SELECT partshift.plan_page($1, $2, $3, $4, $5)", user);
	plan = MemoryContextStrdup(caller, psh_sql_text(0, 1));
	end_as_extension(&saved);
	PG_RETURN_DATUM(DirectFunctionCall1(jsonb_in, CStringGetDatum(plan)));
}

/*
 * query_as(run_as oid, query text) returns text: the first column of the
 * query's first row, read as another role.  Internal: only a superuser can
 * become anybody.
 */
Datum
partshift_query_as(PG_FUNCTION_ARGS)
{
	MemoryContext caller = CurrentMemoryContext;
	char	   *query = text_to_cstring(PG_GETARG_TEXT_PP(1));
	char	   *value = NULL;
	PshUser		saved;

	if (!superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be superuser to read as another role")));
	(void) GetUserNameFromId(PG_GETARG_OID(0), false);
	psh_user_switch(PG_GETARG_OID(0), true, &saved);
	SPI_connect();
	if (SPI_execute(query, true, 1) != SPI_OK_SELECT)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" is not a query", query)));
	if (SPI_processed > 0)
		value = psh_sql_text(0, 1);
	if (value)
		value = MemoryContextStrdup(caller, value);
	SPI_finish();
	psh_user_restore(&saved);
	if (value == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(value));
}

/*
 * Read a job, and raise unless the current user may give orders to it.
 */
PshJob *
psh_funcs_owned_job(int job_id)
{
	MemoryContext caller = CurrentMemoryContext;
	Oid			user = GetUserId();
	PshUser		saved;
	PshJob	   *job;

	begin_as_extension(&saved);
	MemoryContextSwitchTo(caller);
	job = psh_job_load(job_id);
	if (job == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("job %d does not exist", job_id)));
	if (!has_privs_of_role(user, job->owner) &&
		!(get_rel_name(job->relid) && psh_owns_relation(job->relid, user)))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_TABLE, job->table_name);
	end_as_extension(&saved);
	MemoryContextSwitchTo(caller);
	return job;
}

/*
 * Why the legacy table of a job in phase done does not follow the new one;
 * NULL when it does.
 */
char *
psh_funcs_follow_obstacle(int job_id)
{
	MemoryContext caller = CurrentMemoryContext;
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(job_id)};
	char	   *text;
	PshUser		saved;

	begin_as_extension(&saved);
	psh_sql(SPI_OK_SELECT, "SELECT partshift.follow_obstacle(j)"
			" FROM partshift.job AS j WHERE j.job_id = $1",
			1, types, values, NULL);
	text = psh_sql_text(0, 1);
	if (text)
		text = MemoryContextStrdup(caller, text);
	end_as_extension(&saved);
	MemoryContextSwitchTo(caller);
	return text;
}

/*
 * order_job(job integer, what text): pause, resume, abort, swap, rollback,
 * finalize or verify.  What each needs and changes is SQL's affair
 * (partshift.change_job); here is who may, and the worker.
 */
Datum
partshift_order_job(PG_FUNCTION_ARGS)
{
	int			job_id = PG_GETARG_INT32(0);
	Oid			types[2] = {INT4OID, TEXTOID};
	Datum		values[2];
	PshUser		saved;
	bool		isnull;
	bool		launch;

	PreventCommandDuringRecovery("an order to a conversion job");
	(void) psh_funcs_owned_job(job_id);
	values[0] = Int32GetDatum(job_id);
	values[1] = PG_GETARG_DATUM(1);
	begin_as_extension(&saved);
	psh_sql(SPI_OK_SELECT, "SELECT partshift.change_job($1, $2)", 2, types,
			values, NULL);
	launch = DatumGetBool(psh_sql_value(0, 1, &isnull));
	end_as_extension(&saved);
	if (launch)
		psh_launch_leader(job_id);
	PG_RETURN_VOID();
}

/*
 * alter_job(job integer, workers integer, cost_delay double precision,
 * cost_limit integer, swap text): change what is not null.
 */
Datum
partshift_alter_job(PG_FUNCTION_ARGS)
{
	Oid			types[5] = {INT4OID, INT4OID, FLOAT8OID, INT4OID, TEXTOID};
	Datum		values[5];
	char		nulls[6] = "     ";
	PshUser		saved;
	bool		isnull;
	bool		launch;
	int			i;

	PreventCommandDuringRecovery("partshift.alter_job()");
	if (PG_ARGISNULL(0))
		PG_RETURN_VOID();
	(void) psh_funcs_owned_job(PG_GETARG_INT32(0));
	for (i = 0; i < 5; i++)
	{
		nulls[i] = PG_ARGISNULL(i) ? 'n' : ' ';
		values[i] = PG_ARGISNULL(i) ? (Datum) 0 : PG_GETARG_DATUM(i);
	}
	begin_as_extension(&saved);
	psh_sql(SPI_OK_SELECT,
			"SELECT partshift.change_settings($1, $2, $3, $4, $5)",
			5, types, values, nulls);
	psh_sql(SPI_OK_SELECT,
			"SELECT j.status = 'active' AND j.phase = 'ready'"
			" AND j.swap_mode = 'auto'"
			" FROM partshift.job AS j WHERE j.job_id = $1",
			1, types, values, NULL);
	launch = DatumGetBool(psh_sql_value(0, 1, &isnull));
	end_as_extension(&saved);
	/* Nobody works on a job that waited for its operator. */
	if (launch)
		psh_launch_leader(PG_GETARG_INT32(0));
	PG_RETURN_VOID();
}
