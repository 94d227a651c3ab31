/*-------------------------------------------------------------------------
 *
 * reference.c
 *	  Keeping the columns by which a foreign key was extended.
 *
 * A table C refers to T by T's key.  When T is partitioned by a column p that
 * its key lacks, C gets a column for p and the foreign key is extended by it.
 * Applications need not know the column:
 *
 * - fill_reference, BEFORE ROW on C: looks p up where it is missing, or where
 *   the reference has changed and p was not given.  It stays for good.
 * - fill_late, at commit, on C if the foreign key can be deferred: the row it
 *   refers to may have come later in the transaction.
 * - hold_reference and push_reference on T, until the swap: a row of T whose p
 *   changes takes the rows of C along.  Afterwards ON UPDATE CASCADE does.
 *
 * What makes a child agree with its parent, whoever comes first: fill locks
 * the parent's row FOR KEY SHARE, which the foreign key's own check would do a
 * moment later.  An UPDATE of p must conflict with that as an UPDATE of a
 * column in a unique index does by itself; in the old table p is in none, so
 * hold_reference locks the row FOR UPDATE first.  Then either the writer of
 * the child has ended and push sees his row, or he waits and reads the new p.
 *
 * Rows are looked up and changed as the server's referential triggers do it,
 * by prepared queries in a new snapshot, as the owner of the table that is
 * looked at.  Lest that show the child's owner values he may not refer to,
 * he must have REFERENCES on them.
 *
 * The columns of the key are those of the constraint of the given name, which
 * is the original before the swap and the extended one after it; so the
 * trigger survives both, renaming of the tables, and dump and restore.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/partition.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parse_func.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "capture.h"
#include "job.h"
#include "sql.h"

PG_FUNCTION_INFO_V1(partshift_fill_reference);
PG_FUNCTION_INFO_V1(partshift_fill_late);
PG_FUNCTION_INFO_V1(partshift_hold_reference);
PG_FUNCTION_INFO_V1(partshift_push_reference);
PG_FUNCTION_INFO_V1(partshift_watch_parent);

/* Pairs of names begin behind these arguments of push and hold. */
#define FIXED_ARGS 4
#define ARG_CONSTRAINT 1

/* A foreign key and the columns that extend it. */
typedef struct Reference
{
	Oid			constraint;
	Oid			child;
	Oid			parent;
	int			nkeys;			/* columns of the original key */
	char	   *child_key[INDEX_MAX_KEYS];
	char	   *parent_key[INDEX_MAX_KEYS];
	Oid			operator[INDEX_MAX_KEYS];	/* parent = child */
	int			nmore;			/* columns by which it is extended */
	char	   *child_more[INDEX_MAX_KEYS];
	char	   *parent_more[INDEX_MAX_KEYS];
} Reference;

/* A prepared query of this session. */
typedef struct SavedPlan
{
	Oid			key[2];			/* constraint, trigger */
	SPIPlanPtr	plan;
} SavedPlan;

static HTAB *saved_plans = NULL;

