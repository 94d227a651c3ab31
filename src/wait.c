/*-------------------------------------------------------------------------
 *
 * wait.c
 *	  CALL partshift.wait(job): report progress until a job needs nobody.
 *
 * The swap waits for every snapshot that is older than the last reconcile
 * transaction, so that whoever waits for the swap must not hold one.  The
 * procedure looks in a transaction that it commits before it sleeps; it
 * therefore cannot be called in a transaction block.
 *
 * A line is printed when the job enters another state or its bar grows, and
 * every so often when it does not.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "sql.h"

#define POLL_MS 500
#define LINE_MS 10000			/* until a line is repeated with new numbers */

PG_FUNCTION_INFO_V1(partshift_wait);

/* What one look at the job found, in the caller's memory. */
typedef struct Look
{
	bool		over;
	char	   *report;			/* for people */
	char	   *mark;			/* what of it is news */
	char	   *sqlstate;		/* of the job's error, or NULL */
	char	   *message;
	char	   *hint;
} Look;

static char *
keep(MemoryContext context, int column)
{
	char	   *text = psh_sql_text(0, column);

	return text ? MemoryContextStrdup(context, text) : NULL;
}

static void
look_at(int job_id, MemoryContext context, Look *look)
{
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(job_id)};
	bool		isnull;

	if (psh_sql(SPI_OK_SELECT,
				"SELECT w.is_over, w.report, w.mark, w.sqlstate, w.message,"
				" w.hint"
				" FROM partshift.watch($1) AS w",
				1, types, values, NULL) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("job %d does not exist", job_id)));
	look->over = DatumGetBool(psh_sql_value(0, 1, &isnull));
	look->report = keep(context, 2);
	look->mark = keep(context, 3);
	look->sqlstate = keep(context, 4);
	look->message = keep(context, 5);
	look->hint = keep(context, 6);
}

/* Print the report if it is news, or the last line is old. */
static void
print_look(const Look *look, char **last, TimestampTz *printed)
{
	TimestampTz now = GetCurrentTimestamp();

	if (*last == NULL || strcmp(*last, look->mark) != 0 ||
		TimestampDifferenceExceeds(*printed, now, LINE_MS))
	{
		ereport(NOTICE, (errmsg_internal("%s", look->report)));
		*printed = now;
	}
	*last = look->mark;
}

static void
sleep_a_while(void)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 POLL_MS, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

static void
raise_failure(int job_id, const Look *look)
{
	ereport(ERROR,
			(errcode(MAKE_SQLSTATE(look->sqlstate[0], look->sqlstate[1],
								   look->sqlstate[2], look->sqlstate[3],
								   look->sqlstate[4])),
			 errmsg("job %d failed: %s", job_id, look->message),
			 look->hint ? errhint("%s", look->hint) :
			 errhint("Mend the cause and call partshift.resume(%d), or partshift.abort(%d).",
					 job_id, job_id)));
}

/*
 * wait(job integer): returns when the job is done, ready for a manual swap,
 * paused or ended; raises the job's error when it failed.
 */
Datum
partshift_wait(PG_FUNCTION_ARGS)
{
	CallContext *call = (CallContext *) fcinfo->context;
	MemoryContext context = AllocSetContextCreate(TopMemoryContext,
												  "partshift wait",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext caller = CurrentMemoryContext;
	char	   *last = NULL;
	TimestampTz printed = 0;
	int			job_id;
	Look		look;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("job must not be null")));
	job_id = PG_GETARG_INT32(0);
	if (call == NULL || !IsA(call, CallContext) || call->atomic)
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("partshift.wait cannot run inside a transaction block"),
				 errdetail("A snapshot held while waiting would keep the swap from happening.")));

	SPI_connect_ext(SPI_OPT_NONATOMIC);
	for (;;)
	{
		look_at(job_id, context, &look);
		print_look(&look, &last, &printed);
		if (look.over)
			break;
		SPI_commit();
		sleep_a_while();
	}
	SPI_finish();
	if (look.sqlstate)
		raise_failure(job_id, &look);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
	PG_RETURN_VOID();
}
