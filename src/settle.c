/*-------------------------------------------------------------------------
 *
 * settle.c
 *	  Making one table follow another, row by row, in the writer's
 *	  transaction.
 *
 * Before: the transaction has written the authority's row of an identity, so
 * that nobody else can write that row, nor a new one with its key, until it
 * ends.  After: the follower's row of that identity is the authority's, or
 * absent with it, as this transaction sees both.
 *
 * The follower is read with a dirty snapshot, and a writer met there is waited
 * for.  It is another transaction that mirrors the same key, or our reconcile,
 * which never waits for anybody; so the only cycles are those that the writes
 * to the authority could have made as well, and the server's deadlock detector
 * finds them.
 *
 * The order of events is no proof of what is current: AFTER triggers of nested
 * statements run before the outer statement's.  What the transaction itself
 * has already written to the follower is therefore never deleted on the word
 * of an event; the identity is looked up in the authority (psh_follow_settle).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "pgstat.h"
#include "storage/lmgr.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "duplicate.h"
#include "settle.h"

#define DUPLICATE "it holds unique what the new table does not"

static bool
drop_out(PshPair *pair, const char *obstacle)
{
	pair->obstacle = obstacle;
	return false;
}

/* Look for the follower's row, waiting until nobody is writing it. */
static PshFound
find_settled(PshLeaf *leaf, const Datum *identity)
{
	SnapshotData dirty;
	TransactionId busy = InvalidTransactionId;
	PshFound	found;

	InitDirtySnapshot(dirty);
	while ((found = psh_leaf_find(leaf, identity, &dirty, &busy)) == PSH_BUSY)
		XactLockTableWait(busy, NULL, NULL, XLTW_None);
	return found;
}

/*
 * Whether leaf->found is of this identity in the columns the index lacks, too;
 * if so, its own is returned, which may be spelt otherwise.
 */
static const Datum *
same_identity(PshTable *table, PshLeaf *leaf, const Datum *identity)
{
	Datum	   *own;

	if (leaf->key->nkeys == table->nidentity)
		return identity;
	own = palloc(sizeof(Datum) * table->nidentity);
	if (psh_leaf_identity(table, leaf, leaf->found, own) &&
		psh_leaf_identity_equal(table, leaf, identity, own))
		return own;
	return NULL;
}

/*
 * Whether the follower's row, which stands where another identity wants to
 * be, is of a row that the authority still has.
 */
static bool
holder_is_live(PshPair *pair, PshLeaf *follower)
{
	Datum		holder[INDEX_MAX_KEYS];
	PshLeaf    *leaf;
	TupleTableSlot *slot;
	bool		live;

	if (!psh_leaf_identity(pair->follower, follower, follower->found, holder))
		return false;
	leaf = psh_table_leaf(pair->authority, holder);
	if (leaf == NULL || leaf->key == NULL)
		return leaf != NULL;
	slot = table_slot_create(leaf->rel, NULL);
	live = psh_key_find(leaf->key, leaf->rel, holder, SnapshotSelf, slot,
						NULL) == PSH_FOUND;
	ExecDropSingleTupleTableSlot(slot);
	return live;
}

/* Take back leaf->row, which is a duplicate of another row of the follower. */
static void
take_back(PshLeaf *leaf)
{
	CommandCounterIncrement();
	simple_table_tuple_delete(leaf->rel, &leaf->row->tts_tid,
							  GetActiveSnapshot());
}

/*
 * Make the follower's row of this identity equal to `row`, which is the
 * authority's live version and has the layout of `from`.  Returns false when
 * the follower cannot hold it because of another row; only a pair that yields
 * can be told so.
 */
bool
psh_follow_put(PshPair *pair, Relation from, TupleTableSlot *row,
			   const Datum *identity)
{
	PshLeaf    *leaf = psh_table_leaf(pair->follower, identity);
	bool		written = false;

	if (leaf == NULL && pair->yields)
		return drop_out(pair, "it has no partition for a row");
	if (leaf == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CHECK_VIOLATION),
				 errmsg("no partition of table \"%s\" takes the row",
						RelationGetRelationName(pair->follower->rel))));
	while (!written)
	{
		PshFound	found = find_settled(leaf, identity);

		psh_leaf_load(leaf, from, row, identity);
		if (found == PSH_ABSENT)
		{
			psh_leaf_insert(leaf);
			written = true;
		}
		else
		{
			if (pair->yields &&
				!same_identity(pair->follower, leaf, identity) &&
				holder_is_live(pair, leaf))
				return drop_out(pair, DUPLICATE);
			written = psh_leaf_update(leaf);
		}
	}
	if (pair->yields && psh_duplicate_stays(pair->authority, leaf, from))
	{
		take_back(leaf);
		return drop_out(pair, DUPLICATE);
	}
	return true;
}

static bool
written_by_us(PshLeaf *leaf)
{
	bool		isnull;
	Datum		xmin = slot_getsysattr(leaf->found,
									   MinTransactionIdAttributeNumber,
									   &isnull);

	return TransactionIdIsCurrentTransactionId(DatumGetTransactionId(xmin));
}

/*
 * Delete the follower's row of this identity.  With `sure` false a row that
 * this transaction has written itself is not deleted and false is returned.
 */
static bool
delete_row(PshPair *pair, const Datum *identity, bool sure)
{
	PshLeaf    *leaf = psh_table_leaf(pair->follower, identity);

	if (leaf == NULL)
		return true;
	for (;;)
	{
		if (find_settled(leaf, identity) == PSH_ABSENT ||
			!same_identity(pair->follower, leaf, identity))
			return true;
		if (!sure && written_by_us(leaf))
			return false;
		if (psh_leaf_delete(leaf))
			return true;
	}
}

/*
 * The authority lost its row of this identity, says an event: so shall the
 * follower.  Returns what psh_follow_put() returns.
 */
bool
psh_follow_remove(PshPair *pair, const Datum *identity)
{
	if (delete_row(pair, identity, false))
		return true;
	return psh_follow_settle(pair, identity);
}

/*
 * Make the follower agree with what the authority holds for this identity
 * now.  Returns what psh_follow_put() returns.
 */
bool
psh_follow_settle(PshPair *pair, const Datum *identity)
{
	PshLeaf    *leaf = psh_table_leaf(pair->authority, identity);
	const Datum *own;

	psh_follow_count(pair, true);
	if (pair->yields && leaf != NULL && leaf->key == NULL)
		return drop_out(pair, "a partition has no index that finds its rows");
	if (leaf != NULL &&
		psh_leaf_find(leaf, identity, SnapshotSelf, NULL) == PSH_FOUND &&
		(own = same_identity(pair->authority, leaf, identity)) != NULL)
		return psh_follow_put(pair, leaf->rel, leaf->found, own);
	(void) delete_row(pair, identity, true);
	return true;
}

/*
 * Count a row that is mirrored, or one that has to be looked up again.  The
 * server counts nothing for a partitioned table itself, only for its leaves,
 * so its tuples read and its scans are free for that: a number in this
 * process's memory, sent along with the rest of its statistics.
 */
void
psh_follow_count(const PshPair *pair, bool again)
{
	Relation	rel = pair->yields ? pair->authority->rel :
		pair->follower->rel;

	if (again)
		pgstat_count_heap_scan(rel);
	else
		pgstat_count_heap_getnext(rel);
}
