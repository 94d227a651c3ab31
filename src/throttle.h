/*-------------------------------------------------------------------------
 *
 * throttle.h
 *	  The autovacuum cost model for our own work, and the standbys' lag.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_THROTTLE_H
#define PARTSHIFT_THROTTLE_H

#include "job.h"

extern void psh_throttle_set(const PshJob *job, int workers);
extern void psh_throttle_start(void);
extern void psh_throttle_rest(void);
extern double psh_throttle_owed(void);
extern double psh_throttle_pay(void);
extern void psh_throttle_point(void);
extern void psh_throttle_stop(void);
extern bool psh_throttle_standbys_lag(int job_id);

#endif							/* PARTSHIFT_THROTTLE_H */
