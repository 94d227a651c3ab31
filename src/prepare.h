/*-------------------------------------------------------------------------
 *
 * prepare.h
 *	  Making the shadow, and the two moments at which triggers change.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_PREPARE_H
#define PARTSHIFT_PREPARE_H

#include "partshift.h"

extern PshStep psh_prepare_run(const PshJob *job);
extern PshStep psh_prepare_mirror(int job_id);
extern bool psh_prepare_restart_if_moved(int job_id);

#endif							/* PARTSHIFT_PREPARE_H */
