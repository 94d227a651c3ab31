/*-------------------------------------------------------------------------
 *
 * sides.c
 *	  compare(job, query): the same query against both tables of a job.
 *
 * Before the swap it shows what partitioning will do to a query, after it
 * what it has done, as long as the old table follows.  The query is parsed and
 * rewritten once, as the caller.  For each side every reference to either
 * table is then pointed at that side's, in the query tree, where a name can
 * no longer be mistaken: below views, in subqueries, under aliases.  Columns
 * are mapped by name.
 *
 * Whether the caller may read the table is checked by running the query as it
 * was given; where a reference was changed nothing is checked again.  He has
 * the rights of the table's owner in any case.  Row security applies as the
 * rewriter has put it into the tree.
 *
 * Nothing is written: the transaction is read only while it runs.  Both sides
 * use the caller's snapshot.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "executor/instrument.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "tcop/dest.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "funcs.h"
#include "job.h"
#include "pruning.h"

PG_FUNCTION_INFO_V1(partshift_compare);

#define MOST_RUNS 100

/* One table of the job, and what the query's best run with it took. */
typedef struct Side
{
	const char *name;
	Oid			relid;
	Oid			other;			/* references to it mean relid, too */
	Query	   *query;
	List	   *tables;			/* of PshTouched */
	uint64		rows;
	double		plan_ms;
	double		run_ms;
	BufferUsage buffers;		/* of the last run */
} Side;

typedef struct Search
{
	Oid			a;
	Oid			b;
	bool		found;
} Search;

static bool
find_table(Node *node, Search *search)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *entry = (RangeTblEntry *) node;

		if (entry->rtekind == RTE_RELATION &&
			(entry->relid == search->a || entry->relid == search->b))
			search->found = true;
		return search->found;
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, find_table, search,
								 QTW_EXAMINE_RTES_BEFORE);
	return expression_tree_walker(node, find_table, search);
}

/* A derived column is in the new table only, and has no counterpart. */
static AttrMap *
map_columns(TupleDesc from, Oid to)
{
	AttrMap    *map = make_attrmap(from->natts);
	int			i;

	for (i = 0; i < from->natts; i++)
		if (!TupleDescAttr(from, i)->attisdropped)
			map->attnums[i] = get_attnum(to, NameStr(TupleDescAttr(from, i)->attname));
	return map;
}

/* Map the columns of one range table entry, and let it mean the side's table. */
static Query *
point_entry(Query *query, int rti, const Side *side)
{
	Relation	from = table_open(side->other, AccessShareLock);
	Relation	to = table_open(side->relid, AccessShareLock);
	AttrMap    *map = map_columns(RelationGetDescr(from), side->relid);
	bool		whole_row;

	query = (Query *) map_variable_attnos((Node *) query, rti, 0, map,
										  to->rd_rel->reltype, &whole_row);
	psh_entry_point_at(query, rt_fetch(rti, query->rtable), to);
	table_close(to, NoLock);
	table_close(from, NoLock);
	return query;
}

static Node *
point_at(Node *node, Side *side)
{
	Query	   *query;
	int			rti;

	if (node == NULL)
		return NULL;
	if (!IsA(node, Query))
		return expression_tree_mutator(node, point_at, side);
	query = query_tree_mutator((Query *) node, point_at, side, 0);
	for (rti = 1; rti <= list_length(query->rtable); rti++)
	{
		RangeTblEntry *entry = rt_fetch(rti, query->rtable);

		if (entry->rtekind == RTE_RELATION && entry->relid == side->other)
			query = point_entry(query, rti, side);
	}
	return (Node *) query;
}

static Query *
read_query(const char *text, const PshJob *job)
{
	Search		search = {job->relid, job->shadow, false};
	Oid		   *types;
	int			ntypes;
	List	   *queries = psh_pruning_parse(text, &types, &ntypes);
	Query	   *query = linitial_node(Query, queries);

	if (ntypes > 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_PARAMETER),
				 errmsg("query has parameters"),
				 errhint("Put values in their places.")));
	if (list_length(queries) != 1 || query->commandType != CMD_SELECT)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("cannot compare a statement that writes"),
				 errhint("Give a SELECT.")));
	(void) find_table((Node *) query, &search);
	if (!search.found)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("query does not read table \"%s\"", job->table_name)));
	return query;
}

static double
milliseconds_since(instr_time start)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, start);
	return INSTR_TIME_GET_MILLISEC(now);
}

