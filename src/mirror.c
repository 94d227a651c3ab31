/*-------------------------------------------------------------------------
 *
 * mirror.c
 *	  Write every change of a table to the table that follows it, in the
 *	  same transaction.
 *
 * Forward, before the swap, the source is followed by the shadow; in reverse,
 * after it, the new table by the legacy one.  The row triggers run in the
 * user's transaction and below the level at which privileges are checked, so
 * the user needs none on the follower.  What the table's owner may have put
 * there to be evaluated, expressions of indexes and a computed key, runs as
 * the owner.
 *
 * A forward mirror must not fail for a reason of ours, and by construction
 * cannot: every row has a leaf.  A reverse mirror that cannot write legacy
 * (gone, altered, or unique where the new table no longer is) drops out: it
 * says so in partshift.dropout, and the user's write succeeds.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "capture.h"
#include "compat.h"
#include "settle.h"
#include "source.h"
#include "sql.h"
#include "trigcache.h"
#include "truncate.h"

PG_FUNCTION_INFO_V1(partshift_mirror_row);
PG_FUNCTION_INFO_V1(partshift_mirror_truncate);
PG_FUNCTION_INFO_V1(partshift_reverse_row);
PG_FUNCTION_INFO_V1(partshift_reverse_truncate);

static TriggerData *
trigger_event(FunctionCallInfo fcinfo, bool row)
{
	TriggerData *event = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(event->tg_event) ||
		(TRIGGER_FIRED_FOR_ROW(event->tg_event) != 0) != row ||
		(TRIGGER_FIRED_BY_TRUNCATE(event->tg_event) != 0) == row)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function of a conversion was not called as the trigger it is for")));
	return event;
}

/*
 * Whether a version that was written in this transaction is still the row's
 * last.  Its header is read in the table, not in a copy.
 */
static bool
is_live(HeapTuple tuple)
{
	HeapTupleHeader header = tuple->t_data;

	if ((header->t_infomask & HEAP_XMAX_INVALID) ||
		HEAP_XMAX_IS_LOCKED_ONLY(header->t_infomask))
		return true;
	return !TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetUpdateXid(header));
}

/*
 * Make the follower agree about the rows that the event names.  One without
 * an identity is none, see project.c.
 */
static bool
follow_event(PshPair *pair, TriggerData *event, PshProjection *events)
{
	bool		update = TRIGGER_FIRED_BY_UPDATE(event->tg_event);
	TupleTableSlot *row = update ? event->tg_newslot : event->tg_trigslot;
	HeapTuple	tuple = update ? event->tg_newtuple : event->tg_trigtuple;
	Datum		identity[INDEX_MAX_KEYS];
	Datum		old[INDEX_MAX_KEYS];
	bool		placed = psh_projection_identity(events, row, identity);
	bool		moved;

	psh_follow_count(pair, false);
	if (TRIGGER_FIRED_BY_DELETE(event->tg_event))
		return !placed || psh_follow_remove(pair, identity);

	/* The old row first: what else it holds unique the new one may have. */
	moved = update &&
		psh_projection_identity(events, event->tg_trigslot, old) &&
		!(placed && psh_projection_equal(events, old, identity));
	if (moved && !psh_follow_remove(pair, old))
		return false;
	pair->unplaced = !placed;
	if (!placed)
		return true;
	if (is_live(tuple))
		return psh_follow_put(pair, event->tg_relation, row, identity);
	return psh_follow_settle(pair, identity);
}

/*
 * Open the tables anew that are kept; false when that cannot be relied upon,
 * and they are closed.
 */
static bool
reopen_pair(PshTriggerCache *cache)
{
	if (cache->follower == NULL || !psh_table_reopen(cache->authority))
		return false;
	if (psh_table_reopen(cache->follower))
	{
		if (psh_trigcache_is_current(cache))
			return true;
		psh_table_close(cache->follower);
	}
	psh_table_close(cache->authority);
	return false;
}

/*
 * Open both tables of a trigger for the first time; legacy is the plain one of
 * them and has the computed key.
 */
static void
make_pair(PshTriggerCache *cache, Oid authority, bool reverse)
{
	MemoryContext caller = MemoryContextSwitchTo(cache->context);

	cache->follower = NULL;
	cache->authority = psh_table_open(authority, cache->identity, NULL,
									  reverse ? NULL : cache->computed, false);
	cache->follower = psh_table_open(cache->target, cache->identity,
									 cache->authority,
									 reverse ? cache->computed : NULL, true);
	cache->authority->scratch = cache->follower->scratch = caller;
	MemoryContextSwitchTo(caller);
}

