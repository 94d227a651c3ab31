/*-------------------------------------------------------------------------
 *
 * route.c
 *	  Which partition a row belongs to.
 *
 * The executor's routing wants an executor state and a result relation for
 * each leaf; the copy and the triggers need only the number of the partition.
 * The bounds are searched by the server's own functions, on the partition
 * descriptor that the relation cache holds.  The caller keeps the parent open
 * and locked as long as the route is used.  Under ACCESS SHARE partitions may
 * be attached, or detached concurrently: the descriptor that was read stays as
 * it is, and one that is read later may be another.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/partition.h"
#include "nodes/parsenodes.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"
#include "utils/rel.h"

#include "lookup.h"
#include "route.h"

struct PshRoute
{
	PartitionKey key;
	PartitionDesc desc;
	AttrNumber	column[PARTITION_MAX_KEYS]; /* of the rows to be routed, or
											 * position in the identity */
};

/*
 * Look at the parent again, which was closed in between but has not changed.
 */
void
psh_route_refresh(PshRoute *route, Relation parent)
{
	route->key = RelationGetPartitionKey(parent);
	route->desc = RelationGetPartitionDesc(parent, true);
}

static PshRoute *
make(Relation parent)
{
	PshRoute   *route = palloc(sizeof(PshRoute));

	psh_route_refresh(route, parent);
	return route;
}

static char *
key_name(Relation parent, const PshRoute *route, int i)
{
	return get_attname(RelationGetRelid(parent), route->key->partattrs[i],
					   false);
}

/* Columns are matched by name. */
static void
find_columns(PshRoute *route, Relation parent, Relation source)
{
	int			i;

	for (i = 0; i < route->key->partnatts; i++)
	{
		char	   *name = key_name(parent, route, i);

		route->column[i] = get_attnum(RelationGetRelid(source), name);
		if (route->column[i] == InvalidAttrNumber)
			elog(ERROR, "table \"%s\" has no column \"%s\"",
				 RelationGetRelationName(source), name);
		psh_identity_check(source, &route->column[i], 1,
						   &route->key->parttypid[i]);
	}
}

/*
 * Prepare to route rows that have the layout of `source` into the partitions
 * of `parent`.  Columns are matched by name.
 */
PshRoute *
psh_route_make(Relation parent, Relation source)
{
	PshRoute   *route = make(parent);

	find_columns(route, parent, source);
	return route;
}

/*
 * The same for rows of another layout, with the partitions that `route` knows:
 * the parent may have others by now.
 */
PshRoute *
psh_route_like(const PshRoute *route, Relation parent, Relation source)
{
	PshRoute   *result = palloc(sizeof(PshRoute));

	*result = *route;
	find_columns(result, parent, source);
	return result;
}

/*
 * Prepare to route identities: values in the order of the names given.
 */
PshRoute *
psh_route_make_identity(Relation parent, List *identity)
{
	PshRoute   *route = make(parent);
	int			i;

	for (i = 0; i < route->key->partnatts; i++)
	{
		char	   *name = key_name(parent, route, i);
		ListCell   *cell;

		route->column[i] = -1;
		foreach(cell, identity)
		{
			if (strcmp(lfirst(cell), name) == 0)
				route->column[i] = foreach_current_index(cell);
		}
		if (route->column[i] < 0)
			elog(ERROR, "column \"%s\" is not in the identity", name);
	}
	return route;
}

static int
hash_partition(const PshRoute *route, Datum *values, bool *nulls)
{
	PartitionBoundInfo bounds = route->desc->boundinfo;
	uint64		hash = compute_partition_hash_value(route->key->partnatts,
													route->key->partsupfunc,
													route->key->partcollation,
													values, nulls);

	return bounds->indexes[hash % bounds->nindexes];
}

static int
list_partition(const PshRoute *route, Datum value, bool isnull)
{
	PartitionBoundInfo bounds = route->desc->boundinfo;
	bool		equal = false;
	int			offset;

	if (isnull)
		return partition_bound_accepts_nulls(bounds) ? bounds->null_index : -1;
	offset = partition_list_bsearch(route->key->partsupfunc,
									route->key->partcollation,
									bounds, value, &equal);
	return offset >= 0 && equal ? bounds->indexes[offset] : -1;
}

static int
range_partition(const PshRoute *route, Datum *values, const bool *nulls)
{
	PartitionBoundInfo bounds = route->desc->boundinfo;
	bool		equal = false;
	int			i;

	for (i = 0; i < route->key->partnatts; i++)
		if (nulls[i])
			return -1;
	return bounds->indexes[partition_range_datum_bsearch(route->key->partsupfunc,
														 route->key->partcollation,
														 bounds,
														 route->key->partnatts,
														 values, &equal) + 1];
}

static int
find(PshRoute *route, Datum *values, bool *nulls)
{
	int			part = -1;

	Assert(route->key->partnatts > 0);
	if (route->desc->nparts == 0)
		return -1;
	switch (route->key->strategy)
	{
		case PARTITION_STRATEGY_HASH:
			return hash_partition(route, values, nulls);
		case PARTITION_STRATEGY_LIST:
			part = list_partition(route, values[0], nulls[0]);
			break;
		case PARTITION_STRATEGY_RANGE:
			part = range_partition(route, values, nulls);
			break;
	}
	return part >= 0 ? part : route->desc->boundinfo->default_index;
}

/*
 * The number of the partition for the row, -1 when there is none.
 */
int
psh_route_find(PshRoute *route, TupleTableSlot *slot)
{
	Datum		values[PARTITION_MAX_KEYS];
	bool		nulls[PARTITION_MAX_KEYS];
	int			i;

	for (i = 0; i < route->key->partnatts; i++)
		values[i] = slot_getattr(slot, route->column[i], &nulls[i]);
	return find(route, values, nulls);
}

/*
 * The same for an identity, none of whose values is null.
 */
int
psh_route_find_identity(PshRoute *route, const Datum *identity)
{
	Datum		values[PARTITION_MAX_KEYS];
	bool		nulls[PARTITION_MAX_KEYS] = {0};
	int			i;

	for (i = 0; i < route->key->partnatts; i++)
		values[i] = identity[route->column[i]];
	return find(route, values, nulls);
}

/*
 * How many partitions there are; their numbers begin at 0.
 */
int
psh_route_count(const PshRoute *route)
{
	return route->desc->nparts;
}

/*
 * The table that is partition i.
 */
Oid
psh_route_leaf(const PshRoute *route, int i)
{
	return route->desc->oids[i];
}
