/*-------------------------------------------------------------------------
 *
 * rowhash.h
 *	  A 64-bit hash of the values of a row.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_ROWHASH_H
#define PARTSHIFT_ROWHASH_H

#include "executor/tuptable.h"
#include "nodes/pg_list.h"
#include "utils/relcache.h"

typedef struct PshRowHash PshRowHash;

extern List *psh_rowhash_columns(Relation rel);
extern PshRowHash *psh_rowhash_make(Relation rel, List *columns);
extern uint64 psh_rowhash(PshRowHash *hash, TupleTableSlot *slot);

#endif							/* PARTSHIFT_ROWHASH_H */
