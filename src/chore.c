/*-------------------------------------------------------------------------
 *
 * chore.c
 *	  The things that maintenance does to a table.
 *
 * Each is one short transaction, or a statement that has transactions of its
 * own, and can be tried again from its beginning.  Locks come in the order of
 * the server's own statements: the table, then DEFAULT, then others.  Once
 * there is one that readers feel, the rest must be done within LONGEST_HOLD:
 * an index of the owner's on many rows, or a DEFAULT that takes long to be
 * read, ends in an error and not in an outage.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timeout.h"

#include "chore.h"
#include "labels.h"
#include "move.h"
#include "privileges.h"
#include "sql.h"
#include "vacuum.h"

#define LONGEST_HOLD 5000		/* milliseconds */
#define DETACH_PATIENCE 30000	/* milliseconds, while nobody is held up */

/*
 * Record what was done, or not done.  Within a transaction.
 */
void
psh_chore_log(const PshManaged *table, const char *action, const char *object,
			  const char *status, int64 rows, const char *sqlstate,
			  const char *detail)
{
	Oid			types[10] = {INT8OID, OIDOID, OIDOID, TEXTOID, TEXTOID,
	TEXTOID, TEXTOID, INT8OID, TEXTOID, TEXTOID};
	Datum		values[10] = {0};
	char		nulls[11] = "          ";
	const char *texts[10] = {NULL};
	int			i;

	texts[3] = table->name;
	texts[4] = action;
	texts[5] = object;
	texts[6] = status;
	texts[8] = sqlstate;
	texts[9] = detail;
	values[0] = Int64GetDatum(table->run);
	values[1] = ObjectIdGetDatum(table->relid);
	nulls[1] = OidIsValid(table->relid) ? ' ' : 'n';
	values[2] = ObjectIdGetDatum(table->owner);
	values[7] = Int64GetDatum(rows);
	nulls[7] = rows < 0 ? 'n' : ' ';
	for (i = 3; i < 10; i++)
	{
		if (i == 7)
			continue;
		nulls[i] = texts[i] ? ' ' : 'n';
		if (texts[i])
			values[i] = CStringGetTextDatum(texts[i]);
	}
	psh_sql(SPI_OK_SELECT,
			"SELECT partshift.log_chore($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
			10, types, values, nulls);
}

/* The OID that a query about the table yields, or InvalidOid. */
static Oid
ask_oid(const char *query, int nargs, Oid *types, Datum *values)
{
	bool		isnull = true;
	Datum		value = (Datum) 0;

	if (psh_sql(SPI_OK_SELECT, query, nargs, types, values, NULL) > 0)
		value = psh_sql_value(0, 1, &isnull);
	return isnull ? InvalidOid : DatumGetObjectId(value);
}

static Oid
find_sibling(Oid relid)
{
	Oid			types[1] = {OIDOID};
	Datum		values[1] = {ObjectIdGetDatum(relid)};

	return ask_oid("SELECT partshift.sibling(m.relid,"
				   " (partshift.key_of(m.relid, m.key_column, '{}')).type)"
				   " FROM partshift.managed AS m WHERE m.relid = $1",
				   1, types, values);
}

/* Make the table that is to be attached, in the schema of its parent. */
static Oid
make_table(const PshManaged *table, const PshChore *chore)
{
	Oid			types[2] = {OIDOID, TEXTOID};
	Datum		values[2];
	Oid			leaf;

	values[0] = ObjectIdGetDatum(table->relid);
	values[1] = CStringGetTextDatum(chore->object);
	psh_sql_run_list("SELECT run_as, command"
					 " FROM partshift.create_leaf_commands($1, $2)",
					 2, types, values);
	leaf = get_relname_relid(chore->object, get_rel_namespace(table->relid));
	if (!OidIsValid(leaf))
		elog(ERROR, "table \"%s\" was not created", chore->object);
	return leaf;
}

static void
attach_table(const PshManaged *table, const PshChore *chore, Oid leaf,
			 Oid sibling)
{
	Oid			types[4] = {OIDOID, TEXTOID, TEXTOID, TEXTOID};
	Oid			finish_types[3] = {OIDOID, OIDOID, OIDOID};
	Oid			check_types[3] = {OIDOID, OIDOID, TEXTOID};
	Datum		values[4];

	values[0] = ObjectIdGetDatum(table->relid);
	values[1] = CStringGetTextDatum(chore->object);
	values[2] = CStringGetTextDatum(chore->lower);
	values[3] = CStringGetTextDatum(chore->upper);
	psh_sql_run_list("SELECT run_as, command"
					 " FROM partshift.attach_leaf_command($1, $2, $3, $4)",
					 4, types, values);

	values[1] = ObjectIdGetDatum(leaf);
	values[2] = CStringGetTextDatum(chore->object);
	psh_sql(SPI_OK_SELECT, "SELECT partshift.check_new_leaf($1, $2, $3)",
			3, check_types, values, NULL);
	values[1] = ObjectIdGetDatum(sibling);
	values[2] = ObjectIdGetDatum(leaf);
	psh_sql_run_list("SELECT run_as, command"
					 " FROM partshift.finish_leaf_commands($1, $2, $3)",
					 3, finish_types, values);
}

