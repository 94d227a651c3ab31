/*-------------------------------------------------------------------------
 *
 * push.c
 *	  Triggers on the source that take a changed partition key to the rows
 *	  which refer to it, until the swap; afterwards ON UPDATE CASCADE does.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parse_func.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

#include "reference.h"

PG_FUNCTION_INFO_V1(partshift_hold_reference);
PG_FUNCTION_INFO_V1(partshift_push_reference);
PG_FUNCTION_INFO_V1(partshift_watch_parent);

/* Pairs of names begin behind these arguments. */
#define FIXED_ARGS 4
#define ARG_CONSTRAINT 1

static bool
parent_changes(PshReference *ref, TriggerData *event)
{
	Trigger    *trigger = event->tg_trigger;

	return trigger->tgnargs > FIXED_ARGS &&
		psh_reference_load(ref, (Oid) strtoul(trigger->tgargs[ARG_CONSTRAINT], NULL, 10),
					   trigger->tgargs, trigger->tgnargs, FIXED_ARGS) &&
		psh_reference_changed(event->tg_relation, ref->parent_more, ref->nmore,
					event->tg_trigtuple, event->tg_newtuple);
}

/*
 * BEFORE UPDATE trigger on the referenced table: lock a row whose partition
 * key is about to change against those that look it up.
 */
Datum
partshift_hold_reference(PG_FUNCTION_ARGS)
{
	TriggerData *event = psh_reference_event(fcinfo, true);
	ItemPointerData tid = event->tg_trigtuple->t_self;
	TM_FailureData failure;
	PshReference	ref;

	if (parent_changes(&ref, event))
	{
		TupleTableSlot *slot = table_slot_create(event->tg_relation, NULL);

		(void) table_tuple_lock(event->tg_relation, &tid, GetLatestSnapshot(),
								slot, GetCurrentCommandId(true),
								LockTupleExclusive, LockWaitBlock, 0,
								&failure);
		ExecDropSingleTupleTableSlot(slot);
	}
	return PointerGetDatum(event->tg_newtuple);
}

static void
prepare_push(PshSavedPlan *saved, const PshReference *ref)
{
	StringInfoData query;
	Oid			types[2 * INDEX_MAX_KEYS];
	int			i;

	initStringInfo(&query);
	appendStringInfo(&query, "UPDATE %s%s x SET ",
					 get_rel_relkind(ref->child) == RELKIND_RELATION ? "ONLY " : "",
					 psh_reference_table(ref->child));
	for (i = 0; i < ref->nmore; i++)
	{
		appendStringInfo(&query, "%s%s = $%d", i == 0 ? "" : ", ",
						 quote_identifier(ref->child_more[i]), i + 1);
		types[i] = psh_reference_type(ref->child, ref->child_more[i]);
	}
	psh_reference_conditions(&query, ref, false, ref->nmore + 1);
	for (i = 0; i < ref->nkeys; i++)
		types[ref->nmore + i] = psh_reference_type(ref->parent, ref->parent_key[i]);
	psh_reference_prepare(saved, query.data, ref->nmore + ref->nkeys, types);
}

/*
 * AFTER UPDATE trigger on the referenced table: rows that refer to one whose
 * partition key has changed get the new one.
 */
Datum
partshift_push_reference(PG_FUNCTION_ARGS)
{
	TriggerData *event = psh_reference_event(fcinfo, false);
	int			columns[INDEX_MAX_KEYS];
	Datum		values[2 * INDEX_MAX_KEYS];
	PshSavedPlan  *saved;
	Relation	child;
	PshUser		user;
	PshReference	ref;

	if (!parent_changes(&ref, event))
		return PointerGetDatum(NULL);
	if (psh_reference_read(event->tg_relation, event->tg_newtuple, ref.parent_more,
					 ref.nmore, columns, values) > 0 ||
		psh_reference_read(event->tg_relation, event->tg_newtuple, ref.parent_key,
					 ref.nkeys, columns, values + ref.nmore) > 0)
		return PointerGetDatum(NULL);

	child = table_open(ref.child, RowExclusiveLock);
	psh_reference_become(child->rd_rel->relowner, &user);
	SPI_connect();
	saved = psh_reference_plan(ref.constraint, event->tg_trigger->tgoid);
	if (saved->plan == NULL)
		prepare_push(saved, &ref);
	psh_reference_run(saved, values, SPI_OK_UPDATE, true);
	SPI_finish();
	psh_reference_leave(&user);
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
	Relation	parent = try_table_open(PG_GETARG_OID(1), ShareRowExclusiveLock);
	List	   *names = NIL;
	Datum	   *elements;
	int			n;
	int			i;

	if (parent == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist",
						PG_GETARG_OID(1))));
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(3), TEXTOID, -1, false, TYPALIGN_INT,
					  &elements, NULL, &n);
	for (i = 0; i < n; i++)
		names = lappend(names, makeString(TextDatumGetCString(elements[i])));
	watch(parent, job_id, constraint, names, "hold", TRIGGER_TYPE_BEFORE);
	watch(parent, job_id, constraint, list_copy(names), "push", TRIGGER_TYPE_AFTER);
	table_close(parent, NoLock);
	PG_RETURN_VOID();
}
