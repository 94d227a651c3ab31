/*-------------------------------------------------------------------------
 *
 * vacuum.h
 *	  VACUUM and ANALYZE of the new tables, run by workers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_VACUUM_H
#define PARTSHIFT_VACUUM_H

#include "job.h"

extern PshStep psh_vacuum_leaf(const PshJob *job, Oid leaf);
extern void psh_vacuum_analyze(Oid relid);

#endif							/* PARTSHIFT_VACUUM_H */
