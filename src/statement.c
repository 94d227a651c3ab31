/*-------------------------------------------------------------------------
 *
 * statement.c
 *	  Whether a statement of the application will leave partitions out.
 *
 * The partitioned table does not exist yet, so nothing can be planned.  The
 * statement is parsed and rewritten, as the table's owner, which puts queries
 * in the place of views; and its conditions are looked through for comparisons
 * of the partition key with something else.  Those on a subquery's result hold
 * for what it reads where the planner would push them down.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/analyze.h"
#include "parser/parsetree.h"
#include "tcop/tcopprot.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "compat.h"
#include "sql.h"

PG_FUNCTION_INFO_V1(partshift_judge_statement);

/* What is asked, and what is found out. */
typedef struct Judgement
{
	Oid			relid;
	bool		by_hash;		/* all key columns, by equality */
	List	   *key;			/* attribute numbers; 0 for a column to be */
	bool		reads;			/* rows of the table */
	bool		prunes;			/* wherever it does */
	bool		conflicts;		/* ON CONFLICT would need the key */
} Judgement;

/* A query, and where in the FROM clause of which other one it stands, if so. */
typedef struct Level
{
	Query	   *query;
	struct Level *outer;		/* or NULL */
	int			place;			/* range table index in the outer one */
	Judgement  *judgement;
} Level;

/* Whether an expression is this column of the table, at this level. */
static bool
is_column(Node *node, int rti, AttrNumber column)
{
	Var		   *var;

	while (node && IsA(node, RelabelType))
		node = (Node *) ((RelabelType *) node)->arg;
	if (node == NULL || !IsA(node, Var))
		return false;
	var = (Var *) node;
	return var->varlevelsup == 0 && var->varno == rti &&
		var->varattno == column;
}

/* Whether an operator orders or equals values of the column; for hash, equals. */
static bool
can_prune(Oid opno, const Judgement *judgement, AttrNumber column)
{
	Oid			type = getBaseType(get_atttype(judgement->relid, column));
	TypeCacheEntry *entry = lookup_type_cache(type, TYPECACHE_BTREE_OPFAMILY |
											  TYPECACHE_HASH_OPFAMILY);
	int			strategy = get_op_opfamily_strategy(opno, entry->btree_opf);

	if (judgement->by_hash)
		return get_op_opfamily_strategy(opno, entry->hash_opf) ==
			HTEqualStrategyNumber;
	return strategy != InvalidStrategy;
}

/* What is looked for: a column of a relation or subquery, which is the key's. */
typedef struct Wanted
{
	int			rti;
	AttrNumber	column;
	AttrNumber	key;
	const Judgement *judgement;
} Wanted;

static bool
compares(Node *node, const Wanted *wanted)
{
	List	   *args;
	Oid			opno;

	if (IsA(node, OpExpr))
	{
		opno = ((OpExpr *) node)->opno;
		args = ((OpExpr *) node)->args;
	}
	else if (IsA(node, ScalarArrayOpExpr) &&
			 ((ScalarArrayOpExpr *) node)->useOr)
	{
		opno = ((ScalarArrayOpExpr *) node)->opno;
		args = ((ScalarArrayOpExpr *) node)->args;
	}
	else
		return false;
	if (list_length(args) != 2 ||
		!can_prune(opno, wanted->judgement, wanted->key))
		return false;
	return (is_column(linitial(args), wanted->rti, wanted->column) &&
			!bms_is_member(wanted->rti, pull_varnos(NULL, lsecond(args)))) ||
		(is_column(lsecond(args), wanted->rti, wanted->column) &&
		 !bms_is_member(wanted->rti, pull_varnos(NULL, linitial(args))));
}

