/*-------------------------------------------------------------------------
 *
 * scan.c
 *	  Reading the tables of a comparison, row by row.
 *
 * Locks are held for as long as it takes to read both tables.  Whoever wants
 * ACCESS EXCLUSIVE on one of them would wait for us, and everybody else behind
 * him.  We look for such a waiter and give way by an error of the class that
 * the worker's loop answers with a rest and another try.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "scan.h"
#include "throttle.h"

/* How often to look who waits for us, in milliseconds. */
#define LOOK_INTERVAL 20

/*
 * Does somebody wait for ACCESS EXCLUSIVE on this table?
 *
 * LockHasWaitersRelation() is not for us: it follows a pointer to the shared
 * lock that does not exist for a weak lock taken by the fast path.  Who waits
 * for a lock is fixed while the lock table's partition is locked, and only
 * waiters of this very lock can match its tag.
 */
static bool
is_waited_for(Oid relid)
{
	LOCKTAG		tag;
	LWLock	   *partition;
	bool		found = false;
	uint32		i;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, relid);
	partition = LockHashPartitionLock(LockTagHashCode(&tag));
	LWLockAcquire(partition, LW_SHARED);
	for (i = 0; i < ProcGlobal->allProcCount && !found; i++)
	{
		volatile PGPROC *proc = &ProcGlobal->allProcs[i];
		LOCK	   *lock = proc->waitLock;

		found = lock != NULL &&
			proc->waitLockMode == AccessExclusiveLock &&
			memcmp(&lock->tag, &tag, sizeof(tag)) == 0;
	}
	LWLockRelease(partition);
	return found;
}

/* Or on a partition of the source, which is written under its own name? */
static bool
is_heap_waited_for(PshComparison *cmp)
{
	ListCell   *lc;

	foreach(lc, cmp->heaps)
		if (is_waited_for(lfirst_oid(lc)))
			return true;
	return false;
}

static void
give_way(PshComparison *cmp)
{
	TimestampTz now = GetCurrentTimestamp();

	if (now < cmp->next_look)
		return;
	cmp->next_look = TimestampTzPlusMilliseconds(now, LOOK_INTERVAL);
	if ((!psh_job_locks(cmp->job) &&
		 (is_waited_for(RelationGetRelid(cmp->source)) ||
		  is_heap_waited_for(cmp))) ||
		is_waited_for(RelationGetRelid(cmp->shadow)))
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("could not finish comparing table \"%s\"",
						cmp->job->table_name),
				 errdetail("Another session waits for an exclusive lock on it."),
				 errhint("The comparison begins again later.")));
}

/*
 * Make the row of the shadow that belongs to a row of the source.  Returns
 * false when there is none; what is made then has no partition key.
 */
static bool
project(PshComparison *cmp, PshProjection *projection, TupleTableSlot *slot,
		TupleTableSlot *result)
{
	Datum		identity[INDEX_MAX_KEYS];
	bool		placed = psh_projection_identity(projection, slot, identity);

	psh_projection_row(cmp->computed, cmp->source, slot,
					   placed ? &identity[projection->place] : NULL, result);
	result->tts_tid = slot->tts_tid;
	return placed;
}

/* The leaf to which a row of the source belongs. */
static PshCompareLeaf *
leaf_of(PshComparison *cmp, PshRoute *route, TupleTableSlot *slot)
{
	int			i = psh_route_find(route, slot);

	Assert(i < cmp->nleaves - 1);
	return &cmp->leaves[i < 0 ? cmp->nleaves - 1 : i];
}

/*
 * Read a table, or so many blocks of it, and call the action for each row.
 * Leaf is NULL for the source, whose rows belong to different ones; the caller
 * has the table open.  Raises LOCK_NOT_AVAILABLE when it has to give way.
 */
