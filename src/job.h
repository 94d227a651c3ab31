/*-------------------------------------------------------------------------
 *
 * job.h
 *	  The job row, in memory and in the table.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_JOB_H
#define PARTSHIFT_JOB_H

#include "access/transam.h"
#include "nodes/pg_list.h"

#include "partshift.h"
#include "project.h"

/* The snapshot taken when the capture triggers were installed. */
typedef struct PshHorizon
{
	FullTransactionId xmin;		/* all before it had ended */
	FullTransactionId xmax;		/* all from it on had not begun */
	int			nxip;			/* ids between the two that were in progress */
	FullTransactionId *xip;		/* sorted */
	bool		overflowed;		/* xip lacks some subtransactions */
} PshHorizon;

typedef struct PshJob
{
	int			id;
	Oid			relid;			/* source, after the swap legacy */
	Oid			shadow;			/* InvalidOid before it is made */
	Oid			log;
	Oid			postponed;
	Oid			owner;
	Oid			key_index;		/* of the source */
	char	   *schema_name;
	char	   *table_name;		/* the name the application uses */
	List	   *identity;		/* of char *: key, then the rest of the
								 * partition key */
	PshComputed *computed;		/* how the source's partition key is computed,
								 * or NULL */
	PshPhase	phase;
	PshStatus	status;
	char	   *request;		/* or NULL */
	bool		swap_manual;
	bool		swap_requested;
	char	   *verify_mode;
	int			workers;
	double		cost_delay;		/* of the job; -1: the setting */
	int			cost_limit;
	bool		reverse;		/* the next swap is the way back */
	bool		reverse_sync;	/* legacy follows the new table */
	Oid			log_file;		/* the log's file that log_block counts in */
	int64		log_block;		/* first block of the log to settle */
	FullTransactionId last_reconcile_xid;
	PshHorizon	horizon;
	char	   *fingerprint;
	bool		lock_writes;	/* the source is locked instead of followed */
	int			keeper_pid;		/* who has locked it, or 0 */
} PshJob;

/* Whether the table that has the name now is to be locked until the swap. */
#define psh_job_locks(job) ((job)->lock_writes && !(job)->reverse)

extern PshJob *psh_job_load(int job_id);
extern PshJob *psh_job_read(int job_id);
extern PshJob *psh_job_lock(int job_id);
extern void psh_job_advance(const PshJob *job, PshPhase next);
extern void psh_job_fail(int job_id, const ErrorData *error);
extern const char *psh_phase_name(PshPhase phase);

#endif							/* PARTSHIFT_JOB_H */