/* Follow an event with both tables open, and close them. */
static void
follow_and_close(PshPair *pair, TriggerData *event, PshTriggerCache *cache)
{
	pair->authority = cache->authority;
	pair->follower = cache->follower;
	if (!follow_event(pair, event, cache->events))
		Assert(pair->obstacle != NULL);
	psh_table_close(pair->follower);
	psh_table_close(pair->authority);
}

/*
 * AFTER ROW trigger on the source or on each of its partitions, for each row.
 * What the row's identity was and is belongs to the same partition: there the
 * authority is.
 */
Datum
partshift_mirror_row(PG_FUNCTION_ARGS)
{
	TriggerData *event = trigger_event(fcinfo, true);
	PshTriggerCache *cache = psh_trigcache_begin(event->tg_trigger,
												 event->tg_relation, false);
	PshPair		pair = {0};

	if (!reopen_pair(cache))
		make_pair(cache, RelationGetRelid(event->tg_relation), false);
	follow_and_close(&pair, event, cache);
	psh_trigcache_end(cache);
	if (pair.unplaced)
		psh_unplaced_note(cache->job_id);
	return PointerGetDatum(NULL);
}

/* Empty the shadow, or take one partition of the source out of it. */
static void
follow_truncate(PshPair *pair, Relation rel, Oid shadow)
{
	List	   *emptied = list_make1_oid(RelationGetRelid(rel));
	ListCell   *cell;

	if (RelationGetRelid(rel) != RelationGetRelid(pair->authority->rel))
	{
		/* What it has no longer bounds for cannot be found in the shadow. */
		if (psh_source_root(RelationGetRelid(rel)) != RelationGetRelid(pair->authority->rel))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("table \"%s\" is no longer a partition of table \"%s\", which is being converted",
							RelationGetRelationName(rel),
							RelationGetRelationName(pair->authority->rel)),
					 errhint("Abort the conversion.")));
		psh_truncate_part(pair->authority, rel, shadow);
	}
	else
	{
		psh_truncate_all(shadow);
		emptied = psh_source_heaps(RelationGetRelid(rel));
	}
	pair->follower = psh_table_open(shadow, pair->authority->identity,
									pair->authority, NULL, true);
	foreach(cell, emptied)
	{
		Relation	heap = table_open(lfirst_oid(cell), AccessShareLock);

		psh_truncate_mend(pair, heap);
		table_close(heap, NoLock);
	}
	psh_table_close(pair->follower);
}

/*
 * AFTER TRUNCATE trigger on the source, and on each of its partitions if it
 * has any: all that are emptied together fire theirs, the table first.
 */
Datum
partshift_mirror_truncate(PG_FUNCTION_ARGS)
{
	TriggerData *event = trigger_event(fcinfo, false);
	PshPair		pair = {0};
	PshUser		saved;

	psh_trigger_check(event->tg_trigger, false);
	psh_user_switch(event->tg_relation->rd_rel->relowner, true, &saved);
	pair.authority = psh_table_open(psh_trigger_home(event->tg_trigger),
									psh_trigger_identity(event->tg_trigger),
									NULL,
									psh_trigger_computed(event->tg_trigger),
									false);
	follow_truncate(&pair, event->tg_relation,
					psh_trigger_target(event->tg_trigger));
	psh_table_close(pair.authority);
	psh_user_restore(&saved);
	if (pair.unplaced)
		psh_unplaced_note(psh_trigger_job(event->tg_trigger));
	return PointerGetDatum(NULL);
}

/* Record, once, that legacy no longer follows.  The write goes on. */
static void
drop_out(int job_id, const char *reason)
{
	Oid			types[2] = {INT4OID, TEXTOID};
	Datum		values[2];
	PshUser		saved;

	psh_user_switch(psh_extension_owner(), false, &saved);
	SPI_connect();
	values[0] = Int32GetDatum(job_id);
	values[1] = CStringGetTextDatum(reason);
	psh_sql(SPI_OK_INSERT,
			"INSERT INTO partshift.dropout (job_id, reason)"
			" SELECT $1, $2 WHERE NOT EXISTS"
			" (SELECT FROM partshift.dropout WHERE job_id = $1)",
			2, types, values, NULL);
	SPI_finish();
	psh_user_restore(&saved);
}

