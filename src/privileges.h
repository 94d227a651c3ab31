/*-------------------------------------------------------------------------
 *
 * privileges.h
 *	  Making one table's privileges those of another.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_PRIVILEGES_H
#define PARTSHIFT_PRIVILEGES_H

extern void psh_privileges_copy(Oid from, Oid to);

#endif							/* PARTSHIFT_PRIVILEGES_H */