static bool
is_one_of(const char *name, char **names, int n)
{
	int			i;

	for (i = 0; i < n; i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

/*
 * Become a table's owner for a query, as referential triggers do: search_path
 * stays the user's, for triggers that the query fires.
 */
static void
become(Oid owner, PshUser *saved)
{
	GetUserIdAndSecContext(&saved->userid, &saved->sec_context);
	SetUserIdAndSecContext(owner, saved->sec_context |
						   SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_NOFORCE_RLS);
}

static void
become_again(const PshUser *saved)
{
	SetUserIdAndSecContext(saved->userid, saved->sec_context);
}

/*
 * Read the foreign key, and the pairs of names from args[first] on.  False
 * when the constraint is gone.
 */
static bool
load_reference(Reference *ref, Oid constraint, char **args, int nargs, int first)
{
	HeapTuple	tuple = SearchSysCache1(CONSTROID, ObjectIdGetDatum(constraint));
	Form_pg_constraint form;
	AttrNumber	conkey[INDEX_MAX_KEYS];
	AttrNumber	confkey[INDEX_MAX_KEYS];
	Oid			operators[INDEX_MAX_KEYS];
	int			n;
	int			i;

	if (!HeapTupleIsValid(tuple))
		return false;
	form = (Form_pg_constraint) GETSTRUCT(tuple);
	memset(ref, 0, sizeof(Reference));
	ref->constraint = constraint;
	ref->child = form->conrelid;
	ref->parent = form->confrelid;
	for (i = first; i + 1 < nargs; i += 2)
	{
		ref->child_more[ref->nmore] = args[i];
		ref->parent_more[ref->nmore++] = args[i + 1];
	}
	DeconstructFkConstraintRow(tuple, &n, conkey, confkey, operators,
							   NULL, NULL, NULL, NULL);
	for (i = 0; i < n; i++)
	{
		char	   *name = get_attname(ref->child, conkey[i], false);

		if (is_one_of(name, ref->child_more, ref->nmore))
			continue;
		ref->child_key[ref->nkeys] = name;
		ref->parent_key[ref->nkeys] = get_attname(ref->parent, confkey[i], false);
		ref->operator[ref->nkeys++] = operators[i];
	}
	ReleaseSysCache(tuple);
	return true;
}

static TriggerData *
trigger_event(FunctionCallInfo fcinfo, bool before)
{
	TriggerData *event = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		(TRIGGER_FIRED_BEFORE(event->tg_event) != 0) != before ||
		!TRIGGER_FIRED_FOR_ROW(event->tg_event) ||
		TRIGGER_FIRED_BY_DELETE(event->tg_event) ||
		event->tg_trigger->tgnargs < 1)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function of an extended foreign key was not called as the trigger it is for")));
	return event;
}

static char *
qualified_name(Oid relid)
{
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
									  get_rel_name(relid));
}

static Oid
column_type(Oid relid, const char *name)
{
	return get_atttype(relid, get_attnum(relid, name));
}

/*
 * Append the conditions parent = child; one side are the columns of the table
 * x, the other parameters from $first on.
 */
static void
append_conditions(StringInfo query, const Reference *ref, bool of_parent,
				  int first)
{
	int			i;

	for (i = 0; i < ref->nkeys; i++)
	{
		char	   *parent = psprintf("x.%s", quote_identifier(ref->parent_key[i]));
		char	   *child = psprintf("x.%s", quote_identifier(ref->child_key[i]));
		char	   *param = psprintf("$%d", first + i);

		appendStringInfoString(query, i == 0 ? " WHERE " : " AND ");
		generate_operator_clause(query, of_parent ? parent : param,
								 column_type(ref->parent, ref->parent_key[i]),
								 ref->operator[i], of_parent ? param : child,
								 column_type(ref->child, ref->child_key[i]));
	}
}

/*
 * The prepared query of a trigger, or NULL in a new entry.  A constraint that
 * was made anew has another OID; the server sees to other changes.
 */
static SavedPlan *
saved_plan(Oid constraint, Oid trigger)
{
	Oid			key[2];
	SavedPlan  *saved;
	bool		found;

	if (saved_plans == NULL)
	{
		HASHCTL		control = {0};

		control.keysize = sizeof(key);
		control.entrysize = sizeof(SavedPlan);
		saved_plans = hash_create("partshift references", 16, &control,
								  HASH_ELEM | HASH_BLOBS);
	}
	key[0] = constraint;
	key[1] = trigger;
	saved = hash_search(saved_plans, key, HASH_ENTER, &found);
	if (!found)
		saved->plan = NULL;
	return saved;
}

static void
prepare(SavedPlan *saved, const char *query, int nargs, Oid *types)
{
	SPIPlanPtr	plan = SPI_prepare(query, nargs, types);

	if (plan == NULL)
		elog(ERROR, "could not prepare query: %s", query);
	SPI_keepplan(plan);
	saved->plan = plan;
}

/*
 * Run a prepared query in a snapshot taken now.  One that changes rows raises
 * a serialization failure (40001) where a transaction with an older snapshot
 * could not see what it changes.
 */
