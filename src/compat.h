/*-------------------------------------------------------------------------
 *
 * compat.h
 *	  What differs between the supported servers, with the newest server's
 *	  meaning.  No other file looks at the version.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_COMPAT_H
#define PARTSHIFT_COMPAT_H

#include "access/attmap.h"
#include "access/tableam.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "nodes/primnodes.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/rel.h"

#if PG_VERSION_NUM < 150000
#error "partshift needs PostgreSQL 15 or later"
#endif

/* 16 gave all ownership checks one function. */
#if PG_VERSION_NUM >= 160000
#include "catalog/pg_class.h"
#define psh_owns_relation(relid, roleid) \
	object_ownercheck(RelationRelationId, (relid), (roleid))
#else
#define psh_owns_relation(relid, roleid) \
	pg_class_ownercheck((relid), (roleid))
#endif

/* 16 renamed the file of a relation from node to number. */
#if PG_VERSION_NUM >= 160000
#define psh_relation_file(rel) ((rel)->rd_locator.relNumber)
#define psh_relation_set_new_file(rel, persistence) \
	RelationSetNewRelfilenumber((rel), (persistence))
#else
#define psh_relation_file(rel) ((rel)->rd_node.relNode)
#define psh_relation_set_new_file(rel, persistence) \
	RelationSetNewRelfilenode((rel), (persistence))
#endif

/* 16 added the number of partitions that DefineIndex() reports. */
#if PG_VERSION_NUM >= 160000
#define psh_define_index(relid, stmt) \
	DefineIndex((relid), (stmt), InvalidOid, InvalidOid, InvalidOid, -1, \
				false, false, true, false, true)
#else
#define psh_define_index(relid, stmt) \
	DefineIndex((relid), (stmt), InvalidOid, InvalidOid, InvalidOid, \
				false, false, true, false, true)
#endif

/* 16 lets a missing column pass when attributes are mapped by name. */
#if PG_VERSION_NUM >= 160000
#define psh_attrmap_by_name(in, out) build_attrmap_by_name((in), (out), false)
#else
#define psh_attrmap_by_name(in, out) build_attrmap_by_name((in), (out))
#endif

/* 16 tells an update that needs summarizing indexes only from one that needs all. */
#if PG_VERSION_NUM >= 160000
typedef TU_UpdateIndexes PshUpdateIndexes;
#define psh_update_skips(update, info) \
	((update) == TU_None || \
	 ((update) == TU_Summarizing && !(info)->ii_Summarizing))
#else
typedef bool PshUpdateIndexes;
#define psh_update_skips(update, info) (!(update))
#endif

/* 16 took the rights that a query needs out of its range table. */
#if PG_VERSION_NUM >= 160000
#define PSH_CHECK_PERMS_PARAMETERS \
	List *range_table, List *permissions, bool raise
#define PSH_CHECK_PERMS_ARGUMENTS range_table, permissions, raise
#else
#define PSH_CHECK_PERMS_PARAMETERS List *range_table, bool raise
#define PSH_CHECK_PERMS_ARGUMENTS range_table, raise
#endif

/* 17 lets an access method keep state between insertions, to be ended. */
#if PG_VERSION_NUM >= 170000
#define psh_index_insert_cleanup(index, info) \
	index_insert_cleanup((index), (info))
#else
#define psh_index_insert_cleanup(index, info) ((void) 0)
#endif

/* 18 counts what an index scan does. */
#if PG_VERSION_NUM >= 180000
#define psh_index_beginscan(heap, index, snapshot, nkeys) \
	index_beginscan((heap), (index), (snapshot), NULL, (nkeys), 0)
#else
#define psh_index_beginscan(heap, index, snapshot, nkeys) \
	index_beginscan((heap), (index), (snapshot), (nkeys), 0)
#endif

/* 16 made the firing state recurse to the partitions' triggers. */
#if PG_VERSION_NUM >= 160000
#define psh_trigger_set_firing(rel, name, fires) \
	EnableDisableTrigger((rel), (name), InvalidOid, (fires), false, true, \
						 ShareRowExclusiveLock)
#else
#define psh_trigger_set_firing(rel, name, fires) \
	EnableDisableTrigger((rel), (name), (fires), false, \
						 ShareRowExclusiveLock)
