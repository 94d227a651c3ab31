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
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "pgstat.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compare.h"
#include "parallel.h"
#include "scan.h"
#include "source.h"
#include "throttle.h"

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
	psh_scan_blocks(cmp, heap, leaf, first, nblocks, false,
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
		psh_scan_pass(cmp, false, cmp->hashed ? sum_row : count_row, NULL);
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
