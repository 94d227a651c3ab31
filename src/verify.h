/*-------------------------------------------------------------------------
 *
 * verify.h
 *	  The phase that proves that source and shadow are equal.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_VERIFY_H
#define PARTSHIFT_VERIFY_H

#include "job.h"

extern bool psh_verify_compare(const PshJob *job, const char *mode);
extern PshStep psh_verify_run(PshJob *job);

#endif							/* PARTSHIFT_VERIFY_H */
