/*-------------------------------------------------------------------------
 *
 * leaf.c
 *	  One heap, whose rows are found and written by identity.
 *
 * Used by the mirror triggers in the user's transaction and by reconcile in
 * ours.  The executor's own insert and update would fire the triggers of the
 * leaf, check its constraints and raise at a duplicate in any unique index;
 * a mirrored row must do none of that.  Triggers fired on the source, and the
 * source enforces the constraints.
 *
 * The identity's index is checked as always: no two transactions can be
 * writing one identity, because each holds the row of the source that bears
 * it.  Other unique indexes are checked as deferrable ones are, without
 * waiting and without raising: a stale row that awaits reconcile may still
 * hold the value.
 *
 * Expressions of indexes run as the owner of the table that has them, in a
 * security-restricted operation.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/attmap.h"
#include "access/genam.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "executor/executor.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "leaf.h"
#include "sql.h"
#include "table.h"
#include "trigcache.h"

/*
 * A slot with a descriptor of its own: the relation's would be pinned only as
 * long as the resource owner of this call lives.
 */
static TupleTableSlot *
make_slot(Relation rel, const TupleTableSlotOps *ops)
{
	return MakeSingleTupleTableSlot(CreateTupleDescCopyConstr(RelationGetDescr(rel)),
									ops);
}

static void
prepare_indexes(PshLeaf *leaf)
{
	List	   *list = RelationGetIndexList(leaf->rel);
	ListCell   *cell;

	leaf->indexes = palloc(sizeof(Relation) * Max(list_length(list), 1));
	leaf->infos = palloc(sizeof(IndexInfo *) * Max(list_length(list), 1));
	leaf->indexids = list;
	foreach(cell, list)
	{
		Relation	index = index_open(lfirst_oid(cell), RowExclusiveLock);
		IndexInfo  *info = BuildIndexInfo(index);

		psh_trigcache_watch(lfirst_oid(cell));
		leaf->infos[leaf->nindexes++] = info;
		if (info->ii_Expressions != NIL || info->ii_Predicate != NIL)
			leaf->evaluates = true;
		index_close(index, NoLock);
	}
}

/* Work out what is needed of a leaf, whose relation is open. */
static PshLeaf *
prepare(PshTable *table, Relation rel)
{
	PshLeaf    *leaf = palloc0(sizeof(PshLeaf));
	PshProjection *projection = psh_projection_make(rel, table->identity,
													table->computed);

	leaf->rel = rel;
	leaf->relid = RelationGetRelid(rel);
	leaf->generation = psh_trigcache_generation();
	psh_trigcache_watch(leaf->relid);
	leaf->columns = projection->columns;
	psh_identity_check(rel, leaf->columns, projection->nown, table->types);
	leaf->key = psh_key_make(rel, leaf->columns, projection->nown,
							 table->lockmode);
	if (table->computed)
		leaf->projection = projection;
	leaf->fill = table->fill;
	if (leaf->fill)
		leaf->fill_place = psh_computed_place(leaf->fill, table->identity);
	leaf->exact = leaf->key && leaf->key->nkeys == table->nidentity &&
		rel->rd_rel->relispartition;
	leaf->found = make_slot(rel, table_slot_callbacks(rel));
	if (table->for_write)
	{
		leaf->row = make_slot(rel, &TTSOpsVirtual);
		prepare_indexes(leaf);
	}
	return leaf;
}

static void
open_indexes(PshTable *table, PshLeaf *leaf)
{
	int			i;

	for (i = 0; i < leaf->nindexes; i++)
	{
		IndexInfo  *info = leaf->infos[i];

		leaf->indexes[i] = index_open(list_nth_oid(leaf->indexids, i),
									  RowExclusiveLock);
		/* These may point to what was open before. */
		info->ii_Context = table->scratch;
		info->ii_AmCache = NULL;
		info->ii_ExpressionsState = NIL;
		info->ii_PredicateState = NULL;
	}
	if (leaf->evaluates)
	{
		MemoryContext caller = MemoryContextSwitchTo(table->scratch);

		leaf->estate = CreateExecutorState();
		MemoryContextSwitchTo(caller);
	}
}

