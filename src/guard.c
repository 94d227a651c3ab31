/*-------------------------------------------------------------------------
 *
 * guard.c
 *	  Refusing DDL that a conversion could not survive.
 *
 * Event triggers run in the sessions of users.  Our own processes run with
 * session_replication_role = replica, in which they do not fire.
 *
 * - at the end of a command, for what was made or altered;
 * - after a drop, for all that went, by whatever command and cascade;
 * - before a command, for those that commit before their end, and to note that
 *   the extension must not be dropped, since a drop of it takes the event
 *   triggers with it before they could fire; hooks.c looks at the note.
 *
 * The triggers' function is PL/pgSQL (sql/89_event_triggers.sql) and calls
 * the one here only if the library can be loaded: if it is gone, commands
 * pass, the one that drops the extension among them.
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
#include "commands/extension.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "ddl.h"
#include "guard.h"
#include "restored.h"
#include "sql.h"

PG_FUNCTION_INFO_V1(partshift_is_loaded);
PG_FUNCTION_INFO_V1(partshift_check_command);

/* What a search for conflicts yields, by column. */
enum
{
	CONFLICT_JOB = 1,			/* integer */
	CONFLICT_RELATION,			/* text: schema.name */
	CONFLICT_IS_DROP,			/* boolean: all of the relation is gone */
	CONFLICT_IS_DIRECT,			/* boolean: it, and not what it refers to */
	CONFLICT_HINT				/* text */
};

/* The extension, which a transaction's present command must not drop. */
static struct
{
	LocalTransactionId transaction;
	Oid			extension;
	int			job;
	char		table[2 * NAMEDATALEN];
}			protected;

/*
 * Whether there is any live job.  The index has only those; the scan sees
 * what is committed now, whatever the transaction's snapshot.  A command that
 * took the name from the table is an error.
 */
static bool
any_live_job(bool missing_ok)
{
	Oid			schema = get_namespace_oid("partshift", true);
	Oid			table = get_relname_relid("job", schema);
	Oid			index = get_relname_relid("job_relid_key", schema);
	Relation	rel;
	SysScanDesc scan;
	bool		found;

	if (!OidIsValid(table) || !OidIsValid(index))
	{
		if (!missing_ok)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_TABLE),
					 errmsg("table \"%s\" or its index is missing",
							"partshift.job")));
		return false;
	}
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

static bool
search_once(SPIPlanPtr plan, Datum *values, const char *query)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());

	if (SPI_execute_snapshot(plan, values, NULL, snapshot, InvalidSnapshot,
							 true, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not run query: %s", query);
	UnregisterSnapshot(snapshot);
	return SPI_processed > 0;
}

/*
 * Run a query that yields a conflict; whether there is one.  What deparses
 * definitions reads the catalogs as they are now, the query itself as they
 * were in its snapshot: a swap that is committed in between looks like a
 * change.  So what was found is looked for once more.
 */
static bool
search(const char *query, int nargs, Oid *types, Datum *values)
{
	SPIPlanPtr	plan = SPI_prepare(query, nargs, types);
	int			looks;

	if (plan == NULL)
		elog(ERROR, "could not prepare query: %s", query);
	for (looks = 0; looks < 2; looks++)
		if (!search_once(plan, values, query))
			return false;
	return true;
}

/* Refuse the command for the conflict that search() has found. */
static void
refuse(const char *tag)
{
	bool		isnull;
	int			job = DatumGetInt32(psh_sql_value(0, CONFLICT_JOB, &isnull));
	bool		drop = DatumGetBool(psh_sql_value(0, CONFLICT_IS_DROP, &isnull));
	bool		direct = DatumGetBool(psh_sql_value(0, CONFLICT_IS_DIRECT,
													&isnull));
	char	   *relation = psh_sql_text(0, CONFLICT_RELATION);

	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_IN_USE),
			 drop ?
			 errmsg("cannot drop table \"%s\" while conversion job %d is in progress",
					relation, job) :
			 errmsg("cannot alter table \"%s\" while conversion job %d is in progress",
					relation, job),
			 direct ?
			 errdetail("The command was %s.", tag) :
			 errdetail("%s would change what the table refers to, or what refers to it.",
					   tag),
			 errhint("%s", psh_sql_text(0, CONFLICT_HINT))));
}

static void
refuse_for_extension(const char *verb, int job, const char *table)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_IN_USE),
			 errmsg("cannot %s extension \"%s\" while conversion job %d is in progress",
					verb, "partshift", job),
			 errdetail("It converts table \"%s\".", table),
			 errhint("Abort the job before its swap, or finalize it after the swap.")));
}

/*
 * Refuse the command if it touches a job's objects or, when it has been done,
 * what they refer to.  Some commands do not tell all they touch.
 */
