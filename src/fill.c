/*-------------------------------------------------------------------------
 *
 * fill.c
 *	  Triggers on a referencing table that fill the columns by which its
 *	  foreign key was extended.
 *
 * fill_reference, BEFORE ROW, looks the partition key up where it is missing,
 * or where the reference has changed and it was not given.  fill_late, AFTER
 * ROW and before the server's own check, sees to rows whose parent came later
 * in the statement, and once more at commit for keys that can be deferred.
 * All of them stay for good.
 *
 * A table that refers to itself is filled before it is copied, long before
 * anything but these triggers looks at the column.  Until the swap they
 * therefore believe nobody and look up what is given as well.  Later on the
 * row and its parent may move to another partition in one statement, the row
 * first: it is checked like a new one then, by a key that its parent no longer
 * has, so fill_late takes it along as the key's own action would.
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
#include "access/xact.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"
#include "utils/snapmgr.h"

#include "reference.h"
#include "source.h"

PG_FUNCTION_INFO_V1(partshift_fill_reference);
PG_FUNCTION_INFO_V1(partshift_fill_late);

/* The last transaction that has moved a row of a table that refers to itself. */
static TransactionId moved_by = InvalidTransactionId;

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

/*
 * Have the columns null, as the reference is; false when they are to be left as
 * they are: with one that cannot be null the key is not matched in full.
 */
static bool
set_nulls(const PshReference *ref, Relation rel, const int *columns, bool *nulls)
{
	int			i;

	for (i = 0; i < ref->nmore; i++)
		if (TupleDescAttr(RelationGetDescr(rel), columns[i] - 1)->attnotnull)
			return false;
	memset(nulls, true, sizeof(bool) * ref->nmore);
	return true;
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
		if (missing == ref->nmore || !set_nulls(ref, rel, columns, nulls))
			return tuple;
	}
	else
	{
		bool		unchecked = ref->child == ref->parent && !ref->extended;
		bool		given = old == NULL ||
			psh_reference_changed(rel, ref->child_more, ref->nmore, old, tuple);

		if (missing == 0 &&
			(given ? !unchecked :
			 !psh_reference_changed(rel, ref->child_key, ref->nkeys, old, tuple)))
			return tuple;
		if (!may_refer(ref, rel->rd_rel->relowner) ||
			!look_up(ref, event->tg_trigger->tgoid, keys, values))
		{
			if (!unchecked || !set_nulls(ref, rel, columns, nulls))
				return tuple;
		}
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
	Oid			constraint = get_relation_constraint_oid(psh_source_root(RelationGetRelid(event->tg_relation)),
														 trigger->tgargs[0], true);
	PshReference	ref;

	if (OidIsValid(constraint) &&
		psh_reference_load(&ref, constraint, trigger->tgargs, trigger->tgnargs, 1))
	{
		HeapTuple	old = update ? event->tg_trigtuple : NULL;

		if (update && ref.child == ref.parent &&
			event->tg_relation->rd_rel->relispartition &&
			psh_reference_changed(event->tg_relation, ref.parent_more,
								  ref.nmore, old, tuple))
			moved_by = GetTopTransactionId();
		tuple = fill(&ref, event, tuple, old);
	}
	return PointerGetDatum(tuple);
}

/* Whether the user may be told what a row refers to. */
static bool
may_read(const PshReference *ref, Relation rel, const int *columns)
{
	Oid			relid = RelationGetRelid(rel);
	int			i;

	if (check_enable_rls(relid, InvalidOid, true) == RLS_ENABLED)
		return false;
	for (i = 0; i < ref->nkeys; i++)
		if (pg_class_aclcheck(relid, GetUserId(), ACL_SELECT) != ACLCHECK_OK &&
			pg_attribute_aclcheck(relid, columns[i], GetUserId(), ACL_SELECT) != ACLCHECK_OK)
			return false;
	return true;
}

/* As the server's own check words it. */
static void
report_orphan(const PshReference *ref, Relation rel, const int *columns,
			  const Datum *keys)
{
	const char *name = get_constraint_name(ref->constraint);
	bool		told = may_read(ref, rel, columns);
	StringInfoData names;
	StringInfoData values;
	int			i;

	initStringInfo(&names);
	initStringInfo(&values);
	for (i = 0; told && i < ref->nkeys; i++)
	{
		Oid			output;
		bool		varlena;

		getTypeOutputInfo(psh_reference_type(RelationGetRelid(rel), ref->child_key[i]),
						  &output, &varlena);
		appendStringInfo(&names, "%s%s", i == 0 ? "" : ", ", ref->child_key[i]);
		appendStringInfo(&values, "%s%s", i == 0 ? "" : ", ",
						 OidOutputFunctionCall(output, keys[i]));
	}
	ereport(ERROR,
			(errcode(ERRCODE_FOREIGN_KEY_VIOLATION),
			 errmsg("insert or update on table \"%s\" violates foreign key constraint \"%s\"",
					RelationGetRelationName(rel), name),
			 told ? errdetail("Key (%s)=(%s) is not present in table \"%s\".",
							  names.data, values.data, get_rel_name(ref->parent)) :
			 errdetail("Key is not present in table \"%s\".", get_rel_name(ref->parent)),
			 errtableconstraint(rel, name)));
}

