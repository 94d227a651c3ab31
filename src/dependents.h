/*-------------------------------------------------------------------------
 *
 * dependents.h
 *	  Views and the like, which are made to mean the other table.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_DEPENDENTS_H
#define PARTSHIFT_DEPENDENTS_H

#include "job.h"
#include "nodes/pg_list.h"

extern void psh_dependents_check(const PshJob *job);
extern List *psh_dependents_read(const PshJob *job);
extern void psh_dependents_redefine(List *definitions);

#endif							/* PARTSHIFT_DEPENDENTS_H */
