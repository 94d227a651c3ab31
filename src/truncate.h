/*-------------------------------------------------------------------------
 *
 * truncate.h
 *	  What TRUNCATE of one table means for the table that follows it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_TRUNCATE_H
#define PARTSHIFT_TRUNCATE_H

#include "settle.h"

extern void psh_truncate_all(Oid relid);
extern void psh_truncate_part(PshTable *source, Relation part, Oid shadow);
extern void psh_truncate_mend(PshPair *pair, Relation heap);

#endif							/* PARTSHIFT_TRUNCATE_H */
