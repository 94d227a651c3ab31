/*-------------------------------------------------------------------------
 *
 * neighbours.c
 *	  The tables that a swap or an abort changes, and locking them.
 *
 * Dropping and renaming foreign keys locks the tables at both ends, ACCESS
 * EXCLUSIVE.  Left to the statements, those locks would be taken in their
 * order, some by upgrading a weaker one.  So all are taken beforehand, and the
 * list is made before the first is asked for.  The same goes for the two
 * tables of a foreign key that is added.
 *
 * The order is that of OIDs at first, and for a new foreign key the table
 * referred to comes first.  No fixed order suits every application:
 * one whose transactions all write table A and then B meets a swap that has
 * locked B and waits for A in a deadlock, every time.  So the table for which
 * a try waited in vain is the first of the next try.  Then nothing is held
 * while its users finish, and those that come after wait without holding
 * anything else of what they would have written later.
 *
 * From the first lock on, the whole try has partshift.lock_timeout, not each
 * table: that long at most others wait for what we hold.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "neighbours.h"
#include "sql.h"

PG_FUNCTION_INFO_V1(partshift_lock_together);

/*
 * OIDs of the job's tables and of what foreign keys join to them, sorted.
 * Without of_source the neighbours of the source alone are left out.
 */
List *
psh_neighbours_list(int job_id, bool of_source)
{
	Oid			types[2] = {INT4OID, BOOLOID};
	Datum		values[2];
	List	   *relations = NIL;
	int			n;
	int			i;

	values[0] = Int32GetDatum(job_id);
	values[1] = BoolGetDatum(of_source);
	n = (int) psh_sql(SPI_OK_SELECT,
					  "SELECT r FROM partshift.swap_relations($1, $2)"
					  " WITH ORDINALITY AS s (r, n) ORDER BY s.n",
					  2, types, values, NULL);
	for (i = 0; i < n; i++)
	{
		bool		isnull;

		relations = lappend_oid(relations,
								DatumGetObjectId(psh_sql_value(i, 1, &isnull)));
	}
	return relations;
}

/* The table for which the last try waited in vain, or InvalidOid. */
static Oid	stubborn = InvalidOid;

/* Leave the next lock what the try has left of its time. */
static void
shorten_timeout(instr_time since, int limit)
{
	instr_time	now;
	double		left;
	char		setting[32];

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, since);
	left = limit - INSTR_TIME_GET_MILLISEC(now);
	snprintf(setting, sizeof(setting), "%d", Max((int) left, 1));
	(void) set_config_option("lock_timeout", setting, PGC_SUSET,
							 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
}

/*
 * Lock a table, or a partition, with which `table` is to be the first of the
 * next try if this one waits in vain.
 */
static void
lock_part(Oid relid, Oid table, LOCKMODE lockmode, instr_time *since, int limit)
{
	Oid			first = stubborn;

	if (!INSTR_TIME_IS_ZERO(*since))
		shorten_timeout(*since, limit);
	stubborn = table;
	LockRelationOid(relid, lockmode);
	stubborn = first;
	if (INSTR_TIME_IS_ZERO(*since))
		INSTR_TIME_SET_CURRENT(*since);
}

/*
 * Lock a table, as one of several that are locked together: `since` is zero
 * before the first, and becomes the time at which that was granted; the others
 * have what is left of `limit` milliseconds then.
 */
void
psh_neighbours_lock_one(Oid relid, LOCKMODE lockmode, instr_time *since,
						int limit)
{
	lock_part(relid, relid, lockmode, since, limit);
}

/* Lock a table and then its partitions, which its writers do in that order. */
static void
lock_tree(Oid relid, bool exclusive, instr_time *since, int limit)
{
	LOCKMODE	lockmode = exclusive ? AccessExclusiveLock : ShareRowExclusiveLock;
	ListCell   *cell;

	lock_part(relid, relid, lockmode, since, limit);
	if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relid)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relid)));
	foreach(cell, find_all_inheritors(relid, NoLock, NULL))
		if (lfirst_oid(cell) != relid)
			lock_part(lfirst_oid(cell), relid, lockmode, since, limit);
}

/*
 * lock_together(oid, boolean, oid, boolean): lock two tables with their
 * partitions, each SHARE ROW EXCLUSIVE or, if so said, ACCESS EXCLUSIVE; the
 * first one first, unless the last try waited in vain for the second.  Raises
 * UNDEFINED_TABLE when there is no such table, LOCK_NOT_AVAILABLE when it takes
 * longer than lock_timeout.
 */
Datum
partshift_lock_together(PG_FUNCTION_ARGS)
{
	Oid			relid[2] = {PG_GETARG_OID(0), PG_GETARG_OID(2)};
	bool		exclusive[2] = {PG_GETARG_BOOL(1), PG_GETARG_BOOL(3)};
	bool		same = relid[0] == relid[1];
	int			limit = LockTimeout;
	int			first = (same ? exclusive[1] : stubborn == relid[1]) ? 1 : 0;
	instr_time	since;

	/* Of one table the stronger lock comes first, not to be upgraded to. */
	INSTR_TIME_SET_ZERO(since);
	lock_tree(relid[first], exclusive[first], &since, limit);
	lock_tree(relid[!first], exclusive[!first], &since, limit);
	PG_RETURN_VOID();
}

/*
 * Lock `relations`, which psh_neighbours_list() made in an earlier
 * transaction, and note when the first lock was granted.  Returns false when
 * they are no longer the job's neighbours: the caller ends the transaction and
 * begins again.
 */
bool
psh_neighbours_lock(int job_id, bool of_source, List *relations,
					instr_time *since)
{
	int			limit = LockTimeout;
	ListCell   *cell;

	INSTR_TIME_SET_ZERO(*since);
	if (list_member_oid(relations, stubborn))
		psh_neighbours_lock_one(stubborn, AccessExclusiveLock, since, limit);
	foreach(cell, relations)
		psh_neighbours_lock_one(lfirst_oid(cell), AccessExclusiveLock, since,
								limit);
	return equal(relations, psh_neighbours_list(job_id, of_source));
}
