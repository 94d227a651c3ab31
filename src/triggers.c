/*-------------------------------------------------------------------------
 *
 * triggers.c
 *	  Installing, checking and removing the triggers of a conversion.
 *
 * A trigger's arguments say all it needs: the job's number, the table it
 * writes to, where it was installed, the identity's columns, and after an
 * empty word how the partition key is computed, if it is.  They fire in
 * every replication role.  Those on the source are internal ones, which pg_dump does not dump.
 * The row trigger on the new table is an ordinary one, because only an
 * ordinary one is given to partitions that are added later.  On a source that
 * is partitioned already each partition gets one of its own.
 *
 * Changing a trigger's firing state needs SHARE ROW EXCLUSIVE, dropping it
 * ACCESS EXCLUSIVE.  So the switch from capture to mirror leaves the capture
 * trigger behind disabled, and the swap drops it, which has that lock anyway.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/dependency.h"
#include "catalog/pg_trigger.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parse_func.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "capture.h"
#include "compat.h"
#include "source.h"

/* The arguments before the identity's columns. */
enum
{
	ARG_JOB,
	ARG_TARGET,					/* the table that is written to */
	ARG_HOME,					/* the table that has the trigger */
	ARG_DATABASE,
	FIXED_ARGS
};

/* The arguments after the empty word. */
#define COMPUTED_ARGS 5

/* What a kind is made of. */
static const struct
{
	const char *name;
	const char *row_function;
	const char *truncate_function;	/* or NULL */
	bool		internal;
}			kinds[] =
{
	{"partshift_capture", "capture_row", NULL, true},
	{"partshift_mirror", "mirror_row", "mirror_truncate", true},
	{"partshift_reverse", "reverse_row", "reverse_truncate", false},
	{"partshift_hold", "hold_reference", NULL, true},
	{"partshift_push", "push_reference", NULL, true}
};

static Oid
function_oid(const char *name)
{
	return LookupFuncName(list_make2(makeString("partshift"),
									 makeString(pstrdup(name))),
						  0, NULL, false);
}

/* What tells this database from every other, also from its own restored dump. */
static char *
this_database(void)
{
	return psprintf("%u/" UINT64_FORMAT, MyDatabaseId, GetSystemIdentifier());
}

static void
create_trigger(Oid relid, Oid home, PshTriggerKind kind, const PshJob *job,
			   bool row)
{
	CreateTrigStmt *stmt = makeNode(CreateTrigStmt);
	ObjectAddress trigger;
	Oid			target = job->relid;
	ListCell   *cell;

	if (kind == PSH_TRIGGER_CAPTURE)
		target = job->log;
	else if (kind == PSH_TRIGGER_MIRROR)
		target = job->shadow;

	stmt->trigname = psprintf("%s_%d%s", kinds[kind].name, job->id,
							  row ? "" : "_truncate");
	stmt->relation = makeRangeVar(get_namespace_name(get_rel_namespace(relid)),
								  get_rel_name(relid), -1);
	stmt->row = row;
	stmt->timing = TRIGGER_TYPE_AFTER;
	stmt->events = row ?
		TRIGGER_TYPE_INSERT | TRIGGER_TYPE_UPDATE | TRIGGER_TYPE_DELETE :
		TRIGGER_TYPE_TRUNCATE;
	stmt->args = list_make4(makeString(psprintf("%d", job->id)),
							makeString(psprintf("%u", target)),
							makeString(psprintf("%u", home)),
							makeString(this_database()));
	foreach(cell, job->identity)
		stmt->args = lappend(stmt->args, makeString(lfirst(cell)));
	if (job->computed)
		stmt->args = list_concat(lappend(stmt->args, makeString("")),
								 psh_computed_words(job->computed));

	trigger = CreateTriggerFiringOn(stmt, NULL, relid, InvalidOid, InvalidOid,
									InvalidOid,
									function_oid(row ? kinds[kind].row_function :
												 kinds[kind].truncate_function),
									InvalidOid, NULL,
									kinds[kind].internal || !row,
									false, TRIGGER_FIRES_ALWAYS);
	if (job->computed)
		psh_computed_depend(trigger.objectId, job->computed);
	CommandCounterIncrement();
}

/*
 * The tables on which a kind's row trigger is made: an internal one has to be
 * made for each partition, an ordinary one the server clones.
 */
static List *
row_trigger_tables(Oid relid, PshTriggerKind kind)
{
	return kinds[kind].internal ? psh_source_heaps(relid) :
		list_make1_oid(relid);
}

