/*-------------------------------------------------------------------------
 *
 * copy.h
 *	  Copying the rows that were there when capture began.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_COPY_H
#define PARTSHIFT_COPY_H

#include "nodes/pg_list.h"

#include "job.h"

extern int64 psh_copy_make_tasks(const PshJob *job, List *heaps);
extern PshStep psh_copy_run(int job_id);

#endif							/* PARTSHIFT_COPY_H */
