/*-------------------------------------------------------------------------
 *
 * keeper.h
 *	  Keeping writers from a source that has no triggers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_KEEPER_H
#define PARTSHIFT_KEEPER_H

#include "job.h"

extern PshStep psh_keeper_run(int job_id, int leader_pid);

extern bool psh_keeper_start(const PshJob *job);
extern bool psh_keeper_is_lost(const PshJob *job);
extern bool psh_keeper_holds(const PshJob *job);
extern PshStep psh_keeper_lost(const PshJob *job);
extern void psh_keeper_break_circles(const PshJob *job);
extern void psh_keeper_stop(void);

#endif							/* PARTSHIFT_KEEPER_H */
