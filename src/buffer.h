/*-------------------------------------------------------------------------
 *
 * buffer.h
 *	  Rows on their way into leaves, kept until there are enough.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_BUFFER_H
#define PARTSHIFT_BUFFER_H

#include "access/htup.h"

#include "route.h"

typedef struct PshBuffers PshBuffers;

extern PshBuffers *psh_buffers_make(Relation source, PshRoute *route);
extern void psh_buffers_add(PshBuffers *buffers, int i, HeapTuple tuple,
							TupleTableSlot *slot);
extern void psh_buffers_flush(PshBuffers *buffers);

#endif							/* PARTSHIFT_BUFFER_H */
