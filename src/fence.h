/*-------------------------------------------------------------------------
 *
 * fence.h
 *	  What the code of a table's owner may not do in our processes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_FENCE_H
#define PARTSHIFT_FENCE_H

extern void psh_fence_install(void);
extern void psh_fence_expect(bool command);

#endif							/* PARTSHIFT_FENCE_H */
