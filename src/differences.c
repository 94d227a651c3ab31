/*-------------------------------------------------------------------------
 *
 * differences.c
 *	  Which rows of two tables differ.
 *
 * A comparison says which leaves differ, not which rows.  Two more passes over
 * those leaves, in the same snapshot, find some of the rows in bounded memory.
 * The first adds up the hashes of the rows in buckets, by the hash of the
 * row's identity; what the shadow holds is subtracted.  A bucket that is not
 * zero has a row that differs.  The second keeps, for the rows of a few such
 * buckets, one sum for each identity and where the row is.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "common/hashfn.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/itemptr.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "differences.h"
#include "scan.h"
#include "sql.h"

#define MAX_LEAVES 64			/* look for rows of so many leaves */
#define MAX_IDENTITIES 100		/* of one leaf */
#define BUCKETS (1 << 20)		/* of all leaves together */
#define MAX_CANDIDATES (1 << 18)	/* rows to keep in memory, about */

typedef struct Buckets
{
	int			per_leaf;
	uint64	   *sum;
	bool	   *chosen;
} Buckets;

typedef struct Candidate
{
	uint64		key;			/* hash of leaf and identity */
	uint64		sum;			/* not zero: the row differs */
	PshCompareLeaf *leaf;
	Oid			relid;			/* the table where it was first met */
	ItemPointerData tid;
} Candidate;

typedef struct Search
{
	Buckets		buckets;
	HTAB	   *candidates;
} Search;

/*
 * Number the leaves to look at.
 */
static int
number_leaves(PshComparison *cmp)
{
	int			n = 0;
	int			i;

	for (i = 0; i < cmp->nleaves && n < MAX_LEAVES; i++)
		if (!cmp->leaves[i].equal)
			cmp->leaves[i].list_no = n++;
	return n;
}

static uint64
identity_key(PshCompareRow *row)
{
	return hash_combine64(psh_rowhash(row->identity, row->slot),
						  row->leaf->list_no);
}

static int
bucket_of(const Buckets *buckets, const PshCompareLeaf *leaf, uint64 key)
{
	return leaf->list_no * buckets->per_leaf + (int) (key % buckets->per_leaf);
}

static void
add(uint64 *sum, PshCompareRow *row)
{
	uint64		hash = psh_rowhash(row->contents, row->slot);

	*sum += row->side == PSH_SIDE_SOURCE ? hash : -hash;
}

static void
fill_bucket(PshCompareRow *row, void *arg)
{
	Buckets    *buckets = &((Search *) arg)->buckets;

	add(&buckets->sum[bucket_of(buckets, row->leaf, identity_key(row))], row);
}

/*
 * Choose buckets of a leaf that differ: each has a row that differs, and no
 * more of them than its share of the memory allows, but at least one.
 */
static void
choose_buckets(Buckets *buckets, const PshCompareLeaf *leaf, int nleaves)
{
	int64		rows = Max(leaf->rows[PSH_SIDE_SOURCE],
						   leaf->rows[PSH_SIDE_SHADOW]);
	int64		rows_per_bucket = rows / buckets->per_leaf + 1;
	int64		left = MAX_CANDIDATES / nleaves / rows_per_bucket;
	int			first = leaf->list_no * buckets->per_leaf;
	int			i;

	left = Min(Max(left, 1), MAX_IDENTITIES);
	for (i = first; i < first + buckets->per_leaf && left > 0; i++)
		if (buckets->sum[i] != 0)
		{
			buckets->chosen[i] = true;
			left--;
		}
}

static void
keep_candidate(PshCompareRow *row, void *arg)
{
	Search	   *search = arg;
	uint64		key = identity_key(row);
	Candidate  *candidate;
	bool		found;

	if (!search->buckets.chosen[bucket_of(&search->buckets, row->leaf, key)])
		return;
	candidate = hash_search(search->candidates, &key, HASH_ENTER, &found);
	if (!found)
	{
		candidate->sum = 0;
		candidate->leaf = row->leaf;
		candidate->relid = row->relid;
		candidate->tid = row->slot->tts_tid;
	}
	add(&candidate->sum, row);
}

