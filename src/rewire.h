/*-------------------------------------------------------------------------
 *
 * rewire.h
 *	  The phase rewire: foreign keys of the table that gets the name next.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_REWIRE_H
#define PARTSHIFT_REWIRE_H

#include "job.h"

extern PshStep psh_rewire_extend(PshJob *job);
extern PshStep psh_rewire_prepare(PshJob *job);
extern PshStep psh_rewire_run(PshJob *job);

#endif							/* PARTSHIFT_REWIRE_H */
