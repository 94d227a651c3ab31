/*-------------------------------------------------------------------------
 *
 * compare.h
 *	  Source and shadow side by side in one snapshot.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_COMPARE_H
#define PARTSHIFT_COMPARE_H

#include "datatype/timestamp.h"
#include "executor/tuptable.h"
#include "storage/block.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

#include "job.h"
#include "route.h"
#include "rowhash.h"

typedef enum PshSide
{
	PSH_SIDE_SOURCE,
	PSH_SIDE_SHADOW
} PshSide;

/* What both tables hold for one partition of the shadow. */
typedef struct PshCompareLeaf
{
	Oid			relid;			/* InvalidOid: rows of the source that belong
								 * to no partition */
	char	   *name;
	int64		rows[2];		/* by PshSide */
	uint64		sum[2];			/* of the rows' hashes, modulo 2^64 */
	bool		equal;
	int			list_no;		/* number among the leaves whose differing
								 * rows are looked for, or -1 */
	List	   *identities;		/* of char *: rows that differ */
} PshCompareLeaf;

typedef struct PshComparison
{
	const PshJob *job;
	bool		hashed;			/* compare contents, not only counts */
	Relation	source;
	Relation	shadow;
	List	   *heaps;			/* of the source: itself or its partitions */
	Snapshot	snapshot;
	PshRoute   *route;
	List	   *columns;		/* of char *: what is compared */
	const PshComputed *computed;	/* how the source's key is, or NULL */
	int			nleaves;		/* the last one is that of no partition */
	PshCompareLeaf *leaves;
	bool		equal;
	TimestampTz next_look;		/* when to look who waits for us */
} PshComparison;

extern PshComparison *psh_compare_begin(const PshJob *job, bool hashed);
extern void psh_compare_sums(PshComparison *cmp);
extern void psh_compare_end(PshComparison *cmp);

extern PshComparison *psh_compare_join(const PshJob *job, bool hashed);
extern void psh_compare_blocks(PshComparison *cmp, Relation heap,
							   PshCompareLeaf *leaf, BlockNumber first,
							   BlockNumber nblocks);
extern void psh_compare_leave(PshComparison *cmp);

#endif							/* PARTSHIFT_COMPARE_H */
