/*-------------------------------------------------------------------------
 *
 * capture.c
 *	  Log the identity of every row that is touched while rows are copied.
 *
 * Runs in the user's transaction, for each row.  Nothing here looks at the
 * rows' other columns, at an index or at a snapshot, and nothing waits: one
 * heap insert into a table without indexes, two when the identity changes.
 * If the transaction or a subtransaction of it rolls back, so does its entry.
 * A computed partition key is in the entry with its value.
 *
 * TRUNCATE needs no trigger at this stage: it gives the source another file,
 * which the next batch or the switch to mirroring notices.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "fmgr.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "capture.h"
#include "lookup.h"
#include "trigcache.h"

PG_FUNCTION_INFO_V1(partshift_capture_row);

/*
 * Open a log table of identities of n columns of these types; a log has the
 * base types of domains.
 */
Relation
psh_log_open(Oid relid, LOCKMODE lockmode, int n, const Oid *types)
{
	Relation	log = table_open(relid, lockmode);
	TupleDesc	desc = RelationGetDescr(log);
	bool		fits = desc->natts == n;
	int			i;

	for (i = 0; fits && i < n; i++)
		fits = TupleDescAttr(desc, i)->atttypid == types[i] ||
			TupleDescAttr(desc, i)->atttypid == getBaseType(types[i]);
	if (!fits)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("table \"%s\" is not the log of a conversion of the table",
						RelationGetRelationName(log))));
	return log;
}

static void
append(Relation log, TupleTableSlot *slot, int n, const Datum *identity)
{
	Assert(slot->tts_tupleDescriptor->natts == n);
	memcpy(slot->tts_values, identity, sizeof(Datum) * n);
	memset(slot->tts_isnull, false, sizeof(bool) * n);
	ExecStoreVirtualTuple(slot);
	table_tuple_insert(log, slot, GetCurrentCommandId(true), 0, NULL);
	ExecClearTuple(slot);
}

/*
 * Append an identity to a log table, whose columns are the identity's.  The
 * caller holds ROW EXCLUSIVE on it.
 */
void
psh_log_append(Relation log, int n, const Datum *identity)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(log),
													&TTSOpsVirtual);

	append(log, slot, n, identity);
	ExecDropSingleTupleTableSlot(slot);
}

/* Open the log for a row; what was found out about it is kept. */
static Relation
open_log(PshTriggerCache *cache)
{
	PshProjection *row = cache->events;
	MemoryContext caller;
	Relation	log;

	if (cache->entry)
	{
		log = try_table_open(cache->target, RowExclusiveLock);
		if (log && psh_trigcache_is_current(cache))
			return log;
		if (log)
			table_close(log, NoLock);
	}
	log = psh_log_open(cache->target, RowExclusiveLock, row->n, row->types);
	caller = MemoryContextSwitchTo(cache->context);
	cache->entry = MakeSingleTupleTableSlot(CreateTupleDescCopy(RelationGetDescr(log)),
											&TTSOpsVirtual);
	MemoryContextSwitchTo(caller);
	return log;
}

/*
 * AFTER ROW trigger on the source.
 */
Datum
partshift_capture_row(PG_FUNCTION_ARGS)
{
	TriggerData *event = (TriggerData *) fcinfo->context;
	PshTriggerCache *cache;
	PshProjection *row;
	Datum		first[INDEX_MAX_KEYS];
	Datum		second[INDEX_MAX_KEYS];
	bool		update;
	bool		placed[2];
	Relation	log;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(event->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(event->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was not called as an AFTER ROW trigger",
						"partshift.capture_row")));
	cache = psh_trigcache_begin(event->tg_trigger, event->tg_relation, false);
	row = cache->events;
	update = TRIGGER_FIRED_BY_UPDATE(event->tg_event);
	placed[0] = psh_projection_identity(row, event->tg_trigslot, first);
	placed[1] = update &&
		psh_projection_identity(row, event->tg_newslot, second);

	log = open_log(cache);
	if (placed[0])
		append(log, cache->entry, row->n, first);
	if (placed[1] && !(placed[0] && psh_projection_equal(row, first, second)))
		append(log, cache->entry, row->n, second);
	table_close(log, NoLock);
	psh_trigcache_end(cache);
	if (!placed[update] && !TRIGGER_FIRED_BY_DELETE(event->tg_event))
		psh_unplaced_note(cache->job_id);
	return PointerGetDatum(NULL);
}
