/*-------------------------------------------------------------------------
 *
 * ddl.c
 *	  What a user's command makes, alters or is going to.
 *
 * Called for event triggers.  What the server tells SQL about a command lacks
 * the parts of an ALTER TABLE and the objects of a GRANT, and before a
 * command there is nothing but its parse tree.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "commands/defrem.h"
#include "executor/spi.h"
#include "nodes/parsenodes.h"
#include "nodes/plannodes.h"
#include "tcop/deparse_utility.h"
#include "tcop/pquery.h"
#include "utils/aclchk_internal.h"

#include "ddl.h"
#include "sql.h"

static void
touch(PshTouched *touched, Oid class, Oid object)
{
	if (!OidIsValid(class) || !OidIsValid(object))
		return;
	if (touched->n == touched->size)
	{
		touched->size = touched->size * 2 + 16;
		touched->classes = touched->classes == NULL ?
			palloc(sizeof(Datum) * touched->size) :
			repalloc(touched->classes, sizeof(Datum) * touched->size);
		touched->objects = touched->objects == NULL ?
			palloc(sizeof(Datum) * touched->size) :
			repalloc(touched->objects, sizeof(Datum) * touched->size);
	}
	touched->classes[touched->n] = ObjectIdGetDatum(class);
	touched->objects[touched->n++] = ObjectIdGetDatum(object);
}

static void
touch_named(PshTouched *touched, const RangeVar *name)
{
	touch(touched, RelationRelationId, RangeVarGetRelid(name, NoLock, true));
}

/* What an ALTER TABLE or a GRANT was about, beside what SQL is told. */
static void
touch_parts(PshTouched *touched, const CollectedCommand *command)
{
	ListCell   *cell;

	if (command->type == SCT_AlterTable)
	{
		foreach(cell, command->d.alterTable.subcmds)
		{
			CollectedATSubcmd *part = (CollectedATSubcmd *) lfirst(cell);

			touch(touched, part->address.classId, part->address.objectId);
		}
	}
	else if (command->type == SCT_Grant)
	{
		InternalGrant *grant = command->d.grant.istmt;

		if (grant->objtype != OBJECT_TABLE && grant->objtype != OBJECT_SEQUENCE &&
			grant->objtype != OBJECT_COLUMN)
			return;
		foreach(cell, grant->objects)
			touch(touched, RelationRelationId, lfirst_oid(cell));
	}
}

/*
 * The objects of the command that ddl_command_end is about.  SPI is
 * connected, and the arrays live in its memory.
 */
void
psh_ddl_read_done(PshTouched *touched)
{
	uint64		n;
	uint64		i;

	/*
	 * Event triggers fire for REINDEX since 17.  Indexes are found by their
	 * names, so that it harms nothing, CONCURRENTLY neither.
	 */
	n = psh_sql(SPI_OK_SELECT,
				"SELECT c.classid, c.objid, c.command"
				" FROM pg_catalog.pg_event_trigger_ddl_commands() AS c"
				" WHERE c.command_tag IS DISTINCT FROM 'REINDEX'",
				0, NULL, NULL, NULL);
	for (i = 0; i < n; i++)
	{
		bool		no_class;
		bool		no_object;
		bool		isnull;
		Datum		class = psh_sql_value(i, 1, &no_class);
		Datum		object = psh_sql_value(i, 2, &no_object);
		Datum		command = psh_sql_value(i, 3, &isnull);

		if (!no_class && !no_object)
			touch(touched, DatumGetObjectId(class), DatumGetObjectId(object));
		if (!isnull)
			touch_parts(touched,
						(const CollectedCommand *) DatumGetPointer(command));
	}
}

/*
 * The command that the client has asked for, which need not be the one that
 * an event trigger fires for: that may be inside of a function.  But one that
 * commits before its end cannot be.
 */
static Node *
outermost_command(void)
{
	if (ActivePortal == NULL || list_length(ActivePortal->stmts) != 1)
		return NULL;
	return linitial_node(PlannedStmt, ActivePortal->stmts)->utilityStmt;
}

/*
 * Whether a client's request drops this extension by its name.
 */
bool
psh_ddl_drops_extension(void)
{
	Node	   *parsetree = outermost_command();
	ListCell   *cell;

	if (parsetree == NULL || !IsA(parsetree, DropStmt) ||
		((DropStmt *) parsetree)->removeType != OBJECT_EXTENSION)
		return false;
	foreach(cell, ((DropStmt *) parsetree)->objects)
		if (strcmp(strVal(lfirst(cell)), "partshift") == 0)
			return true;
	return false;
}

/*
 * The tables and indexes of a command that is going to commit before its end,
 * as far as they exist.
 */
void
psh_ddl_read_concurrent(PshTouched *touched)
{
	Node	   *parsetree = outermost_command();
	ListCell   *cell;

	if (parsetree == NULL)
		return;

	if (IsA(parsetree, IndexStmt))
	{
		IndexStmt  *stmt = (IndexStmt *) parsetree;

		if (stmt->concurrent)
			touch_named(touched, stmt->relation);
	}
	else if (IsA(parsetree, DropStmt))
	{
		DropStmt   *stmt = (DropStmt *) parsetree;

		if (stmt->removeType == OBJECT_INDEX && stmt->concurrent)
			foreach(cell, stmt->objects)
				touch_named(touched,
							makeRangeVarFromNameList(lfirst_node(List, cell)));
	}
	else if (IsA(parsetree, AlterTableStmt))
	{
		AlterTableStmt *stmt = (AlterTableStmt *) parsetree;

		foreach(cell, stmt->cmds)
		{
			AlterTableCmd *cmd = lfirst_node(AlterTableCmd, cell);

			if (cmd->subtype == AT_DetachPartition &&
				((PartitionCmd *) cmd->def)->concurrent)
				touch_named(touched, stmt->relation);
		}
	}
}

