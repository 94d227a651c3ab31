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

extern List *psh_neighbours_list(int job_id, bool of_source);
extern bool psh_neighbours_lock(int job_id, bool of_source, List *relations,
								instr_time *since);

#endif							/* PARTSHIFT_NEIGHBOURS_H */
