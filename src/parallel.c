/*-------------------------------------------------------------------------
 *
 * parallel.c
 *	  Source and shadow compared by several processes in one snapshot.
 *
 * Everything has to be read once more, which is half as long when two do it.
 * The server's parallel workers are made for that: they have the leader's
 * snapshot, and their locks do not conflict with the leader's.  The tables are
 * cut into chunks of blocks, and whoever has nothing to do takes the next one.
 * Counts and sums of hashes are added up, in any order.
 *
 * Blocks are counted when the snapshot has been taken: what is added to the
 * tables later holds no row that it sees.
 *
 * As many take part as the job has workers, which are idle in this phase, or
 * as many as the server's limits let start; in the end the leader does it
 * alone.  So it does when the partition key is computed, since to evaluate
 * the expression takes a subtransaction, which parallel mode does not have,
 * and when the source is locked: the leader is then a member of the keeper's
 * lock group, and parallel workers have to be members of the leader's.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_am.h"
#include "catalog/pg_inherits.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/bufmgr.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "parallel.h"
#include "scan.h"
#include "throttle.h"

#define KEY_WORK 1
#define KEY_SUMS 2
#define KEY_LEAVES 3

#define CHUNK 512				/* blocks */
#define FEWEST_CHUNKS 4			/* fewer are not worth another process */

/* Consecutive blocks of a heap. */
typedef struct Chunk
{
	Oid			heap;
	int			leaf;			/* of which it is a part, -1: the source's */
	BlockNumber first;
	BlockNumber nblocks;
} Chunk;

typedef struct Work
{
	int			job_id;
	bool		hashed;
	pg_atomic_uint32 next;
	int			nleaves;
	int			nchunks;
	Chunk		chunks[FLEXIBLE_ARRAY_MEMBER];
} Work;

/* What is known of a leaf, by PshSide. */
typedef struct Sums
{
	pg_atomic_uint64 rows[2];
	pg_atomic_uint64 sum[2];
} Sums;

/* Cut a heap into chunks; one of another access method is all one. */
static List *
add_heap(List *chunks, Oid relid, int leaf)
{
	Relation	heap = table_open(relid, NoLock);
	BlockNumber nblocks = 0;
	BlockNumber first;

	if (heap->rd_rel->relkind == RELKIND_RELATION)
		nblocks = RelationGetNumberOfBlocks(heap);
	for (first = 0; first < nblocks; first += CHUNK)
	{
		Chunk	   *chunk = palloc(sizeof(Chunk));

		chunk->heap = relid;
		chunk->leaf = leaf;
		chunk->first = first;
		chunk->nblocks = Min(CHUNK, nblocks - first);
		chunks = lappend(chunks, chunk);
		if (heap->rd_rel->relam != HEAP_TABLE_AM_OID)
		{
			chunk->nblocks = InvalidBlockNumber;
			break;
		}
	}
	table_close(heap, NoLock);
	return chunks;
}

static List *
make_chunks(PshComparison *cmp)
{
	List	   *chunks = NIL;
	ListCell   *lc;
	int			i;

	foreach(lc, cmp->heaps)
		chunks = add_heap(chunks, lfirst_oid(lc), -1);
	for (i = 0; i < cmp->nleaves; i++)
	{
		if (!OidIsValid(cmp->leaves[i].relid))
			continue;
		foreach(lc, psh_scan_tables(&cmp->leaves[i]))
			chunks = add_heap(chunks, lfirst_oid(lc), i);
	}
	return chunks;
}

/* Take chunks until none is left. */
static void
read_chunks(PshComparison *cmp, Work *work)
{
	for (;;)
	{
		uint32		i = pg_atomic_fetch_add_u32(&work->next, 1);
		const Chunk *chunk;
		Relation	heap;

		if (i >= work->nchunks)
			return;
		chunk = &work->chunks[i];
		heap = table_open(chunk->heap, AccessShareLock);
		psh_compare_blocks(cmp, heap,
						   chunk->leaf < 0 ? NULL : &cmp->leaves[chunk->leaf],
						   chunk->first, chunk->nblocks);
		table_close(heap, NoLock);
	}
}

static void
add_sums(const PshComparison *cmp, Sums *sums)
{
	int			i;
	int			side;

	for (i = 0; i < cmp->nleaves; i++)
		for (side = 0; side < 2; side++)
		{
			pg_atomic_fetch_add_u64(&sums[i].rows[side],
									cmp->leaves[i].rows[side]);
			pg_atomic_fetch_add_u64(&sums[i].sum[side],
									(int64) cmp->leaves[i].sum[side]);
		}
}

static void
take_sums(PshComparison *cmp, Sums *sums)
{
	int			i;
	int			side;

	for (i = 0; i < cmp->nleaves; i++)
		for (side = 0; side < 2; side++)
		{
			cmp->leaves[i].rows[side] = pg_atomic_read_u64(&sums[i].rows[side]);
			cmp->leaves[i].sum[side] = pg_atomic_read_u64(&sums[i].sum[side]);
		}
}

