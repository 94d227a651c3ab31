/*-------------------------------------------------------------------------
 *
 * pruning.c
 *	  pruning(query): how many partitions a query looks into.
 *
 * The query is planned as its caller and not run.  Partitions are left out
 * at three times: by the planner, which never mentions them in the plan;
 * when the executor starts, by what is constant for one execution, as now();
 * and while it runs, by values that other tables yield.  The executor is
 * started, as EXPLAIN does, so the first two are counted.  A query with
 * parameters is planned without their values, as a generic plan: then what
 * depends on them is only known to be left out later.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "funcapi.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "tcop/dest.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "pruning.h"
#include "source.h"

PG_FUNCTION_INFO_V1(partshift_pruning);

/* What the walkers carry along. */
typedef struct Count
{
	PlannedStmt *plan;
	List	   *tables;
	bool		ran;			/* of a finished run, what was begun counts */
} Count;

/*
 * The queries that a text of one statement becomes, parsed and rewritten as
 * the current user, and the types of its parameters.  Raises SYNTAX_ERROR for
 * several statements and WRONG_OBJECT_TYPE for those without a plan.
 */
List *
psh_pruning_parse(const char *text, Oid **types, int *ntypes)
{
	List	   *parsed = pg_parse_query(text);
	List	   *queries;
	ListCell   *cell;

	if (list_length(parsed) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("query is not a single statement")));
	*types = NULL;
	*ntypes = 0;
	queries = pg_analyze_and_rewrite_varparams(linitial_node(RawStmt, parsed),
											   text, types, ntypes, NULL);
	foreach(cell, queries)
	{
		if (lfirst_node(Query, cell)->commandType == CMD_UTILITY)
			ereport(ERROR,
					(errcode(ERRCODE_WRONG_OBJECT_TYPE),
					 errmsg("statement has no plan"),
					 errhint("Give SELECT, INSERT, UPDATE, DELETE or MERGE.")));
	}
	return queries;
}

static int
count_leaves(Oid root)
{
	int			n = 0;
	ListCell   *cell;

	foreach(cell, find_all_inheritors(root, NoLock, NULL))
		n += get_rel_relkind(lfirst_oid(cell)) == RELKIND_PARTITIONED_TABLE ?
			0 : 1;
	return n;
}

static PshTouched *
touched_table(List *tables, Oid root)
{
	ListCell   *cell;

	foreach(cell, tables)
	{
		PshTouched *touched = lfirst(cell);

		if (touched->root == root)
			return touched;
	}
	return NULL;
}

/* Whether rows are only added to it, which is routing and not pruning. */
static bool
is_target_of_insert(PlannedStmt *plan, int rti)
{
	return plan->commandType == CMD_INSERT &&
		list_member_int(plan->resultRelations, rti);
}

/*
 * The partitioned tables that a plan reads, none of their partitions scanned
 * yet.
 */
List *
psh_pruning_tables(PlannedStmt *plan)
{
	List	   *tables = NIL;
	ListCell   *cell;
	int			rti = 0;

	foreach(cell, plan->rtable)
	{
		RangeTblEntry *entry = lfirst_node(RangeTblEntry, cell);
		PshTouched *touched;

		rti++;
		if (entry->rtekind != RTE_RELATION ||
			entry->relkind != RELKIND_PARTITIONED_TABLE ||
			get_rel_relispartition(entry->relid) ||
			is_target_of_insert(plan, rti) ||
			touched_table(tables, entry->relid) != NULL)
			continue;
		touched = palloc0(sizeof(PshTouched));
		touched->root = entry->relid;
		touched->leaves = count_leaves(entry->relid);
		tables = lappend(tables, touched);
	}
	return tables;
}

static void
note_scan(List *tables, Oid relid)
{
	PshTouched *touched;

	if (!get_rel_relispartition(relid))
		return;
	touched = touched_table(tables, psh_source_root(relid));
	if (touched)
		touched->scanned = list_append_unique_oid(touched->scanned, relid);
}

static bool
is_scan(PlanState *state)
{
	switch (nodeTag(state))
	{
		case T_SeqScanState:
		case T_SampleScanState:
		case T_IndexScanState:
		case T_IndexOnlyScanState:
		case T_BitmapHeapScanState:
		case T_TidScanState:
		case T_TidRangeScanState:
		case T_ForeignScanState:
		case T_CustomScanState:
			return ((ScanState *) state)->ss_currentRelation != NULL;
		default:
			return false;
	}
}

static bool
was_begun(const PlanState *state)
{
	return state->instrument &&
		(state->instrument->running || state->instrument->nloops > 0);
}

static bool
count_state(PlanState *state, Count *count)
{
	if (is_scan(state) && (!count->ran || was_begun(state)))
		note_scan(count->tables,
				  RelationGetRelid(((ScanState *) state)->ss_currentRelation));
	return planstate_tree_walker(state, count_state, count);
}

/*
 * Note on the tables which of their partitions a plan scans that the executor
 * has started; with `ran`, that it has finished, instrumented: those that were
 * really begun.
 */
void
psh_pruning_count(PlanState *state, List *tables, bool ran)
{
	Count		count = {NULL, tables, ran};

	(void) count_state(state, &count);
}

