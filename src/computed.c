/*-------------------------------------------------------------------------
 *
 * computed.c
 *	  The expression of a computed partition key, from its text.
 *
 * It is read once, when the conversion is planned, with the table as the only
 * relation and pg_catalog as the only schema that needs no mention.  What is
 * kept is the tree, so that no name can mean something else later.  Reading
 * and simplifying it may already call functions of the table's owner, by the
 * checks of a domain or for constants: so that is done as the owner.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "parser/parse_collate.h"
#include "parser/parse_expr.h"
#include "parser/parse_relation.h"
#include "parser/parser.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"

#include "sql.h"

PG_FUNCTION_INFO_V1(partshift_read_expression);

static bool
is_bare(const SelectStmt *select)
{
	return select->distinctClause == NIL && select->intoClause == NULL &&
		select->fromClause == NIL && select->whereClause == NULL &&
		select->groupClause == NIL && select->havingClause == NULL &&
		select->windowClause == NIL && select->valuesLists == NIL &&
		select->sortClause == NIL && select->limitOffset == NULL &&
		select->limitCount == NULL && select->lockingClause == NIL &&
		select->withClause == NULL && select->op == SETOP_NONE &&
		list_length(select->targetList) == 1;
}

/* The grammar knows expressions only as parts of a statement. */
static Node *
parse(const char *text, const char *option)
{
	List	   *statements = raw_parser(psprintf("SELECT %s", text),
										RAW_PARSE_DEFAULT);

	if (list_length(statements) == 1)
	{
		Node	   *statement = linitial_node(RawStmt, statements)->stmt;

		if (IsA(statement, SelectStmt) && is_bare((SelectStmt *) statement))
		{
			ResTarget  *target = linitial_node(ResTarget,
											   ((SelectStmt *) statement)->targetList);

			if (target->name == NULL && target->indirection == NIL &&
				!(IsA(target->val, ColumnRef) &&
				  IsA(llast(((ColumnRef *) target->val)->fields), A_Star)))
				return target->val;
		}
	}
	ereport(ERROR,
			(errcode(ERRCODE_SYNTAX_ERROR),
			 errmsg("option \"%s\" is not an expression: \"%s\"", option, text)));
}

static Node *
coerce(ParseState *pstate, Node *node, Oid type, int32 typmod,
	   const char *option)
{
	Oid			own = exprType(node);

	/* A derived column is of the expression's type. */
	if (!OidIsValid(type))
	{
		type = own == UNKNOWNOID ? TEXTOID : own;
		typmod = exprTypmod(node);
	}
	node = coerce_to_target_type(pstate, node, own, type, typmod,
								 COERCION_ASSIGNMENT, COERCE_IMPLICIT_CAST,
								 -1);
	if (node == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("expression of option \"%s\" is of type %s", option,
						format_type_be(own)),
				 errdetail("The partition key column is of type %s.",
						   format_type_be(type))));
	return node;
}

static void
check_columns(Node *node, bool derived, const char *option)
{
	Bitmapset  *columns = NULL;
	int			i = -1;

	pull_varattnos(node, 1, &columns);
	if (derived && columns == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
				 errmsg("expression of option \"%s\" mentions no column",
						option)));
	while ((i = bms_next_member(columns, i)) >= 0)
		if (i + FirstLowInvalidHeapAttributeNumber <= 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
					 errmsg("expression of option \"%s\" mentions whole rows or system columns",
							option),
					 errhint("Name the columns instead.")));
}

/* Default arguments and inlined functions count: hence after planning. */
static void
check_immutable(Node *node, const char *option)
{
	if (contain_mutable_functions((Node *) expression_planner(copyObject((Expr *) node))))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
				 errmsg("functions in the expression of option \"%s\" must be immutable",
						option),
				 errdetail("Its value for a row must be the same at any time and in any session."),
				 errhint("A conversion of timestamp with time zone depends on the time zone: use AT TIME ZONE.")));
}

static Node *
read_expression(Relation rel, const char *text, Oid type, int32 typmod,
				const char *option)
{
	ParseState *pstate = make_parsestate(NULL);
	ParseNamespaceItem *item = addRangeTableEntryForRelation(pstate, rel,
															 AccessShareLock,
															 NULL, false, true);
	Node	   *node = parse(text, option);

	addNSItemToQuery(pstate, item, true, true, true);
	node = transformExpr(pstate, node, EXPR_KIND_PARTITION_EXPRESSION);
	check_columns(node, !OidIsValid(type), option);
	node = coerce(pstate, node, type, typmod, option);
	assign_expr_collations(pstate, node);
	check_immutable(node, option);
	if (type_is_collatable(exprType(node)) && !OidIsValid(exprCollation(node)))
		ereport(ERROR,
				(errcode(ERRCODE_INDETERMINATE_COLLATION),
				 errmsg("could not determine the collation of the expression of option \"%s\"",
						option),
				 errhint("Use the COLLATE clause.")));
	free_parsestate(pstate);
	return node;
}

/*
 * read_expression(relid oid, expression text, type oid, modifier integer,
 * option text, OUT ...): the expression over the table's columns, as type,
 * text and tree; of the given type, or if that is 0 of its own.
 */
Datum
partshift_read_expression(PG_FUNCTION_ARGS)
{
	char	   *words = text_to_cstring(PG_GETARG_TEXT_PP(1));
	char	   *option = text_to_cstring(PG_GETARG_TEXT_PP(4));
	Relation	rel = try_table_open(PG_GETARG_OID(0), AccessShareLock);
	Oid			type = PG_GETARG_OID(2);
	TupleDesc	desc;
	Datum		values[5];
	bool		nulls[5] = {0};
	Node	   *node;
	PshUser		saved;

	if (rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist",
						PG_GETARG_OID(0))));
	if (OidIsValid(type) &&
		!SearchSysCacheExists1(TYPEOID, ObjectIdGetDatum(type)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("type with OID %u does not exist", type)));
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	psh_user_switch(rel->rd_rel->relowner, true, &saved);
	node = read_expression(rel, words, type, PG_GETARG_INT32(3), option);
	values[0] = ObjectIdGetDatum(exprType(node));
	values[1] = Int32GetDatum(exprTypmod(node));
	values[2] = ObjectIdGetDatum(exprCollation(node));
	values[3] = CStringGetTextDatum(deparse_expression(node,
													   deparse_context_for(RelationGetRelationName(rel),
																		   RelationGetRelid(rel)),
													   false, false));
	values[4] = CStringGetTextDatum(nodeToString(node));
	psh_user_restore(&saved);
	table_close(rel, AccessShareLock);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values,
											 nulls));
}
