/*-------------------------------------------------------------------------
 *
 * copy.h
 *	  Copying the rows that were there when capture began.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_COPY_H
#define PARTSHIFT_COPY_H

#include "partshift.h"

extern void psh_copy_make_tasks(int job_id, int64 nblocks, int workers);
extern PshStep psh_copy_run(int job_id);

#endif							/* PARTSHIFT_COPY_H */