static void
run(SavedPlan *saved, Datum *values, int expected, bool changes)
{
	Snapshot	now;
	Snapshot	cross = InvalidSnapshot;
	int			result;

	CommandCounterIncrement();
	now = RegisterSnapshot(GetLatestSnapshot());
	if (changes && IsolationUsesXactSnapshot())
		cross = RegisterSnapshot(GetTransactionSnapshot());
	result = SPI_execute_snapshot(saved->plan, values, NULL, now, cross,
								  false, true, 0);
	if (cross != InvalidSnapshot)
		UnregisterSnapshot(cross);
	UnregisterSnapshot(now);
	if (result != expected)
		elog(ERROR, "query of an extended foreign key returned %s",
			 SPI_result_code_string(result));
}

static void
prepare_lookup(SavedPlan *saved, const Reference *ref)
{
	StringInfoData query;
	Oid			types[INDEX_MAX_KEYS];
	int			i;

	initStringInfo(&query);
	appendStringInfoString(&query, "SELECT ");
	for (i = 0; i < ref->nmore; i++)
		appendStringInfo(&query, "%sx.%s", i == 0 ? "" : ", ",
						 quote_identifier(ref->parent_more[i]));
	appendStringInfo(&query, " FROM %s%s x",
					 get_rel_relkind(ref->parent) == RELKIND_RELATION ? "ONLY " : "",
					 qualified_name(ref->parent));
	append_conditions(&query, ref, true, 1);
	appendStringInfoString(&query, " FOR KEY SHARE OF x");
	for (i = 0; i < ref->nkeys; i++)
		types[i] = column_type(ref->child, ref->child_key[i]);
	prepare(saved, query.data, ref->nkeys, types);
}

/*
 * Look the parent's values up; false when there is no such row.  They live as
 * long as the caller's context.
 */
static bool
look_up(const Reference *ref, Oid trigger, Datum *keys, Datum *values)
{
	MemoryContext caller = CurrentMemoryContext;
	SavedPlan  *saved = saved_plan(ref->constraint, trigger);
	Relation	parent = table_open(ref->parent, RowShareLock);
	PshUser		user;
	bool		found;
	int			i;

	become(parent->rd_rel->relowner, &user);
	SPI_connect();
	if (saved->plan == NULL)
		prepare_lookup(saved, ref);
	run(saved, keys, SPI_OK_SELECT, false);
	found = SPI_processed > 0;
	for (i = 0; found && i < ref->nmore; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(SPI_tuptable->tupdesc, i);
		bool		isnull;
		Datum		value = SPI_getbinval(SPI_tuptable->vals[0],
										  SPI_tuptable->tupdesc, i + 1, &isnull);

		if (isnull)
		{
			found = false;
			break;
		}
		MemoryContextSwitchTo(caller);
		values[i] = datumCopy(value, attr->attbyval, attr->attlen);
	}
	SPI_finish();
	MemoryContextSwitchTo(caller);
	become_again(&user);
	table_close(parent, NoLock);
	return found;
}

/* Whether the child's owner may refer to the columns that are looked up. */
static bool
may_refer(const Reference *ref, Oid role)
{
	int			i;

	for (i = 0; i < ref->nmore; i++)
		if (pg_attribute_aclcheck(ref->parent,
								  get_attnum(ref->parent, ref->parent_more[i]),
								  role, ACL_REFERENCES) != ACLCHECK_OK &&
			pg_class_aclcheck(ref->parent, role, ACL_REFERENCES) != ACLCHECK_OK)
			return false;
	return true;
}

/* The table that has the foreign key: of a partition, the topmost. */
static Oid
root_of(Relation rel)
{
	if (!rel->rd_rel->relispartition)
		return RelationGetRelid(rel);
	return llast_oid(get_partition_ancestors(RelationGetRelid(rel)));
}

