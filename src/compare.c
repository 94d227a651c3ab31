/*-------------------------------------------------------------------------
 *
 * compare.c
 *	  Source and shadow side by side in one snapshot.
 *
 * A comparison is one REPEATABLE READ, READ ONLY transaction.  It takes ACCESS
 * SHARE on the source, the shadow and all partitions, and only then its
 * snapshot: a TRUNCATE between the two would show one table before it and
 * the other after it.  A pass reads the source once, sending each row to the
 * partition that it belongs to, then each partition.  Rows are told apart by
 * the sum of their hashes, which does not depend on their order and, other
 * than an exclusive or, notices a row that is there twice.
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
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compare.h"
#include "parallel.h"
#include "source.h"
#include "throttle.h"

/* How often to look who waits for us, in milliseconds. */
#define LOOK_INTERVAL 20

/*
 * One of the two is absent before the shadow is made, and when the operator
 * has dropped the legacy table.
 */
static Relation
open_side(const PshJob *job, Oid relid)
{
	Relation	rel = NULL;

	if (OidIsValid(relid))
		rel = try_table_open(relid, AccessShareLock);
	if (rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot compare table \"%s\"", job->table_name),
				 errdetail("Job %d does not have two tables.", job->id)));
	return rel;
}

/*
 * Both tables must have the same columns of the same types; only their order
 * may differ, and one that is derived is in the second alone.
 */
static void
check_columns(Relation source, Relation shadow, List *columns,
			  const PshComputed *computed)
{
	ListCell   *lc;

	foreach(lc, columns)
	{
		const char *name = lfirst(lc);
		AttrNumber	ours = get_attnum(RelationGetRelid(source), name);
		AttrNumber	theirs = get_attnum(RelationGetRelid(shadow), name);

		if (theirs > 0 && computed && computed->derived &&
			strcmp(name, computed->column) == 0)
			continue;
		if (theirs > 0 &&
			TupleDescAttr(RelationGetDescr(source), ours - 1)->atttypid ==
			TupleDescAttr(RelationGetDescr(shadow), theirs - 1)->atttypid)
			continue;
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("cannot compare tables \"%s\" and \"%s\"",
						RelationGetRelationName(source),
						RelationGetRelationName(shadow)),
				 errdetail("Column \"%s\" is missing from the second or has another type there.",
						   name)));
	}
	if (list_length(psh_rowhash_columns(shadow)) != list_length(columns))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("cannot compare tables \"%s\" and \"%s\"",
						RelationGetRelationName(source),
						RelationGetRelationName(shadow)),
				 errdetail("The second has columns that the first lacks.")));
}

static void
make_leaves(PshComparison *cmp)
{
	int			n = psh_route_count(cmp->route);
	int			i;

	cmp->nleaves = n + 1;
	cmp->leaves = palloc0(sizeof(PshCompareLeaf) * cmp->nleaves);
	for (i = 0; i < n; i++)
	{
		cmp->leaves[i].relid = psh_route_leaf(cmp->route, i);
		cmp->leaves[i].name = get_rel_name(cmp->leaves[i].relid);
	}
	cmp->leaves[n].name = pstrdup("(none)");
	for (i = 0; i <= n; i++)
		cmp->leaves[i].list_no = -1;
}

/* Open both tables, before the snapshot is taken that they are read with. */
static PshComparison *
open_sides(const PshJob *job, bool hashed)
{
	PshComparison *cmp = palloc0(sizeof(PshComparison));

	cmp->job = job;
	cmp->hashed = hashed;
	cmp->source = open_side(job, job->relid);
	cmp->shadow = open_side(job, job->shadow);
	return cmp;
}

/* Find out, in the snapshot, what is to be compared. */
static void
look_at_columns(PshComparison *cmp)
{
	cmp->columns = psh_rowhash_columns(cmp->source);
	cmp->computed = cmp->job->computed;
	if (cmp->computed && cmp->computed->derived)
		cmp->columns = lappend(cmp->columns, cmp->computed->column);
	check_columns(cmp->source, cmp->shadow, cmp->columns, cmp->computed);
	cmp->route = psh_route_make(cmp->shadow,
								cmp->computed ? cmp->shadow : cmp->source);
	make_leaves(cmp);
}

/*
 * Begin the transaction of a comparison.  What is returned is allocated in
 * the caller's context and, but for the open tables, outlives the transaction.
 */
