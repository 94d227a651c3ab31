/*-------------------------------------------------------------------------
 *
 * project.c
 *	  The row of a plain table as the row of the partitioned one, where the
 *	  partition key is computed.
 *
 * With null_key an expression stands for the nulls of the partition key
 * column, with derive the column is only in the partitioned table.  Source
 * and shadow, and later the new table and legacy, then are equal up to that
 * one value.  This file is where it comes from, for all who compare or copy:
 * the identity of a plain table's row has the computed value, and the row of
 * the partitioned table takes it from the identity.  So it is evaluated once
 * for each row, and nobody else knows that there is an expression.
 *
 * The expression is immutable, so the row itself says at any time what its
 * identity is: an update of the columns it uses is a change of identity like
 * another, with an event that has the old values and the new ones.
 *
 * It is the table's owner's, and runs as him, in a security-restricted
 * operation, in whosever session that is.
 *
 * A row for which the expression is null, or fails, has no identity and no
 * place in the shadow, whose key is NOT NULL.  In the application's
 * transaction that must not be an error, for the source takes the row.  It is
 * left out, as if the source did not have it: what the shadow had of it
 * before is removed, and the transaction notes in partshift.unplaced that
 * there was such a row.  While there are notes there is no swap: see
 * psh_unplaced_settle().  To give it a place under some other value was
 * rejected, because that value could be another row's; to let the shadow have
 * nulls until the swap as well, because every look-up by the identity's index
 * would have to know them, and the swap would have to read the table.
 *
 * To fail without failing takes a subtransaction.  One that writes nothing
 * gets no transaction id, so it costs others nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/attmap.h"
#include "access/tupconvert.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/typcache.h"

#include "lookup.h"
#include "project.h"
#include "sql.h"

typedef struct PshExpression
{
	EState	   *estate;
	ExprState  *state;
	int16		typlen;
	bool		typbyval;
} PshExpression;

/*
 * A computed key as words of a trigger's arguments, and back.
 */
List *
psh_computed_words(const PshComputed *computed)
{
	return list_make5(makeString(computed->column),
					  makeString(computed->derived ? "derived" : "null"),
					  makeString(psprintf("%u", computed->type)),
					  makeString(psprintf("%u", computed->collation)),
					  makeString(computed->tree));
}

PshComputed *
psh_computed_from_words(char **words)
{
	PshComputed *computed = palloc(sizeof(PshComputed));

	computed->column = words[0];
	computed->derived = strcmp(words[1], "derived") == 0;
	computed->type = (Oid) strtoul(words[2], NULL, 10);
	computed->collation = (Oid) strtoul(words[3], NULL, 10);
	computed->tree = words[4];
	return computed;
}

static Node *
blank_columns(Node *node, void *context)
{
	if (node != NULL && IsA(node, Var))
		return (Node *) makeNullConst(((Var *) node)->vartype,
									  ((Var *) node)->vartypmod,
									  ((Var *) node)->varcollid);
	return expression_tree_mutator(node, blank_columns, context);
}

/*
 * Keep what the expression calls from being dropped while a trigger needs it.
 * Its columns are the table's own, which the guard looks after.
 */
void
psh_computed_depend(Oid trigger, const PshComputed *computed)
{
	ObjectAddress address;

	ObjectAddressSet(address, TriggerRelationId, trigger);
	recordDependencyOnExpr(&address,
						   blank_columns(stringToNode(computed->tree), NULL),
						   NIL, DEPENDENCY_NORMAL);
}

/*
 * Where in the identity the computed column is.
 */
int
psh_computed_place(const PshComputed *computed, List *identity)
{
	ListCell   *cell;

	foreach(cell, identity)
	{
		if (strcmp(lfirst(cell), computed->column) == 0)
			return foreach_current_index(cell);
	}
	elog(ERROR, "column \"%s\" is not in the identity", computed->column);
}

/*
 * Prepare to read identities of rows of a table.  `computed` is NULL for a
 * table that has the whole key itself.
 */
