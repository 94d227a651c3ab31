/*-------------------------------------------------------------------------
 *
 * partshift.c
 *	  The library's entry point and its settings.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/guc.h"

#include "hooks.h"
#include "launch.h"
#include "partshift.h"

PG_MODULE_MAGIC;

double		partshift_cost_delay = -1;
int			partshift_cost_limit = -1;
int			partshift_lock_timeout = 200;
int			partshift_swap_timeout = 3600000;
int			partshift_max_replica_lag = 1024;
int			partshift_maintenance_interval = 0;
int			partshift_backup_retention = 7 * 24 * 60;

extern PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
	DefineCustomRealVariable("partshift.cost_delay",
							 "Sets how long a conversion sleeps when its cost limit is reached.",
							 "-1 uses autovacuum's setting.",
							 &partshift_cost_delay,
							 -1, -1, 100, PGC_SIGHUP, GUC_UNIT_MS,
							 NULL, NULL, NULL);
	DefineCustomIntVariable("partshift.cost_limit",
							"Sets the cost that a conversion may accumulate before it sleeps.",
							"-1 uses autovacuum's setting.",
							&partshift_cost_limit,
							-1, -1, 10000, PGC_SIGHUP, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("partshift.lock_timeout",
							"Sets how long one try for a lock may keep others waiting behind it.",
							NULL,
							&partshift_lock_timeout,
							200, 1, INT_MAX, PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("partshift.swap_timeout",
							"Sets how long the swap waits for old snapshots to go.",
							"0 waits for ever.",
							&partshift_swap_timeout,
							3600000, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("partshift.max_replica_lag",
							"Sets the lag of a standby at which a conversion pauses.",
							"-1 does not look at standbys.",
							&partshift_max_replica_lag,
							1024, -1, INT_MAX, PGC_SIGHUP, GUC_UNIT_MB,
							NULL, NULL, NULL);
	DefineCustomIntVariable("partshift.maintenance_interval",
							"Sets how often managed tables and backups are maintained where the library is preloaded.",
							"0 leaves it to others.",
							&partshift_maintenance_interval,
							0, 0, INT_MAX / 1000, PGC_SIGHUP, GUC_UNIT_S,
							NULL, NULL, NULL);
	DefineCustomIntVariable("partshift.backup_retention",
							"Sets how long the old table of a finalized conversion is kept.",
							"-1 keeps it for ever.",
							&partshift_backup_retention,
							7 * 24 * 60, -1, INT_MAX, PGC_SIGHUP, GUC_UNIT_MIN,
							NULL, NULL, NULL);
	MarkGUCPrefixReserved("partshift");
	psh_hooks_install();

	if (process_shared_preload_libraries_in_progress)
		psh_launch_register_launcher();
}
