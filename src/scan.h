/*-------------------------------------------------------------------------
 *
 * scan.h
 *	  Reading the tables of a comparison, row by row.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_SCAN_H
#define PARTSHIFT_SCAN_H

#include "compare.h"

/* A row that a pass comes by. */
typedef struct PshCompareRow
{
	PshSide		side;
	PshCompareLeaf *leaf;
	Oid			relid;			/* the table that it is in */
	TupleTableSlot *slot;
	PshRowHash *contents;
	PshRowHash *identity;
} PshCompareRow;

typedef void (*PshCompareAction) (PshCompareRow *row, void *arg);

extern List *psh_scan_tables(const PshCompareLeaf *leaf);
extern void psh_scan_pass(PshComparison *cmp, bool listed_only,
						  PshCompareAction action, void *arg);
extern void psh_scan_blocks(PshComparison *cmp, Relation rel,
							PshCompareLeaf *leaf, BlockNumber first,
							BlockNumber nblocks, bool listed_only,
							PshCompareAction action, void *arg);

#endif							/* PARTSHIFT_SCAN_H */