/* The tables on which a kind's TRUNCATE trigger is made. */
static List *
truncate_trigger_tables(Oid relid, PshTriggerKind kind)
{
	if (kinds[kind].truncate_function == NULL)
		return NIL;
	return list_append_unique_oid(psh_source_heaps(relid), relid);
}

/*
 * Install the triggers of a kind on a table.  The caller holds SHARE ROW
 * EXCLUSIVE on it, and on its partitions when there are any.
 */
void
psh_triggers_install(Oid relid, PshTriggerKind kind, const PshJob *job)
{
	ListCell   *cell;

	foreach(cell, row_trigger_tables(relid, kind))
		create_trigger(lfirst_oid(cell), relid, kind, job, true);
	foreach(cell, truncate_trigger_tables(relid, kind))
		create_trigger(lfirst_oid(cell), relid, kind, job, false);
}

/*
 * The relation's trigger i is looked at last: looking a function up can have
 * the relation's entry in the cache built anew, with other triggers' memory.
 */
static bool
is_of_kind(Relation rel, int i, PshTriggerKind kind, const PshJob *job)
{
	Oid			row = function_oid(kinds[kind].row_function);
	Oid			truncate = InvalidOid;
	const Trigger *trigger;

	if (kinds[kind].truncate_function)
		truncate = function_oid(kinds[kind].truncate_function);
	trigger = &rel->trigdesc->triggers[i];
	return (trigger->tgfoid == row || trigger->tgfoid == truncate)
		&& trigger->tgnargs > FIXED_ARGS && psh_trigger_job(trigger) == job->id;
}

static void
disable_on(Oid relid, PshTriggerKind kind, const PshJob *job)
{
	Relation	rel = table_open(relid, NoLock);
	List	   *names = NIL;
	ListCell   *cell;
	int			i;

	for (i = 0; rel->trigdesc && i < rel->trigdesc->numtriggers; i++)
		if (is_of_kind(rel, i, kind, job))
			names = lappend(names,
							pstrdup(rel->trigdesc->triggers[i].tgname));
	foreach(cell, names)
		psh_trigger_set_firing(rel, lfirst(cell), TRIGGER_DISABLED);
	table_close(rel, NoLock);
	CommandCounterIncrement();
}

/*
 * Keep the triggers of a kind from firing.  The caller holds SHARE ROW
 * EXCLUSIVE on the table, and on its partitions when there are any.
 */
void
psh_triggers_disable(Oid relid, PshTriggerKind kind, const PshJob *job)
{
	ListCell   *cell;

	foreach(cell, list_append_unique_oid(psh_source_heaps(relid), relid))
		disable_on(lfirst_oid(cell), kind, job);
}

static void
drop_from(Oid relid, const PshJob *job)
{
	Relation	rel = table_open(relid, AccessExclusiveLock);
	ObjectAddresses *doomed = new_object_addresses();
	int			kind;
	int			i;

	for (i = 0; rel->trigdesc && i < rel->trigdesc->numtriggers; i++)
	{
		const Trigger *trigger;
		ObjectAddress address;

		for (kind = 0; kind < lengthof(kinds); kind++)
			if (is_of_kind(rel, i, kind, job))
				break;
		trigger = &rel->trigdesc->triggers[i];
		if (kind == lengthof(kinds) || trigger->tgisclone)
			continue;
		ObjectAddressSet(address, TriggerRelationId, trigger->tgoid);
		add_exact_object_address(&address, doomed);
	}
	performMultipleDeletions(doomed, DROP_RESTRICT, PERFORM_DELETION_INTERNAL);
	free_object_addresses(doomed);
	table_close(rel, NoLock);
	CommandCounterIncrement();
}

/*
 * Drop every trigger of the job from a table and its partitions; none is no
 * error.  Takes ACCESS EXCLUSIVE.
 */
void
psh_triggers_drop(Oid relid, const PshJob *job)
{
	List	   *leaves = psh_source_heaps(relid);
	ListCell   *cell;

	drop_from(relid, job);
	leaves = list_union_oid(leaves,
							psh_source_planned(job, relid == job->relid ?
											   "source_leaves" : "new_leaves"));
	foreach(cell, leaves)
		if (lfirst_oid(cell) != relid)
			drop_from(lfirst_oid(cell), job);
}