/*
 * The identity as text, `(1, 2)`.  The types' output functions may be the
 * owner's: they run as the owner.
 */
static char *
identity_text(PshComparison *cmp, TupleTableSlot *slot, Relation rel)
{
	StringInfoData text;
	PshUser		saved;
	ListCell   *lc;

	initStringInfo(&text);
	psh_user_switch(cmp->source->rd_rel->relowner, true, &saved);
	foreach(lc, cmp->job->identity)
	{
		AttrNumber	attnum = get_attnum(RelationGetRelid(rel), lfirst(lc));
		Oid			output;
		bool		isvarlena;
		bool		isnull;
		Datum		value;

		/* The source lacks a derived key, and its row is named without. */
		if (attnum == InvalidAttrNumber)
			continue;
		value = slot_getattr(slot, attnum, &isnull);
		getTypeOutputInfo(TupleDescAttr(RelationGetDescr(rel),
										attnum - 1)->atttypid,
						  &output, &isvarlena);
		appendStringInfoString(&text, text.len == 0 ? "(" : ", ");
		appendStringInfoString(&text, isnull ? "null" :
							   OidOutputFunctionCall(output, value));
	}
	psh_user_restore(&saved);
	appendStringInfoChar(&text, ')');
	return text.data;
}

static void
list_identity(PshComparison *cmp, Candidate *candidate)
{
	Relation	rel;
	TupleTableSlot *slot;

	if (candidate->sum == 0 ||
		list_length(candidate->leaf->identities) >= MAX_IDENTITIES)
		return;
	rel = table_open(candidate->relid, AccessShareLock);
	slot = table_slot_create(rel, NULL);
	if (!table_tuple_fetch_row_version(rel, &candidate->tid, cmp->snapshot,
									   slot))
		elog(ERROR, "could not find row (%u,%u) of table \"%s\" again",
			 ItemPointerGetBlockNumber(&candidate->tid),
			 ItemPointerGetOffsetNumber(&candidate->tid),
			 RelationGetRelationName(rel));
	candidate->leaf->identities = lappend(candidate->leaf->identities,
										  identity_text(cmp, slot, rel));
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, AccessShareLock);
}

/*
 * List identities of rows that differ in the leaves that psh_compare_sums()
 * found to differ.  Called in the comparison's transaction.
 */
void
psh_differences_find(PshComparison *cmp)
{
	int			nleaves = number_leaves(cmp);
	HASHCTL		control = {0};
	HASH_SEQ_STATUS seq;
	Candidate  *candidate;
	Search		search;
	int			i;

	if (nleaves == 0)
		return;
	search.buckets.per_leaf = BUCKETS / nleaves;
	search.buckets.sum = palloc0(sizeof(uint64) * BUCKETS);
	search.buckets.chosen = palloc0(sizeof(bool) * BUCKETS);
	psh_scan_pass(cmp, true, fill_bucket, &search);
	for (i = 0; i < cmp->nleaves; i++)
		if (cmp->leaves[i].list_no >= 0)
			choose_buckets(&search.buckets, &cmp->leaves[i], nleaves);
	pfree(search.buckets.sum);

	control.keysize = sizeof(uint64);
	control.entrysize = sizeof(Candidate);
	control.hcxt = CurrentMemoryContext;
	search.candidates = hash_create("partshift differing rows", 1024, &control,
									HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	psh_scan_pass(cmp, true, keep_candidate, &search);

	hash_seq_init(&seq, search.candidates);
	while ((candidate = hash_seq_search(&seq)) != NULL)
		list_identity(cmp, candidate);
	hash_destroy(search.candidates);
	pfree(search.buckets.chosen);
}
