/*-------------------------------------------------------------------------
 *
 * fence.c
 *	  What the code of a table's owner may not do in our processes.
 *
 * An index expression, a CHECK constraint or the input of a domain is run as
 * the owner, in a security-restricted operation.  Two things are left that it
 * could abuse in a worker, and two hooks that stop them there.
 *
 * - The guard's event triggers do not fire for a worker.  The code could
 *   rename the shadow and put another table in its place while we, a
 *   superuser, are about to use the name.  So the owner's part of a step is
 *   the one command that we run for him, and no DDL inside of it.
 *
 * - A foreign key is validated by a join, run as the owner of the referencing
 *   table.  Planning it loads the indexes of both tables and evaluates what is
 *   constant in their expressions: the owner of one table would run code as
 *   the owner of the other.  The server asks beforehand whether the user may
 *   read both and otherwise looks each row up as the owner of the referenced
 *   table, without loading what belongs to the referencing one.  For two
 *   owners we say that he may not.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "tcop/utility.h"
#include "utils/syscache.h"

#include "compat.h"
#include "fence.h"

static ProcessUtility_hook_type next_utility = NULL;
static ExecutorCheckPerms_hook_type next_check = NULL;

/* The next command in a restricted operation is ours. */
static bool expected = false;

/*
 * Announce a command that is to be run as a table's owner, or that there is
 * none.
 */
void
psh_fence_expect(bool command)
{
	expected = command;
}

static void
fence_utility(PlannedStmt *statement, const char *query, bool read_only_tree,
			  ProcessUtilityContext context, ParamListInfo params,
			  QueryEnvironment *environment, DestReceiver *dest,
			  QueryCompletion *completion)
{
	if (InSecurityRestrictedOperation() &&
		context != PROCESS_UTILITY_SUBCOMMAND && !expected &&
		GetCommandLogLevel(statement->utilityStmt) == LOGSTMT_DDL)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("cannot execute %s in an expression of a table that is being converted",
						CreateCommandName(statement->utilityStmt))));
	expected = false;
	if (next_utility)
		next_utility(statement, query, read_only_tree, context, params,
					 environment, dest, completion);
	else
		standard_ProcessUtility(statement, query, read_only_tree, context,
								params, environment, dest, completion);
}

static Oid
owner_of(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			owner = InvalidOid;

	if (HeapTupleIsValid(tuple))
	{
		owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
		ReleaseSysCache(tuple);
	}
	return owner;
}

static bool
of_one_owner(List *range_table)
{
	Oid			owner = InvalidOid;
	ListCell   *cell;

	foreach(cell, range_table)
	{
		RangeTblEntry *entry = lfirst_node(RangeTblEntry, cell);

		if (entry->rtekind != RTE_RELATION)
			continue;
		if (OidIsValid(owner) && owner_of(entry->relid) != owner)
			return false;
		owner = owner_of(entry->relid);
	}
	return true;
}

/* Only who asks whether it may, and can do otherwise, is told no. */
static bool
fence_check(PSH_CHECK_PERMS_PARAMETERS)
{
	if (!raise && !of_one_owner(range_table))
		return false;
	return next_check == NULL || next_check(PSH_CHECK_PERMS_ARGUMENTS);
}

/*
 * Put up the fence for the rest of this process, which is a worker.
 */
void
psh_fence_install(void)
{
	next_utility = ProcessUtility_hook;
	ProcessUtility_hook = fence_utility;
	next_check = ExecutorCheckPerms_hook;
	ExecutorCheckPerms_hook = fence_check;
}