PshProjection *
psh_projection_make(Relation rel, List *identity, const PshComputed *computed)
{
	PshProjection *projection = palloc0(sizeof(PshProjection));
	List	   *own = identity;

	projection->rel = rel;
	projection->n = list_length(identity);
	projection->nown = projection->n;
	projection->computed = computed;
	projection->place = -1;
	projection->context = CurrentMemoryContext;
	if (computed)
		projection->place = psh_computed_place(computed, identity);
	if (computed && computed->derived)
	{
		/* Key columns that the key lacks come last, and there is one. */
		Assert(projection->place == projection->n - 1);
		projection->nown--;
		own = list_truncate(list_copy(identity), projection->nown);
	}
	projection->columns = psh_identity_columns(rel, own);
	projection->types = palloc(sizeof(Oid) * projection->n);
	memcpy(projection->types,
		   psh_identity_types(rel, projection->columns, projection->nown),
		   sizeof(Oid) * projection->nown);
	if (projection->nown < projection->n)
		projection->types[projection->place] = computed->type;
	return projection;
}

/*
 * Free what the expression needed.
 */
void
psh_projection_end(PshProjection *projection)
{
	if (projection->expression)
		FreeExecutorState(projection->expression->estate);
	projection->expression = NULL;
}

static PshExpression *
prepare(PshProjection *projection)
{
	MemoryContext caller = MemoryContextSwitchTo(projection->context);
	PshExpression *expression = palloc(sizeof(PshExpression));

	expression->estate = CreateExecutorState();
	expression->state = ExecPrepareExpr((Expr *) stringToNode(projection->computed->tree),
										expression->estate);
	get_typlenbyval(projection->computed->type, &expression->typlen,
					&expression->typbyval);
	MemoryContextSwitchTo(caller);
	return expression;
}

/* The expression's value for a row; false when it is null. */
static bool
evaluate(PshProjection *projection, TupleTableSlot *row, Datum *value)
{
	Oid			user = projection->rel->rd_rel->relowner;
	bool		switches = GetUserId() != user ||
		!InSecurityRestrictedOperation();
	PshExpression *expression;
	ExprContext *econtext;
	PshUser		saved;
	bool		isnull;

	if (switches)
		psh_user_switch(user, true, &saved);
	if (projection->expression == NULL)
		projection->expression = prepare(projection);
	expression = projection->expression;
	econtext = GetPerTupleExprContext(expression->estate);
	ResetExprContext(econtext);
	econtext->ecxt_scantuple = row;
	*value = ExecEvalExprSwitchContext(expression->state, econtext, &isnull);
	if (!isnull)
		*value = datumCopy(*value, expression->typbyval, expression->typlen);
	if (switches)
		psh_user_restore(&saved);
	return !isnull;
}

/* Errors that say nothing about the expression or the row. */
static bool
is_of_the_session(int sqlstate)
{
	switch (ERRCODE_TO_CATEGORY(sqlstate))
	{
		case ERRCODE_TRANSACTION_ROLLBACK:
		case ERRCODE_INSUFFICIENT_RESOURCES:
		case ERRCODE_OPERATOR_INTERVENTION:
		case ERRCODE_SYSTEM_ERROR:
			return true;
	}
	return false;
}

/* The same, false also when the expression fails. */
static bool
try_evaluate(PshProjection *projection, TupleTableSlot *row, Datum *value)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool has_value = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(caller);
	PG_TRY();
	{
		has_value = evaluate(projection, row, value);
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(caller);
		CurrentResourceOwner = owner;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(caller);
		CurrentResourceOwner = owner;
		if (is_of_the_session(error->sqlerrcode))
			ReThrowError(error);
		FreeErrorData(error);
		/* It may have been left in the middle of something. */
		projection->expression = NULL;
		has_value = false;
	}
	PG_END_TRY();
	return has_value;
}

static bool
read_identity(PshProjection *projection, TupleTableSlot *row, bool raise,
			  Datum *identity)
{
	int			i;

	for (i = 0; i < projection->n; i++)
	{
		bool		isnull = true;

		if (i < projection->nown)
			identity[i] = slot_getattr(row, projection->columns[i], &isnull);
		if (!isnull)
			continue;
		if (i != projection->place)
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("column %d of a row's identity is null",
							projection->columns[i])));
		if (!(raise ? evaluate(projection, row, &identity[i]) :
			  try_evaluate(projection, row, &identity[i])))
			return false;
	}
	return true;
}

/*
 * Read the identity of a row with the table's layout.  Its values point into
 * the slot or are allocated.  Returns false when the row has none.
 */
bool
psh_projection_identity(PshProjection *projection, TupleTableSlot *row,
						Datum *identity)
{
	return read_identity(projection, row, false, identity);
}

/*
 * The same for a process of ours, which can afford to fail.
 */
