/*-------------------------------------------------------------------------
 *
 * buffer.c
 *	  Rows on their way into leaves, kept until there are enough.
 *
 * heap_multi_insert() writes one WAL record for a page instead of one for a
 * row.  For each leaf up to 1,000 rows or 64 kB wait for it, so that what is
 * buffered for a usual number of leaves stays in the processor's caches:
 * larger buffers were slower.  All leaves share one ring of shared buffers,
 * and the application keeps the rest.
 *
 * A row of the source that has the leaf's layout is copied as it is.  It does
 * when no column was dropped from the source and none was added without a
 * rewrite since the row was written; otherwise it is taken apart and formed
 * anew.  The server fetches out-of-line values as it stores them.
 *
 * Lives as long as one transaction, in its memory.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/attmap.h"
#include "access/heapam.h"
#include "access/hio.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/tupconvert.h"
#include "access/xact.h"
#include "executor/tuptable.h"
#include "storage/bufmgr.h"
#include "utils/rel.h"

#include "buffer.h"
#include "compat.h"

#define MAX_ROWS 1000
#define MAX_BYTES 65536

typedef struct LeafBuffer
{
	Relation	rel;
	BulkInsertState bulk;
	int			nrows;
	int			nslots;			/* made so far */
	Size		bytes;
	TupleTableSlot *slots[MAX_ROWS];
} LeafBuffer;

struct PshBuffers
{
	PshRoute   *route;
	TupleDesc	desc;			/* the leaves' */
	bool		same_layout;
	AttrMap    *map;			/* when it is not the same */
	TupleTableSlot *formed;		/* the row in the leaves' layout */
	BufferAccessStrategy ring;
	LeafBuffer **leaves;
};

/* Whether a complete row of one is a row of the other, byte by byte. */
static bool
layouts_match(TupleDesc a, TupleDesc b)
{
	int			i;

	if (a->natts != b->natts)
		return false;
	for (i = 0; i < a->natts; i++)
	{
		Form_pg_attribute x = TupleDescAttr(a, i);
		Form_pg_attribute y = TupleDescAttr(b, i);

		if (x->attisdropped || y->attisdropped ||
			x->atttypid != y->atttypid || x->attlen != y->attlen ||
			x->attalign != y->attalign ||
			strcmp(NameStr(x->attname), NameStr(y->attname)) != 0)
			return false;
	}
	return true;
}

/*
 * Prepare to buffer rows of `source` for the partitions of the route.
 */
PshBuffers *
psh_buffers_make(Relation source, PshRoute *route)
{
	PshBuffers *buffers = palloc0(sizeof(PshBuffers));
	Relation	leaf = table_open(psh_route_leaf(route, 0), AccessShareLock);

	buffers->route = route;
	buffers->desc = CreateTupleDescCopy(RelationGetDescr(leaf));
	buffers->same_layout = layouts_match(RelationGetDescr(source),
										 RelationGetDescr(leaf));
	if (!buffers->same_layout)
	{
		buffers->map = psh_attrmap_by_name(RelationGetDescr(source),
										   RelationGetDescr(leaf));
		buffers->formed = MakeSingleTupleTableSlot(buffers->desc,
												   &TTSOpsVirtual);
	}
	buffers->ring = GetAccessStrategy(BAS_BULKWRITE);
	buffers->leaves = palloc0(sizeof(LeafBuffer *) * psh_route_count(route));
	table_close(leaf, NoLock);
	return buffers;
}

static LeafBuffer *
leaf_buffer(PshBuffers *buffers, int i)
{
	LeafBuffer *leaf = buffers->leaves[i];

	if (leaf == NULL)
	{
		leaf = palloc0(sizeof(LeafBuffer));
		leaf->rel = table_open(psh_route_leaf(buffers->route, i),
							   RowExclusiveLock);
		if (!layouts_match(buffers->desc, RelationGetDescr(leaf->rel)))
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("partition \"%s\" differs from the first one in its columns",
							RelationGetRelationName(leaf->rel))));
		leaf->bulk = GetBulkInsertState();
		FreeAccessStrategy(leaf->bulk->strategy);
		leaf->bulk->strategy = buffers->ring;
		buffers->leaves[i] = leaf;
	}
	return leaf;
}

static void
flush(LeafBuffer *leaf)
{
	int			i;

	if (leaf->nrows == 0)
		return;
	table_multi_insert(leaf->rel, leaf->slots, leaf->nrows,
					   GetCurrentCommandId(true), TABLE_INSERT_SKIP_FSM,
					   leaf->bulk);
	for (i = 0; i < leaf->nrows; i++)
		ExecClearTuple(leaf->slots[i]);
	leaf->nrows = 0;
	leaf->bytes = 0;
}

/*
 * Add a row for partition `i`.  The slot holds the same row as the tuple; the
 * row is copied.
 */
void
psh_buffers_add(PshBuffers *buffers, int i, HeapTuple tuple,
				TupleTableSlot *slot)
{
	LeafBuffer *leaf = leaf_buffer(buffers, i);
	TupleTableSlot *row;

	if (leaf->nrows == leaf->nslots)
		leaf->slots[leaf->nslots++] = MakeSingleTupleTableSlot(buffers->desc,
															   &TTSOpsHeapTuple);
	row = leaf->slots[leaf->nrows++];
	if (buffers->same_layout &&
		HeapTupleHeaderGetNatts(tuple->t_data) == buffers->desc->natts)
		ExecForceStoreHeapTuple(heap_copytuple(tuple), row, true);
	else if (buffers->same_layout)
	{
		/* Columns added later have their value in the source's catalog. */
		slot_getallattrs(slot);
		ExecForceStoreHeapTuple(heap_form_tuple(buffers->desc,
												slot->tts_values,
												slot->tts_isnull), row, true);
	}
	else
		ExecCopySlot(row, execute_attr_map_slot(buffers->map, slot,
												buffers->formed));
	leaf->bytes += tuple->t_len;
	if (leaf->nrows == MAX_ROWS || leaf->bytes >= MAX_BYTES)
		flush(leaf);
}

/*
 * Write what is buffered and close the leaves; the locks stay.
 */
void
psh_buffers_flush(PshBuffers *buffers)
{
	int			i;

	for (i = 0; i < psh_route_count(buffers->route); i++)
	{
		LeafBuffer *leaf = buffers->leaves[i];

		if (leaf == NULL)
			continue;
		flush(leaf);
		leaf->bulk->strategy = NULL;	/* shared */
		FreeBulkInsertState(leaf->bulk);
		table_close(leaf->rel, NoLock);
	}
	FreeAccessStrategy(buffers->ring);
}
