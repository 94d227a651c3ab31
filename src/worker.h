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

extern PGDLLEXPORT void partshift_worker_main(Datum arg);

#endif							/* PARTSHIFT_WORKER_H */
