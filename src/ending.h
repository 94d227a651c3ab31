/*-------------------------------------------------------------------------
 *
 * ending.h
 *	  The ways a conversion ends: finalized, rolled back, aborted.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_ENDING_H
#define PARTSHIFT_ENDING_H

#include "job.h"

extern PshStep psh_ending_finalize(PshJob *job);
extern PshStep psh_ending_drop_new(PshJob *job);
extern PshStep psh_ending_abort(PshJob *job);

#endif							/* PARTSHIFT_ENDING_H */
