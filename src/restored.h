/*-------------------------------------------------------------------------
 *
 * restored.h
 *	  What a restored dump brings of conversions that are not here.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_RESTORED_H
#define PARTSHIFT_RESTORED_H

extern void psh_restored_discard(void);

#endif							/* PARTSHIFT_RESTORED_H */
