/*-------------------------------------------------------------------------
 *
 * partshift.h
 *	  Settings, and the words that every file shares.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_H
#define PARTSHIFT_H

/* Settings; doc/partshift.md describes them. */
extern double partshift_cost_delay; /* milliseconds, -1: autovacuum's */
extern int	partshift_cost_limit;	/* -1: autovacuum's */
extern int	partshift_lock_timeout; /* milliseconds */
extern int	partshift_swap_timeout; /* milliseconds */
extern int	partshift_max_replica_lag;	/* megabytes, -1: not looked at */
extern int	partshift_maintenance_interval; /* seconds, 0: never */
extern int	partshift_backup_retention; /* minutes, -1: for ever */

/* The order is the order of the work. */
typedef enum PshPhase
{
	PSH_PHASE_PREPARE,
	PSH_PHASE_COPY,
	PSH_PHASE_INDEX,
	PSH_PHASE_MIRROR,
	PSH_PHASE_RECONCILE,
	PSH_PHASE_REWIRE,
	PSH_PHASE_VERIFY,
	PSH_PHASE_READY,
	PSH_PHASE_SWAP,
	PSH_PHASE_DONE
} PshPhase;

typedef enum PshStatus
{
	PSH_STATUS_ACTIVE,
	PSH_STATUS_PAUSED,
	PSH_STATUS_FAILED,
	PSH_STATUS_ABORTED,
	PSH_STATUS_ROLLED_BACK,
	PSH_STATUS_FINALIZED
} PshStatus;

/* What a step of a phase asks of the worker that ran it. */
typedef enum PshStep
{
	PSH_STEP_AGAIN,				/* there may be more to do now */
	PSH_STEP_REST,				/* others hold what is left: try later */
	PSH_STEP_FINISHED			/* nothing left to do in this phase */
} PshStep;

#endif							/* PARTSHIFT_H */
