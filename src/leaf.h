/*-------------------------------------------------------------------------
 *
 * leaf.h
 *	  One heap, whose rows are found and written by identity.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_LEAF_H
#define PARTSHIFT_LEAF_H

#include "access/attmap.h"
#include "nodes/execnodes.h"

#include "lookup.h"
#include "project.h"

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

/* See table.h */
typedef struct PshTable PshTable;

extern PshLeaf *psh_leaf_open(PshTable *table, PshLeaf *kept, Relation rel);
extern void psh_leaf_close(PshLeaf *leaf);

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
