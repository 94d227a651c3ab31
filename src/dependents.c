/*-------------------------------------------------------------------------
 *
 * dependents.c
 *	  Views and the like, which are made to mean the other table.
 *
 * An object of somebody else's that depends on the table holds its OID in a
 * parsed query or expression.  The server deparses it while the name means the
 * one table and parses it again once the name means the other, and only that
 * part of the object is replaced: it keeps its OID, and so its owner,
 * privileges, options, triggers, the rows and indexes of a materialized view,
 * and whatever depends on it in turn.
 *
 * CREATE OR REPLACE VIEW would ask the view's owner for the right to create
 * relations in its schema, which he may have lost, and does not know
 * materialized views.  So the rule of a view is stored by the functions that
 * the command itself uses.  Parsing a constant may call functions of its
 * owner's, hence everything is parsed as that owner.
 *
 * Definitions are read and stored under the swap's locks, which include these
 * objects: what is read cannot change before it is stored again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "commands/view.h"
#include "executor/spi.h"
#include "parser/analyze.h"
#include "rewrite/rewriteDefine.h"
#include "tcop/tcopprot.h"

#include "dependents.h"
#include "sql.h"

typedef struct Definition
{
	const char *kind;			/* view, rule, trigger or command */
	Oid			object;
	Oid			owner;			/* InvalidOid for a command: as we are */
	const char *text;
} Definition;

/*
 * Raise an error (55000) if something has come to depend on the table that
 * the swap could not make to mean the new one.
 */
void
psh_dependents_check(const PshJob *job)
{
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(job->id)};

	psh_sql(SPI_OK_SELECT, "SELECT partshift.refuse_dependents($1)",
			1, types, values, NULL);
}

/*
 * Definitions of all that depends on the table which is about to lose its
 * name, as a list for psh_dependents_redefine(), in the current context.  The
 * caller holds ACCESS EXCLUSIVE on the relations they belong to.
 */
List *
psh_dependents_read(const PshJob *job)
{
	Oid			types[2] = {INT4OID, BOOLOID};
	Datum		values[2];
	List	   *definitions = NIL;
	int			n;
	int			i;

	values[0] = Int32GetDatum(job->id);
	values[1] = BoolGetDatum(job->reverse);
	n = (int) psh_sql(SPI_OK_SELECT,
					  "SELECT d.kind, d.object, d.run_as, d.definition"
					  " FROM partshift.dependent_definitions($1, $2) AS d",
					  2, types, values, NULL);
	for (i = 0; i < n; i++)
	{
		Definition *definition = palloc0(sizeof(Definition));
		Datum		value;
		bool		isnull;

		definition->kind = psh_sql_text(i, 1);
		value = psh_sql_value(i, 2, &isnull);
		definition->object = isnull ? InvalidOid : DatumGetObjectId(value);
		value = psh_sql_value(i, 3, &isnull);
		definition->owner = isnull ? InvalidOid : DatumGetObjectId(value);
		definition->text = psh_sql_text(i, 4);
		definitions = lappend(definitions, definition);
	}
	return definitions;
}

static void
redefine_view(const Definition *definition, RawStmt *raw)
{
	Query	   *query = parse_analyze_fixedparams(raw, definition->text,
												  NULL, 0, NULL);

	StoreViewQuery(definition->object, query, true);
}

static void
redefine_rule(const Definition *definition, RawStmt *raw)
{
	RuleStmt   *rule = castNode(RuleStmt, raw->stmt);

	rule->replace = true;
	(void) DefineRule(rule, definition->text);
}

static void
redefine_trigger(const Definition *definition, RawStmt *raw)
{
	CreateTrigStmt *trigger = castNode(CreateTrigStmt, raw->stmt);

	trigger->replace = true;
	(void) CreateTrigger(trigger, definition->text, InvalidOid, InvalidOid,
						 InvalidOid, InvalidOid, InvalidOid, InvalidOid,
						 NULL, false, false);
}

static void
redefine(const Definition *definition)
{
	PshUser		saved;
	RawStmt    *raw;

	psh_user_switch(definition->owner, true, &saved);
	raw = linitial_node(RawStmt, pg_parse_query(definition->text));
	if (strcmp(definition->kind, "view") == 0)
		redefine_view(definition, raw);
	else if (strcmp(definition->kind, "rule") == 0)
		redefine_rule(definition, raw);
	else
		redefine_trigger(definition, raw);
	psh_user_restore(&saved);
	CommandCounterIncrement();
}

/*
 * Have each of the definitions read again and stored, now that the name means
 * the other table.
 */
void
psh_dependents_redefine(List *definitions)
{
	ListCell   *cell;

	foreach(cell, definitions)
	{
		const Definition *definition = lfirst(cell);

		if (strcmp(definition->kind, "command") == 0)
			psh_sql_run(definition->owner, definition->text);
		else
			redefine(definition);
	}
}