/* Whether one of the named columns is not the same in both versions. */
static bool
has_changed(Relation rel, char **names, int n, HeapTuple old, HeapTuple new)
{
	TupleDesc	desc = RelationGetDescr(rel);
	int			i;

	for (i = 0; i < n; i++)
	{
		AttrNumber	column = get_attnum(RelationGetRelid(rel), names[i]);
		Form_pg_attribute attr = TupleDescAttr(desc, column - 1);
		bool		old_null;
		bool		new_null;
		Datum		a = heap_getattr(old, column, desc, &old_null);
		Datum		b = heap_getattr(new, column, desc, &new_null);

		if (old_null != new_null ||
			(!old_null && !datum_image_eq(a, b, attr->attbyval, attr->attlen)))
			return true;
	}
	return false;
}

/* Read columns of a row; the number of them that are null. */
static int
read_columns(Relation rel, HeapTuple tuple, char **names, int n,
			 int *columns, Datum *values)
{
	int			nulls = 0;
	int			i;

	for (i = 0; i < n; i++)
	{
		bool		isnull;

		columns[i] = get_attnum(RelationGetRelid(rel), names[i]);
		if (columns[i] == InvalidAttrNumber)
			return n + 1;
		values[i] = heap_getattr(tuple, columns[i], RelationGetDescr(rel),
								 &isnull);
		nulls += isnull ? 1 : 0;
	}
	return nulls;
}

/* The row with what has to be filled in, or the same row. */
static HeapTuple
fill(const Reference *ref, TriggerData *event, HeapTuple tuple, HeapTuple old)
{
	Relation	rel = event->tg_relation;
	int			columns[INDEX_MAX_KEYS];
	Datum		keys[INDEX_MAX_KEYS];
	Datum		values[INDEX_MAX_KEYS];
	bool		nulls[INDEX_MAX_KEYS] = {0};
	int			missing;
	int			key_nulls = read_columns(rel, tuple, (char **) ref->child_key,
										 ref->nkeys, columns, keys);

	missing = read_columns(rel, tuple, (char **) ref->child_more, ref->nmore,
						   columns, values);
	if (key_nulls > ref->nkeys || missing > ref->nmore)
		return tuple;
	if (key_nulls > 0)
	{
		/* No reference, hence nothing by which to extend it. */
		if (missing == ref->nmore)
			return tuple;
		memset(nulls, true, sizeof(nulls));
	}
	else
	{
		if (missing == 0 &&
			(old == NULL ||
			 !has_changed(rel, (char **) ref->child_key, ref->nkeys, old, tuple) ||
			 has_changed(rel, (char **) ref->child_more, ref->nmore, old, tuple)))
			return tuple;
		if (!may_refer(ref, rel->rd_rel->relowner) ||
			!look_up(ref, event->tg_trigger->tgoid, keys, values))
			return tuple;
	}
	return heap_modify_tuple_by_cols(tuple, RelationGetDescr(rel), ref->nmore,
									 columns, values, nulls);
}

/*
 * BEFORE ROW trigger on the referencing table, for INSERT and UPDATE.  It
 * raises no error of its own: a row it cannot fill is for the foreign key to
 * judge.
 */
Datum
partshift_fill_reference(PG_FUNCTION_ARGS)
{
	TriggerData *event = trigger_event(fcinfo, true);
	Trigger    *trigger = event->tg_trigger;
	bool		update = TRIGGER_FIRED_BY_UPDATE(event->tg_event);
	HeapTuple	tuple = update ? event->tg_newtuple : event->tg_trigtuple;
	Oid			constraint = get_relation_constraint_oid(root_of(event->tg_relation),
														 trigger->tgargs[0], true);
	Reference	ref;

	if (OidIsValid(constraint) &&
		load_reference(&ref, constraint, trigger->tgargs, trigger->tgnargs, 1))
		tuple = fill(&ref, event, tuple, update ? event->tg_trigtuple : NULL);
	return PointerGetDatum(tuple);
}

/*
 * AFTER ROW trigger on the referencing table, deferred: a row that is still
 * without what it lacks is updated, so that fill_reference sees it again.
 */
