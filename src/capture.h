/*-------------------------------------------------------------------------
 *
 * capture.h
 *	  The triggers of a conversion, and the log that the first of them
 *	  fills.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_CAPTURE_H
#define PARTSHIFT_CAPTURE_H

#include "commands/trigger.h"

#include "job.h"

typedef enum PshTriggerKind
{
	PSH_TRIGGER_CAPTURE,		/* on the source: log what is touched */
	PSH_TRIGGER_MIRROR,			/* on the source: write the shadow too */
	PSH_TRIGGER_REVERSE,		/* on the new table: write legacy too */
	PSH_TRIGGER_HOLD,			/* on the source, see reference.c */
	PSH_TRIGGER_PUSH
} PshTriggerKind;

extern void psh_triggers_install(Oid relid, PshTriggerKind kind,
								 const PshJob *job);
extern void psh_triggers_disable(Oid relid, PshTriggerKind kind,
								 const PshJob *job);
extern void psh_triggers_drop(Oid relid, const PshJob *job);
extern bool psh_triggers_in_place(Oid relid, PshTriggerKind kind,
								  const PshJob *job);

extern int	psh_trigger_job(const Trigger *trigger);
extern Oid	psh_trigger_target(const Trigger *trigger);
extern Oid	psh_trigger_home(const Trigger *trigger);
extern bool psh_trigger_at_home(const Trigger *trigger, Oid root);
extern List *psh_trigger_identity(const Trigger *trigger);
extern PshComputed *psh_trigger_computed(const Trigger *trigger);
extern void psh_trigger_check(const Trigger *trigger, bool may_be_gone);

extern Relation psh_log_open(Oid relid, LOCKMODE lockmode, int n,
							 const Oid *types);
extern void psh_log_append(Relation log, int n, const Datum *identity);

#endif							/* PARTSHIFT_CAPTURE_H */