#endif

/* 17 passes the statement, for its messages. */
#if PG_VERSION_NUM >= 170000
#define psh_reindex_relation(relid, flags, params) \
	reindex_relation(NULL, (relid), (flags), (params))
#else
#define psh_reindex_relation(relid, flags, params) \
	reindex_relation((relid), (flags), (params))
#endif

/*
 * 17 numbers the slots of processes instead of the backends, and keeps a
 * virtual transaction's numbers together.
 */
#if PG_VERSION_NUM >= 170000
#include "storage/procarray.h"
#define psh_local_transaction() (MyProc->vxid.lxid)
#define psh_vxid_process(vxid) ProcNumberGetProc((vxid).procNumber)
#else
#include "storage/sinvaladt.h"
#define psh_local_transaction() (MyProc->lxid)
#define psh_vxid_process(vxid) BackendIdGetProc((vxid).backendId)
#endif

/*
 * 16 gave vacuum() the memory context that outlives its transactions; before
 * it was the portal's.  16 also made the main table an option, and so the
 * update of the database's own horizon, which is too dear for each leaf.
 */
#if PG_VERSION_NUM >= 160000
#define PSH_VACUUM_OPTIONS \
	(VACOPT_VACUUM | VACOPT_ANALYZE | VACOPT_PROCESS_MAIN | \
	 VACOPT_PROCESS_TOAST | VACOPT_SKIP_DATABASE_STATS)
#define psh_vacuum(relations, params, strategy, context) \
	vacuum((relations), (params), (strategy), (context), true)
#else
#include "utils/memutils.h"
#define PSH_VACUUM_OPTIONS \
	(VACOPT_VACUUM | VACOPT_ANALYZE | VACOPT_PROCESS_TOAST)
#define psh_vacuum(relations, params, strategy, context) \
	(PortalContext = (context), \
	 vacuum((relations), (params), (strategy), true))
#endif

/* 18 keeps what an Append prunes by in a list of the plan's. */
#if PG_VERSION_NUM >= 180000
#define psh_append_pruning(plan, append) \
	((append)->part_prune_index < 0 ? NULL : \
	 list_nth_node(PartitionPruneInfo, (plan)->partPruneInfos, \
				   (append)->part_prune_index))
#else
#define psh_append_pruning(plan, append) ((append)->part_prune_info)
#endif

/* 18 has no parameter for portals that run in pieces any more. */
#if PG_VERSION_NUM >= 180000
#define psh_executor_run(desc) ExecutorRun((desc), ForwardScanDirection, 0)
#else
#define psh_executor_run(desc) \
	ExecutorRun((desc), ForwardScanDirection, 0, true)
#endif

/*
 * What a column of a query's result is computed from.  18 has columns by which
 * rows are grouped mentioned by way of an entry in the range table.
 */
static inline Node *
psh_result_expression(const Query *query, const TargetEntry *target)
{
#if PG_VERSION_NUM >= 180000
	Var		   *var = (Var *) target->expr;

	if (query->hasGroupRTE && IsA(var, Var) && var->varlevelsup == 0)
	{
		RangeTblEntry *entry = list_nth_node(RangeTblEntry, query->rtable,
											 var->varno - 1);

		if (entry->rtekind == RTE_GROUP)
			return list_nth(entry->groupexprs, var->varattno - 1);
	}
#else
	(void) query;
#endif
	return (Node *) target->expr;
}

/*
 * Let an entry of a query's range table mean another table, without a check
 * of rights of its own.  16 took the rights out of the entry.
 */
static inline void
psh_entry_point_at(Query *query, RangeTblEntry *entry, Relation rel)
{
	entry->relid = RelationGetRelid(rel);
	entry->relkind = rel->rd_rel->relkind;
	entry->inh = true;
#if PG_VERSION_NUM >= 160000
	if (entry->perminfoindex > 0)
	{
		RTEPermissionInfo *rights = list_nth_node(RTEPermissionInfo,
												  query->rteperminfos,
												  entry->perminfoindex - 1);

		rights->relid = RelationGetRelid(rel);
		rights->requiredPerms = 0;
	}
#else
	(void) query;
	entry->requiredPerms = 0;
#endif
}

#endif							/* PARTSHIFT_COMPAT_H */