/*
 * Open a leaf of the table, whose relation is open.  What is kept of it, if
 * anything, is returned or, where it is no longer good, replaced.
 */
PshLeaf *
psh_leaf_open(PshTable *table, PshLeaf *kept, Relation rel)
{
	PshLeaf    *leaf = kept;

	if (leaf && leaf->relid == RelationGetRelid(rel) &&
		leaf->generation == psh_trigcache_generation())
		leaf->rel = rel;
	else
	{
		MemoryContext caller = MemoryContextSwitchTo(table->context);

		leaf = prepare(table, rel);
		MemoryContextSwitchTo(caller);
	}
	if (leaf->key)
		psh_key_open(leaf->key, table->lockmode);
	open_indexes(table, leaf);
	return leaf;
}

/*
 * Close a leaf, but not its relation; the locks stay.
 */
void
psh_leaf_close(PshLeaf *leaf)
{
	int			i;

	ExecClearTuple(leaf->found);
	if (leaf->row)
		ExecClearTuple(leaf->row);
	for (i = 0; i < leaf->nindexes; i++)
	{
		psh_index_insert_cleanup(leaf->indexes[i], leaf->infos[i]);
		index_close(leaf->indexes[i], NoLock);
	}
	if (leaf->estate)
		FreeExecutorState(leaf->estate);
	leaf->estate = NULL;
	if (leaf->key)
		psh_key_close(leaf->key);
	if (leaf->projection)
		psh_projection_end(leaf->projection);
	leaf->rel = NULL;
}

/*
 * Find the row of this identity and leave it in leaf->found.  A row that has
 * the index's columns in common but differs in the rest of the identity
 * counts as found; the caller compares where that can be.
 */
PshFound
psh_leaf_find(PshLeaf *leaf, const Datum *identity, Snapshot snapshot,
			  TransactionId *busy)
{
	if (leaf->key == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("table \"%s\" has lost the index that finds its rows",
						RelationGetRelationName(leaf->rel))));
	return psh_key_find(leaf->key, leaf->rel, identity, snapshot, leaf->found,
						busy);
}

/*
 * Read the identity of a row with the leaf's layout; false when it has none,
 * which can be only where the key is computed.
 */
bool
psh_leaf_identity(PshTable *table, PshLeaf *leaf, TupleTableSlot *row,
				  Datum *identity)
{
	if (leaf->projection)
		return psh_projection_identity(leaf->projection, row, identity);
	psh_identity_read(row, leaf->columns, table->nidentity, identity);
	return true;
}

/*
 * Whether two identities of rows of the leaf are the same.
 */
bool
psh_leaf_identity_equal(PshTable *table, PshLeaf *leaf, const Datum *a,
						const Datum *b)
{
	if (leaf->projection)
		return psh_projection_equal(leaf->projection, a, b);
	return psh_identity_equal(leaf->rel, leaf->columns, table->nidentity, a, b);
}

/*
 * Make leaf->row of a row of another table, column by column by name; what
 * that one lacks is in the identity.  The values point into the slot.
 */
void
psh_leaf_load(PshLeaf *leaf, Relation from, TupleTableSlot *slot,
			  const Datum *identity)
{
	if (leaf->fill)
	{
		psh_projection_row(leaf->fill, from, slot,
						   &identity[leaf->fill_place], leaf->row);
		return;
	}
	if (leaf->map_from != RelationGetRelid(from))
	{
		MemoryContext caller = MemoryContextSwitchTo(GetMemoryChunkContext(leaf));

		leaf->map = psh_attrmap_by_name(RelationGetDescr(from),
										RelationGetDescr(leaf->rel));
		leaf->map_from = RelationGetRelid(from);
		psh_trigcache_watch(leaf->map_from);
		MemoryContextSwitchTo(caller);
	}
	execute_attr_map_slot(leaf->map, slot, leaf->row);
}

/* Whether the row belongs into a partial index. */
static bool
satisfies_predicate(PshLeaf *leaf, IndexInfo *info)
{
	if (info->ii_Predicate == NIL)
		return true;
	if (info->ii_PredicateState == NULL)
		info->ii_PredicateState = ExecPrepareQual(info->ii_Predicate,
												  leaf->estate);
	return ExecQual(info->ii_PredicateState,
					GetPerTupleExprContext(leaf->estate));
}