void
psh_scan_blocks(PshComparison *cmp, Relation rel, PshCompareLeaf *leaf,
				BlockNumber first, BlockNumber nblocks,
				bool listed_only, PshCompareAction action, void *arg)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext outer = AllocSetContextCreate(caller, "partshift scan",
												ALLOCSET_SMALL_SIZES);
	MemoryContext context = AllocSetContextCreate(outer, "partshift comparison",
												  ALLOCSET_DEFAULT_SIZES);
	BlockNumber block = InvalidBlockNumber;
	TupleTableSlot *slot;
	Relation	layout = rel;
	PshProjection *projection = NULL;
	PshRoute   *route = cmp->route;
	PshCompareRow row;
	TableScanDesc scan;

	MemoryContextSwitchTo(outer);
	row.slot = slot = table_slot_create(rel, NULL);
	if (leaf == NULL && cmp->computed)
	{
		layout = cmp->shadow;
		projection = psh_projection_make(rel, cmp->job->identity,
										 cmp->computed);
		row.slot = MakeSingleTupleTableSlot(RelationGetDescr(layout),
											&TTSOpsVirtual);
	}
	else if (leaf == NULL)
		route = psh_route_like(cmp->route, cmp->shadow, rel);
	row.side = leaf ? PSH_SIDE_SHADOW : PSH_SIDE_SOURCE;
	row.leaf = leaf;
	row.relid = RelationGetRelid(rel);
	row.contents = psh_rowhash_make(layout, cmp->columns);
	row.identity = psh_rowhash_make(layout, cmp->job->identity);
	scan = table_beginscan_strat(rel, cmp->snapshot, 0, NULL, true, false);
	if (nblocks != InvalidBlockNumber)
		heap_setscanlimits(scan, first, nblocks);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		if (block != ItemPointerGetBlockNumber(&slot->tts_tid))
		{
			block = ItemPointerGetBlockNumber(&slot->tts_tid);
			psh_throttle_point();
			give_way(cmp);
			MemoryContextReset(context);
		}
		MemoryContextSwitchTo(context);
		if (projection && !project(cmp, projection, slot, row.slot))
			row.leaf = &cmp->leaves[cmp->nleaves - 1];
		else if (leaf == NULL)
			row.leaf = leaf_of(cmp, route, row.slot);
		if (!listed_only || row.leaf->list_no >= 0)
			action(&row, arg);
		MemoryContextSwitchTo(outer);
	}
	table_endscan(scan);
	if (projection)
	{
		psh_projection_end(projection);
		ExecDropSingleTupleTableSlot(row.slot);
	}
	ExecDropSingleTupleTableSlot(slot);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(outer);
}

/*
 * The tables, locked, that make a partition up: after the swap the user may
 * have divided it again.  One that is partitioned itself is among them.
 */
List *
psh_scan_tables(const PshCompareLeaf *leaf)
{
	List	   *tables = find_all_inheritors(leaf->relid, AccessShareLock,
											 NULL);
	ListCell   *lc;

	foreach(lc, tables)
		if (get_rel_relkind(lfirst_oid(lc)) == RELKIND_FOREIGN_TABLE)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("cannot compare foreign table \"%s\"",
							get_rel_name(lfirst_oid(lc)))));
	return tables;
}

static void
scan_leaf(PshComparison *cmp, PshCompareLeaf *leaf, bool listed_only,
		  PshCompareAction action, void *arg)
{
	List	   *tables = psh_scan_tables(leaf);
	ListCell   *lc;

	foreach(lc, tables)
	{
		Relation	rel = table_open(lfirst_oid(lc), NoLock);

		if (rel->rd_rel->relkind == RELKIND_RELATION)
			psh_scan_blocks(cmp, rel, leaf, 0, InvalidBlockNumber, listed_only,
							action, arg);
		table_close(rel, NoLock);
	}
	list_free(tables);
}

/*
 * Call the action for each row of both tables, or only for those of the
 * leaves that have a list_no: first the source's, then the shadow's.
 */
void
psh_scan_pass(PshComparison *cmp, bool listed_only,
			  PshCompareAction action, void *arg)
{
	ListCell   *lc;
	int			i;

	foreach(lc, cmp->heaps)
	{
		Relation	heap = table_open(lfirst_oid(lc), NoLock);

		psh_scan_blocks(cmp, heap, NULL, 0, InvalidBlockNumber, listed_only,
						action, arg);
		table_close(heap, NoLock);
	}
	for (i = 0; i < cmp->nleaves; i++)
	{
		PshCompareLeaf *leaf = &cmp->leaves[i];

		if (OidIsValid(leaf->relid) && (!listed_only || leaf->list_no >= 0))
			scan_leaf(cmp, leaf, listed_only, action, arg);
	}
}
