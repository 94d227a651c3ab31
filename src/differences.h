/*-------------------------------------------------------------------------
 *
 * differences.h
 *	  Which rows of two tables differ.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_DIFFERENCES_H
#define PARTSHIFT_DIFFERENCES_H

#include "compare.h"

extern void psh_differences_find(PshComparison *cmp);

#endif							/* PARTSHIFT_DIFFERENCES_H */
