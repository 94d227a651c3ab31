/*-------------------------------------------------------------------------
 *
 * agree.c
 *	  Making the shadow agree about one identity, from outside the
 *	  writers' transactions.
 *
 * Before: the mirror triggers are in place, so that whoever changes a row of
 * the source from now on changes the shadow in the same transaction; but the
 * shadow's row of this identity may be stale, left by the copy.  After: when
 * true is returned and the transaction commits, the shadow agrees with the
 * source about the identity, and stays so.
 *
 * Nothing here waits.  What somebody else is writing or has locked is left
 * for later (false), so that no transaction of ours ever waits for a user's
 * while it holds a row that a user may want.
 *
 * When the source has the row and the shadow's is equal to it, all is done: the
 * source was read after the mirror triggers were in place and the shadow after
 * the source, so whatever differs later will have been mirrored.  Rows that
 * are written again and again stand in the log as often, and cost one lock.
 *
 * When they differ, a share lock on the source's row keeps every writer away
 * until we commit, and the shadow's row is made equal.
 *
 * When it has not, the order is: lock the shadow's row, then look in the
 * source once more.  A writer that inserts the key meanwhile has either
 * mirrored it already, which we see as a shadow row that is busy or was
 * replaced, or will come to the shadow's row later, wait for us there, and
 * find it gone.  Looking first and deleting then would delete the row of a
 * writer that inserted the key and mirrored it onto the stale row in between.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/tableam.h"
#include "access/xact.h"
#include "utils/datum.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "agree.h"

/* Find a row in a snapshot taken now; it is left in leaf->found. */
static bool
find_now(PshLeaf *leaf, const Datum *identity)
{
	PshFound	found;

	PushActiveSnapshot(GetLatestSnapshot());
	found = psh_leaf_find(leaf, identity, GetActiveSnapshot(), NULL);
	PopActiveSnapshot();
	return found == PSH_FOUND;
}

/*
 * Lock leaf->found without waiting; false when it is locked, or is no longer
 * the last version of its row.
 */
static bool
lock_row(PshLeaf *leaf, LockTupleMode mode)
{
	ItemPointerData tid = leaf->found->tts_tid;
	TM_FailureData failure;

	return table_tuple_lock(leaf->rel, &tid, GetActiveSnapshot(), leaf->found,
							GetCurrentCommandId(true), mode, LockWaitSkip, 0,
							&failure) == TM_Ok;
}

/* Whether leaf->row and leaf->found are the same, byte by byte. */
static bool
is_equal(PshLeaf *leaf)
{
	TupleDesc	desc = RelationGetDescr(leaf->rel);
	int			i;

	slot_getallattrs(leaf->found);
	for (i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(desc, i);

		if (attr->attisdropped)
			continue;
		if (leaf->row->tts_isnull[i] != leaf->found->tts_isnull[i])
			return false;
		if (!leaf->row->tts_isnull[i] &&
			!datum_image_eq(leaf->row->tts_values[i],
							leaf->found->tts_values[i],
							attr->attbyval, attr->attlen))
			return false;
	}
	return true;
}

/* Whether the shadow's row is settled and equal to the one in `from`. */
static bool
agrees_already(PshTable *shadow, PshLeaf *from, const Datum *identity)
{
	PshLeaf    *leaf = psh_table_leaf(shadow, identity);
	SnapshotData dirty;
	TransactionId busy;

	InitDirtySnapshot(dirty);
	if (leaf == NULL ||
		psh_leaf_find(leaf, identity, &dirty, &busy) != PSH_FOUND)
		return false;
	psh_leaf_load(leaf, from->rel, from->found, identity);
	return is_equal(leaf);
}

/* The source's row is locked in `from`: make the shadow's equal to it. */
static bool
put_row(PshTable *shadow, PshLeaf *from, const Datum *identity)
{
	PshLeaf    *leaf = psh_table_leaf(shadow, identity);
	SnapshotData dirty;
	TransactionId busy;

	if (leaf == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CHECK_VIOLATION),
				 errmsg("no partition of table \"%s\" takes the row",
						RelationGetRelationName(shadow->rel))));
	InitDirtySnapshot(dirty);
	switch (psh_leaf_find(leaf, identity, &dirty, &busy))
	{
		case PSH_BUSY:
			return false;
		case PSH_ABSENT:
			psh_leaf_load(leaf, from->rel, from->found, identity);
			psh_leaf_insert(leaf);
			return true;
		case PSH_FOUND:
			break;
	}
	psh_leaf_load(leaf, from->rel, from->found, identity);
	if (is_equal(leaf))
		return true;
	return lock_row(leaf, LockTupleNoKeyExclusive) &&
		psh_leaf_update(leaf);
}

/* Lock the shadow's row of an identity: *absent when there is none. */
static PshLeaf *
lock_shadow(PshTable *shadow, const Datum *identity, bool *absent)
{
	PshLeaf    *leaf = psh_table_leaf(shadow, identity);
	SnapshotData dirty;
	TransactionId busy;
	PshFound	found;

	*absent = leaf == NULL;
	if (leaf == NULL)
		return NULL;
	InitDirtySnapshot(dirty);
	found = psh_leaf_find(leaf, identity, &dirty, &busy);
	*absent = found == PSH_ABSENT;
	if (found != PSH_FOUND || !lock_row(leaf, LockTupleExclusive))
		return NULL;
	return leaf;
}

/* The source seems to have no row with this key. */
static bool
remove_row(PshTable *source, PshTable *shadow, const Datum *identity)
{
	bool		absent;
	PshLeaf    *leaf = lock_shadow(shadow, identity, &absent);
	PshLeaf    *from;

	if (leaf == NULL)
		return absent;
	from = psh_table_leaf(source, identity);
	if (from != NULL && find_now(from, identity))
		return false;
	return psh_leaf_delete(leaf);
}

/*
 * Make the shadow agree with the source about an identity.  Both are open;
 * the caller is the tables' owner.  Returns false when that has to wait.
 */
bool
psh_agree(PshTable *source, PshTable *shadow, const Datum *identity)
{
	PshLeaf    *from = psh_table_leaf(source, identity);
	Datum		current[INDEX_MAX_KEYS];
	PshLeaf    *leaf;
	bool		same;
	bool		absent;

	if (from == NULL || !find_now(from, identity))
		return remove_row(source, shadow, identity);
	same = psh_leaf_identity(source, from, from->found, current) &&
		psh_leaf_identity_equal(source, from, identity, current);
	if (same && agrees_already(shadow, from, current))
		return true;
	if (!lock_row(from, LockTupleShare))
		return false;
	if (same)
		return put_row(shadow, from, current);

	/*
	 * The key has another identity now, or none: this one is gone, and cannot
	 * return.
	 */
	leaf = lock_shadow(shadow, identity, &absent);
	return leaf == NULL ? absent : psh_leaf_delete(leaf);
}
