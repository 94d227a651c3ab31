/*-------------------------------------------------------------------------
 *
 * duplicate.h
 *	  Whether a row that was written to a follower is one too many there.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_DUPLICATE_H
#define PARTSHIFT_DUPLICATE_H

#include "table.h"

extern bool psh_duplicate_stays(PshTable *authority, PshLeaf *leaf,
								Relation from);

#endif							/* PARTSHIFT_DUPLICATE_H */
