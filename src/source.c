/*-------------------------------------------------------------------------
 *
 * source.c
 *	  The tables that the source's rows are in.
 *
 * A plain source is its own heap.  The heaps of a source that is partitioned
 * already are its partitions, of one level; its rows are theirs, and so is
 * everything that is said of a plain table's rows:
 *
 * - Its key is a unique partitioned index, which contains the partition key.
 *   So an identity belongs to one partition, whose part of the index finds
 *   it, and no two rows of the tree have the same.
 * - A partition's blocks, file and dropped columns are its own.  A copy task
 *   is a range of blocks of one partition, with the file that it had at the
 *   horizon; columns are matched by name for each.
 * - A row that is moved to another partition is deleted in the one and
 *   inserted in the other, with another identity, since the partition key is
 *   in it.  The triggers see both.
 * - Row triggers fire on partitions, and rows can be written to a partition by
 *   its own name, past the parent's triggers and locks.  So each partition has
 *   the job's triggers itself: internal ones, firing always, which the parent
 *   could not clone.  A moment that needs every writer to be gone holds the
 *   parent and all partitions.
 * - Partitions do not come or go meanwhile: the guard refuses that, and the
 *   fingerprint has their bounds.  A partition that came behind the guard's
 *   back has no triggers, and makes the fingerprint another one.
 *
 * Locks are taken on the parent first, then on partitions by OID.  Whoever
 * writes by the parent's name has that before he has a partition, so once we
 * have it only those are waited for that name a partition.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "portability/instr_time.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "compat.h"
#include "neighbours.h"
#include "source.h"
#include "sql.h"

/*
 * The tables that hold the rows of a table: itself, or its partitions in the
 * order of their OIDs.  None of them is locked.
 */
List *
psh_source_heaps(Oid relid)
{
	if (get_rel_relkind(relid) != RELKIND_PARTITIONED_TABLE)
		return list_make1_oid(relid);
	return find_inheritance_children(relid, NoLock);
}

/*
 * The table of which another is a partition, the topmost; itself where it is
 * none, or is being detached: then the server knows no ancestors any more.
 */
Oid
psh_source_root(Oid relid)
{
	List	   *ancestors = NIL;

	if (get_rel_relispartition(relid))
		ancestors = get_partition_ancestors(relid);
	return ancestors == NIL ? relid : llast_oid(ancestors);
}

/*
 * Lock a table and its heaps, and return the heaps.  All locks together are
 * waited for no longer than lock_timeout, from the first that was granted on.
 */
List *
psh_source_lock(Oid relid, LOCKMODE lockmode)
{
	int			limit = LockTimeout;
	instr_time	since;
	List	   *heaps;
	ListCell   *cell;

	INSTR_TIME_SET_ZERO(since);
	psh_neighbours_lock_one(relid, lockmode, &since, limit);
	heaps = psh_source_heaps(relid);
	foreach(cell, heaps)
		if (lfirst_oid(cell) != relid)
			psh_neighbours_lock_one(lfirst_oid(cell), lockmode, &since, limit);
	return heaps;
}

/*
 * How many blocks a table has, with all its partitions: those of a new table
 * may have partitions themselves.
 */
int64
psh_source_blocks(Oid relid)
{
	int64		nblocks = 0;
	ListCell   *cell;

	foreach(cell, find_all_inheritors(relid, NoLock, NULL))
	{
		Relation	heap = table_open(lfirst_oid(cell), AccessShareLock);

		if (heap->rd_rel->relkind == RELKIND_RELATION)
			nblocks += RelationGetNumberOfBlocks(heap);
		table_close(heap, NoLock);
	}
	return nblocks;
}

static bool
is_moved(Oid heap, Oid file)
{
	Relation	rel = try_table_open(heap, AccessShareLock);
	bool		moved = rel == NULL || psh_relation_file(rel) != file;

	if (rel)
		table_close(rel, NoLock);
	return moved;
}

/*
 * Lock the source and say whether a heap that had blocks to copy has another
 * file now.  One that had none at the horizon has no row that was copied.
 */
bool
psh_source_has_moved(const PshJob *job, LOCKMODE lockmode)
{
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(job->id)};
	bool		moved = false;
	int			n;
	int			i;

	(void) psh_source_lock(job->relid, lockmode);
	n = (int) psh_sql(SPI_OK_SELECT,
					  "SELECT DISTINCT object, other FROM partshift.task"
					  " WHERE job_id = $1 AND phase = 'copy'",
					  1, types, values, NULL);
	for (i = 0; i < n && !moved; i++)
	{
		bool		isnull;
		Oid			heap = DatumGetObjectId(psh_sql_value(i, 1, &isnull));
		Oid			file = DatumGetObjectId(psh_sql_value(i, 2, &isnull));

		moved = is_moved(heap, file);
	}
	return moved;
}

/*
 * The partitions that the source had when the job was made, "source_leaves",
 * or the new table when it got the name, "new_leaves", as far as they exist: one
 * that was detached has triggers still.
 */
List *
psh_source_planned(const PshJob *job, const char *which)
{
	Oid			types[2] = {INT4OID, TEXTOID};
	Datum		values[2] = {Int32GetDatum(job->id), CStringGetTextDatum(which)};
	List	   *partitions = NIL;
	int			n;
	int			i;

	n = (int) psh_sql(SPI_OK_SELECT,
					  "SELECT c.oid FROM partshift.job AS j,"
					  " jsonb_array_elements_text(j.plan -> $2) AS l (leaf)"
					  " JOIN pg_class AS c ON c.oid = l.leaf::oid"
					  " WHERE j.job_id = $1 AND c.relkind = 'r' ORDER BY c.oid",
					  2, types, values, NULL);
	for (i = 0; i < n; i++)
	{
		bool		isnull;

		partitions = lappend_oid(partitions,
								 DatumGetObjectId(psh_sql_value(i, 1, &isnull)));
	}
	return partitions;
}
