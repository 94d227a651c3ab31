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

#include "access/attmap.h"
#include "nodes/execnodes.h"

#include "lookup.h"
#include "project.h"
#include "route.h"

/* One heap with its indexes. */
typedef struct PshLeaf
{
	struct PshLeaf *next_open;
	uint64		generation;		/* see trigcache.c */
	Oid			relid;
	Relation	rel;			/* NULL while it is closed */
	AttrNumber *columns;		/* the identity's */
	PshProjection *projection;	/* NULL unless the table's key is computed */
	const PshComputed *fill;	/* or NULL: see PshTable */
	int			fill_place;
	PshKey	   *key;			/* NULL: no index finds its rows */
	bool		exact;			/* the key is the whole identity's, and no
								 * other index of the table is so */
	int			nindexes;		/* 0 when opened for look-ups only */
	List	   *indexids;
	Relation   *indexes;
	IndexInfo **infos;
	bool		evaluates;		/* an index has expressions or a predicate */
	EState	   *estate;			/* for these, or NULL */
	Oid			map_from;		/* the table whose rows are loaded by */
	AttrMap    *map;			/* this map */
	TupleTableSlot *found;		/* what a look-up found */
	TupleTableSlot *row;		/* what is to be written */
	List	   *conflicts;		/* OIDs of unique indexes in which the row
								 * last written may not be the only one */
} PshLeaf;

typedef struct PshTable
{
	Oid			relid;
	Relation	rel;			/* NULL while it is closed */
	List	   *identity;		/* of char * */
	int			nidentity;
	Oid		   *types;			/* of the identity's columns */
	const PshComputed *computed;	/* of a plain table, or NULL */
	const PshComputed *fill;	/* of the table that this one follows: rows
								 * get the column from the identity */
	bool		for_write;
	LOCKMODE	lockmode;
	MemoryContext context;		/* what is worked out lives in it */
	MemoryContext scratch;		/* as long as the table is open */
	PshRoute   *route;			/* NULL for a plain table */
	int			nleaves;
	PshLeaf   **leaves;			/* opened when first needed */
	PshLeaf    *open_leaves;
	List	   *parts;			/* of PshTable *: partitions that have
								 * partitions */
} PshTable;

extern PshTable *psh_table_open(Oid relid, List *identity,
								const PshTable *like,
								const PshComputed *computed, bool for_write);
extern bool psh_table_reopen(PshTable *table);
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
