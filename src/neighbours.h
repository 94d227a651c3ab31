/*-------------------------------------------------------------------------
 *
 * neighbours.h
 *	  The tables that a swap or an abort changes, and locking them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_NEIGHBOURS_H
#define PARTSHIFT_NEIGHBOURS_H

#include "nodes/pg_list.h"
#include "portability/instr_time.h"
#include "storage/lockdefs.h"

extern void psh_neighbours_lock_one(Oid relid, LOCKMODE lockmode,
									instr_time *since, int limit);
extern List *psh_neighbours_list(int job_id, bool of_source);
extern bool psh_neighbours_lock(int job_id, bool of_source, List *relations,
								instr_time *since);

#endif							/* PARTSHIFT_NEIGHBOURS_H */