static bool
has_values(const PshReference *ref, Relation rel, const int *columns,
		   const Datum *a, const Datum *b)
{
	int			i;

	for (i = 0; i < ref->nmore; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(RelationGetDescr(rel), columns[i] - 1);

		if (!datum_image_eq(a[i], b[i], attr->attbyval, attr->attlen))
			return false;
	}
	return true;
}

/* Give the row of a trigger these values. */
static void
put_values(const PshReference *ref, Relation rel, TupleTableSlot *row,
		   const int *columns, const Datum *values)
{
	StringInfoData query;
	Oid			types[INDEX_MAX_KEYS + 1] = {TIDOID};
	Datum		params[INDEX_MAX_KEYS + 1];
	PshUser		user;
	int			i;

	psh_reference_become(rel->rd_rel->relowner, &user);
	SPI_connect();
	initStringInfo(&query);
	appendStringInfo(&query, "UPDATE ONLY %s x SET ",
					 psh_reference_table(RelationGetRelid(rel)));
	params[0] = PointerGetDatum(&row->tts_tid);
	for (i = 0; i < ref->nmore; i++)
	{
		appendStringInfo(&query, "%s%s = $%d", i == 0 ? "" : ", ",
						 quote_identifier(ref->child_more[i]), i + 2);
		types[i + 1] = TupleDescAttr(RelationGetDescr(rel), columns[i] - 1)->atttypid;
		params[i + 1] = values[i];
	}
	appendStringInfoString(&query, " WHERE x.ctid OPERATOR(pg_catalog.=) $1");
	psh_sql(SPI_OK_UPDATE, query.data, ref->nmore + 1, types, params, NULL);
	SPI_finish();
	psh_reference_leave(&user);
}

/*
 * Fill a row that is complete, or has come from another partition, after the
 * statement.  One without parent violates the key, which may not see it: a key
 * of several columns may not match in full.  Until the swap the original does.
 */
static void
fill_late(const PshReference *ref, TriggerData *event, TupleTableSlot *row,
		  HeapTuple tuple)
{
	Relation	rel = event->tg_relation;
	int			key_columns[INDEX_MAX_KEYS];
	int			columns[INDEX_MAX_KEYS];
	Datum		keys[INDEX_MAX_KEYS];
	Datum		given[INDEX_MAX_KEYS];
	Datum		values[INDEX_MAX_KEYS];
	int			missing;

	if (psh_reference_read(rel, tuple, ref->child_key, ref->nkeys, key_columns, keys) > 0)
		return;
	missing = psh_reference_read(rel, tuple, ref->child_more, ref->nmore,
								 columns, given);
	if (missing > ref->nmore ||
		(missing == 0 &&
		 (ref->child != ref->parent || TRIGGER_FIRED_BY_UPDATE(event->tg_event) ||
		  moved_by != GetTopTransactionIdIfAny())))
		return;
	if (may_refer(ref, rel->rd_rel->relowner) &&
		look_up(ref, event->tg_trigger->tgoid, keys, values))
	{
		if (missing > 0 || !has_values(ref, rel, columns, given, values))
			put_values(ref, rel, row, columns, values);
	}
	else if (missing > 0 && ref->extended &&
			 (!ref->deferrable || event->tg_trigger->tgdeferrable) &&
			 SessionReplicationRole != SESSION_REPLICATION_ROLE_REPLICA)
		report_orphan(ref, rel, key_columns, keys);
}

/*
 * AFTER ROW trigger on the referencing table, for INSERT and UPDATE.
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
	Oid			constraint = get_relation_constraint_oid(psh_source_root(RelationGetRelid(rel)),
														 trigger->tgargs[0], true);
	PshReference	ref;

	if (OidIsValid(constraint) &&
		psh_reference_load(&ref, constraint, trigger->tgargs, trigger->tgnargs, 1) &&
		table_tuple_satisfies_snapshot(rel, row, SnapshotSelf))
		fill_late(&ref, event, row, tuple);
	return PointerGetDatum(NULL);
}