static void
refuse_if_guarded(const PshTouched *touched, const char *tag, bool done)
{
	Oid			types[3] = {OIDARRAYOID, OIDARRAYOID, TEXTOID};
	Datum		values[3];
	bool		isnull;

	values[0] = PointerGetDatum(construct_array(touched->classes, touched->n,
												OIDOID, sizeof(Oid), true,
												TYPALIGN_INT));
	values[1] = PointerGetDatum(construct_array(touched->objects, touched->n,
												OIDOID, sizeof(Oid), true,
												TYPALIGN_INT));
	values[2] = CStringGetTextDatum(tag);
	if (done &&
		search("SELECT * FROM partshift.guarded_extension($1, $2, $3)",
			   3, types, values))
		refuse_for_extension("alter", DatumGetInt32(psh_sql_value(0, 1, &isnull)),
							 psh_sql_text(0, 2));
	if (search("SELECT * FROM partshift.guarded_object($1, $2, $3)",
			   3, types, values) ||
		(done &&
		 search("SELECT * FROM partshift.guarded_definition($1, $2, $3)",
				3, types, values)))
		refuse(tag);
}

/*
 * Refuse to drop the extension by its name: the server would say that CASCADE
 * is missing.  What drops it otherwise is not known before it is done, so note
 * what psh_guard_check_drop() is to refuse.
 */
static void
protect_extension(Oid user)
{
	bool		isnull;

	if (!search("SELECT job_id, table_name FROM partshift.live_job()",
				0, NULL, NULL))
		return;
	protected.transaction = psh_local_transaction();
	protected.extension = get_extension_oid("partshift", true);
	protected.job = DatumGetInt32(psh_sql_value(0, 1, &isnull));
	strlcpy(protected.table, psh_sql_text(0, 2), sizeof(protected.table));
	if (psh_ddl_drops_extension() &&
		has_privs_of_role(user, psh_extension_owner()))
		refuse_for_extension("drop", protected.job, protected.table);
}

/*
 * Refuse to drop an extension if it is ours and the command that does it was
 * found to begin while a job was live.  When it comes to the extension itself,
 * its tables may be gone already.
 */
void
psh_guard_check_drop(Oid extension)
{
	if (extension == protected.extension &&
		psh_local_transaction() == protected.transaction)
		refuse_for_extension("drop", protected.job, protected.table);
}

/*
 * Refuse to give away all that some roles own if a live job's table is among
 * it.  Who may not do it anyway is told so by the server.
 */
void
psh_guard_check_reassign(List *roles)
{
	Oid			types[1] = {OIDARRAYOID};
	Datum		values[1];
	Datum	   *owners = palloc(sizeof(Datum) * list_length(roles));
	ListCell   *cell;
	PshUser		saved;
	int			n = 0;

	foreach(cell, roles)
	{
		Oid			role = get_rolespec_oid(lfirst_node(RoleSpec, cell), true);

		if (OidIsValid(role) && has_privs_of_role(GetUserId(), role))
			owners[n++] = ObjectIdGetDatum(role);
	}
	if (n == 0 || !any_live_job(true) || !begin_search(&saved))
		return;
	values[0] = PointerGetDatum(construct_array(owners, n, OIDOID, sizeof(Oid),
												true, TYPALIGN_INT));
	if (search("SELECT * FROM partshift.guarded_owner($1)", 1, types, values))
		refuse("REASSIGN OWNED");
	end_search(&saved);
}

/*
 * Called for the sake of an error if it cannot be.
 */
Datum
partshift_is_loaded(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(true);
}

static void
check_start(const char *tag)
{
	PshTouched	touched = {0};
	bool		drop = strncmp(tag, "DROP ", 5) == 0;
	PshUser		saved;

	protected.extension = InvalidOid;
	psh_ddl_read_concurrent(&touched);
	if ((!drop && touched.n == 0) || !any_live_job(true) || !begin_search(&saved))
		return;
	if (drop)
		protect_extension(saved.userid);
	if (touched.n > 0)
		refuse_if_guarded(&touched, tag, false);
	end_search(&saved);
}

static void
check_end(const char *tag)
{
	PshTouched	touched = {0};
	PshUser		saved;

	if (any_live_job(false) && begin_search(&saved))
	{
		psh_ddl_read_done(&touched);
		refuse_if_guarded(&touched, tag, true);
		end_search(&saved);
	}
	if (strcmp(tag, "ALTER TABLE") == 0)
		psh_restored_discard();
}

static void
check_drop(const char *tag)
{
	PshUser		saved;

	if (any_live_job(false) && begin_search(&saved))
	{
		if (search("SELECT * FROM partshift.guarded_drop()", 0, NULL, NULL))
			refuse(tag);
		end_search(&saved);
	}
}

/*
 * Look at a command, for the event trigger of the given event.  Everybody may
 * call it: it changes nothing that the caller could not, and outside of an
 * event trigger the server's functions that tell of a command raise an error.
 */
Datum
partshift_check_command(PG_FUNCTION_ARGS)
{
	const char *event = text_to_cstring(PG_GETARG_TEXT_PP(0));
	const char *tag = text_to_cstring(PG_GETARG_TEXT_PP(1));

	if (strcmp(event, "ddl_command_start") == 0)
		check_start(tag);
	else if (strcmp(event, "ddl_command_end") == 0)
		check_end(tag);
	else if (strcmp(event, "sql_drop") == 0)
		check_drop(tag);
	else
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unrecognized event: \"%s\"", event)));
	PG_RETURN_VOID();
}
