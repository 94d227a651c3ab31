/*-------------------------------------------------------------------------
 *
 * reconcile.c
 *	  Settling every identity that was touched while rows were copied.
 *
 * The leader alone runs this.  The log is closed: it grew until the mirror
 * triggers were installed.  It is read block by block, in short transactions
 * that settle what the block names and move the job's cursor; what has to
 * wait goes to a second table, which is gone through again and again until it
 * is empty.  It always ends, however much is written, since new writes are
 * mirrored and not logged.  A log that was given another file (VACUUM FULL of
 * the whole database) is read again from its beginning.
 *
 * The last transaction records its own id.  A snapshot that does not see it
 * may see a shadow that is not yet settled; the swap waits for the last of
 * those to go.  Whoever takes a snapshot later sees both tables equal.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/bufmgr.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/xid8.h"

#include "agree.h"
#include "capture.h"
#include "compat.h"
#include "job.h"
#include "reconcile.h"
#include "source.h"
#include "sql.h"
#include "throttle.h"

#define BATCH_MS 50.0

typedef struct Batch
{
	PshTable   *source;
	PshTable   *shadow;
	Relation	postponed;
	int			n;				/* identity columns */
	MemoryContext scratch;		/* reset for each identity */
	instr_time	start;
	int64		settled;
	int64		busy;
} Batch;

static void
batch_open(Batch *batch, const PshJob *job)
{
	memset(batch, 0, sizeof(Batch));
	batch->n = list_length(job->identity);
	(void) psh_source_lock(job->relid, RowShareLock);
	batch->source = psh_table_open(job->relid, job->identity, NULL,
								   job->computed, false);
	batch->shadow = psh_table_open(job->shadow, job->identity, batch->source,
								   NULL, true);
	batch->postponed = psh_log_open(job->postponed, RowExclusiveLock, batch->n,
									batch->source->types);
	table_close(psh_log_open(job->log, AccessShareLock, batch->n,
							 batch->source->types), NoLock);
	batch->scratch = AllocSetContextCreate(CurrentMemoryContext,
										   "partshift identity",
										   ALLOCSET_DEFAULT_SIZES);
	INSTR_TIME_SET_CURRENT(batch->start);
}

static void
batch_close(Batch *batch)
{
	table_close(batch->postponed, NoLock);
	psh_table_close(batch->shadow);
	psh_table_close(batch->source);
}

static bool
time_is_up(const Batch *batch)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, batch->start);
	return INSTR_TIME_GET_MILLISEC(now) + psh_throttle_owed() >= BATCH_MS;
}

/* Settle the identity in a row of the log or of the postponed ones. */
static bool
settle(Batch *batch, TupleTableSlot *entry)
{
	bool		agreed;

	slot_getallattrs(entry);
	agreed = psh_agree(batch->source, batch->shadow, entry->tts_values);
	if (agreed)
		batch->settled++;
	else
		batch->busy++;
	CommandCounterIncrement();
	return agreed;
}

/* Go through the log from a block on; returns the block to go on from. */
static BlockNumber
settle_log(Batch *batch, Relation log, BlockNumber first, BlockNumber nblocks)
{
	TableScanDesc scan = table_beginscan_strat(log, GetActiveSnapshot(), 0,
											   NULL, true, false);
	TupleTableSlot *entry = table_slot_create(log, NULL);
	BlockNumber block = first;

	heap_setscanlimits(scan, first, nblocks - first);
	while (table_scan_getnextslot(scan, ForwardScanDirection, entry))
	{
		MemoryContext caller = MemoryContextSwitchTo(batch->scratch);

		if (ItemPointerGetBlockNumber(&entry->tts_tid) != block)
		{
			CHECK_FOR_INTERRUPTS();
			block = ItemPointerGetBlockNumber(&entry->tts_tid);
			if (block > first && time_is_up(batch))
			{
				nblocks = block;
				MemoryContextSwitchTo(caller);
				break;
			}
		}
		if (!settle(batch, entry))
			psh_log_append(batch->postponed, batch->n, entry->tts_values);
		MemoryContextSwitchTo(caller);
		MemoryContextReset(batch->scratch);
	}
	ExecDropSingleTupleTableSlot(entry);
	table_endscan(scan);
	return nblocks;
}

