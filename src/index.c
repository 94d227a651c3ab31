/*-------------------------------------------------------------------------
 *
 * index.c
 *	  The index phase: every index of the source, leaf by leaf.
 *
 * The leader makes the partitioned indexes, which stay invalid while leaves
 * lack theirs, and writes one task for each index of each leaf.  Any worker
 * claims a task by its row's lock and builds that index; index, result and
 * the mark that it is done commit together, so a dead worker leaves nothing.
 * When all are built the leader attaches them.
 *
 * Nobody else reads or writes the leaves yet, so an ordinary build will do.
 * The source is locked (ACCESS SHARE) only while a definition is read.
 * Definitions go from the source's index as the parser's own node, never as
 * text, so nothing of an index can be forgotten here that the server clones
 * for its own partitions.  Expressions are evaluated as the table's owner.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/attmap.h"
#include "access/genam.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "nodes/makefuncs.h"
#include "parser/parse_utilcmd.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "index.h"
#include "sql.h"
#include "vacuum.h"

/* An index to be built. */
typedef struct PlannedIndex
{
	Oid			source;
	char	   *name;			/* of the partitioned index */
	List	   *added;			/* of char *: key columns it lacks */
	bool		per_partition;	/* there is no partitioned index */
	bool		has_targets;	/* for the statistics of its columns */
} PlannedIndex;

/* A claimed task. */
typedef struct IndexTask
{
	int			task_no;
	Oid			leaf;
	Oid			planned;
	char	   *name;
} IndexTask;

/*
 * The planned indexes of a job, or the one that was planned with that OID if
 * it is valid.  Allocated in the current memory context.
 */
static List *
read_planned(int job_id, Oid planned)
{
	Oid			types[2] = {INT4OID, OIDOID};
	Datum		values[2] = {Int32GetDatum(job_id), ObjectIdGetDatum(planned)};
	List	   *result = NIL;
	uint64		n;
	uint64		i;

	n = psh_sql(SPI_OK_SELECT,
				"SELECT p.source, p.shadow_name, p.added, p.per_partition,"
				" EXISTS (SELECT FROM pg_attribute a"
				" WHERE a.attrelid = p.source AND a.attstattarget >= 0)"
				" FROM partshift.planned_indexes($1) p"
				" WHERE $2 IN (0, p.planned) ORDER BY p.place",
				2, types, values, NULL);
	for (i = 0; i < n; i++)
	{
		PlannedIndex *index = palloc0(sizeof(PlannedIndex));
		bool		isnull;
		Datum	   *names;
		int			nnames;
		int			k;

		index->source = DatumGetObjectId(psh_sql_value(i, 1, &isnull));
		index->name = psh_sql_text(i, 2);
		deconstruct_array(DatumGetArrayTypeP(psh_sql_value(i, 3, &isnull)),
						  TEXTOID, -1, false, TYPALIGN_INT,
						  &names, NULL, &nnames);
		for (k = 0; k < nnames; k++)
			index->added = lappend(index->added, TextDatumGetCString(names[k]));
		index->per_partition = DatumGetBool(psh_sql_value(i, 4, &isnull));
		index->has_targets = DatumGetBool(psh_sql_value(i, 5, &isnull));
		result = lappend(result, index);
	}
	return result;
}

/*
 * The statement that makes the index on target: on a partitioned table
 * without its partitions.
 */
