/*-------------------------------------------------------------------------
 *
 * labels.h
 *	  Making one table's security labels those of another.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_LABELS_H
#define PARTSHIFT_LABELS_H

extern void psh_labels_copy(Oid from, Oid to);

#endif							/* PARTSHIFT_LABELS_H */