static Oid
owner_of(Oid relid)
{
	Oid			types[1] = {OIDOID};
	Datum		values[1] = {ObjectIdGetDatum(relid)};

	return ask_oid("SELECT c.relowner FROM pg_class AS c WHERE c.oid = $1",
				   1, types, values);
}

/*
 * Lock the table, and its DEFAULT partition if it has one, which is returned.
 *
 * Then writers have to be kept from the table as a whole.  Who has decided
 * that a row goes to DEFAULT, and waits for that, would find that it no longer
 * takes the row, and fail.  Who waits for the table has yet to decide.
 */
static Oid
lock_for_attach(const PshManaged *table)
{
	Oid			other = get_default_partition_oid(table->relid);

	if (!OidIsValid(other))
	{
		LockRelationOid(table->relid, ShareUpdateExclusiveLock);
		if (OidIsValid(get_default_partition_oid(table->relid)))
			ereport(ERROR,
					(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					 errmsg("table \"%s\" has a new DEFAULT partition",
							table->name)));
		return InvalidOid;
	}
	LockRelationOid(table->relid, ShareRowExclusiveLock);
	if (get_default_partition_oid(table->relid) != other)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("table \"%s\" has another DEFAULT partition",
						table->name)));
	LockRelationOid(other, AccessExclusiveLock);
	return other;
}

/*
 * Make a partition, with the rows of DEFAULT that belong to it.
 */
void
psh_chore_create(PshManaged *table, PshChore *chore)
{
	Oid			sibling;
	Oid			other;
	Oid			leaf;
	int64		moved = 0;

	psh_txn_begin("creating a partition");
	LockRelationOid(table->relid, AccessShareLock);
	sibling = find_sibling(table->relid);
	leaf = make_table(table, chore);
	if (OidIsValid(sibling) && owner_of(sibling) == owner_of(leaf))
	{
		psh_privileges_copy(sibling, leaf);
		psh_labels_copy(sibling, leaf);
	}
	other = lock_for_attach(table);
	enable_timeout_after(STATEMENT_TIMEOUT, LONGEST_HOLD);
	if (OidIsValid(other) && get_rel_relkind(other) == RELKIND_RELATION)
		moved = psh_move_rows(other, leaf, table->column, chore->lower,
							  chore->upper, table->move_rows);
	attach_table(table, chore, leaf, sibling);
	psh_chore_log(table, chore->action, chore->object, "done", moved, NULL,
				  psprintf("from %s to %s", chore->lower, chore->upper));
	disable_timeout(STATEMENT_TIMEOUT, false);
	psh_txn_commit();
}

/* The statement that detaches a partition, and as whom to run it. */
static char *
detach_command(const PshManaged *table, const PshChore *chore,
			   const char *way, Oid *run_as)
{
	Oid			types[3] = {OIDOID, OIDOID, TEXTOID};
	Datum		values[3];
	bool		isnull;
	Datum		user;

	values[0] = ObjectIdGetDatum(table->relid);
	values[1] = ObjectIdGetDatum(chore->leaf);
	values[2] = CStringGetTextDatum(way);
	if (psh_sql(SPI_OK_SELECT,
				"SELECT run_as, command"
				" FROM partshift.detach_command($1, $2, $3)",
				3, types, values, NULL) == 0)
		return NULL;
	user = psh_sql_value(0, 1, &isnull);
	*run_as = isnull ? InvalidOid : DatumGetObjectId(user);
	return psh_sql_text(0, 2);
}

static char *
detach_way(Oid relid)
{
	Oid			types[1] = {OIDOID};
	Datum		values[1] = {ObjectIdGetDatum(relid)};

	psh_sql(SPI_OK_SELECT, "SELECT partshift.detach_way($1)", 1, types,
			values, NULL);
	return psh_sql_text(0, 1);
}

static void
note_retirement(const PshManaged *table, const PshChore *chore)
{
	Oid			types[2] = {OIDOID, OIDOID};
	Datum		values[2];

	values[0] = ObjectIdGetDatum(table->relid);
	values[1] = ObjectIdGetDatum(chore->leaf);
	psh_sql(SPI_OK_SELECT, "SELECT partshift.retire($1, $2)", 2, types,
			values, NULL);
}

/*
 * A job may have begun since the list was made.  Its row is not locked: it
 * takes a lock on the table before it relies on the partitions.
 */
static bool
rollback_promised(Oid relid)
{
	Oid			types[1] = {OIDOID};
	Datum		values[1] = {ObjectIdGetDatum(relid)};
	bool		isnull;

	psh_sql(SPI_OK_SELECT, "SELECT partshift.promised_rollback($1)", 1, types,
			values, NULL);
	(void) psh_sql_value(0, 1, &isnull);
	return !isnull;
}

