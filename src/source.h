/*-------------------------------------------------------------------------
 *
 * source.h
 *	  The tables that the source's rows are in.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_SOURCE_H
#define PARTSHIFT_SOURCE_H

#include "nodes/pg_list.h"
#include "storage/lockdefs.h"

#include "job.h"

extern List *psh_source_heaps(Oid relid);
extern Oid	psh_source_root(Oid relid);
extern List *psh_source_lock(Oid relid, LOCKMODE lockmode);
extern int64 psh_source_blocks(Oid relid);
extern bool psh_source_has_moved(const PshJob *job, LOCKMODE lockmode);
extern List *psh_source_planned(const PshJob *job, const char *which);

#endif							/* PARTSHIFT_SOURCE_H */
