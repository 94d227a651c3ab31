/*-------------------------------------------------------------------------
 *
 * table.h
 *	  A table, partitioned or not, and which of its leaves a row belongs to.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_TABLE_H
#define PARTSHIFT_TABLE_H

#include "leaf.h"
#include "route.h"

struct PshTable
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
};

extern PshTable *psh_table_open(Oid relid, List *identity,
								const PshTable *like,
								const PshComputed *computed, bool for_write);
extern bool psh_table_reopen(PshTable *table);
extern PshLeaf *psh_table_leaf(PshTable *table, const Datum *identity);
extern void psh_table_close(PshTable *table);

#endif							/* PARTSHIFT_TABLE_H */
