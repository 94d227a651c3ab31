/*-------------------------------------------------------------------------
 *
 * settle.h
 *	  Making one table follow another, row by row.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_SETTLE_H
#define PARTSHIFT_SETTLE_H

#include "table.h"

typedef struct PshPair
{
	PshTable   *authority;		/* what it holds is right */
	PshTable   *follower;		/* what is made to agree */
	bool		yields;			/* a duplicate makes the follower drop out
								 * instead of being left for the authority to
								 * refuse */
	const char *obstacle;		/* why the follower dropped out */
	bool		unplaced;		/* the authority has a row without identity */
} PshPair;

extern bool psh_follow_put(PshPair *pair, Relation from, TupleTableSlot *row,
						   const Datum *identity);
extern bool psh_follow_remove(PshPair *pair, const Datum *identity);
extern bool psh_follow_settle(PshPair *pair, const Datum *identity);
extern void psh_follow_count(const PshPair *pair, bool again);

#endif							/* PARTSHIFT_SETTLE_H */
