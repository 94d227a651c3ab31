/*-------------------------------------------------------------------------
 *
 * noop_trigger.c
 *	  A trigger that does nothing: what any trigger in C costs at least.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(noop_trigger);

Datum
noop_trigger(PG_FUNCTION_ARGS)
{
	return PointerGetDatum(NULL);
}
