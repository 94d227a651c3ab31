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

/*
 * Append an identity to a log table, whose columns are the identity's.  The
 * caller holds ROW EXCLUSIVE on it.
 */
void
psh_log_append(Relation log, int n, const Datum *identity)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(log),
													&TTSOpsVirtual);

	Assert(slot->tts_tupleDescriptor->natts == n);
	memcpy(slot->tts_values, identity, sizeof(Datum) * n);
	memset(slot->tts_isnull, false, sizeof(bool) * n);
	ExecStoreVirtualTuple(slot);
	table_tuple_insert(log, slot, GetCurrentCommandId(true), 0, NULL);
	ExecDropSingleTupleTableSlot(slot);
}

/*
 * AFTER ROW trigger on the source.
 */
Datum
partshift_capture_row(PG_FUNCTION_ARGS)
{
	TriggerData *event = (TriggerData *) fcinfo->context;
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
	psh_trigger_check(event->tg_trigger, false);
	update = TRIGGER_FIRED_BY_UPDATE(event->tg_event);
	row = psh_projection_make(event->tg_relation,
							  psh_trigger_identity(event->tg_trigger),
							  psh_trigger_computed(event->tg_trigger));
	placed[0] = psh_projection_identity(row, event->tg_trigslot, first);
	placed[1] = update &&
		psh_projection_identity(row, event->tg_newslot, second);

	log = psh_log_open(psh_trigger_target(event->tg_trigger),
					   RowExclusiveLock, row->n, row->types);
	if (placed[0])
		psh_log_append(log, row->n, first);
	if (placed[1] && !(placed[0] && psh_projection_equal(row, first, second)))
		psh_log_append(log, row->n, second);
	table_close(log, NoLock);
	psh_projection_end(row);
	if (!placed[update] && !TRIGGER_FIRED_BY_DELETE(event->tg_event))
		psh_unplaced_note(psh_trigger_job(event->tg_trigger));
	return PointerGetDatum(NULL);
}
