/*-------------------------------------------------------------------------
 *
 * duplicate.c
 *	  Whether a row that was written to a follower is one too many there.
 *
 * Unique indexes of the follower other than its key's are entered without an
 * error, since the row that holds a value may be about to lose it: AFTER
 * triggers of a nested statement run before the outer statement's.  So a value
 * that is there twice is a duplicate only if the authority has it twice as
 * well, which it can where it enforces less than the follower.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/tableam.h"
#include "catalog/index.h"
#include "executor/executor.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "duplicate.h"
#include "sql.h"

/* Whether two unique indexes of two tables are of the same columns. */
static bool
same_key(Relation a, Relation b)
{
	int			i;

	if (a->rd_index->indnkeyatts != b->rd_index->indnkeyatts ||
		RelationGetIndexExpressions(a) != NIL ||
		RelationGetIndexExpressions(b) != NIL ||
		RelationGetIndexPredicate(a) != NIL ||
		RelationGetIndexPredicate(b) != NIL)
		return false;
	for (i = 0; i < a->rd_index->indnkeyatts; i++)
		if (strcmp(get_attname(a->rd_index->indrelid,
							   a->rd_index->indkey.values[i], false),
				   get_attname(b->rd_index->indrelid,
							   b->rd_index->indkey.values[i], false)) != 0)
			return false;
	return true;
}

/*
 * Whether the table to which `leaf` belongs keeps the columns of a unique index
 * of another table unique as well, in all its partitions.
 */
static bool
keeps_unique(Relation leaf, Oid indexid)
{
	Relation	other = index_open(indexid, AccessShareLock);
	List	   *indexes = RelationGetIndexList(leaf);
	bool		found = false;
	ListCell   *cell;

	foreach(cell, indexes)
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);

		found = found || (index->rd_index->indisunique &&
						  index->rd_rel->relispartition &&
						  same_key(index, other));
		index_close(index, NoLock);
	}
	list_free(indexes);
	index_close(other, NoLock);
	return found;
}

/* Put what leaf->row holds in a unique index of the leaf into scan keys. */
static void
keys_of_row(PshLeaf *leaf, Relation index, IndexInfo *info, ScanKey keys)
{
	Datum		values[INDEX_MAX_KEYS];
	bool		nulls[INDEX_MAX_KEYS];
	int			i;

	if (leaf->estate)
		GetPerTupleExprContext(leaf->estate)->ecxt_scantuple = leaf->row;
	FormIndexDatum(info, leaf->row, leaf->estate, values, nulls);
	for (i = 0; i < index->rd_index->indnkeyatts; i++)
	{
		Oid			type = index->rd_opcintype[i];
		Oid			operator = get_opfamily_member(index->rd_opfamily[i],
												   type, type,
												   BTEqualStrategyNumber);

		ScanKeyEntryInitialize(&keys[i],
							   nulls[i] ? SK_ISNULL | SK_SEARCHNULL : 0, i + 1,
							   nulls[i] ? InvalidStrategy : BTEqualStrategyNumber,
							   type, index->rd_indcollation[i],
							   nulls[i] ? InvalidOid : get_opcode(operator),
							   values[i]);
	}
}

/* Whether a row of the leaf's layout has the value in the index, too. */
static bool
has_value(PshLeaf *leaf, TupleTableSlot *row, Relation index, IndexInfo *info,
		  ScanKey keys)
{
	Datum		values[INDEX_MAX_KEYS];
	bool		nulls[INDEX_MAX_KEYS];
	int			i;

	if (leaf->estate)
		GetPerTupleExprContext(leaf->estate)->ecxt_scantuple = row;
	if (info->ii_PredicateState && !ExecQual(info->ii_PredicateState,
											 GetPerTupleExprContext(leaf->estate)))
		return false;
	FormIndexDatum(info, row, leaf->estate, values, nulls);
	for (i = 0; i < index->rd_index->indnkeyatts; i++)
	{
		bool		null = (keys[i].sk_flags & SK_ISNULL) != 0;

		if (nulls[i] != null ||
			(!null && !DatumGetBool(FunctionCall2Coll(&keys[i].sk_func,
													  keys[i].sk_collation,
													  values[i],
													  keys[i].sk_argument))))
			return false;
	}
	return true;
}

