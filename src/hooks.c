/*-------------------------------------------------------------------------
 *
 * hooks.c
 *	  Being called by the server for what fires no event trigger.
 *
 * That is the drop of the extension, which drops the event triggers first,
 * and REASSIGN OWNED.  The hooks are there where the library is loaded.  For
 * the drop it always is, because the event trigger at the beginning of the
 * command has loaded it.  A session that begins with REASSIGN OWNED is stopped
 * only where the library is preloaded; the fingerprint notices the others.
 *
 * As event triggers do, they rest where session_replication_role is replica:
 * in our own processes, and for a superuser who knows what he does.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/objectaccess.h"
#include "catalog/pg_extension.h"
#include "commands/trigger.h"
#include "nodes/parsenodes.h"
#include "tcop/utility.h"

#include "guard.h"
#include "hooks.h"

static object_access_hook_type next_object_access = NULL;
static ProcessUtility_hook_type next_process_utility = NULL;

static void
object_access(ObjectAccessType access, Oid class, Oid object, int part,
			  void *arg)
{
	if (next_object_access)
		next_object_access(access, class, object, part, arg);
	if (access == OAT_DROP && class == ExtensionRelationId &&
		SessionReplicationRole != SESSION_REPLICATION_ROLE_REPLICA)
		psh_guard_check_drop(object);
}

static void
process_utility(PlannedStmt *statement, const char *text, bool read_only_tree,
				ProcessUtilityContext context, ParamListInfo params,
				QueryEnvironment *environment, DestReceiver *receiver,
				QueryCompletion *completion)
{
	if (IsA(statement->utilityStmt, ReassignOwnedStmt) &&
		SessionReplicationRole != SESSION_REPLICATION_ROLE_REPLICA)
		psh_guard_check_reassign(((ReassignOwnedStmt *)
								  statement->utilityStmt)->roles);
	if (next_process_utility)
		next_process_utility(statement, text, read_only_tree, context, params,
							 environment, receiver, completion);
	else
		standard_ProcessUtility(statement, text, read_only_tree, context,
								params, environment, receiver, completion);
}

/*
 * Install the hooks; once for each process that loads the library.
 */
void
psh_hooks_install(void)
{
	next_object_access = object_access_hook;
	object_access_hook = object_access;
	next_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
}