/*
 * Detach a partition.  What is to become of it is noted in the transaction
 * that detaches it, or before a statement that has transactions of its own.
 * That is not tried twice: what it has begun ends only when others have.  One
 * that somebody else began to detach is not ours to drop.
 */
void
psh_chore_detach(PshManaged *table, PshChore *chore)
{
	MemoryContext keep = CurrentMemoryContext;
	Oid			run_as = InvalidOid;
	char	   *command;
	char	   *way;
	bool		alone;

	if (chore->begun)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("transactions still use the table")));
	psh_txn_begin("detaching a partition");
	way = detach_way(table->relid);
	alone = !chore->pending && strcmp(way, "concurrently") == 0;
	if (rollback_promised(table->relid) && !chore->pending)
	{
		psh_txn_commit();
		return;
	}
	if (!alone)
	{
		Oid			other = get_default_partition_oid(table->relid);

		LockRelationOid(table->relid, chore->pending ?
						ShareUpdateExclusiveLock : AccessExclusiveLock);
		enable_timeout_after(STATEMENT_TIMEOUT, LONGEST_HOLD);
		if (OidIsValid(other))
			LockRelationOid(other, AccessExclusiveLock);
	}
	command = detach_command(table, chore, way, &run_as);
	if (command && !chore->pending)
		note_retirement(table, chore);
	if (command && !alone)
		psh_sql_run(run_as, command);
	if (command)
		command = MemoryContextStrdup(keep, command);
	if (!alone)
		disable_timeout(STATEMENT_TIMEOUT, false);
	if (!alone && command)
		psh_chore_log(table, chore->action, chore->object, "done", -1, NULL,
					  NULL);
	psh_txn_commit();
	MemoryContextSwitchTo(keep);

	if (alone && command)
	{
		chore->begun = true;
		psh_sql_run_alone(command, DETACH_PATIENCE);
		psh_txn_begin("detaching a partition");
		psh_chore_log(table, chore->action, chore->object, "done", -1, NULL,
					  "concurrently");
		psh_txn_commit();
	}
	MemoryContextSwitchTo(keep);
}

/*
 * Drop or move a partition that has been detached, if it still is the table
 * that it was.
 */
void
psh_chore_retire(PshManaged *table, PshChore *chore)
{
	Oid			types[1] = {OIDOID};
	Datum		values[1] = {ObjectIdGetDatum(chore->leaf)};
	bool		isnull;
	char	   *action = NULL;

	psh_txn_begin("retiring a partition");
	LockRelationOid(chore->leaf, AccessExclusiveLock);
	if (psh_sql(SPI_OK_SELECT,
				"SELECT t.action FROM partshift.retired AS t"
				" WHERE t.leaf = $1 AND NOT EXISTS"
				" (SELECT FROM pg_inherits AS i WHERE i.inhrelid = t.leaf)",
				1, types, values, NULL) > 0)
	{
		(void) psh_sql_value(0, 1, &isnull);
		action = psh_sql_text(0, 1);
	}
	if (action)
	{
		bool		same = psh_sql_run_list("SELECT run_as, command"
											" FROM partshift.retired_command($1)",
											1, types, values) > 0;

		psh_sql(SPI_OK_DELETE, "DELETE FROM partshift.retired WHERE leaf = $1",
				1, types, values, NULL);
		if (same)
			psh_chore_log(table, action, chore->object, "done", -1, NULL, NULL);
		else if (strcmp(action, "detach") != 0)
			psh_chore_log(table, action, chore->object, "failed", -1, "55000",
						  "It is no longer the table that was detached, and was left alone.");
	}
	psh_txn_commit();
}

/*
 * Drop a backup, if under the lock it still may be dropped.
 */
void
psh_chore_drop_backup(PshManaged *table, PshChore *chore)
{
	Oid			types[1] = {OIDOID};
	Datum		values[1] = {ObjectIdGetDatum(table->relid)};

	psh_txn_begin("dropping a backup");
	LockRelationOid(table->relid, AccessExclusiveLock);
	if (psh_sql_run_list("SELECT run_as, command"
						 " FROM partshift.drop_backup_command($1)",
						 1, types, values) > 0)
	{
		psh_sql(SPI_OK_UPDATE,
				"UPDATE partshift.backup SET dropped_at = clock_timestamp()"
				" WHERE relid = $1", 1, types, values, NULL);
		psh_chore_log(table, chore->action, NULL, "done", -1, NULL, NULL);
	}
	psh_txn_commit();
}

/*
 * Gather statistics of the table as a whole, which autovacuum does not do.
 */
void
psh_chore_analyze(PshManaged *table, PshChore *chore)
{
	MemoryContext keep = CurrentMemoryContext;

	psh_vacuum_analyze(table->relid);
	psh_txn_begin("analyzing a partitioned table");
	psh_chore_log(table, chore->action, chore->object, "done", -1, NULL, NULL);
	psh_txn_commit();
	MemoryContextSwitchTo(keep);
}