Datum
partshift_fill_late(PG_FUNCTION_ARGS)
{
	TriggerData *event = trigger_event(fcinfo, false);
	Relation	rel = event->tg_relation;
	Trigger    *trigger = event->tg_trigger;
	bool		update = TRIGGER_FIRED_BY_UPDATE(event->tg_event);
	TupleTableSlot *row = update ? event->tg_newslot : event->tg_trigslot;
	HeapTuple	tuple = update ? event->tg_newtuple : event->tg_trigtuple;
	Oid			constraint = get_relation_constraint_oid(root_of(rel),
														 trigger->tgargs[0], true);
	int			columns[INDEX_MAX_KEYS];
	Datum		values[INDEX_MAX_KEYS];
	Oid			type = TIDOID;
	Reference	ref;
	PshUser		user;

	if (!OidIsValid(constraint) ||
		!load_reference(&ref, constraint, trigger->tgargs, trigger->tgnargs, 1) ||
		!table_tuple_satisfies_snapshot(rel, row, SnapshotSelf) ||
		read_columns(rel, tuple, ref.child_key, ref.nkeys, columns, values) > 0 ||
		read_columns(rel, tuple, ref.child_more, ref.nmore, columns, values) == 0)
		return PointerGetDatum(NULL);

	become(rel->rd_rel->relowner, &user);
	SPI_connect();
	values[0] = PointerGetDatum(&row->tts_tid);
	psh_sql(SPI_OK_UPDATE,
			psprintf("UPDATE ONLY %s x SET %s = x.%s WHERE x.ctid OPERATOR(pg_catalog.=) $1",
					 qualified_name(RelationGetRelid(rel)),
					 quote_identifier(ref.child_key[0]),
					 quote_identifier(ref.child_key[0])),
			1, &type, values, NULL);
	SPI_finish();
	become_again(&user);
	return PointerGetDatum(NULL);
}

static bool
parent_changes(Reference *ref, TriggerData *event)
{
	Trigger    *trigger = event->tg_trigger;

	return trigger->tgnargs > FIXED_ARGS &&
		load_reference(ref, (Oid) strtoul(trigger->tgargs[ARG_CONSTRAINT], NULL, 10),
					   trigger->tgargs, trigger->tgnargs, FIXED_ARGS) &&
		has_changed(event->tg_relation, ref->parent_more, ref->nmore,
					event->tg_trigtuple, event->tg_newtuple);
}

/*
 * BEFORE UPDATE trigger on the referenced table: lock a row whose partition
 * key is about to change against those that look it up.
 */
Datum
partshift_hold_reference(PG_FUNCTION_ARGS)
{
	TriggerData *event = trigger_event(fcinfo, true);
	ItemPointerData tid = event->tg_trigtuple->t_self;
	TupleTableSlot *slot;
	TM_FailureData failure;
	Reference	ref;

	if (parent_changes(&ref, event))
	{
		slot = table_slot_create(event->tg_relation, NULL);
		(void) table_tuple_lock(event->tg_relation, &tid, GetLatestSnapshot(),
								slot, GetCurrentCommandId(true),
								LockTupleExclusive, LockWaitBlock, 0,
								&failure);
		ExecDropSingleTupleTableSlot(slot);
	}
	return PointerGetDatum(event->tg_newtuple);
}

static void
prepare_push(SavedPlan *saved, const Reference *ref)
{
	StringInfoData query;
	Oid			types[2 * INDEX_MAX_KEYS];
	int			i;

	initStringInfo(&query);
	appendStringInfo(&query, "UPDATE %s%s x SET ",
					 get_rel_relkind(ref->child) == RELKIND_RELATION ? "ONLY " : "",
					 qualified_name(ref->child));
	for (i = 0; i < ref->nmore; i++)
	{
		appendStringInfo(&query, "%s%s = $%d", i == 0 ? "" : ", ",
						 quote_identifier(ref->child_more[i]), i + 1);
		types[i] = column_type(ref->child, ref->child_more[i]);
	}
	append_conditions(&query, ref, false, ref->nmore + 1);
	for (i = 0; i < ref->nkeys; i++)
		types[ref->nmore + i] = column_type(ref->parent, ref->parent_key[i]);
	prepare(saved, query.data, ref->nmore + ref->nkeys, types);
}