static IndexStmt *
clone_definition(const PlannedIndex *index, Relation target, char *name)
{
	Oid			heap_oid = IndexGetRelation(index->source, false);
	Relation	heap = table_open(heap_oid, AccessShareLock);
	Relation	source = index_open(index->source, AccessShareLock);
	RangeVar   *range = NULL;
	IndexStmt  *stmt;
	AttrMap    *map;
	Oid			constraint;
	ListCell   *cell;

	if (target->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
	{
		range = makeRangeVar(get_namespace_name(RelationGetNamespace(target)),
							 pstrdup(RelationGetRelationName(target)), -1);
		range->inh = false;
	}
	map = psh_attrmap_by_name(RelationGetDescr(target),
							  RelationGetDescr(heap));
	stmt = generateClonedIndexStmt(range, source, map, &constraint);
	index_close(source, AccessShareLock);
	table_close(heap, AccessShareLock);

	/* Somebody may have taken the name since it was given out. */
	if (range != NULL ||
		!OidIsValid(get_relname_relid(name, RelationGetNamespace(target))))
		stmt->idxname = name;
	stmt->reset_default_tblspc = true;
	foreach(cell, index->added)
	{
		IndexElem  *elem = makeNode(IndexElem);

		elem->name = (char *) lfirst(cell);
		elem->ordering = SORTBY_DEFAULT;
		elem->nulls_ordering = SORTBY_NULLS_DEFAULT;
		stmt->indexParams = lappend(stmt->indexParams, elem);
	}
	return stmt;
}

/*
 * What IndexStmt does not carry: comments (once, on the index that bears the
 * name) and statistics targets.
 */
static void
copy_details(Oid source, Oid target, bool comments)
{
	Oid			types[3] = {OIDOID, OIDOID, BOOLOID};
	Datum		values[3];
	List	   *commands = NIL;
	ListCell   *cell;
	uint64		n;
	uint64		i;

	values[0] = ObjectIdGetDatum(source);
	values[1] = ObjectIdGetDatum(target);
	values[2] = BoolGetDatum(comments);
	n = psh_sql(SPI_OK_SELECT,
				"SELECT partshift.index_detail_commands($1, $2, $3)",
				3, types, values, NULL);
	for (i = 0; i < n; i++)
		commands = lappend(commands, psh_sql_text(i, 1));
	foreach(cell, commands)
		psh_sql_run(InvalidOid, (char *) lfirst(cell));
}

/*
 * Make one index and return its OID.
 */
static Oid
build_index(const PlannedIndex *index, Oid relid, char *name, Oid owner)
{
	Relation	target = table_open(relid, ShareLock);
	bool		comments = index->per_partition ||
		target->rd_rel->relkind == RELKIND_PARTITIONED_TABLE;
	IndexStmt  *stmt;
	ObjectAddress address;
	PshUser		saved;

	stmt = clone_definition(index, target, name);
	table_close(target, NoLock);

	psh_user_switch(owner, true, &saved);
	address = psh_define_index(relid, stmt);
	psh_user_restore(&saved);

	CommandCounterIncrement();
	if (comments || index->has_targets)
		copy_details(index->source, address.objectId, comments);
	return address.objectId;
}

/*
 * Make the partitioned indexes and the tasks, once; run by the leader.
 * Returns PSH_STEP_FINISHED.
 */
PshStep
psh_index_prepare(PshJob *job)
{
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(job->id)};

	psh_txn_begin("creating partitioned indexes");
	job = psh_job_lock(job->id);
	if (psh_sql(SPI_OK_SELECT,
				"SELECT FROM partshift.task"
				" WHERE job_id = $1 AND phase = 'index' LIMIT 1",
				1, types, values, NULL) == 0)
	{
		List	   *planned = read_planned(job->id, InvalidOid);
		ListCell   *cell;

		foreach(cell, planned)
		{
			PlannedIndex *index = (PlannedIndex *) lfirst(cell);

			if (!index->per_partition)
				build_index(index, job->shadow, index->name, job->owner);
		}
		psh_sql(SPI_OK_SELECT, "SELECT partshift.add_index_tasks($1)",
				1, types, values, NULL);
	}
	psh_txn_commit();
	return PSH_STEP_FINISHED;
}

/*
 * Lock the row of a task that nobody works on, of the given leaf only if there
 * is one.  Returns whether one was found.
 */
static bool
claim_task(int job_id, Oid leaf, IndexTask *task)
{
	Oid			types[2] = {INT4OID, OIDOID};
	Datum		values[2] = {Int32GetDatum(job_id), ObjectIdGetDatum(leaf)};
	bool		isnull;

	if (psh_sql(SPI_OK_SELECT,
				OidIsValid(leaf) ?
				"SELECT t.task_no, t.object, t.other, t.command"
				" FROM partshift.task t"
				" WHERE t.job_id = $1 AND t.phase = 'index' AND NOT t.done"
				" AND t.other IS NOT NULL AND t.object = $2"
				" ORDER BY t.task_no LIMIT 1 FOR UPDATE SKIP LOCKED" :
				"SELECT t.task_no, t.object, t.other, t.command"
				" FROM partshift.task t"
				" WHERE t.job_id = $1 AND t.phase = 'index' AND NOT t.done"
				" AND t.other IS NOT NULL"
				" ORDER BY t.task_no LIMIT 1 FOR UPDATE SKIP LOCKED",
				OidIsValid(leaf) ? 2 : 1, types, values, NULL) == 0)
		return false;
	task->task_no = DatumGetInt32(psh_sql_value(0, 1, &isnull));
	task->leaf = DatumGetObjectId(psh_sql_value(0, 2, &isnull));
	task->planned = DatumGetObjectId(psh_sql_value(0, 3, &isnull));
	task->name = psh_sql_text(0, 4);
	return true;
}

