/*-------------------------------------------------------------------------
 *
 * copy.c
 *	  Copying the rows that were there when capture began.
 *
 * Several workers, each in transactions of about 100 ms: claim a range of
 * blocks by locking its row of partshift.task, scan on from where it stands
 * with the snapshot of the transaction, insert, and move the range's cursor.
 * The work and the cursor commit together; if the worker dies, neither does,
 * and the claim goes with the transaction.
 *
 * Before: every write to the source since the horizon is in the log or will
 * be when it commits.  A visible tuple older than the horizon is copied; it
 * cannot be met twice, because it never moves and each block is read by one
 * committed batch.  A newer one is left to reconcile, which has its identity.
 * After: the shadow holds each row as it was in its batch's snapshot, and what
 * has changed since is in the log.
 *
 * The leaves have no index, so no look-up, no lock on rows and no conflict is
 * possible.  Blocks added to the source after the horizon hold only newer
 * tuples and are never read.
 *
 * A source that was given another file (VACUUM FULL, CLUSTER, TRUNCATE) no
 * longer has its rows where the cursors say.  A batch looks under its lock,
 * before it reads, and leaves the rest to the leader.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/bufmgr.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "buffer.h"
#include "capture.h"
#include "compat.h"
#include "copy.h"
#include "horizon.h"
#include "job.h"
#include "lookup.h"
#include "route.h"
#include "source.h"
#include "sql.h"
#include "throttle.h"

#define BATCH_MS 100.0
#define LARGEST_DEBT 10.0		/* milliseconds of sleep, see psh_copy_run() */
#define SMALLEST_RANGE 128		/* blocks */
#define LARGEST_RANGE 16384

/* A claimed range of blocks, and what the batch did in it. */
typedef struct Batch
{
	int			task_no;
	Oid			heap;			/* the source, or a partition of it */
	Oid			file;			/* that it had at the horizon */
	BlockNumber next;
	BlockNumber end;
	int64		rows;
	int64		skipped;
	int64		unsure;
	int64		bytes;
} Batch;

/* Add the tasks of one heap, in ranges of so many blocks. */
static void
add_tasks(int job_id, Relation heap, int64 range)
{
	Oid			types[5] = {INT4OID, INT8OID, INT8OID, OIDOID, OIDOID};
	Datum		values[5];

	values[0] = Int32GetDatum(job_id);
	values[1] = Int64GetDatum((int64) RelationGetNumberOfBlocks(heap));
	values[2] = Int64GetDatum(range);
	values[3] = ObjectIdGetDatum(RelationGetRelid(heap));
	values[4] = ObjectIdGetDatum(psh_relation_file(heap));
	psh_sql(SPI_OK_INSERT,
			"INSERT INTO partshift.task"
			" (job_id, phase, task_no, object, other, next_block, end_block)"
			" SELECT $1, 'copy', t.first + b / $3, $4, $5, b, least(b + $3, $2)"
			" FROM generate_series(0, $2 - 1, $3) AS b,"
			" (SELECT coalesce(max(task_no) + 1, 0) FROM partshift.task"
			" WHERE job_id = $1 AND phase = 'copy') AS t (first)",
			5, types, values, NULL);
}

/*
 * Divide the blocks of the source's heaps, which are locked, into ranges for
 * the workers to claim, in the current transaction.  Returns their number.
 */
int64
psh_copy_make_tasks(const PshJob *job, List *heaps)
{
	int64		nblocks = psh_source_blocks(job->relid);
	int64		range = nblocks / job->workers / 8;
	ListCell   *cell;

	range = Min(Max(range, SMALLEST_RANGE), LARGEST_RANGE);
	foreach(cell, heaps)
	{
		Relation	heap = table_open(lfirst_oid(cell), NoLock);

		if (RelationGetNumberOfBlocks(heap) > 0)
			add_tasks(job->id, heap, range);
		table_close(heap, NoLock);
	}
	return nblocks;
}

/* Claim a range; false with *left telling whether others are at work. */
static bool
claim(int job_id, Batch *batch, bool *left)
{
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(job_id)};
	bool		isnull;

	if (psh_sql(SPI_OK_SELECT,
				"SELECT task_no, next_block, end_block, object, other"
				" FROM partshift.task"
				" WHERE job_id = $1 AND phase = 'copy' AND NOT done"
				" ORDER BY task_no LIMIT 1 FOR UPDATE SKIP LOCKED",
				1, types, values, NULL) == 0)
	{
		*left = psh_sql(SPI_OK_SELECT,
						"SELECT FROM partshift.task WHERE job_id = $1"
						" AND phase = 'copy' AND NOT done LIMIT 1",
						1, types, values, NULL) > 0;
		return false;
	}
	batch->task_no = DatumGetInt32(psh_sql_value(0, 1, &isnull));
	batch->next = (BlockNumber) DatumGetInt64(psh_sql_value(0, 2, &isnull));
	batch->end = (BlockNumber) DatumGetInt64(psh_sql_value(0, 3, &isnull));
	batch->heap = DatumGetObjectId(psh_sql_value(0, 4, &isnull));
	batch->file = DatumGetObjectId(psh_sql_value(0, 5, &isnull));
	return true;
}