/* Enter leaf->row, stored at its tts_tid, and note where it is a duplicate. */
static void
insert_index_entries(PshLeaf *leaf, PshUpdateIndexes update, bool is_update)
{
	PshUser		saved;
	int			i;

	/* Not freed: it may be of a context that has been reset since. */
	leaf->conflicts = NIL;
	if (leaf->estate)
	{
		psh_user_switch(leaf->rel->rd_rel->relowner, true, &saved);
		ResetPerTupleExprContext(leaf->estate);
		GetPerTupleExprContext(leaf->estate)->ecxt_scantuple = leaf->row;
	}
	for (i = 0; i < leaf->nindexes; i++)
	{
		Relation	index = leaf->indexes[i];
		IndexInfo  *info = leaf->infos[i];
		Datum		values[INDEX_MAX_KEYS];
		bool		nulls[INDEX_MAX_KEYS];
		IndexUniqueCheck check = UNIQUE_CHECK_NO;

		if (!info->ii_ReadyForInserts)
			continue;
		if (is_update && psh_update_skips(update, info))
			continue;
		if (!satisfies_predicate(leaf, info))
			continue;
		FormIndexDatum(info, leaf->row, leaf->estate, values, nulls);
		if (index->rd_index->indisunique)
			check = UNIQUE_CHECK_PARTIAL;
		if (leaf->exact && RelationGetRelid(index) ==
			RelationGetRelid(leaf->key->index))
			check = UNIQUE_CHECK_YES;
		if (!index_insert(index, values, nulls, &leaf->row->tts_tid,
						  leaf->rel, check, false, info) &&
			check == UNIQUE_CHECK_PARTIAL)
			leaf->conflicts = lappend_oid(leaf->conflicts,
										  RelationGetRelid(index));
	}
	if (leaf->estate)
		psh_user_restore(&saved);
}

/*
 * Insert leaf->row; it is at leaf->row->tts_tid then, also when a unique index
 * other than a partition's identity may hold its value already: see
 * leaf->conflicts.
 */
void
psh_leaf_insert(PshLeaf *leaf)
{
	leaf->row->tts_tableOid = RelationGetRelid(leaf->rel);
	table_tuple_insert(leaf->rel, leaf->row, GetCurrentCommandId(true), 0,
					   NULL);
	insert_index_entries(leaf, 0, false);
}

/* What this transaction wrote in this command can be changed in the next. */
static void
step_past_own_write(PshLeaf *leaf)
{
	bool		isnull;
	TransactionId xmin = DatumGetTransactionId(slot_getsysattr(leaf->found,
															   MinTransactionIdAttributeNumber,
															   &isnull));

	if (TransactionIdIsCurrentTransactionId(xmin))
		CommandCounterIncrement();
}

/*
 * Put leaf->row in the place of leaf->found, waiting for whoever has that row
 * locked.  Returns false when the row is not what it was: look again.
 * leaf->conflicts is as after psh_leaf_insert().
 */
bool
psh_leaf_update(PshLeaf *leaf)
{
	ItemPointerData tid = leaf->found->tts_tid;
	TM_FailureData failure;
	LockTupleMode lockmode;
	PshUpdateIndexes update;
	TM_Result	result;

	step_past_own_write(leaf);
	leaf->row->tts_tableOid = RelationGetRelid(leaf->rel);
	result = table_tuple_update(leaf->rel, &tid, leaf->row,
								GetCurrentCommandId(true), GetActiveSnapshot(),
								InvalidSnapshot, true, &failure, &lockmode,
								&update);
	if (result != TM_Ok)
		return false;
	insert_index_entries(leaf, update, true);
	return true;
}

/*
 * Delete leaf->found, waiting for whoever has it locked.  Returns false when
 * it is not what it was: look again.
 */
bool
psh_leaf_delete(PshLeaf *leaf)
{
	ItemPointerData tid = leaf->found->tts_tid;
	TM_FailureData failure;

	step_past_own_write(leaf);
	return table_tuple_delete(leaf->rel, &tid, GetCurrentCommandId(true),
							  GetActiveSnapshot(), InvalidSnapshot, true,
							  &failure, false) == TM_Ok;
}
