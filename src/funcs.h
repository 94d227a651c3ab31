/*-------------------------------------------------------------------------
 *
 * funcs.h
 *	  Who may give orders to a job, for the other functions of the interface.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_FUNCS_H
#define PARTSHIFT_FUNCS_H

#include "job.h"

extern char *psh_funcs_follow_obstacle(int job_id);
extern PshJob *psh_funcs_owned_job(int job_id);

#endif							/* PARTSHIFT_FUNCS_H */
