/*-------------------------------------------------------------------------
 *
 * truncate.c
 *	  What TRUNCATE of one table means for the table that follows it.
 *
 * Runs in the user's transaction, as the tables' owner, after the command.
 * The transaction holds ACCESS EXCLUSIVE on what it has emptied: nobody else
 * has written to it without having ended, and reconcile, which has all
 * partitions of the source locked while it is at work, is not.
 *
 * When all of a table is truncated, all of the follower is given new files.
 * When it is one partition of a source that is partitioned already, the
 * shadow loses the rows that the source would route there.  Which partitions
 * of the shadow can have such rows is proven from the bounds, by the server's
 * own means: of a month that is truncated only its days are looked at, and
 * those are emptied without being read.  What cannot be told, as with hash, is
 * read and deleted row by row.
 *
 * Triggers of the user that fire for the same command may write to the table
 * before ours has fired.  So whatever the emptied table holds in the end is
 * put into the follower again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/partition.h"
#include "optimizer/optimizer.h"
#include "storage/bufmgr.h"
#include "utils/partcache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "source.h"
#include "truncate.h"

/* Which of the shadow's rows in a leaf are of a partition of the source. */
typedef enum Overlap
{
	OVERLAP_NONE,
	OVERLAP_SOME,				/* or cannot be told */
	OVERLAP_ALL
} Overlap;

/* Give a table and its indexes new, empty files, as TRUNCATE does. */
static void
empty_table(Oid relid)
{
	Relation	rel = table_open(relid, AccessExclusiveLock);
	Oid			toast = rel->rd_rel->reltoastrelid;
	ReindexParams params = {0};

	if (rel->rd_rel->relkind != RELKIND_RELATION)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a table",
						RelationGetRelationName(rel))));
	psh_relation_set_new_file(rel, rel->rd_rel->relpersistence);
	table_close(rel, NoLock);
	if (OidIsValid(toast))
	{
		rel = table_open(toast, AccessExclusiveLock);
		psh_relation_set_new_file(rel, rel->rd_rel->relpersistence);
		table_close(rel, NoLock);
	}
	psh_reindex_relation(relid, REINDEX_REL_PROCESS_TOAST, &params);
	CommandCounterIncrement();
}

/*
 * Empty a table, or all partitions of it.  Takes ACCESS EXCLUSIVE on them.
 */
void
psh_truncate_all(Oid relid)
{
	ListCell   *cell;

	foreach(cell, psh_source_heaps(relid))
		empty_table(lfirst_oid(cell));
}

static List *
bounds_of(Relation rel)
{
	return (List *) eval_const_expressions(NULL,
										   (Node *) RelationGetPartitionQual(rel));
}

/*
 * How many of the rows that belong into `leaf` belong into `part` of another
 * table, as far as their bounds tell.
 */
static Overlap
overlap(Relation leaf, Relation part)
{
	List	   *here = bounds_of(leaf);
	List	   *there = map_partition_varattnos(bounds_of(part), 1, leaf, part);

	if (predicate_implied_by(there, here, false))
		return OVERLAP_ALL;
	if (predicate_refuted_by(there, here, false))
		return OVERLAP_NONE;
	return OVERLAP_SOME;
}

/* Delete from the leaf what the source would have in the partition. */
static void
delete_rows(Relation leaf, Relation source, Oid part)
{
	PshRoute   *route = psh_route_make(source, leaf);
	Snapshot	snapshot;
	TupleTableSlot *slot = table_slot_create(leaf, NULL);
	TableScanDesc scan;

	/* Not the transaction's: it may be older than what is to be deleted. */
	CommandCounterIncrement();
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	scan = table_beginscan(leaf, snapshot, 0, NULL);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		int			i = psh_route_find(route, slot);

		CHECK_FOR_INTERRUPTS();
		if (i >= 0 && psh_route_leaf(route, i) == part)
			simple_table_tuple_delete(leaf, &slot->tts_tid, snapshot);
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(snapshot);
	CommandCounterIncrement();
}

/*
 * Take the rows of a partition of the source out of the shadow.
 */
void
psh_truncate_part(PshTable *source, Relation part, Oid shadow)
{
	ListCell   *cell;

	foreach(cell, psh_source_heaps(shadow))
	{
		Relation	leaf = table_open(lfirst_oid(cell), RowExclusiveLock);
		Overlap		common = OVERLAP_NONE;

		if (RelationGetNumberOfBlocks(leaf) > 0)
			common = overlap(leaf, part);
		if (common == OVERLAP_SOME)
			delete_rows(leaf, source->rel, RelationGetRelid(part));
		table_close(leaf, NoLock);
		if (common == OVERLAP_ALL)
			empty_table(lfirst_oid(cell));
	}
}

/*
 * Put what a heap of the authority holds into the follower, which has lost
 * it.  That is what this transaction has written since the command, which is
 * nothing as a rule.
 */
void
psh_truncate_mend(PshPair *pair, Relation heap)
{
	PshProjection *projection;
	TupleTableSlot *slot;
	TableScanDesc scan;

	if (RelationGetNumberOfBlocks(heap) == 0)
		return;
	projection = psh_projection_make(heap, pair->follower->identity,
									 pair->authority->computed);
	slot = table_slot_create(heap, NULL);
	scan = table_beginscan(heap, SnapshotSelf, 0, NULL);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		Datum		identity[INDEX_MAX_KEYS];

		if (psh_projection_identity(projection, slot, identity))
			(void) psh_follow_put(pair, heap, slot, identity);
		else
			pair->unplaced = true;
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	psh_projection_end(projection);
}