/*
 * Whether every column of one table is in the other, and conversely, but for
 * one that is derived.
 */
static bool
same_columns(TupleDesc a, TupleDesc b, Oid b_relid,
			 const PshComputed *computed)
{
	int			difference = 0;
	int			i;

	for (i = 0; i < b->natts; i++)
		difference += TupleDescAttr(b, i)->attisdropped ? 0 : 1;
	for (i = 0; i < a->natts; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(a, i);
		AttrNumber	other;

		if (attr->attisdropped ||
			(computed && computed->derived &&
			 strcmp(NameStr(attr->attname), computed->column) == 0))
			continue;
		difference--;
		other = get_attnum(b_relid, NameStr(attr->attname));
		if (other == InvalidAttrNumber ||
			TupleDescAttr(b, other - 1)->atttypid != attr->atttypid)
			return false;
	}
	return difference == 0;
}

static bool
has_key(Relation rel, List *identity, const PshComputed *computed)
{
	PshProjection *projection = psh_projection_make(rel, identity, computed);

	return psh_key_make(rel, projection->columns, projection->nown,
						AccessShareLock) != NULL;
}

/* Why legacy cannot follow; NULL when it can. */
static const char *
unfit(Relation rel, const PshTriggerCache *cache)
{
	Relation	legacy = try_table_open(cache->target, RowExclusiveLock);
	const char *reason = NULL;

	if (legacy == NULL)
		return "the table is gone";
	if (!same_columns(RelationGetDescr(rel), RelationGetDescr(legacy),
					  cache->target, cache->computed))
		reason = "its columns were changed";
	else if (!has_key(legacy, cache->identity, cache->computed) ||
			 !has_key(rel, cache->identity, NULL))
		reason = "a key index is gone";
	table_close(legacy, NoLock);
	return reason;
}

static const char *
follow_in_reverse(TriggerData *event, PshTriggerCache *cache)
{
	PshPair		pair = {0};

	if (!reopen_pair(cache))
	{
		const char *reason = unfit(event->tg_relation, cache);

		if (reason)
			return reason;
		make_pair(cache, cache->root, true);
	}
	pair.yields = true;
	follow_and_close(&pair, event, cache);
	return pair.obstacle;
}

/*
 * AFTER ROW trigger on the new table's leaves, for each row.
 */
Datum
partshift_reverse_row(PG_FUNCTION_ARGS)
{
	TriggerData *event = trigger_event(fcinfo, true);
	PshTriggerCache *cache = psh_trigcache_begin(event->tg_trigger,
												 event->tg_relation, true);
	const char *reason = NULL;

	if (cache->at_home)
		reason = follow_in_reverse(event, cache);
	psh_trigcache_end(cache);
	if (reason != NULL)
		drop_out(cache->job_id, reason);
	return PointerGetDatum(NULL);
}

/*
 * AFTER TRUNCATE trigger on the new table and on each leaf.  The table's own
 * is the first to fire when all of it is truncated and empties legacy; a
 * leaf's that finds legacy not empty was truncated by itself.  A leaf that was
 * detached still has the trigger, but that is not at home.
 */
Datum
partshift_reverse_truncate(PG_FUNCTION_ARGS)
{
	TriggerData *event = trigger_event(fcinfo, false);
	Oid			target;
	Relation	legacy;
	const char *reason = NULL;
	PshUser		saved;

	if (!psh_trigger_at_home(event->tg_trigger, psh_source_root(RelationGetRelid(event->tg_relation))))
		return PointerGetDatum(NULL);
	psh_trigger_check(event->tg_trigger, true);
	target = psh_trigger_target(event->tg_trigger);
	psh_user_switch(event->tg_relation->rd_rel->relowner, true, &saved);
	legacy = try_table_open(target, AccessShareLock);
	if (legacy == NULL)
		reason = "the table is gone";
	else
	{
		bool		empty = psh_source_blocks(target) == 0;

		table_close(legacy, NoLock);
		if (event->tg_relation->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
		{
			psh_truncate_all(target);
			if (psh_source_blocks(RelationGetRelid(event->tg_relation)) > 0)
				reason = "a trigger wrote to the new table while it was truncated";
		}
		else if (!empty)
			reason = "a partition of the new table was truncated";
	}
	psh_user_restore(&saved);
	if (reason != NULL)
		drop_out(psh_trigger_job(event->tg_trigger), reason);
	return PointerGetDatum(NULL);
}
