/*-------------------------------------------------------------------------
 *
 * fill.c
 *	  Triggers on a referencing table that fill the columns by which its
 *	  foreign key was extended.
 *
 * fill_reference, BEFORE ROW, looks the partition key up where it is missing,
 * or where the reference has changed and it was not given.  fill_late, at
 * commit and for keys that can be deferred, sees to rows whose parent came
 * later in the transaction.  Both stay for good.
 *
 * Lest a look-up as the parent's owner show the child's owner values that he
 * may not refer to, he must have REFERENCES on them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/partition.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_type.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

#include "reference.h"

PG_FUNCTION_INFO_V1(partshift_fill_reference);
PG_FUNCTION_INFO_V1(partshift_fill_late);

static void
prepare_lookup(PshSavedPlan *saved, const PshReference *ref)
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
					 psh_reference_table(ref->parent));
	psh_reference_conditions(&query, ref, true, 1);
	appendStringInfoString(&query, " FOR KEY SHARE OF x");
	for (i = 0; i < ref->nkeys; i++)
		types[i] = psh_reference_type(ref->child, ref->child_key[i]);
	psh_reference_prepare(saved, query.data, ref->nkeys, types);
}

/*
 * Look the parent's values up; false when there is no such row.  They live as
 * long as the caller's context.
 */
static bool
look_up(const PshReference *ref, Oid trigger, Datum *keys, Datum *values)
{
	MemoryContext caller = CurrentMemoryContext;
	PshSavedPlan  *saved = psh_reference_plan(ref->constraint, trigger);
	Relation	parent = table_open(ref->parent, RowShareLock);
	PshUser		user;
	bool		found;
	int			i;

	psh_reference_become(parent->rd_rel->relowner, &user);
	SPI_connect();
	if (saved->plan == NULL)
		prepare_lookup(saved, ref);
	psh_reference_run(saved, keys, SPI_OK_SELECT, false);
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
	psh_reference_leave(&user);
	table_close(parent, NoLock);
	return found;
}

/* Whether the child's owner may refer to the columns that are looked up. */
static bool
may_refer(const PshReference *ref, Oid role)
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

/* The row with what has to be filled in, or the same row. */
static HeapTuple
fill(const PshReference *ref, TriggerData *event, HeapTuple tuple, HeapTuple old)
{
	Relation	rel = event->tg_relation;
	int			columns[INDEX_MAX_KEYS];
	Datum		keys[INDEX_MAX_KEYS];
	Datum		values[INDEX_MAX_KEYS];
	bool		nulls[INDEX_MAX_KEYS] = {0};
	int			missing;
	int			key_nulls = psh_reference_read(rel, tuple, ref->child_key,
										 ref->nkeys, columns, keys);

	missing = psh_reference_read(rel, tuple, ref->child_more, ref->nmore,
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
			 !psh_reference_changed(rel, ref->child_key, ref->nkeys, old, tuple) ||
			 psh_reference_changed(rel, ref->child_more, ref->nmore, old, tuple)))
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
	TriggerData *event = psh_reference_event(fcinfo, true);
	Trigger    *trigger = event->tg_trigger;
	bool		update = TRIGGER_FIRED_BY_UPDATE(event->tg_event);
	HeapTuple	tuple = update ? event->tg_newtuple : event->tg_trigtuple;
	Oid			constraint = get_relation_constraint_oid(root_of(event->tg_relation),
														 trigger->tgargs[0], true);
	PshReference	ref;

	if (OidIsValid(constraint) &&
		psh_reference_load(&ref, constraint, trigger->tgargs, trigger->tgnargs, 1))
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
	TriggerData *event = psh_reference_event(fcinfo, false);
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
	PshReference	ref;
	PshUser		user;

	if (!OidIsValid(constraint) ||
		!psh_reference_load(&ref, constraint, trigger->tgargs, trigger->tgnargs, 1) ||
		!table_tuple_satisfies_snapshot(rel, row, SnapshotSelf) ||
		psh_reference_read(rel, tuple, ref.child_key, ref.nkeys, columns, values) > 0 ||
		psh_reference_read(rel, tuple, ref.child_more, ref.nmore, columns, values) == 0)
		return PointerGetDatum(NULL);

	psh_reference_become(rel->rd_rel->relowner, &user);
	SPI_connect();
	values[0] = PointerGetDatum(&row->tts_tid);
	psh_sql(SPI_OK_UPDATE,
			psprintf("UPDATE ONLY %s x SET %s = x.%s WHERE x.ctid OPERATOR(pg_catalog.=) $1",
					 psh_reference_table(RelationGetRelid(rel)),
					 quote_identifier(ref.child_key[0]),
					 quote_identifier(ref.child_key[0])),
			1, &type, values, NULL);
	SPI_finish();
	psh_reference_leave(&user);
	return PointerGetDatum(NULL);
}
