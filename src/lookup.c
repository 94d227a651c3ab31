/*-------------------------------------------------------------------------
 *
 * lookup.c
 *	  Finding a row by its identity, whoever is writing it.
 *
 * RelationFindReplTupleByIndex() of the server waits for the writer it meets
 * and locks what it finds.  A trigger wants the first only and reconcile
 * neither, since it must not wait; hence a look-up of our own, which reports
 * the writer and leaves the rest to the caller.
 *
 * With a dirty snapshot a row is found that any transaction, whenever it
 * began, has committed, and a row in the middle of being written is seen as
 * such.  That is what lets a REPEATABLE READ writer find what was committed
 * after its snapshot was taken.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/stratnum.h"
#include "catalog/pg_am.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/typcache.h"

#include "compat.h"
#include "lookup.h"

/*
 * The numbers of the identity's columns in a table.
 */
AttrNumber *
psh_identity_columns(Relation rel, List *identity)
{
	AttrNumber *columns = palloc(sizeof(AttrNumber) * list_length(identity));
	ListCell   *cell;

	foreach(cell, identity)
	{
		AttrNumber	column = get_attnum(RelationGetRelid(rel), lfirst(cell));

		if (column <= 0)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("column \"%s\" of relation \"%s\" does not exist",
							(char *) lfirst(cell),
							RelationGetRelationName(rel))));
		columns[foreach_current_index(cell)] = column;
	}
	return columns;
}

/*
 * The types of the identity's columns.
 */
Oid *
psh_identity_types(Relation rel, const AttrNumber *columns, int n)
{
	Oid		   *types = palloc(sizeof(Oid) * n);
	int			i;

	for (i = 0; i < n; i++)
		types[i] = TupleDescAttr(RelationGetDescr(rel),
								 columns[i] - 1)->atttypid;
	return types;
}

/*
 * Raise unless the columns are of these types.
 */
void
psh_identity_check(Relation rel, const AttrNumber *columns, int n,
				   const Oid *types)
{
	int			i;

	for (i = 0; i < n; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(RelationGetDescr(rel),
											   columns[i] - 1);

		if (attr->atttypid != types[i])
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("column \"%s\" of table \"%s\" has type %s instead of %s",
							NameStr(attr->attname),
							RelationGetRelationName(rel),
							format_type_be(attr->atttypid),
							format_type_be(types[i]))));
	}
}

/*
 * The identity of the row in the slot.  The values point into the slot.
 */
void
psh_identity_read(TupleTableSlot *slot, const AttrNumber *columns, int n,
				  Datum *identity)
{
	int			i;

	for (i = 0; i < n; i++)
	{
		bool		isnull;

		identity[i] = slot_getattr(slot, columns[i], &isnull);
		if (isnull)
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("column %d of a row's identity is null",
							columns[i])));
	}
}

/*
 * Whether two identities are the same by the types' own equality.
 */
bool
psh_identity_equal(Relation rel, const AttrNumber *columns, int n,
				   const Datum *a, const Datum *b)
{
	int			i;

	for (i = 0; i < n; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(RelationGetDescr(rel),
											   columns[i] - 1);
		TypeCacheEntry *type = lookup_type_cache(attr->atttypid,
												 TYPECACHE_EQ_OPR_FINFO);

		if (!DatumGetBool(FunctionCall2Coll(&type->eq_opr_finfo,
											attr->attcollation, a[i], b[i])))
			return false;
	}
	return true;
}

/* How many leading identity columns a unique index covers; 0: unfit. */
static int
covers(Relation index, const AttrNumber *columns, int n)
{
	Form_pg_index form = index->rd_index;
	int			i;

	if (!form->indisunique || !form->indimmediate || !form->indisvalid ||
		form->indnkeyatts > n || index->rd_rel->relam != BTREE_AM_OID ||
		RelationGetIndexPredicate(index) != NIL)
		return 0;
	for (i = 0; i < form->indnkeyatts; i++)
		if (form->indkey.values[i] != columns[i])
			return 0;
	return form->indnkeyatts;
}

