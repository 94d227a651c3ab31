/*-------------------------------------------------------------------------
 *
 * move.h
 *	  Rows that leave the DEFAULT partition for a new one.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_MOVE_H
#define PARTSHIFT_MOVE_H

extern int64 psh_move_rows(Oid from, Oid to, const char *column,
						   const char *lower, const char *upper, int limit);

#endif							/* PARTSHIFT_MOVE_H */