PshComparison *
psh_compare_begin(const PshJob *job, bool hashed)
{
	MemoryContext context = CurrentMemoryContext;
	PshComparison *cmp;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	XactIsoLevel = XACT_REPEATABLE_READ;
	XactReadOnly = true;
	pgstat_report_activity(STATE_RUNNING, "compare source and shadow");
	MemoryContextSwitchTo(context);

	cmp = open_sides(job, hashed);
	cmp->heaps = psh_source_lock(job->relid, AccessShareLock);
	(void) find_all_inheritors(job->shadow, AccessShareLock, NULL);
	cmp->snapshot = GetTransactionSnapshot();
	PushActiveSnapshot(cmp->snapshot);
	look_at_columns(cmp);

	/* The job's other workers rest meanwhile: all of its rate is ours. */
	psh_throttle_set(job, 1);
	psh_throttle_start();
	return cmp;
}

/*
 * End the transaction of a comparison; its results stay.
 */
void
psh_compare_end(PshComparison *cmp)
{
	MemoryContext context = CurrentMemoryContext;

	psh_compare_leave(cmp);
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
}

/*
 * Take part in the comparison that another process has begun, as its parallel
 * worker: in its snapshot, which is active, and at its rate.
 */
PshComparison *
psh_compare_join(const PshJob *job, bool hashed)
{
	PshComparison *cmp = open_sides(job, hashed);

	cmp->snapshot = GetActiveSnapshot();
	cmp->heaps = psh_source_heaps(job->relid);
	look_at_columns(cmp);
	psh_throttle_set(job, job->workers);
	psh_throttle_start();
	return cmp;
}

/*
 * Take part no longer.
 */
void
psh_compare_leave(PshComparison *cmp)
{
	psh_throttle_stop();
	table_close(cmp->shadow, NoLock);
	table_close(cmp->source, NoLock);
	cmp->source = cmp->shadow = NULL;
}

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
 * Leaf is NULL for the source, whose rows belong to different ones.
 */
static void
scan_table(PshComparison *cmp, Relation rel, PshCompareLeaf *leaf,
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
psh_compare_tables(const PshCompareLeaf *leaf)
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
	List	   *tables = psh_compare_tables(leaf);
	ListCell   *lc;

	foreach(lc, tables)
	{
		Relation	rel = table_open(lfirst_oid(lc), NoLock);

		if (rel->rd_rel->relkind == RELKIND_RELATION)
			scan_table(cmp, rel, leaf, 0, InvalidBlockNumber, listed_only,
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
psh_compare_pass(PshComparison *cmp, bool listed_only,
				 PshCompareAction action, void *arg)
{
	ListCell   *lc;
	int			i;

	foreach(lc, cmp->heaps)
	{
		Relation	heap = table_open(lfirst_oid(lc), NoLock);

		scan_table(cmp, heap, NULL, 0, InvalidBlockNumber, listed_only,
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

static void
count_row(PshCompareRow *row, void *arg)
{
	row->leaf->rows[row->side]++;
}

static void
sum_row(PshCompareRow *row, void *arg)
{
	row->leaf->rows[row->side]++;
	row->leaf->sum[row->side] += psh_rowhash(row->contents, row->slot);
}

/*
 * Add to the results what is in these blocks of a heap: of the source if leaf
 * is NULL.
 */
void
psh_compare_blocks(PshComparison *cmp, Relation heap, PshCompareLeaf *leaf,
				   BlockNumber first, BlockNumber nblocks)
{
	scan_table(cmp, heap, leaf, first, nblocks, false,
			   cmp->hashed ? sum_row : count_row, NULL);
}

/*
 * Compare both tables leaf by leaf.
 */
void
psh_compare_sums(PshComparison *cmp)
{
	int			i;

	if (!psh_parallel_sums(cmp))
		psh_compare_pass(cmp, false, cmp->hashed ? sum_row : count_row, NULL);
	cmp->equal = true;
	for (i = 0; i < cmp->nleaves; i++)
	{
		PshCompareLeaf *leaf = &cmp->leaves[i];

		leaf->equal =
			leaf->rows[PSH_SIDE_SOURCE] == leaf->rows[PSH_SIDE_SHADOW] &&
			leaf->sum[PSH_SIDE_SOURCE] == leaf->sum[PSH_SIDE_SHADOW];
		cmp->equal &= leaf->equal;
	}
}