static void
make_scan_keys(PshKey *key)
{
	Relation	index = key->index;
	int			i;

	for (i = 0; i < key->nkeys; i++)
	{
		Oid			type = index->rd_opcintype[i];
		Oid			operator = get_opfamily_member(index->rd_opfamily[i],
												   type, type,
												   BTEqualStrategyNumber);

		ScanKeyEntryInitialize(&key->keys[i], 0, i + 1, BTEqualStrategyNumber,
							   type, index->rd_indcollation[i],
							   get_opcode(operator), (Datum) 0);
	}
}

/*
 * Choose a unique index of the table over leading columns of the identity, or
 * return NULL when there is none.  On a partition it is the longest, the
 * identity's own.  On an ordinary table it is the shortest: a row that has
 * kept its key but is of another identity now must be met, not stumbled over
 * when the row is written.
 */
PshKey *
psh_key_make(Relation rel, const AttrNumber *columns, int n, LOCKMODE lockmode)
{
	PshKey	   *key = palloc0(sizeof(PshKey));
	List	   *indexes = RelationGetIndexList(rel);
	ListCell   *cell;

	foreach(cell, indexes)
	{
		Relation	index = index_open(lfirst_oid(cell), lockmode);
		int			nkeys = covers(index, columns, n);

		if (nkeys == 0 ||
			(key->index && (nkeys <= key->nkeys) == rel->rd_rel->relispartition))
		{
			index_close(index, NoLock);
			continue;
		}
		if (key->index)
			index_close(key->index, NoLock);
		key->index = index;
		key->nkeys = nkeys;
	}
	list_free(indexes);
	if (key->index == NULL)
	{
		pfree(key);
		return NULL;
	}
	make_scan_keys(key);
	key->indexid = RelationGetRelid(key->index);
	psh_key_close(key);
	return key;
}

/*
 * Open the index that was chosen; the caller has the table locked and has seen
 * to it that the choice still holds.
 */
void
psh_key_open(PshKey *key, LOCKMODE lockmode)
{
	key->index = index_open(key->indexid, lockmode);
}

/*
 * Close the index; the lock stays.
 */
void
psh_key_close(PshKey *key)
{
	index_close(key->index, NoLock);
	key->index = NULL;
}

/*
 * Find the row with this identity, as far as the index covers it, and put it
 * into the slot.  With a dirty snapshot *busy is the transaction that is
 * writing the row when PSH_BUSY is returned; then the slot is empty.
 */
PshFound
psh_key_find(PshKey *key, Relation rel, const Datum *identity,
			 Snapshot snapshot, TupleTableSlot *slot, TransactionId *busy)
{
	IndexScanDesc scan = psh_index_beginscan(rel, key->index, snapshot,
											 key->nkeys);
	PshFound	found = PSH_ABSENT;
	ScanKeyData keys[INDEX_MAX_KEYS];
	int			i;

	/* What the functions keep lives as long as the look-up, not as the key. */
	memcpy(keys, key->keys, sizeof(ScanKeyData) * key->nkeys);
	for (i = 0; i < key->nkeys; i++)
	{
		keys[i].sk_argument = identity[i];
		keys[i].sk_func.fn_extra = NULL;
		keys[i].sk_func.fn_mcxt = CurrentMemoryContext;
	}
	index_rescan(scan, keys, key->nkeys, NULL, 0);

	ExecClearTuple(slot);
	if (index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		found = PSH_FOUND;
		if (snapshot->snapshot_type == SNAPSHOT_DIRTY)
		{
			*busy = TransactionIdIsValid(snapshot->xmin) ?
				snapshot->xmin : snapshot->xmax;
			if (TransactionIdIsValid(*busy))
			{
				ExecClearTuple(slot);
				found = PSH_BUSY;
			}
			else
				ExecMaterializeSlot(slot);
		}
		else
			ExecMaterializeSlot(slot);
	}
	index_endscan(scan);
	return found;
}