/* Mark the tables of which an Append may leave out more partitions. */
static void
mark_pruned_later(Count *count, PartitionPruneInfo *info, bool at_start)
{
	ListCell   *outer;

	if (info == NULL)
		return;
	foreach(outer, info->prune_infos)
	{
		ListCell   *inner;

		foreach(inner, (List *) lfirst(outer))
		{
			PartitionedRelPruneInfo *part = lfirst(inner);
			PshTouched *touched = touched_table(count->tables,
												rt_fetch(part->rtindex, count->plan->rtable)->relid);

			if (touched && (part->exec_pruning_steps ||
							(at_start && part->initial_pruning_steps)))
				touched->later = true;
		}
	}
}

static void walk_plan(Plan *plan, Count *count, bool generic);

static void
walk_plans(List *plans, Count *count, bool generic)
{
	ListCell   *cell;

	foreach(cell, plans)
		walk_plan(lfirst(cell), count, generic);
}

/* With `generic` count the scans, too, as if no partition were left out. */
static void
walk_plan(Plan *plan, Count *count, bool generic)
{
	if (plan == NULL)
		return;
	switch (nodeTag(plan))
	{
		case T_Append:
			mark_pruned_later(count,
							  psh_append_pruning(count->plan, (Append *) plan),
							  generic);
			walk_plans(((Append *) plan)->appendplans, count, generic);
			break;
		case T_MergeAppend:
			mark_pruned_later(count,
							  psh_append_pruning(count->plan, (MergeAppend *) plan),
							  generic);
			walk_plans(((MergeAppend *) plan)->mergeplans, count, generic);
			break;
		case T_SubqueryScan:
			walk_plan(((SubqueryScan *) plan)->subplan, count, generic);
			break;
		case T_CustomScan:
			walk_plans(((CustomScan *) plan)->custom_plans, count, generic);
			break;
		case T_SeqScan:
		case T_SampleScan:
		case T_IndexScan:
		case T_IndexOnlyScan:
		case T_BitmapHeapScan:
		case T_TidScan:
		case T_TidRangeScan:
		case T_ForeignScan:
			if (generic && ((Scan *) plan)->scanrelid > 0)
				note_scan(count->tables,
						  rt_fetch(((Scan *) plan)->scanrelid,
								   count->plan->rtable)->relid);
			break;
		default:
			break;
	}
	walk_plan(plan->lefttree, count, generic);
	walk_plan(plan->righttree, count, generic);
}

/* Nulls, for what a query's parameters are. */
static ParamListInfo
empty_parameters(const Oid *types, int ntypes)
{
	ParamListInfo params = makeParamList(ntypes);
	int			i;

	for (i = 0; i < ntypes; i++)
	{
		params->params[i].isnull = true;
		params->params[i].ptype = types[i];
	}
	return params;
}

/*
 * What a planned query touches.  The executor checks the caller's rights; with
 * parameters that is all it is started for.
 */
static List *
touched_by(PlannedStmt *plan, const char *text, const Oid *types, int ntypes)
{
	QueryDesc  *desc = CreateQueryDesc(plan, text, GetActiveSnapshot(),
									   InvalidSnapshot, None_Receiver,
									   ntypes > 0 ? empty_parameters(types, ntypes) : NULL,
									   NULL, 0);
	Count		count = {plan, psh_pruning_tables(plan), false};

	ExecutorStart(desc, EXEC_FLAG_EXPLAIN_ONLY);
	if (ntypes == 0)
		psh_pruning_count(desc->planstate, count.tables, false);
	ExecutorEnd(desc);
	FreeQueryDesc(desc);
	walk_plan(plan->planTree, &count, ntypes > 0);
	walk_plans(plan->subplans, &count, ntypes > 0);
	return count.tables;
}

static void
put_rows(ReturnSetInfo *result, List *tables)
{
	ListCell   *cell;

	foreach(cell, tables)
	{
		PshTouched *touched = lfirst(cell);
		Datum		values[4];
		bool		nulls[4] = {0};

		values[0] = ObjectIdGetDatum(touched->root);
		values[1] = Int32GetDatum(touched->leaves);
		values[2] = Int32GetDatum(list_length(touched->scanned));
		values[3] = BoolGetDatum(touched->later);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
}

/*
 * pruning(query text): a row for each partitioned table of the query.
 */
Datum
partshift_pruning(PG_FUNCTION_ARGS)
{
	char	   *source = text_to_cstring(PG_GETARG_TEXT_PP(0));
	Oid		   *types;
	int			ntypes;
	List	   *queries;
	ListCell   *cell;

	InitMaterializedSRF(fcinfo, 0);
	queries = psh_pruning_parse(source, &types, &ntypes);
	PushActiveSnapshot(GetActiveSnapshot());
	foreach(cell, queries)
		put_rows((ReturnSetInfo *) fcinfo->resultinfo,
				 touched_by(pg_plan_query(lfirst_node(Query, cell), source,
										  CURSOR_OPT_PARALLEL_OK, NULL),
							source, types, ntypes));
	PopActiveSnapshot();
	PG_RETURN_NULL();
}