/* How many triggers of a kind the table has that fire always. */
static int
count_on(Oid relid, PshTriggerKind kind, const PshJob *job)
{
	Relation	rel = table_open(relid, NoLock);
	int			count = 0;
	int			i;

	for (i = 0; rel->trigdesc && i < rel->trigdesc->numtriggers; i++)
		if (is_of_kind(rel, i, kind, job) &&
			rel->trigdesc->triggers[i].tgenabled == TRIGGER_FIRES_ALWAYS)
			count++;
	table_close(rel, NoLock);
	return count;
}

/*
 * Whether the table's triggers of a kind are all there and fire always; those
 * that partitions have of an ordinary one are the server's affair.  The caller
 * holds a lock on the table, and on its partitions when there are any.
 */
bool
psh_triggers_in_place(Oid relid, PshTriggerKind kind, const PshJob *job)
{
	List	   *with_row = row_trigger_tables(relid, kind);
	List	   *with_truncate = truncate_trigger_tables(relid, kind);
	ListCell   *cell;

	if (!kinds[kind].internal)
		with_truncate = list_make1_oid(relid);
	foreach(cell, list_union_oid(with_row, with_truncate))
	{
		Oid			table = lfirst_oid(cell);
		int			wanted = (list_member_oid(with_row, table) ? 1 : 0) +
		(list_member_oid(with_truncate, table) ? 1 : 0);

		if (count_on(table, kind, job) != wanted)
			return false;
	}
	return true;
}

/* Raise unless the trigger has arguments like ours. */
static void
check_arguments(const Trigger *trigger)
{
	if (trigger->tgnargs <= FIXED_ARGS ||
		trigger->tgnargs > FIXED_ARGS + INDEX_MAX_KEYS + 1 + COMPUTED_ARGS ||
		psh_trigger_target(trigger) < FirstNormalObjectId)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger \"%s\" was not created by a conversion",
						trigger->tgname)));
}

/*
 * Raise unless the trigger has the arguments that we give ours and writes to
 * a table, which may be gone if the caller can do without.  A superuser can
 * make one that has not.
 */
void
psh_trigger_check(const Trigger *trigger, bool may_be_gone)
{
	char		relkind;

	check_arguments(trigger);
	relkind = get_rel_relkind(psh_trigger_target(trigger));
	if (relkind != RELKIND_RELATION && relkind != RELKIND_PARTITIONED_TABLE &&
		!(relkind == '\0' && may_be_gone))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table that trigger \"%s\" writes to does not exist",
						trigger->tgname)));
}

/*
 * The number of the job that a trigger of ours belongs to.
 */
int
psh_trigger_job(const Trigger *trigger)
{
	return pg_strtoint32(trigger->tgargs[ARG_JOB]);
}

/*
 * The table that a trigger of ours writes to.
 */
Oid
psh_trigger_target(const Trigger *trigger)
{
	return (Oid) strtoul(trigger->tgargs[ARG_TARGET], NULL, 10);
}

/*
 * The table that a trigger of ours was installed for: the one that has it, or
 * the one of which that is a partition.
 */
Oid
psh_trigger_home(const Trigger *trigger)
{
	return (Oid) strtoul(trigger->tgargs[ARG_HOME], NULL, 10);
}

/*
 * Whether a trigger of ours is where it was installed: on this table, or on a
 * partition of it.  One that was dumped and restored is not, and its OIDs mean
 * nothing.  Raises when it has not the arguments of ours.
 */
bool
psh_trigger_at_home(const Trigger *trigger, Oid root)
{
	check_arguments(trigger);
	return root == psh_trigger_home(trigger) &&
		strcmp(trigger->tgargs[ARG_DATABASE], this_database()) == 0;
}

/*
 * The names of the identity's columns.
 */
List *
psh_trigger_identity(const Trigger *trigger)
{
	List	   *identity = NIL;
	int			i;

	for (i = FIXED_ARGS; i < trigger->tgnargs && *trigger->tgargs[i]; i++)
		identity = lappend(identity, trigger->tgargs[i]);
	return identity;
}

/*
 * How the plain table's partition key is computed, NULL if it is not.
 */
PshComputed *
psh_trigger_computed(const Trigger *trigger)
{
	int			i = FIXED_ARGS;

	while (i < trigger->tgnargs && *trigger->tgargs[i])
		i++;
	if (i + 1 + COMPUTED_ARGS != trigger->tgnargs)
		return NULL;
	return psh_computed_from_words(trigger->tgargs + i + 1);
}
