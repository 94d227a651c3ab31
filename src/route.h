/*-------------------------------------------------------------------------
 *
 * route.h
 *	  Which partition a row belongs to.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_ROUTE_H
#define PARTSHIFT_ROUTE_H

#include "executor/tuptable.h"
#include "nodes/pg_list.h"
#include "utils/relcache.h"

typedef struct PshRoute PshRoute;

extern PshRoute *psh_route_make(Relation parent, Relation source);
extern PshRoute *psh_route_like(const PshRoute *route, Relation parent,
								Relation source);
extern PshRoute *psh_route_make_identity(Relation parent, List *identity);
extern void psh_route_refresh(PshRoute *route, Relation parent);
extern int	psh_route_find(PshRoute *route, TupleTableSlot *slot);
extern int	psh_route_find_identity(PshRoute *route, const Datum *identity);
extern int	psh_route_count(const PshRoute *route);
extern Oid	psh_route_leaf(const PshRoute *route, int i);

#endif							/* PARTSHIFT_ROUTE_H */