/*
 * AFTER UPDATE trigger on the referenced table: rows that refer to one whose
 * partition key has changed get the new one.
 */
Datum
partshift_push_reference(PG_FUNCTION_ARGS)
{
	TriggerData *event = trigger_event(fcinfo, false);
	int			columns[INDEX_MAX_KEYS];
	Datum		values[2 * INDEX_MAX_KEYS];
	SavedPlan  *saved;
	Relation	child;
	PshUser		user;
	Reference	ref;

	if (!parent_changes(&ref, event))
		return PointerGetDatum(NULL);
	if (read_columns(event->tg_relation, event->tg_newtuple, ref.parent_more,
					 ref.nmore, columns, values) > 0 ||
		read_columns(event->tg_relation, event->tg_newtuple, ref.parent_key,
					 ref.nkeys, columns, values + ref.nmore) > 0)
		return PointerGetDatum(NULL);

	child = table_open(ref.child, RowExclusiveLock);
	become(child->rd_rel->relowner, &user);
	SPI_connect();
	saved = saved_plan(ref.constraint, event->tg_trigger->tgoid);
	if (saved->plan == NULL)
		prepare_push(saved, &ref);
	run(saved, values, SPI_OK_UPDATE, true);
	SPI_finish();
	become_again(&user);
	table_close(child, NoLock);
	return PointerGetDatum(NULL);
}

static void
watch(Relation parent, int job_id, Oid constraint, List *names,
	  const char *function, int16 timing)
{
	CreateTrigStmt *stmt = makeNode(CreateTrigStmt);
	Oid			relid = RelationGetRelid(parent);

	stmt->trigname = psprintf("partshift_%s_%d_%u", function, job_id, constraint);
	stmt->relation = makeRangeVar(get_namespace_name(RelationGetNamespace(parent)),
								  RelationGetRelationName(parent), -1);
	stmt->row = true;
	stmt->timing = timing;
	stmt->events = TRIGGER_TYPE_UPDATE;
	stmt->args = list_concat(list_make4(makeString(psprintf("%d", job_id)),
										makeString(psprintf("%u", constraint)),
										makeString(psprintf("%u", relid)),
										makeString(psprintf("%u", MyDatabaseId))),
							 names);
	CreateTriggerFiringOn(stmt, NULL, relid, InvalidOid, InvalidOid, InvalidOid,
						  LookupFuncName(list_make2(makeString("partshift"),
													makeString(psprintf("%s_reference", function))),
										 0, NULL, false),
						  InvalidOid, NULL, true, false, TRIGGER_FIRES_ALWAYS);
	CommandCounterIncrement();
}

/*
 * watch_parent(job integer, parent oid, constraint oid, names text[]): put
 * the triggers of an extended foreign key on the referenced table.  For the
 * worker, which holds SHARE ROW EXCLUSIVE on it.
 */
Datum
partshift_watch_parent(PG_FUNCTION_ARGS)
{
	int			job_id = PG_GETARG_INT32(0);
	Oid			constraint = PG_GETARG_OID(2);
	Relation	parent = table_open(PG_GETARG_OID(1), ShareRowExclusiveLock);
	List	   *names = NIL;
	Datum	   *elements;
	int			n;
	int			i;

	deconstruct_array(PG_GETARG_ARRAYTYPE_P(3), TEXTOID, -1, false, TYPALIGN_INT,
					  &elements, NULL, &n);
	for (i = 0; i < n; i++)
		names = lappend(names, makeString(TextDatumGetCString(elements[i])));
	watch(parent, job_id, constraint, names, "hold", TRIGGER_TYPE_BEFORE);
	watch(parent, job_id, constraint, list_copy(names), "push", TRIGGER_TYPE_AFTER);
	table_close(parent, NoLock);
	PG_RETURN_VOID();
}
