/*-------------------------------------------------------------------------
 *
 * launch.h
 *	  Starting the processes of a conversion.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_LAUNCH_H
#define PARTSHIFT_LAUNCH_H

#include "access/transam.h"
#include "datatype/timestamp.h"
#include "postmaster/bgworker.h"

typedef enum PshRole
{
	PSH_ROLE_LEADER,			/* drives a job through its phases */
	PSH_ROLE_HELPER,			/* takes tasks of one phase */
	PSH_ROLE_RESUMER,			/* starts a leader for each unfinished job */
	PSH_ROLE_KEEPER,			/* keeps writers from the source */
	PSH_ROLE_MAINTAINER			/* maintains partitions and backups */
} PshRole;

/* What a process is told at its start. */
typedef struct PshOrder
{
	Oid			database;
	PshRole		role;
	int			job_id;
	int			number;			/* of a helper, from 1; of a keeper the
								 * leader's process */
	TransactionId caller;		/* begin when it has ended */

	/* Of a maintainer. */
	bool		partitions;		/* sees to managed tables */
	bool		backups;		/* drops those that have expired */
	Oid			relid;			/* the only table, or InvalidOid */
	Oid			requester;		/* InvalidOid: the extension's owner */
	TransactionId waiting;		/* of whoever waits for the end, if anybody */
	int64		run;			/* number in the log, 0: take the next */
	TimestampTz moment;			/* for now, 0: the clock's */
} PshOrder;

extern bool psh_launch(const PshOrder *order, BackgroundWorkerHandle **handle);
extern void psh_launch_leader(int job_id);
extern void psh_launch_register_launcher(void);

#endif							/* PARTSHIFT_LAUNCH_H */
