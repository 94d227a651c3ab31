/*-------------------------------------------------------------------------
 *
 * maintain.h
 *	  Maintenance of partitions, in a worker.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_MAINTAIN_H
#define PARTSHIFT_MAINTAIN_H

#include "launch.h"

extern void psh_maintain(const PshOrder *what);

#endif							/* PARTSHIFT_MAINTAIN_H */
