/*-------------------------------------------------------------------------
 *
 * worker.h
 *	  The background processes of a conversion.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_WORKER_H
#define PARTSHIFT_WORKER_H

#include "fmgr.h"
#include "utils/elog.h"
#include "utils/palloc.h"

extern PGDLLEXPORT void partshift_worker_main(Datum arg);

extern void psh_worker_nap(long milliseconds);
extern bool psh_worker_may_retry(const ErrorData *error);
extern ErrorData *psh_worker_recover(MemoryContext context);

#endif							/* PARTSHIFT_WORKER_H */