/* Whether a condition confines the column. */
static bool
confines(Node *node, const Wanted *wanted)
{
	ListCell   *cell;

	if (node == NULL)
		return false;
	if (IsA(node, BoolExpr) && ((BoolExpr *) node)->boolop != NOT_EXPR)
	{
		bool		is_or = ((BoolExpr *) node)->boolop == OR_EXPR;

		foreach(cell, ((BoolExpr *) node)->args)
			if (confines(lfirst(cell), wanted) != is_or)
				return !is_or;
		return is_or;
	}
	if (IsA(node, FromExpr))
	{
		foreach(cell, ((FromExpr *) node)->fromlist)
			if (confines(lfirst(cell), wanted))
				return true;
		return confines(((FromExpr *) node)->quals, wanted);
	}
	if (IsA(node, JoinExpr))
		return confines(((JoinExpr *) node)->larg, wanted) ||
			confines(((JoinExpr *) node)->rarg, wanted) ||
			confines(((JoinExpr *) node)->quals, wanted);
	return compares(node, wanted);
}

static bool
subtracts(Node *node)
{
	SetOperationStmt *setop = (SetOperationStmt *) node;

	if (node == NULL || !IsA(node, SetOperationStmt))
		return false;
	return setop->op == SETOP_EXCEPT || subtracts(setop->larg) ||
		subtracts(setop->rarg);
}

/* Whether the planner pushes conditions on columns of the result into it. */
static bool
lets_conditions_in(const Query *query)
{
	return query->limitCount == NULL && query->limitOffset == NULL &&
		query->windowClause == NIL && query->groupingSets == NIL &&
		!query->hasDistinctOn && !query->hasTargetSRFs &&
		!subtracts(query->setOperations);
}

/*
 * Whether a query confines a column of what it reads, or those do that read
 * its result.  The arms of UNION have the columns of the whole.
 */
static bool
is_confined(const Level *level, const Wanted *wanted)
{
	Wanted		next = *wanted;
	ListCell   *cell;

	if (confines((Node *) level->query->jointree, wanted))
		return true;
	if (level->outer == NULL || !lets_conditions_in(level->query))
		return false;
	next.rti = level->place;
	if (level->query->setOperations)
		return is_confined(level->outer, &next);
	foreach(cell, level->query->targetList)
	{
		TargetEntry *entry = lfirst(cell);

		next.column = entry->resno;
		if (!entry->resjunk &&
			is_column(psh_result_expression(level->query, entry),
					  wanted->rti, wanted->column) &&
			is_confined(level->outer, &next))
			return true;
	}
	return false;
}

static void
judge_read(const Level *level, int rti)
{
	Judgement  *judgement = level->judgement;
	ListCell   *cell;

	judgement->reads = true;
	foreach(cell, judgement->key)
	{
		AttrNumber	column = (AttrNumber) lfirst_int(cell);
		Wanted		wanted = {rti, column, column, judgement};

		if (column == InvalidAttrNumber || !is_confined(level, &wanted))
			judgement->prunes = false;
	}
}

static List *
constraint_columns(Oid constraint)
{
	List	   *columns = NIL;
	HeapTuple	tuple = SearchSysCache1(CONSTROID,
										ObjectIdGetDatum(constraint));
	Datum	   *elements;
	Datum		array;
	bool		isnull;
	int			n;

	if (!HeapTupleIsValid(tuple))
		return NIL;
	array = SysCacheGetAttr(CONSTROID, tuple, Anum_pg_constraint_conkey,
							&isnull);
	if (!isnull)
	{
		deconstruct_array(DatumGetArrayTypeP(array), INT2OID, 2, true,
						  TYPALIGN_SHORT, &elements, NULL, &n);
		for (int i = 0; i < n; i++)
			columns = lappend_int(columns, DatumGetInt16(elements[i]));
	}
	ReleaseSysCache(tuple);
	return columns;
}

/* The columns of ON CONFLICT, or of the constraint that it names. */
static List *
arbiter_columns(OnConflictExpr *conflict)
{
	List	   *columns = NIL;
	ListCell   *cell;

	foreach(cell, conflict->arbiterElems)
	{
		Node	   *expr = lfirst_node(InferenceElem, cell)->expr;

		if (IsA(expr, Var))
			columns = lappend_int(columns, ((Var *) expr)->varattno);
	}
	if (OidIsValid(conflict->constraint))
		columns = constraint_columns(conflict->constraint);
	return columns;
}

