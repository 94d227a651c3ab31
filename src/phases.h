/*-------------------------------------------------------------------------
 *
 * phases.h
 *	  Which step comes next.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_PHASES_H
#define PARTSHIFT_PHASES_H

#include "partshift.h"

extern PshStep psh_phases_lead(int job_id);
extern PshStep psh_phases_help(int job_id, int number);

#endif							/* PARTSHIFT_PHASES_H */