/*
 * Whether the authority has a row with the identity and the value that
 * `holder`, a row of the follower, has.
 */
static bool
authority_has(PshTable *authority, PshLeaf *follower, TupleTableSlot *holder,
			  Relation index, IndexInfo *info, ScanKey keys)
{
	Datum		identity[INDEX_MAX_KEYS];
	PshLeaf    *leaf;
	TupleTableSlot *slot;
	bool		has;

	if (follower->projection == NULL)
		psh_identity_read(holder, follower->columns, authority->nidentity,
						  identity);
	else if (!psh_projection_identity(follower->projection, holder, identity))
		return false;
	leaf = psh_table_leaf(authority, identity);
	if (leaf == NULL || leaf->key == NULL)
		return leaf != NULL;
	slot = table_slot_create(leaf->rel, NULL);
	has = psh_key_find(leaf->key, leaf->rel, identity, SnapshotSelf, slot,
					   NULL) == PSH_FOUND;
	if (has)
	{
		AttrMap    *map = psh_attrmap_by_name(RelationGetDescr(leaf->rel),
											  RelationGetDescr(follower->rel));

		ExecClearTuple(holder);
		execute_attr_map_slot(map, slot, holder);
		has = has_value(follower, holder, index, info, keys);
		free_attrmap(map);
	}
	ExecDropSingleTupleTableSlot(slot);
	return has;
}

/*
 * Whether another row of the follower holds the value of the row that was
 * written, and keeps it.  One that the authority has no longer, or no longer
 * with this value, is about to go: its event is still to come.  What another
 * transaction has written and not committed counts as staying.
 */
static bool
holder_stays(PshTable *authority, PshLeaf *leaf, Relation index,
			 IndexInfo *info)
{
	ScanKeyData keys[INDEX_MAX_KEYS];
	SnapshotData dirty;
	IndexScanDesc scan;
	TupleTableSlot *holder = MakeSingleTupleTableSlot(RelationGetDescr(leaf->rel),
													  &TTSOpsVirtual);
	TupleTableSlot *slot = table_slot_create(leaf->rel, NULL);
	bool		stays = false;

	keys_of_row(leaf, index, info, keys);
	InitDirtySnapshot(dirty);
	scan = psh_index_beginscan(leaf->rel, index, &dirty,
							   index->rd_index->indnkeyatts);
	index_rescan(scan, keys, index->rd_index->indnkeyatts, NULL, 0);
	while (!stays && index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		if (ItemPointerEquals(&slot->tts_tid, &leaf->row->tts_tid))
			continue;
		ExecCopySlot(holder, slot);
		stays = TransactionIdIsValid(dirty.xmin) ||
			TransactionIdIsValid(dirty.xmax) ||
			authority_has(authority, leaf, holder, index, info, keys);
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	ExecDropSingleTupleTableSlot(holder);
	return stays;
}

/*
 * Whether leaf->row, which was just written, is one too many for the follower.
 * `from` is the authority's partition that it comes from; where the authority
 * keeps the same columns unique, no other row can keep the value.
 */
bool
psh_duplicate_stays(PshTable *authority, PshLeaf *leaf, Relation from)
{
	bool		stays = false;
	PshUser		saved;
	int			i;

	if (leaf->conflicts == NIL)
		return false;
	psh_user_switch(leaf->rel->rd_rel->relowner, true, &saved);
	for (i = 0; i < leaf->nindexes && !stays; i++)
	{
		Oid			indexid = RelationGetRelid(leaf->indexes[i]);

		stays = list_member_oid(leaf->conflicts, indexid) &&
			!keeps_unique(from, indexid) &&
			holder_stays(authority, leaf, leaf->indexes[i], leaf->infos[i]);
	}
	psh_user_restore(&saved);
	return stays;
}