void
psh_projection_identity_or_raise(PshProjection *projection,
								 TupleTableSlot *row, Datum *identity)
{
	if (!read_identity(projection, row, true, identity))
		ereport(ERROR,
				(errcode(ERRCODE_NOT_NULL_VIOLATION),
				 errmsg("a row of table \"%s\" has no value for partition key column \"%s\"",
						RelationGetRelationName(projection->rel),
						projection->computed->column),
				 errdetail("The expression that computes it is null for the row."),
				 errhint("Change or delete the row, and resume the conversion.")));
}

/*
 * Whether two identities are the same by the types' own equality.
 */
bool
psh_projection_equal(const PshProjection *projection, const Datum *a,
					 const Datum *b)
{
	const PshComputed *computed = projection->computed;
	TypeCacheEntry *type;
	int			last = projection->n - 1;

	if (!psh_identity_equal(projection->rel, projection->columns,
							projection->nown, a, b))
		return false;
	if (projection->nown == projection->n)
		return true;
	type = lookup_type_cache(computed->type, TYPECACHE_EQ_OPR_FINFO);
	return DatumGetBool(FunctionCall2Coll(&type->eq_opr_finfo,
										  computed->collation, a[last],
										  b[last]));
}

/* Columns of the result that the row lacks are null. */
static AttrMap *
map_by_name(TupleDesc in, TupleDesc out)
{
	AttrMap    *map = make_attrmap(out->natts);
	int			i,
				j;

	for (i = 0; i < out->natts; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(out, i);

		/* Mostly it is in the same place. */
		for (j = i; j < i + in->natts && !attr->attisdropped; j++)
		{
			Form_pg_attribute other = TupleDescAttr(in, j % in->natts);

			if (other->attisdropped ||
				strcmp(NameStr(attr->attname), NameStr(other->attname)) != 0)
				continue;
			if (attr->atttypid != other->atttypid ||
				attr->atttypmod != other->atttypmod)
				ereport(ERROR,
						(errcode(ERRCODE_DATATYPE_MISMATCH),
						 errmsg("column \"%s\" has different types in two tables of a conversion",
								NameStr(attr->attname))));
			map->attnums[i] = other->attnum;
			break;
		}
	}
	return map;
}

/*
 * Make of a row of a plain table the row of the partitioned one, whose layout
 * `result` has; `value` is that of the computed column, NULL if it has none.
 * The values point into the slot.
 */
void
psh_projection_row(const PshComputed *computed, Relation from,
				   TupleTableSlot *row, const Datum *value,
				   TupleTableSlot *result)
{
	TupleDesc	desc = result->tts_tupleDescriptor;
	AttrMap    *map = map_by_name(RelationGetDescr(from), desc);
	int			i;

	execute_attr_map_slot(map, row, result);
	for (i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(desc, i);

		if (attr->attisdropped ||
			strcmp(NameStr(attr->attname), computed->column) != 0)
			continue;
		if (attr->atttypid != computed->type)
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("column \"%s\" is not of the type of its expression",
							computed->column)));
		result->tts_values[i] = value ? *value : (Datum) 0;
		result->tts_isnull[i] = value == NULL;
	}
	free_attrmap(map);
}

/*
 * Note, in the transaction that wrote it, that a row has no place in the
 * shadow.
 */
void
psh_unplaced_note(int job_id)
{
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(job_id)};
	PshUser		saved;

	psh_user_switch(psh_extension_owner(), false, &saved);
	SPI_connect();
	psh_sql(SPI_OK_INSERT,
			"INSERT INTO partshift.unplaced (job_id) VALUES ($1)",
			1, types, values, NULL);
	SPI_finish();
	psh_user_restore(&saved);
}

/*
 * Take away the notes of transactions that have ended, after a look, in a
 * later snapshot, that no row without a place is left; raises
 * NOT_NULL_VIOLATION when there is one.  A transaction that is still open
 * leaves its note, which psh_unplaced_any() finds under the swap's locks.
 */
void
psh_unplaced_settle(int job_id)
{
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(job_id)};

	psh_sql(SPI_OK_SELECT, "SELECT partshift.settle_unplaced($1)", 1, types,
			values, NULL);
}

/*
 * Whether there are notes.
 */
bool
psh_unplaced_any(int job_id)
{
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(job_id)};

	return psh_sql(SPI_OK_SELECT,
				   "SELECT FROM partshift.unplaced WHERE job_id = $1 LIMIT 1",
				   1, types, values, NULL) > 0;
}