/* Put the work to be done where all can see it. */
static Work *
share_work(ParallelContext *context, const PshComparison *cmp, List *chunks)
{
	Work	   *work = shm_toc_allocate(context->toc,
										offsetof(Work, chunks) +
										sizeof(Chunk) * list_length(chunks));
	ListCell   *lc;

	work->job_id = cmp->job->id;
	work->hashed = cmp->hashed;
	work->nleaves = cmp->nleaves;
	pg_atomic_init_u32(&work->next, 0);
	work->nchunks = 0;
	foreach(lc, chunks)
		work->chunks[work->nchunks++] = *(Chunk *) lfirst(lc);
	shm_toc_insert(context->toc, KEY_WORK, work);
	return work;
}

/* The partitions, by number: a worker may find others, attached since. */
static void
share_leaves(ParallelContext *context, const PshComparison *cmp)
{
	Oid		   *leaves = shm_toc_allocate(context->toc,
										  sizeof(Oid) * cmp->nleaves);
	int			i;

	for (i = 0; i < cmp->nleaves; i++)
		leaves[i] = cmp->leaves[i].relid;
	shm_toc_insert(context->toc, KEY_LEAVES, leaves);
}

static void
require_leaves(const PshComparison *cmp, int nleaves, const Oid *leaves)
{
	bool		same = cmp->nleaves == nleaves;
	int			i;

	for (i = 0; same && i < nleaves; i++)
		same = cmp->leaves[i].relid == leaves[i];
	if (!same)
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("could not finish comparing table \"%s\"",
						cmp->job->table_name),
				 errdetail("Its partitions have changed meanwhile."),
				 errhint("The comparison begins again later.")));
}

static Sums *
share_sums(ParallelContext *context, int nleaves)
{
	Sums	   *sums = shm_toc_allocate(context->toc, sizeof(Sums) * nleaves);
	int			i;
	int			side;

	for (i = 0; i < nleaves; i++)
		for (side = 0; side < 2; side++)
		{
			pg_atomic_init_u64(&sums[i].rows[side], 0);
			pg_atomic_init_u64(&sums[i].sum[side], 0);
		}
	shm_toc_insert(context->toc, KEY_SUMS, sums);
	return sums;
}

static void
read_together(PshComparison *cmp, List *chunks)
{
	ParallelContext *context;
	Work	   *work;
	Sums	   *sums;

	EnterParallelMode();
	context = CreateParallelContext("partshift", "psh_parallel_help",
									cmp->job->workers - 1);
	shm_toc_estimate_chunk(&context->estimator, offsetof(Work, chunks) +
						   sizeof(Chunk) * list_length(chunks));
	shm_toc_estimate_chunk(&context->estimator, sizeof(Sums) * cmp->nleaves);
	shm_toc_estimate_chunk(&context->estimator, sizeof(Oid) * cmp->nleaves);
	shm_toc_estimate_keys(&context->estimator, 3);
	InitializeParallelDSM(context);
	work = share_work(context, cmp, chunks);
	sums = share_sums(context, cmp->nleaves);
	share_leaves(context, cmp);
	LaunchParallelWorkers(context);
	psh_throttle_set(cmp->job, context->nworkers_launched + 1);
	read_chunks(cmp, work);
	WaitForParallelWorkersToFinish(context);
	psh_throttle_set(cmp->job, 1);
	add_sums(cmp, sums);
	take_sums(cmp, sums);
	DestroyParallelContext(context);
	ExitParallelMode();
}

/*
 * Count the rows of each leaf on both sides and add up their hashes, with
 * several processes.  Returns false, with nothing done, when that is not
 * possible or not worth it.
 */
bool
psh_parallel_sums(PshComparison *cmp)
{
	List	   *chunks;

	if (cmp->job->workers < 2 || cmp->computed || cmp->job->lock_writes)
		return false;
	chunks = make_chunks(cmp);
	if (list_length(chunks) < FEWEST_CHUNKS)
		return false;
	read_together(cmp, chunks);
	return true;
}

static const PshJob *
load_job(int job_id)
{
	MemoryContext context = CurrentMemoryContext;
	const PshJob *job;

	SPI_connect();
	MemoryContextSwitchTo(context);
	job = psh_job_load(job_id);
	SPI_finish();
	MemoryContextSwitchTo(context);
	return job;
}

/*
 * The main function of a parallel worker that helps with a comparison.
 */
void
psh_parallel_help(dsm_segment *seg, shm_toc *toc)
{
	Work	   *work = shm_toc_lookup(toc, KEY_WORK, false);
	PshComparison *cmp = psh_compare_join(load_job(work->job_id),
										  work->hashed);

	require_leaves(cmp, work->nleaves, shm_toc_lookup(toc, KEY_LEAVES, false));
	ereport(DEBUG1,
			(errmsg_internal("helping to compare the tables of job %d",
							 work->job_id)));
	read_chunks(cmp, work);
	add_sums(cmp, shm_toc_lookup(toc, KEY_SUMS, false));
	psh_compare_leave(cmp);
}
