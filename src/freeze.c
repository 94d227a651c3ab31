/*-------------------------------------------------------------------------
 *
 * freeze.c
 *	  Making the rows of a leaf visible to every snapshot.
 *
 * When nobody has written to the source since it was locked, each snapshot
 * taken since then shows the same rows of it; a copy of them has to be visible
 * to each, too, also to those that are older than the copy.  Otherwise whoever
 * has waited to write since then, which can be everybody, would have to end
 * before the swap, and waits for it.
 *
 * VACUUM does not help: it freezes only what all can see.  To freeze what
 * some cannot see yet changes what they see, and is right only because nobody
 * sees the leaf, and because no row of it was ever changed.  Rows of batches
 * that were rolled back stay what they are.  Nothing else of a page changes, so
 * generic WAL records are small, and need no conflict on a standby.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/generic_xlog.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/transam.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/rel.h"

#include "freeze.h"
#include "sql.h"

static bool
freeze_tuple(HeapTupleHeader tuple)
{
	if (HeapTupleHeaderXminFrozen(tuple) ||
		!TransactionIdDidCommit(HeapTupleHeaderGetRawXmin(tuple)))
		return false;
	HeapTupleHeaderSetXminFrozen(tuple);
	return true;
}

static void
freeze_block(Relation rel, BlockNumber block, BufferAccessStrategy strategy)
{
	Buffer		buffer = ReadBufferExtended(rel, MAIN_FORKNUM, block,
											RBM_NORMAL, strategy);
	GenericXLogState *state;
	Page		page;
	OffsetNumber last;
	OffsetNumber i;
	bool		changed = false;

	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	state = GenericXLogStart(rel);
	page = GenericXLogRegisterBuffer(state, buffer, 0);
	last = PageGetMaxOffsetNumber(page);
	for (i = FirstOffsetNumber; i <= last; i = OffsetNumberNext(i))
	{
		ItemId		item = PageGetItemId(page, i);

		if (ItemIdIsNormal(item) &&
			freeze_tuple((HeapTupleHeader) PageGetItem(page, item)))
			changed = true;
	}
	if (changed)
		(void) GenericXLogFinish(state);
	else
		GenericXLogAbort(state);
	UnlockReleaseBuffer(buffer);
}

/*
 * Freeze all committed rows of a leaf, in a transaction of its own.  Nobody
 * else may know the leaf, and no row of it may have been changed or deleted.
 */
void
psh_freeze_leaf(Oid relid)
{
	BufferAccessStrategy strategy;
	Relation	rel;
	BlockNumber nblocks;
	BlockNumber block;

	psh_txn_begin("freezing a partition");
	rel = table_open(relid, RowExclusiveLock);
	strategy = GetAccessStrategy(BAS_VACUUM);
	nblocks = RelationGetNumberOfBlocks(rel);
	for (block = 0; block < nblocks; block++)
	{
		CHECK_FOR_INTERRUPTS();
		freeze_block(rel, block, strategy);
	}
	FreeAccessStrategy(strategy);
	table_close(rel, NoLock);
	psh_txn_commit();
}