/* Go through the postponed identities, and delete those that are settled. */
static void
settle_postponed(Batch *batch)
{
	TableScanDesc scan = table_beginscan(batch->postponed, GetActiveSnapshot(),
										 0, NULL);
	TupleTableSlot *entry = table_slot_create(batch->postponed, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, entry))
	{
		MemoryContext caller = MemoryContextSwitchTo(batch->scratch);

		CHECK_FOR_INTERRUPTS();
		if (settle(batch, entry))
			simple_table_tuple_delete(batch->postponed, &entry->tts_tid,
									  GetActiveSnapshot());
		MemoryContextSwitchTo(caller);
		MemoryContextReset(batch->scratch);
		if (time_is_up(batch))
			break;
	}
	ExecDropSingleTupleTableSlot(entry);
	table_endscan(scan);
}

static void
save_progress(int job_id, Oid log_file, BlockNumber next, const Batch *batch)
{
	Oid			types[5] = {INT4OID, INT8OID, INT8OID, INT8OID, OIDOID};
	Datum		values[5];

	values[0] = Int32GetDatum(job_id);
	values[1] = Int64GetDatum((int64) next);
	values[2] = Int64GetDatum(batch->settled);
	values[3] = Int64GetDatum(batch->busy);
	values[4] = ObjectIdGetDatum(log_file);
	psh_sql(SPI_OK_UPDATE,
			"UPDATE partshift.job SET log_block = $2,"
			" reconciled = reconciled + $3, postponed_rows = $4,"
			" log_file = $5 WHERE job_id = $1",
			5, types, values, NULL);
}

static void
finish(const PshJob *job)
{
	Oid			types[2] = {INT4OID, XID8OID};
	Datum		values[2];

	values[0] = Int32GetDatum(job->id);
	values[1] = FullTransactionIdGetDatum(GetTopFullTransactionId());
	psh_sql(SPI_OK_UPDATE,
			"UPDATE partshift.job SET last_reconcile_xid = $2,"
			" postponed_rows = 0 WHERE job_id = $1",
			2, types, values, NULL);
	psh_job_advance(job, PSH_PHASE_REWIRE);
}

static bool
none_postponed(const PshJob *job)
{
	Relation	postponed = table_open(job->postponed, AccessShareLock);
	TableScanDesc scan = table_beginscan(postponed, GetActiveSnapshot(), 0,
										 NULL);
	TupleTableSlot *entry = table_slot_create(postponed, NULL);
	bool		none = !table_scan_getnextslot(scan, ForwardScanDirection,
											   entry);

	ExecDropSingleTupleTableSlot(entry);
	table_endscan(scan);
	table_close(postponed, NoLock);
	return none;
}

/* Settle a batch of the log, or of the postponed ones when it is through. */
static PshStep
run_batch(const PshJob *job)
{
	Relation	log = table_open(job->log, AccessShareLock);
	BlockNumber nblocks = RelationGetNumberOfBlocks(log);
	BlockNumber next = psh_relation_file(log) == job->log_file ?
		(BlockNumber) job->log_block : 0;
	PshStep		step = PSH_STEP_AGAIN;
	Batch		batch;
	PshUser		saved;

	if (next >= nblocks && none_postponed(job))
	{
		table_close(log, NoLock);
		finish(job);
		return PSH_STEP_FINISHED;
	}
	psh_user_switch(job->owner, true, &saved);
	psh_throttle_start();
	batch_open(&batch, job);
	if (next < nblocks)
		next = settle_log(&batch, log, next, nblocks);
	else
	{
		settle_postponed(&batch);
		if (batch.settled == 0)
			step = PSH_STEP_REST;
	}
	batch_close(&batch);
	psh_throttle_rest();
	psh_user_restore(&saved);
	save_progress(job->id, psh_relation_file(log), next, &batch);
	table_close(log, NoLock);
	return step;
}

/*
 * Settle one batch of identities, in a transaction of its own, or sleep for
 * the one before; the caller has told the throttle the job's settings.  Returns PSH_STEP_REST while all that is left is being
 * written by others, PSH_STEP_FINISHED when both tables agree.
 */
PshStep
psh_reconcile_run(int job_id)
{
	PshJob	   *job;
	PshStep		step;

	if (psh_throttle_standbys_lag(job_id))
		return PSH_STEP_REST;
	if (psh_throttle_pay() > 0)
		return PSH_STEP_AGAIN;

	psh_txn_begin("reconciling");
	job = psh_job_lock(job_id);
	step = run_batch(job);
	psh_txn_commit();
	return step;
}
