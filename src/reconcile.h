/*-------------------------------------------------------------------------
 *
 * reconcile.h
 *	  Settling every identity that was touched while rows were copied.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_RECONCILE_H
#define PARTSHIFT_RECONCILE_H

#include "partshift.h"

extern PshStep psh_reconcile_run(int job_id);

#endif							/* PARTSHIFT_RECONCILE_H */