static void
finish_task(int job_id, const IndexTask *task, Oid index)
{
	Oid			types[3] = {INT4OID, INT4OID, OIDOID};
	Datum		values[3];

	values[0] = Int32GetDatum(job_id);
	values[1] = Int32GetDatum(task->task_no);
	values[2] = ObjectIdGetDatum(index);
	psh_sql(SPI_OK_UPDATE,
			"UPDATE partshift.task"
			" SET done = true, result = $3,"
			" bytes = pg_catalog.pg_relation_size($3)"
			" WHERE job_id = $1 AND phase = 'index' AND task_no = $2",
			3, types, values, NULL);
}

/* Build one index, of the given leaf if there is one; false if none is left. */
static bool
build_one(const PshJob *job, Oid *leaf)
{
	IndexTask	task;
	bool		found;

	psh_txn_begin("building indexes");
	found = claim_task(job->id, *leaf, &task);
	if (found)
	{
		List	   *planned = read_planned(job->id, task.planned);

		if (planned == NIL)
			elog(ERROR, "index %u is not in the plan of job %d",
				 task.planned, job->id);
		finish_task(job->id, &task,
					build_index(linitial(planned), task.leaf, task.name,
								job->owner));
		*leaf = task.leaf;
	}
	psh_txn_commit();
	return found;
}

/*
 * Build one index, or vacuum one leaf of which all are built.  Any worker may
 * call it, at the same time as others, after psh_index_prepare().
 *
 * A worker stays with a leaf, of which it has just read all pages: what is
 * still cached VACUUM need not read again, nor write itself.
 */
PshStep
psh_index_build(PshJob *job)
{
	static Oid	leaf = InvalidOid;
	Oid			last = leaf;

	if (OidIsValid(last))
	{
		if (build_one(job, &leaf))
			return PSH_STEP_AGAIN;
		leaf = InvalidOid;
		if (psh_vacuum_leaf(job, last) == PSH_STEP_AGAIN)
			return PSH_STEP_AGAIN;
	}
	if (build_one(job, &leaf))
		return PSH_STEP_AGAIN;
	return psh_vacuum_leaf(job, InvalidOid);
}

/*
 * Every partitioned index must have become valid with its last partition;
 * the swap would otherwise lose a constraint.
 */
static void
check_valid(int job_id)
{
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(job_id)};
	char	   *name;

	psh_sql(SPI_OK_SELECT, "SELECT partshift.invalid_index($1)",
			1, types, values, NULL);
	name = psh_sql_text(0, 1);
	if (name != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("index \"%s\" is missing or not valid", name),
				 errdetail("It was dropped, or an index of a partition could not be attached to it.")));
}

/*
 * Attach what was built, let autovacuum have the leaves, gather statistics of
 * the whole and end the phase; run by the leader when psh_index_build() has
 * returned PSH_STEP_FINISHED.  Returns PSH_STEP_AGAIN while there is more to
 * attach.
 */
PshStep
psh_index_finish(PshJob *job)
{
	int			attached;

	psh_txn_begin("attaching indexes");
	(void) psh_job_lock(job->id);
	attached = psh_sql_run_steps("SELECT run_as, command"
								 " FROM partshift.attach_commands($1)",
								 job->id);
	if (attached == 0)
	{
		check_valid(job->id);
		psh_sql_run_steps("SELECT run_as, command"
						  " FROM partshift.leaf_filled_commands($1)",
						  job->id);
	}
	psh_txn_commit();
	if (attached > 0)
		return PSH_STEP_AGAIN;

	psh_vacuum_analyze(job->shadow);

	psh_txn_begin("ending the index phase");
	psh_job_advance(psh_job_lock(job->id), PSH_PHASE_MIRROR);
	psh_txn_commit();
	return PSH_STEP_FINISHED;
}
