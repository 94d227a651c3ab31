/*-------------------------------------------------------------------------
 *
 * reference.c
 *	  A foreign key that was extended, and queries over both its tables.
 *
 * A table C refers to T by T's key.  When T is partitioned by a column p that
 * its key lacks, C gets a column for p and the foreign key is extended by it.
 * Applications need not know the column: triggers on C fill it (fill.c), and
 * until the swap triggers on T take its changes to C (push.c).
 *
 * What makes a child agree with its parent, whoever comes first: fill locks
 * the parent's row FOR KEY SHARE, which the foreign key's own check would do a
 * moment later.  An UPDATE of p must conflict with that as an UPDATE of a
 * column in a unique index does by itself; in the old table p is in none, so a
 * trigger locks the row FOR UPDATE first.  Then either the writer of the child
 * has ended and his row is found, or he waits and reads the new p.
 *
 * Rows are looked up and changed as the server's referential triggers do it,
 * by prepared queries in a new snapshot, as the owner of the table that is
 * looked at.
 *
 * The columns of the key are those of a constraint found by its name, which is
 * the original's before the swap and the extended one's after it; so triggers
 * survive both, renaming of the tables, and dump and restore.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_constraint.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "reference.h"

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
void
psh_reference_become(Oid owner, PshUser *saved)
{
	GetUserIdAndSecContext(&saved->userid, &saved->sec_context);
	SetUserIdAndSecContext(owner, saved->sec_context |
						   SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_NOFORCE_RLS);
}

/*
 * Be again who psh_reference_become() found.
 */
void
psh_reference_leave(const PshUser *saved)
{
	SetUserIdAndSecContext(saved->userid, saved->sec_context);
}

/*
 * Read the foreign key, and the pairs of names from args[first] on.  False
 * when the constraint is gone.
 */
bool
psh_reference_load(PshReference *ref, Oid constraint, char **args, int nargs,
				   int first)
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
	memset(ref, 0, sizeof(PshReference));
	ref->constraint = constraint;
	ref->child = form->conrelid;
	ref->parent = form->confrelid;
	ref->deferrable = form->condeferrable;
	for (i = first; i + 1 < nargs && ref->nmore < INDEX_MAX_KEYS; i += 2)
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
		{
			ref->extended = true;
			continue;
		}
		ref->child_key[ref->nkeys] = name;
		ref->parent_key[ref->nkeys] = get_attname(ref->parent, confkey[i], false);
		ref->operator[ref->nkeys++] = operators[i];
	}
	ReleaseSysCache(tuple);
	return true;
}

/*
 * What a trigger for INSERT or UPDATE of rows was called with.
 */
TriggerData *
psh_reference_event(FunctionCallInfo fcinfo, bool before)
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

/*
 * The name of a table for a query, in the current context.
 */
char *
psh_reference_table(Oid relid)
{
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
									  get_rel_name(relid));
}

/*
 * The type of a column of a table.
 */
Oid
psh_reference_type(Oid relid, const char *name)
{
	return get_atttype(relid, get_attnum(relid, name));
}

/*
 * Append the conditions parent = child; one side are the columns of the table
 * x, the other parameters from $first on.
 */
void
psh_reference_conditions(StringInfo query, const PshReference *ref, bool of_parent,
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
								 psh_reference_type(ref->parent, ref->parent_key[i]),
								 ref->operator[i], of_parent ? param : child,
								 psh_reference_type(ref->child, ref->child_key[i]));
	}
}

/*
 * The prepared query of a trigger, or NULL in a new entry.  A constraint that
 * was made anew has another OID; the server sees to other changes.
 */
PshSavedPlan *
psh_reference_plan(Oid constraint, Oid trigger)
{
	Oid			key[2];
	PshSavedPlan  *saved;
	bool		found;

	if (saved_plans == NULL)
	{
		HASHCTL		control = {0};

		control.keysize = sizeof(key);
		control.entrysize = sizeof(PshSavedPlan);
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

/*
 * Prepare a query for the rest of the session.
 */
void
psh_reference_prepare(PshSavedPlan *saved, const char *query, int nargs,
					  Oid *types)
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
void
psh_reference_run(PshSavedPlan *saved, Datum *values, int expected,
				  bool changes)
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

/*
 * Whether one of the named columns, which are all there, is not the same in
 * both versions.
 */
bool
psh_reference_changed(Relation rel, char *const *names, int n,
					  HeapTuple old, HeapTuple new)
{
	TupleDesc	desc = RelationGetDescr(rel);
	int			i;

	for (i = 0; i < n; i++)
	{
		AttrNumber	column = get_attnum(RelationGetRelid(rel), names[i]);
		Form_pg_attribute attr;
		bool		old_null;
		bool		new_null;
		Datum		a;
		Datum		b;

		if (column <= 0)
			return false;
		attr = TupleDescAttr(desc, column - 1);
		a = heap_getattr(old, column, desc, &old_null);
		b = heap_getattr(new, column, desc, &new_null);
		if (old_null != new_null ||
			(!old_null && !datum_image_eq(a, b, attr->attbyval, attr->attlen)))
			return true;
	}
	return false;
}

/*
 * Read columns of a row.  Returns how many of them are null; more than n when
 * the table has no column of some name.
 */
int
psh_reference_read(Relation rel, HeapTuple tuple, char *const *names, int n,
				   int *columns, Datum *values)
{
	int			nulls = 0;
	int			i;

	for (i = 0; i < n; i++)
	{
		bool		isnull;

		columns[i] = get_attnum(RelationGetRelid(rel), names[i]);
		if (columns[i] <= 0)
			return n + 1;
		values[i] = heap_getattr(tuple, columns[i], RelationGetDescr(rel),
								 &isnull);
		nulls += isnull ? 1 : 0;
	}
	return nulls;
}
