/*-------------------------------------------------------------------------
 *
 * trigcache.h
 *	  What a session keeps of a trigger of ours from row to row.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_TRIGCACHE_H
#define PARTSHIFT_TRIGCACHE_H

#include "commands/trigger.h"

#include "table.h"

typedef struct PshTriggerCache
{
	Oid			trigger;
	MemoryContext context;		/* of all that is kept */
	uint64		generation;		/* in which it was made */
	SubTransactionId user;		/* which is using it, or invalid */
	bool		kept;			/* otherwise it is of this one row */
	int			job_id;
	Oid			target;			/* the table that is written to */
	Oid			root;			/* the table that has the trigger, or that of
								 * which it is a partition */
	bool		at_home;		/* see psh_trigger_at_home() */
	List	   *identity;
	PshComputed *computed;
	PshProjection *events;		/* of the rows of the table with the trigger */
	TupleTableSlot *entry;		/* of the log, or NULL */
	PshTable   *authority;		/* or NULL */
	PshTable   *follower;
} PshTriggerCache;

extern PshTriggerCache *psh_trigcache_begin(const Trigger *trigger,
											Relation rel, bool reverse);
extern void psh_trigcache_end(PshTriggerCache *cache);
extern bool psh_trigcache_is_current(const PshTriggerCache *cache);

extern uint64 psh_trigcache_generation(void);
extern void psh_trigcache_watch(Oid relid);

#endif							/* PARTSHIFT_TRIGCACHE_H */
