/*-------------------------------------------------------------------------
 *
 * labels.c
 *	  A provider of security labels, "paper", for tests.
 *
 * It takes any label but "forged", and says in the log whom it was asked by;
 * so a test sees whether a label of a table's owner was judged as if a
 * superuser had given it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/seclabel.h"
#include "fmgr.h"
#include "miscadmin.h"

PG_MODULE_MAGIC;

void		_PG_init(void);

static void
judge(const ObjectAddress *object, const char *label)
{
	ereport(LOG,
			(errmsg("label \"%s\" given by role %u", label ? label : "(none)",
					GetUserId())));
	if (label && strcmp(label, "forged") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("\"%s\" is not a valid label", label)));
}

void
_PG_init(void)
{
	register_label_provider("paper", judge);
}
