/*-------------------------------------------------------------------------
 *
 * default_leaf.h
 *	  Dropping the DEFAULT partition that a conversion needed, when empty.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_DEFAULT_LEAF_H
#define PARTSHIFT_DEFAULT_LEAF_H

extern bool psh_default_leaf_empty(Oid leaf);
extern void psh_default_leaf_drop(Oid leaf);

#endif							/* PARTSHIFT_DEFAULT_LEAF_H */
