/*-------------------------------------------------------------------------
 *
 * pruning.h
 *	  How many partitions a query looks into.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_PRUNING_H
#define PARTSHIFT_PRUNING_H

#include "nodes/execnodes.h"
#include "nodes/plannodes.h"

/* A partitioned table of a query. */
typedef struct PshTouched
{
	Oid			root;
	int			leaves;			/* that it has */
	List	   *scanned;		/* those that are looked into, OIDs */
	bool		later;			/* more may be left out while it runs */
} PshTouched;

extern List *psh_pruning_parse(const char *text, Oid **types, int *ntypes);
extern List *psh_pruning_tables(PlannedStmt *plan);
extern void psh_pruning_count(PlanState *state, List *tables, bool ran);

#endif							/* PARTSHIFT_PRUNING_H */
