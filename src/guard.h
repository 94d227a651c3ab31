/*-------------------------------------------------------------------------
 *
 * guard.h
 *	  Refusing DDL that a conversion could not survive.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_GUARD_H
#define PARTSHIFT_GUARD_H

#include "nodes/pg_list.h"

extern void psh_guard_check_drop(Oid extension);
extern void psh_guard_check_reassign(List *roles);

#endif							/* PARTSHIFT_GUARD_H */
