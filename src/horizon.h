/*-------------------------------------------------------------------------
 *
 * horizon.h
 *	  Which rows of the source were committed before capture began.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_HORIZON_H
#define PARTSHIFT_HORIZON_H

#include "access/htup.h"

#include "job.h"

typedef enum PshAge
{
	PSH_OLD,					/* committed before capture began: copy it */
	PSH_NEW,					/* its writer was captured: skip it */
	PSH_UNSURE					/* cannot be told: let reconcile look */
} PshAge;

extern void psh_horizon_store(int job_id);
extern PshAge psh_horizon_age(const PshHorizon *horizon,
							  FullTransactionId next, HeapTupleHeader tuple);

#endif							/* PARTSHIFT_HORIZON_H */
