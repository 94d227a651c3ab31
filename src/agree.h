/*-------------------------------------------------------------------------
 *
 * agree.h
 *	  Making the shadow agree about one identity, from outside the
 *	  writers' transactions.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_AGREE_H
#define PARTSHIFT_AGREE_H

#include "table.h"

extern bool psh_agree(PshTable *source, PshTable *shadow,
					  const Datum *identity);

#endif							/* PARTSHIFT_AGREE_H */