/* Plan and run the side's query once, and keep the shortest times. */
static void
run_side(Side *side, const char *text, bool first)
{
	BufferUsage before;
	QueryDesc  *desc;
	PlannedStmt *plan;
	instr_time	start;
	double		took;

	INSTR_TIME_SET_CURRENT(start);
	plan = pg_plan_query(copyObject(side->query), text,
						 CURSOR_OPT_PARALLEL_OK, NULL);
	took = milliseconds_since(start);
	side->plan_ms = first ? took : Min(side->plan_ms, took);

	before = pgBufferUsage;
	INSTR_TIME_SET_CURRENT(start);
	desc = CreateQueryDesc(plan, text, GetActiveSnapshot(), InvalidSnapshot,
						   None_Receiver, NULL, NULL, INSTRUMENT_ROWS);
	ExecutorStart(desc, 0);
	psh_executor_run(desc);
	ExecutorFinish(desc);
	took = milliseconds_since(start);
	side->run_ms = first ? took : Min(side->run_ms, took);
	side->rows = desc->estate->es_processed;
	side->tables = psh_pruning_tables(plan);
	psh_pruning_count(desc->planstate, side->tables, true);
	ExecutorEnd(desc);
	FreeQueryDesc(desc);
	memset(&side->buffers, 0, sizeof(BufferUsage));
	BufferUsageAccumDiff(&side->buffers, &pgBufferUsage, &before);
}

static void
put_side(ReturnSetInfo *result, const Side *side)
{
	Datum		values[10];
	bool		nulls[10] = {0};
	PshTouched *touched = NULL;
	ListCell   *cell;

	foreach(cell, side->tables)
		if (((PshTouched *) lfirst(cell))->root == side->relid)
			touched = lfirst(cell);
	values[0] = CStringGetTextDatum(side->name);
	values[1] = ObjectIdGetDatum(side->relid);
	nulls[2] = nulls[3] = touched == NULL;
	values[2] = Int32GetDatum(touched ? touched->leaves : 0);
	values[3] = Int32GetDatum(touched ? list_length(touched->scanned) : 0);
	values[4] = Int64GetDatum((int64) side->rows);
	values[5] = Float8GetDatum(side->plan_ms);
	values[6] = Float8GetDatum(side->run_ms);
	values[7] = Int64GetDatum(side->buffers.shared_blks_hit);
	values[8] = Int64GetDatum(side->buffers.shared_blks_read);
	values[9] = Int64GetDatum(side->buffers.temp_blks_read +
							  side->buffers.temp_blks_written);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* Why the tables of a job have not the same rows; NULL when they have. */
static const char *
obstacle(const PshJob *job)
{
	if (job->phase < PSH_PHASE_REWIRE || job->status > PSH_STATUS_FAILED)
		return psprintf("Its phase is %s.", psh_phase_name(job->phase));
	if (job->phase == PSH_PHASE_DONE && job->reverse)
		return "It was rolled back, and the new table no longer follows.";
	if (job->phase == PSH_PHASE_DONE)
		return psh_funcs_follow_obstacle(job->id);
	if (psh_job_locks(job) && job->status != PSH_STATUS_ACTIVE)
		return "It is not at work, and the table may have been written.";
	if (get_rel_name(job->relid) == NULL || get_rel_name(job->shadow) == NULL)
		return "One of them is gone.";
	return NULL;
}

/* Raise unless both tables of the job have the same rows. */
static void
require_both(const PshJob *job)
{
	const char *detail = obstacle(job);

	if (detail)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot compare the tables of job %d", job->id),
				 errdetail("%s", detail),
				 errhint("The new table equals the old one from phase rewire on, as long as the old one follows.")));
}

/*
 * compare(job integer, query text, runs integer): a row for each side.
 */
Datum
partshift_compare(PG_FUNCTION_ARGS)
{
	PshJob	   *job = psh_funcs_owned_job(PG_GETARG_INT32(0));
	char	   *source = text_to_cstring(PG_GETARG_TEXT_PP(1));
	int			runs = PG_GETARG_INT32(2);
	Side		sides[2] = {{"old"}, {"new"}};
	Query	   *query;
	bool		was_read_only = XactReadOnly;
	int			i;

	if (runs < 1 || runs > MOST_RUNS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("number of runs must be between 1 and %d", MOST_RUNS)));
	require_both(job);
	InitMaterializedSRF(fcinfo, 0);
	query = read_query(source, job);
	sides[0].relid = sides[1].other = job->relid;
	sides[1].relid = sides[0].other = job->shadow;
	for (i = 0; i < 2; i++)
		sides[i].query = (Query *) point_at(copyObject((Node *) query),
											&sides[i]);
	PushActiveSnapshot(GetActiveSnapshot());
	/* An error leaves it to the end of the (sub)transaction. */
	XactReadOnly = true;
	for (i = 0; i < runs * 2; i++)
		run_side(&sides[i % 2], source, i < 2);
	XactReadOnly = was_read_only;
	PopActiveSnapshot();
	for (i = 0; i < 2; i++)
		put_side((ReturnSetInfo *) fcinfo->resultinfo, &sides[i]);
	PG_RETURN_NULL();
}
