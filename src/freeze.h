/*-------------------------------------------------------------------------
 *
 * freeze.h
 *	  Making the rows of a leaf visible to every snapshot.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_FREEZE_H
#define PARTSHIFT_FREEZE_H

extern void psh_freeze_leaf(Oid relid);

#endif							/* PARTSHIFT_FREEZE_H */
