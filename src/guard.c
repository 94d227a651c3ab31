/*-------------------------------------------------------------------------
 *
 * guard.c
 *	  Refusing DDL that a conversion could not survive.
 *
 * Three event triggers run in the sessions of users.  Our own processes run
 * with session_replication_role = replica, in which they do not fire.
 *
 * - at the end of a command, for what was made or altered;
 * - after a drop, for all that went, by whatever command and cascade;
 * - before a command, for what can no longer be undone at its end: commands
 *   that commit in between, and the drop of the extension, which takes the
 *   other two triggers with it before they could fire.
 *
 * Which object belongs to which job is found by SQL (sql/88_guard.sql).
 *
 * While no job lives, that is one look at an index that is empty.  Both the
 * look and the search use a snapshot of their own, since the transaction's may
 * be older than the job.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/event_trigger.h"
#include "executor/spi.h"
#include "tcop/cmdtag.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "ddl.h"
#include "sql.h"

PG_FUNCTION_INFO_V1(partshift_guard_start);
PG_FUNCTION_INFO_V1(partshift_guard_end);
PG_FUNCTION_INFO_V1(partshift_guard_drop);

/* What a search for conflicts yields, by column. */
enum
{
	CONFLICT_JOB = 1,			/* integer */
	CONFLICT_RELATION,			/* text: schema.name */
	CONFLICT_IS_DROP,			/* boolean: all of the relation is gone */
	CONFLICT_IS_DIRECT,			/* boolean: it, and not what it refers to */
	CONFLICT_HINT				/* text */
};

static EventTriggerData *
event_of(FunctionCallInfo fcinfo)
{
	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function was not called by the event trigger manager")));
	return (EventTriggerData *) fcinfo->context;
}

/*
 * Whether there is any live job.  The index has only those; the scan sees
 * what is committed now, whatever the transaction's snapshot.
 */
static bool
any_live_job(void)
{
	Oid			schema = get_namespace_oid("partshift", true);
	Oid			table = get_relname_relid("job", schema);
	Oid			index = get_relname_relid("job_relid_key", schema);
	Relation	rel;
	SysScanDesc scan;
	bool		found;

	if (!OidIsValid(table) || !OidIsValid(index))
		return false;
	rel = table_open(table, AccessShareLock);
	scan = systable_beginscan(rel, index, true, NULL, 0, NULL);
	found = HeapTupleIsValid(systable_getnext(scan));
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

/* Become the extension's owner with SPI connected; false: not installed. */
static bool
begin_search(PshUser *saved)
{
	Oid			owner = psh_extension_owner();

	if (!OidIsValid(owner))
		return false;
	psh_user_switch(owner, false, saved);
	SPI_connect();
	return true;
}

static void
end_search(const PshUser *saved)
{
	SPI_finish();
	psh_user_restore(saved);
}

/* Run a query that yields a conflict; whether there is one. */
static bool
search(const char *query, int nargs, Oid *types, Datum *values)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	SPIPlanPtr	plan = SPI_prepare(query, nargs, types);

	if (plan == NULL ||
		SPI_execute_snapshot(plan, values, NULL, snapshot, InvalidSnapshot,
							 true, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not run query: %s", query);
	UnregisterSnapshot(snapshot);
	return SPI_processed > 0;
}

/* Refuse the command for the conflict that search() has found. */
static void
refuse(CommandTag tag)
{
	bool		isnull;
	int			job = DatumGetInt32(psh_sql_value(0, CONFLICT_JOB, &isnull));
	bool		drop = DatumGetBool(psh_sql_value(0, CONFLICT_IS_DROP, &isnull));
	bool		direct = DatumGetBool(psh_sql_value(0, CONFLICT_IS_DIRECT,
													&isnull));
	char	   *relation = psh_sql_text(0, CONFLICT_RELATION);
	const char *command = GetCommandTagName(tag);

	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_IN_USE),
			 drop ?
			 errmsg("cannot drop table \"%s\" while conversion job %d is in progress",
					relation, job) :
			 errmsg("cannot alter table \"%s\" while conversion job %d is in progress",
					relation, job),
			 direct ?
			 errdetail("The command was %s.", command) :
			 errdetail("%s would change what the table refers to, or what refers to it.",
					   command),
			 errhint("%s", psh_sql_text(0, CONFLICT_HINT))));
}

/*
 * Refuse the command if it touches a job's objects or, when it has been done,
 * what they refer to.  Some commands do not tell all they touch.
 */
static void
refuse_if_guarded(const PshTouched *touched, CommandTag tag, bool done)
{
	Oid			types[3] = {OIDARRAYOID, OIDARRAYOID, TEXTOID};
	Datum		values[3];

	values[0] = PointerGetDatum(construct_array(touched->classes, touched->n,
												OIDOID, sizeof(Oid), true,
												TYPALIGN_INT));
	values[1] = PointerGetDatum(construct_array(touched->objects, touched->n,
												OIDOID, sizeof(Oid), true,
												TYPALIGN_INT));
	values[2] = CStringGetTextDatum(GetCommandTagName(tag));
	if (search("SELECT * FROM partshift.guarded_object($1, $2)",
			   2, types, values) ||
		(done &&
		 search("SELECT * FROM partshift.guarded_definition($1, $2, $3)",
				3, types, values)))
		refuse(tag);
}

/*
 * Event trigger of ddl_command_end.
 */
Datum
partshift_guard_end(PG_FUNCTION_ARGS)
{
	EventTriggerData *event = event_of(fcinfo);
	PshTouched		touched = {0};
	PshUser		saved;

	if (any_live_job() && begin_search(&saved))
	{
		psh_ddl_read_done(&touched);
		refuse_if_guarded(&touched, event->tag, true);
		end_search(&saved);
	}
	PG_RETURN_NULL();
}

/*
 * Event trigger of sql_drop.
 */
Datum
partshift_guard_drop(PG_FUNCTION_ARGS)
{
	EventTriggerData *event = event_of(fcinfo);
	PshUser		saved;

	if (any_live_job() && begin_search(&saved))
	{
		if (search("SELECT * FROM partshift.guarded_drop()", 0, NULL, NULL))
			refuse(event->tag);
		end_search(&saved);
	}
	PG_RETURN_NULL();
}

static void
refuse_extension_drop(void)
{
	if (!search("SELECT job_id, table_name FROM partshift.live_job()",
				0, NULL, NULL))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_IN_USE),
			 errmsg("cannot drop extension \"%s\" while conversion job %s is in progress",
					"partshift", psh_sql_text(0, 1)),
			 errdetail("It converts table \"%s\".", psh_sql_text(0, 2)),
			 errhint("Abort the job before its swap, or finalize it after the swap.")));
}

/*
 * Event trigger of ddl_command_start.
 */
Datum
partshift_guard_start(PG_FUNCTION_ARGS)
{
	EventTriggerData *event = event_of(fcinfo);
	PshTouched		touched = {0};
	bool		drop = psh_ddl_drops_extension(event->parsetree);
	PshUser		saved;

	if (!drop)
		psh_ddl_read_concurrent(event->parsetree, &touched);
	if ((drop || touched.n > 0) && any_live_job() && begin_search(&saved))
	{
		if (drop)
			refuse_extension_drop();
		else
			refuse_if_guarded(&touched, event->tag, false);
		end_search(&saved);
	}
	PG_RETURN_NULL();
}
