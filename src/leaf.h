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
#include "project.h"
#include "route.h"

/* One heap with its indexes. */
typedef struct PshLeaf
{
	Relation	rel;
	AttrNumber *columns;		/* the identity's */
	PshProjection *projection;	/* NULL unless the table's key is computed */
	const PshComputed *fill;	/* or NULL: see PshTable */
	int			fill_place;
	PshKey	   *key;			/* NULL: no index finds its rows */
	bool		exact;			/* the key is the whole identity's, and no
								 * other index of the table is so */
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
	const PshComputed *computed;	/* of a plain table, or NULL */
	const PshComputed *fill;	/* of the table that this one follows: rows
								 * get the column from the identity */
	bool		for_write;
	LOCKMODE	lockmode;
	MemoryContext context;		/* what is opened lives in it */
	PshRoute   *route;			/* NULL for a plain table */
	int			nleaves;
	PshLeaf   **leaves;			/* opened when first needed */
	struct PshTable **parts;	/* instead, where a partition has partitions */
} PshTable;

extern PshTable *psh_table_open(Oid relid, List *identity,
								const PshTable *like,
								const PshComputed *computed, bool for_write);
extern PshLeaf *psh_table_leaf(PshTable *table, const Datum *identity);
extern void psh_table_close(PshTable *table);

extern PshFound psh_leaf_find(PshLeaf *leaf, const Datum *identity,
							  Snapshot snapshot, TransactionId *busy);
extern bool psh_leaf_identity(PshTable *table, PshLeaf *leaf,
							  TupleTableSlot *row, Datum *identity);
extern bool psh_leaf_identity_equal(PshTable *table, PshLeaf *leaf,
									const Datum *a, const Datum *b);
extern void psh_leaf_load(PshLeaf *leaf, Relation from, TupleTableSlot *slot,
						  const Datum *identity);
extern void psh_leaf_insert(PshLeaf *leaf);
extern bool psh_leaf_update(PshLeaf *leaf);
extern bool psh_leaf_delete(PshLeaf *leaf);

#endif							/* PARTSHIFT_LEAF_H */