static void
save_progress(int job_id, const Batch *batch)
{
	Oid			types[7] = {INT4OID, INT4OID, INT8OID, INT8OID, INT8OID,
		INT8OID, INT8OID
	};
	Datum		values[7];

	values[0] = Int32GetDatum(job_id);
	values[1] = Int32GetDatum(batch->task_no);
	values[2] = Int64GetDatum((int64) batch->next);
	values[3] = Int64GetDatum(batch->rows);
	values[4] = Int64GetDatum(batch->skipped);
	values[5] = Int64GetDatum(batch->unsure);
	values[6] = Int64GetDatum(batch->bytes);
	psh_sql(SPI_OK_UPDATE,
			"UPDATE partshift.task SET next_block = $3,"
			" done = $3 >= end_block, rows = rows + $4,"
			" skipped = skipped + $5, unsure = unsure + $6,"
			" bytes = bytes + $7"
			" WHERE job_id = $1 AND phase = 'copy' AND task_no = $2",
			7, types, values, NULL);
}

static void
log_unsure(const PshJob *job, Relation source, TupleTableSlot *slot)
{
	PshProjection *row = psh_projection_make(source, job->identity,
											 job->computed);
	Relation	log = psh_log_open(job->log, RowExclusiveLock, row->n,
								   row->types);
	Datum		identity[INDEX_MAX_KEYS];

	psh_projection_identity_or_raise(row, slot, identity);
	psh_log_append(log, row->n, identity);
	psh_projection_end(row);
	table_close(log, NoLock);
}

static bool
time_is_up(const instr_time *start)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, *start);
	return INSTR_TIME_GET_MILLISEC(now) >= BATCH_MS ||
		psh_throttle_owed() >= LARGEST_DEBT;
}

/*
 * The claimed blocks that are still there.  VACUUM may have cut empty ones off
 * the end since they were counted; if the table has grown there again, what is
 * in them is new.
 */
static BlockNumber
blocks_left(Relation source, const Batch *batch)
{
	BlockNumber end = Min(batch->end, RelationGetNumberOfBlocks(source));

	return end > batch->next ? end - batch->next : 0;
}

/* Rows with a computed key are made into rows of the shadow first. */
typedef struct Projector
{
	const PshComputed *computed;
	Relation	source;
	PshProjection *projection;
	TupleTableSlot *result;
	MemoryContext scratch;		/* reset for each row */
} Projector;

static Projector *
projector_make(const PshJob *job, Relation source, Relation shadow)
{
	Projector  *projector = palloc(sizeof(Projector));

	projector->computed = job->computed;
	projector->source = source;
	projector->projection = psh_projection_make(source, job->identity,
												job->computed);
	projector->result = MakeSingleTupleTableSlot(RelationGetDescr(shadow),
												 &TTSOpsVirtual);
	projector->scratch = AllocSetContextCreate(CurrentMemoryContext,
											   "partshift projection",
											   ALLOCSET_DEFAULT_SIZES);
	return projector;
}

/* The row of the shadow, also as a tuple; both live until the next. */
static TupleTableSlot *
project(Projector *projector, TupleTableSlot *slot, HeapTuple *tuple)
{
	MemoryContext caller = MemoryContextSwitchTo(projector->scratch);
	PshProjection *projection = projector->projection;
	Datum		identity[INDEX_MAX_KEYS];

	MemoryContextReset(projector->scratch);
	psh_projection_identity_or_raise(projection, slot, identity);
	psh_projection_row(projector->computed, projector->source, slot,
					   &identity[projection->place], projector->result);
	*tuple = heap_form_tuple(projector->result->tts_tupleDescriptor,
							 projector->result->tts_values,
							 projector->result->tts_isnull);
	MemoryContextSwitchTo(caller);
	return projector->result;
}

