/*-------------------------------------------------------------------------
 *
 * index.h
 *	  The index phase: every index of the source, leaf by leaf.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_INDEX_H
#define PARTSHIFT_INDEX_H

#include "job.h"

extern PshStep psh_index_prepare(PshJob *job);
extern PshStep psh_index_build(PshJob *job);
extern PshStep psh_index_finish(PshJob *job);

#endif							/* PARTSHIFT_INDEX_H */
