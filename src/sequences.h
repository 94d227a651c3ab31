/*-------------------------------------------------------------------------
 *
 * sequences.h
 *	  Exchanging the sequences that belong to columns of two tables.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_SEQUENCES_H
#define PARTSHIFT_SEQUENCES_H

extern void psh_sequences_exchange(Oid a, Oid b);

#endif							/* PARTSHIFT_SEQUENCES_H */
