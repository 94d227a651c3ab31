/*-------------------------------------------------------------------------
 *
 * snapshots.h
 *	  Waiting for snapshots that are older than the end of reconcile.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_SNAPSHOTS_H
#define PARTSHIFT_SNAPSHOTS_H

#include "job.h"

extern PshStep psh_snapshots_wait(const PshJob *job);
extern bool psh_snapshots_gone(const PshJob *job, int milliseconds);

#endif							/* PARTSHIFT_SNAPSHOTS_H */
