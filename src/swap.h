/*-------------------------------------------------------------------------
 *
 * swap.h
 *	  The exchange of the two tables, and the ends of a conversion.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_SWAP_H
#define PARTSHIFT_SWAP_H

#include "job.h"

extern PshStep psh_swap_run(PshJob *job);
extern void psh_swap_report(const PshJob *job);

#endif							/* PARTSHIFT_SWAP_H */
