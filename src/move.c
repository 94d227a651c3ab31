/*-------------------------------------------------------------------------
 *
 * move.c
 *	  Rows that leave the DEFAULT partition for a new one.
 *
 * Both are locked against everybody, and the new one is no partition yet and
 * has no index: ATTACH builds them and checks what is unique.  To the
 * application nothing happens to a row, so nothing is fired: no trigger, no
 * action of a foreign key, no mirror.  DELETE and INSERT would fire all those
 * that are ENABLE ALWAYS, the mirror of a conversion among them, which must
 * not learn of half of the move.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/tupconvert.h"
#include "access/xact.h"
#include "catalog/pg_am.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/typcache.h"

#include "compat.h"
#include "move.h"

typedef struct Move
{
	Relation	from;
	Relation	to;
	AttrMap    *map;
	Snapshot	snapshot;
	TupleTableSlot *row;		/* in the form of the new partition */
} Move;

/*
 * Add the comparison of the column with a boundary to the keys of a scan.  The
 * types of keys are the server's own, and so are their operators.
 */
static int
add_key(ScanKey key, Relation rel, const char *column, const char *bound,
		StrategyNumber strategy)
{
	AttrNumber	attnum = get_attnum(RelationGetRelid(rel), column);
	Oid			type = get_atttype(RelationGetRelid(rel), attnum);
	TypeCacheEntry *cache;
	Oid			operator;
	Oid			input;
	Oid			param;

	if (strcmp(bound, "MINVALUE") == 0 || strcmp(bound, "MAXVALUE") == 0)
		return 0;
	cache = lookup_type_cache(type, TYPECACHE_BTREE_OPFAMILY);
	operator = get_opfamily_member(cache->btree_opf, type, type, strategy);
	if (!OidIsValid(operator))
		elog(ERROR, "type %u has no operator for strategy %d", type, strategy);
	getTypeInputInfo(type, &input, &param);
	ScanKeyInit(key, attnum, strategy, get_opcode(operator),
				OidInputFunctionCall(input, pstrdup(bound), param, -1));
	return 1;
}

static void
move_row(Move *move, TupleTableSlot *slot, CommandId command)
{
	TM_FailureData failure;

	execute_attr_map_slot(move->map, slot, move->row);
	move->row->tts_tableOid = RelationGetRelid(move->to);
	table_tuple_insert(move->to, move->row, command, 0, NULL);
	if (table_tuple_delete(move->from, &slot->tts_tid, command,
						   move->snapshot, InvalidSnapshot, true, &failure,
						   true) != TM_Ok)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("a row of table \"%s\" changed while it was moved",
						RelationGetRelationName(move->from))));
}

/*
 * Move the rows whose column is within a range from one table to another, and
 * return how many they were.  Raises an error when there are more than
 * `limit`.  The caller holds ACCESS EXCLUSIVE on both, of which the second has
 * no index.
 */
int64
psh_move_rows(Oid from, Oid to, const char *column,
			  const char *lower, const char *upper, int limit)
{
	Move		move = {0};
	ScanKeyData keys[2];
	int			nkeys;
	TableScanDesc scan;
	TupleTableSlot *slot;
	MemoryContext each = AllocSetContextCreate(CurrentMemoryContext,
											   "partshift move",
											   ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller;
	CommandId	command = GetCurrentCommandId(true);
	int64		moved = 0;

	move.from = table_open(from, NoLock);
	move.to = table_open(to, NoLock);
	if (move.from->rd_rel->relam != HEAP_TABLE_AM_OID)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot move rows out of table \"%s\"",
						RelationGetRelationName(move.from)),
				 errdetail("It is not a heap table.")));
	move.map = psh_attrmap_by_name(RelationGetDescr(move.from),
								   RelationGetDescr(move.to));
	move.row = MakeSingleTupleTableSlot(RelationGetDescr(move.to),
										&TTSOpsVirtual);
	move.snapshot = RegisterSnapshot(GetLatestSnapshot());
	nkeys = add_key(&keys[0], move.from, column, lower,
					BTGreaterEqualStrategyNumber);
	nkeys += add_key(&keys[nkeys], move.from, column, upper,
					 BTLessStrategyNumber);

	slot = table_slot_create(move.from, NULL);
	scan = table_beginscan(move.from, move.snapshot, nkeys, keys);
	caller = MemoryContextSwitchTo(each);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		if (++moved > limit)
			ereport(ERROR,
					(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					 errmsg("more than %d rows of table \"%s\" belong to the new partition",
							limit, RelationGetRelationName(move.from)),
					 errhint("Move them at a quiet time, with a higher move_rows.")));
		move_row(&move, slot, command);
		MemoryContextReset(each);
	}
	MemoryContextSwitchTo(caller);
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	ExecDropSingleTupleTableSlot(move.row);
	UnregisterSnapshot(move.snapshot);
	table_close(move.from, NoLock);
	table_close(move.to, NoLock);
	MemoryContextDelete(each);
	CommandCounterIncrement();
	return moved;
}