/* Scan the claimed blocks until they end or the time is up. */
static void
scan_blocks(const PshJob *job, Relation source, Relation shadow, Batch *batch)
{
	Projector  *projector = job->computed ?
		projector_make(job, source, shadow) : NULL;
	Relation	layout = projector ? shadow : source;
	PshRoute   *route = psh_route_make(shadow, layout);
	PshBuffers *buffers = psh_buffers_make(layout, route);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(source),
													&TTSOpsHeapTuple);
	FullTransactionId next = ReadNextFullTransactionId();
	TableScanDesc scan = table_beginscan_strat(source, GetActiveSnapshot(),
											   0, NULL, true, false);
	BlockNumber block = batch->next;
	BlockNumber stop = batch->end;
	instr_time	start;
	HeapTuple	tuple;

	INSTR_TIME_SET_CURRENT(start);
	heap_setscanlimits(scan, batch->next, blocks_left(source, batch));
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		PshAge		age;

		if (ItemPointerGetBlockNumber(&tuple->t_self) != block)
		{
			CHECK_FOR_INTERRUPTS();
			block = ItemPointerGetBlockNumber(&tuple->t_self);
			if (block > batch->next && time_is_up(&start))
			{
				stop = block;
				break;
			}
		}
		age = job->lock_writes ? PSH_OLD :
			psh_horizon_age(&job->horizon, next, tuple->t_data);
		if (age == PSH_NEW)
		{
			batch->skipped++;
			continue;
		}
		ExecStoreHeapTuple(tuple, slot, false);
		if (age == PSH_OLD)
		{
			TupleTableSlot *row = projector ?
				project(projector, slot, &tuple) : slot;
			int			leaf = psh_route_find(route, row);

			if (leaf < 0)
				ereport(ERROR,
						(errcode(ERRCODE_CHECK_VIOLATION),
						 errmsg("no partition takes a row of table \"%s\"",
								RelationGetRelationName(source))));
			psh_buffers_add(buffers, leaf, tuple, row);
			batch->rows++;
			batch->bytes += tuple->t_len;
		}
		else
		{
			log_unsure(job, source, slot);
			batch->unsure++;
		}
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	psh_buffers_flush(buffers);
	if (projector)
	{
		psh_projection_end(projector->projection);
		ExecDropSingleTupleTableSlot(projector->result);
	}
	batch->next = stop;
}

/* One batch under the locks it needs; false when the source has moved. */
static bool
copy_batch(const PshJob *job, Batch *batch)
{
	Relation	source = table_open(batch->heap, AccessShareLock);
	Relation	shadow;
	PshUser		saved;
	bool		same_file = psh_relation_file(source) == batch->file;

	if (same_file)
	{
		psh_user_switch(job->owner, true, &saved);
		psh_throttle_start();
		shadow = table_open(job->shadow, AccessShareLock);
		if (blocks_left(source, batch) > 0)
			scan_blocks(job, source, shadow, batch);
		else
			batch->next = batch->end;
		table_close(shadow, NoLock);
		psh_throttle_rest();
		psh_user_restore(&saved);
	}
	table_close(source, NoLock);
	return same_file;
}

static void
save_throttled(int job_id, double milliseconds)
{
	Oid			types[2] = {INT4OID, FLOAT8OID};
	Datum		values[2];

	values[0] = Int32GetDatum(job_id);
	values[1] = Float8GetDatum(milliseconds);
	psh_sql(SPI_OK_UPDATE,
			"UPDATE partshift.task SET throttled_ms = throttled_ms + $2"
			" WHERE ctid = (SELECT ctid FROM partshift.task"
			" WHERE job_id = $1 AND phase = 'copy'"
			" ORDER BY task_no LIMIT 1 FOR UPDATE SKIP LOCKED)",
			2, types, values, NULL);
}

/*
 * Copy one batch, in a transaction of its own, or sleep for the one before;
 * the caller has told the throttle the job's settings.  Returns PSH_STEP_REST
 * while others hold what is left or the source has moved, PSH_STEP_FINISHED
 * when nothing is left.
 *
 * A batch that has to be paid for is short: what is written in one go delays
 * whoever commits at the time.
 */
PshStep
psh_copy_run(int job_id)
{
	static double throttled = 0;
	Batch		batch = {0};
	PshJob	   *job;
	bool		left = true;
	bool		claimed;

	if (psh_throttle_standbys_lag(job_id))
		return PSH_STEP_REST;
	if (psh_throttle_owed() >= 1)
	{
		throttled += psh_throttle_pay();
		return PSH_STEP_AGAIN;
	}

	psh_txn_begin("copying");
	job = psh_job_load(job_id);
	if (job == NULL || job->phase != PSH_PHASE_COPY)
	{
		psh_txn_commit();
		return PSH_STEP_FINISHED;
	}
	if (throttled >= 1000)
	{
		save_throttled(job_id, throttled);
		throttled = 0;
	}
	claimed = claim(job_id, &batch, &left);
	if (claimed)
	{
		claimed = copy_batch(job, &batch);
		if (claimed)
			save_progress(job_id, &batch);
	}
	psh_txn_commit();
	if (claimed)
		return PSH_STEP_AGAIN;
	return left ? PSH_STEP_REST : PSH_STEP_FINISHED;
}
