/*-------------------------------------------------------------------------
 *
 * leaf.h
 *	  A table, partitioned or not, whose rows are found and written by
 *	  identity.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_LEAF_H
#define PARTSHIFT_LEAF_H

#include "nodes/execnodes.h"

#include "lookup.h"
#include "route.h"

/* One heap with its indexes. */
typedef struct PshLeaf
{
	Relation	rel;
	AttrNumber *columns;		/* the identity's */
	PshKey	   *key;			/* NULL: no index finds its rows */
	int			nindexes;		/* 0 when opened for look-ups only */
	Relation   *indexes;
	IndexInfo **infos;
	EState	   *estate;			/* for expressions of indexes, or NULL */
	TupleTableSlot *found;		/* what a look-up found */
	TupleTableSlot *row;		/* what is to be written */
	List	   *conflicts;		/* OIDs of unique indexes in which the row
								 * last written may not be the only one */
} PshLeaf;

typedef struct PshTable
{
	Relation	rel;
	List	   *identity;		/* of char * */
	int			nidentity;
	Oid		   *types;			/* of the identity's columns */
	bool		for_write;
	LOCKMODE	lockmode;
	MemoryContext context;		/* what is opened lives in it */
	PshRoute   *route;			/* NULL for a plain table */
	int			nleaves;
	PshLeaf   **leaves;			/* opened when first needed */
	struct PshTable **parts;	/* instead, where a partition has partitions */
} PshTable;

extern PshTable *psh_table_open(Oid relid, List *identity,
								const PshTable *like, bool for_write);
extern PshLeaf *psh_table_leaf(PshTable *table, const Datum *identity);
extern void psh_table_close(PshTable *table);

extern PshFound psh_leaf_find(PshLeaf *leaf, const Datum *identity,
							  Snapshot snapshot, TransactionId *busy);
extern void psh_leaf_load(PshLeaf *leaf, Relation from, TupleTableSlot *slot);
extern void psh_leaf_insert(PshLeaf *leaf);
extern bool psh_leaf_update(PshLeaf *leaf);
extern bool psh_leaf_delete(PshLeaf *leaf);

#endif							/* PARTSHIFT_LEAF_H */