static void
judge_conflict(OnConflictExpr *conflict, Judgement *judgement)
{
	List	   *columns = arbiter_columns(conflict);

	if (columns != NIL && list_difference_int(judgement->key, columns) != NIL)
		judgement->conflicts = true;
}

static bool judge(Node *node, Judgement *judgement);

static void
judge_level(Level *level)
{
	Query	   *query = level->query;
	Judgement  *judgement = level->judgement;
	int			rti;

	for (rti = 1; rti <= list_length(query->rtable); rti++)
	{
		RangeTblEntry *entry = rt_fetch(rti, query->rtable);

		if (entry->rtekind == RTE_SUBQUERY)
		{
			Level		inner = {entry->subquery, level, rti, judgement};

			judge_level(&inner);
		}
		if (entry->rtekind != RTE_RELATION ||
			entry->relid != judgement->relid)
			continue;
		if (query->commandType != CMD_INSERT || rti != query->resultRelation)
		{
			if (query->onConflict == NULL ||
				rti != query->onConflict->exclRelIndex)
				judge_read(level, rti);
		}
		else if (query->onConflict)
			judge_conflict(query->onConflict, judgement);
	}
	(void) query_tree_walker(query, judge, judgement,
							 QTW_IGNORE_RT_SUBQUERIES);
}

static bool
judge(Node *node, Judgement *judgement)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		Level		top = {(Query *) node, NULL, 0, judgement};

		judge_level(&top);
		return false;
	}
	return expression_tree_walker(node, judge, judgement);
}

static List *
key_columns(Oid relid, ArrayType *names)
{
	List	   *key = NIL;
	Datum	   *elements;
	int			n;
	int			i;

	deconstruct_array(names, NAMEOID, NAMEDATALEN, false, TYPALIGN_CHAR,
					  &elements, NULL, &n);
	for (i = 0; i < n; i++)
		key = lappend_int(key, get_attnum(relid,
										  NameStr(*DatumGetName(elements[i]))));
	return key;
}

/* Parse and rewrite as for the application, as the table's owner. */
static List *
parse_for(Oid relid, const char *source)
{
	List	   *parsed = pg_parse_query(source);
	Oid		   *types = NULL;
	int			ntypes = 0;
	char	   *path;

	if (list_length(parsed) != 1)
		return NIL;
	path = psprintf("%s, public",
					quote_identifier(get_namespace_name(get_rel_namespace(relid))));
	(void) set_config_option("search_path", path, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	return pg_rewrite_query(parse_analyze_varparams(linitial_node(RawStmt, parsed),
													source, &types, &ntypes,
													NULL));
}

/*
 * judge_statement(query text, relid oid, owner oid, by_hash boolean, columns
 * name[], OUT reads boolean, OUT prunes boolean, OUT conflicts boolean)
 */
Datum
partshift_judge_statement(PG_FUNCTION_ARGS)
{
	char	   *source = text_to_cstring(PG_GETARG_TEXT_PP(0));
	Judgement	judgement = {PG_GETARG_OID(1), PG_GETARG_BOOL(3)};
	TupleDesc	desc;
	Datum		values[3];
	bool		nulls[3] = {0};
	PshUser		saved;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (get_rel_name(judgement.relid) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist",
						judgement.relid)));
	(void) GetUserNameFromId(PG_GETARG_OID(2), false);
	judgement.key = key_columns(judgement.relid, PG_GETARG_ARRAYTYPE_P(4));
	judgement.prunes = true;
	psh_user_switch(PG_GETARG_OID(2), true, &saved);
	(void) judge((Node *) parse_for(judgement.relid, source), &judgement);
	psh_user_restore(&saved);
	values[0] = BoolGetDatum(judgement.reads);
	values[1] = BoolGetDatum(judgement.prunes);
	values[2] = BoolGetDatum(judgement.conflicts);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc),
													  values, nulls)));
}
