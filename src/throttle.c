/*-------------------------------------------------------------------------
 *
 * throttle.c
 *	  The autovacuum cost model for our own work, and the standbys' lag.
 *
 * The buffer manager adds up the cost of pages hit, missed and dirtied while
 * VacuumCostActive is set.  VACUUM sleeps for its delay when the balance
 * passes the limit, wherever it is.  A batch must not sleep with its locks
 * held: it asks what it owes (psh_throttle_owed), ends, and pays between two
 * transactions.  The rate is the same: delay x balance / limit, times the
 * number of workers among which autovacuum would divide the limit.
 *
 * The settings are the job's, else partshift's, else autovacuum's, else
 * VACUUM's; -1 stands for the next.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/autovacuum.h"
#include "storage/latch.h"
#include "utils/timestamp.h"

#include "partshift.h"
#include "sql.h"
#include "throttle.h"

#define LONGEST_NAP 1000.0		/* milliseconds */
#define LAG_INTERVAL 1000		/* milliseconds between two looks */

static double delay;
static int	limit = 1;
static int	sharers = 1;

static double
delay_for(const PshJob *job)
{
	if (job->cost_delay >= 0)
		return job->cost_delay;
	if (partshift_cost_delay >= 0)
		return partshift_cost_delay;
	if (autovacuum_vac_cost_delay >= 0)
		return autovacuum_vac_cost_delay;
	return VacuumCostDelay;
}

static int
limit_for(const PshJob *job)
{
	if (job->cost_limit > 0)
		return job->cost_limit;
	if (partshift_cost_limit > 0)
		return partshift_cost_limit;
	if (autovacuum_vac_cost_limit > 0)
		return autovacuum_vac_cost_limit;
	return VacuumCostLimit;
}

/*
 * Take over the job's present settings, as one of `workers` that do the same
 * work.  What is owed already stays owed, at the new rate.
 */
void
psh_throttle_set(const PshJob *job, int workers)
{
	delay = delay_for(job);
	limit = Max(limit_for(job), 1);
	sharers = Max(workers, 1);
	if (delay <= 0)
		VacuumCostBalance = 0;
}

/*
 * Count the cost of what this process does from now on.
 */
void
psh_throttle_start(void)
{
	VacuumCostActive = delay > 0;
}

/*
 * Count no longer.  What is owed stays owed: what is done to keep the books
 * must not add to it, or a debt at a low rate would never be paid.
 */
void
psh_throttle_rest(void)
{
	VacuumCostActive = false;
}

/*
 * How long to sleep for what was done since the last payment, milliseconds.
 */
double
psh_throttle_owed(void)
{
	return delay * VacuumCostBalance / limit * sharers;
}

/*
 * Sleep for what is owed, a second at most, and return how long that was, in
 * milliseconds.  The rest stays owed, so that the caller can look whether the
 * settings have changed; less than a millisecond too: no sleep is so short.
 */
double
psh_throttle_pay(void)
{
	double		owed = psh_throttle_owed();
	double		nap = Min(owed, LONGEST_NAP);

	if (owed < 1)
		return 0;
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 (long) nap, WAIT_EVENT_VACUUM_DELAY);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	VacuumCostBalance -= (int) (VacuumCostBalance * (nap / owed));
	return nap;
}

/*
 * For work that is one long scan: sleep here when the balance is due.
 */
void
psh_throttle_point(void)
{
	CHECK_FOR_INTERRUPTS();
	if (VacuumCostActive && VacuumCostBalance >= limit)
		while (psh_throttle_pay() > 0)
			;
}

/*
 * Count no longer, and forget what is owed.
 */
void
psh_throttle_stop(void)
{
	VacuumCostActive = false;
	VacuumCostBalance = 0;
}

/*
 * Whether some standby lags behind by more than partshift.max_replica_lag.
 * Looks once a second at most and records what it saw on the job.  Called
 * outside a transaction.
 */
bool
psh_throttle_standbys_lag(int job_id)
{
	static TimestampTz last_look = 0;
	static bool lagging = false;
	TimestampTz now = GetCurrentTimestamp();
	Oid			types[2] = {INT4OID, INT8OID};
	Datum		values[2];
	bool		isnull;

	if (partshift_max_replica_lag < 0)
		return false;
	if (!TimestampDifferenceExceeds(last_look, now, LAG_INTERVAL))
		return lagging;
	last_look = now;

	psh_txn_begin("looking at the standbys");
	psh_sql(SPI_OK_SELECT,
			"SELECT coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(),"
			" coalesce(replay_lsn, sent_lsn))), 0)::bigint"
			" FROM pg_catalog.pg_stat_replication"
			" WHERE state IN ('streaming', 'catchup')",
			0, NULL, NULL, NULL);
	values[0] = Int32GetDatum(job_id);
	values[1] = psh_sql_value(0, 1, &isnull);
	lagging = DatumGetInt64(values[1]) >
		(int64) partshift_max_replica_lag * 1024 * 1024;
	psh_sql(SPI_OK_UPDATE,
			"UPDATE partshift.job SET replica_lag = $2 WHERE job_id = $1"
			" AND (replica_lag > 0 OR $2 > 0)",
			2, types, values, NULL);
	psh_txn_commit();
	return lagging;
}
