/*-------------------------------------------------------------------------
 *
 * parallel.h
 *	  Source and shadow compared by several processes in one snapshot.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_PARALLEL_H
#define PARTSHIFT_PARALLEL_H

#include "access/parallel.h"

#include "compare.h"

extern bool psh_parallel_sums(PshComparison *cmp);

extern PGDLLEXPORT void psh_parallel_help(dsm_segment *seg, shm_toc *toc);

#endif							/* PARTSHIFT_PARALLEL_H */
