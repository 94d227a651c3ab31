/*-------------------------------------------------------------------------
 *
 * horizon.c
 *	  Which rows of the source were committed before capture began.
 *
 * The transaction that installs the capture triggers holds SHARE ROW
 * EXCLUSIVE on the source, so that no transaction in progress has written to
 * it.  The snapshot it takes under that lock divides all transaction ids in
 * two: those that had ended, whose rows the copy takes, and those that had
 * not, whose every write to the source fires the triggers.  An id in progress
 * in that snapshot has not written to the source yet: it is new.
 *
 * Ids are kept as 64 bits, since a conversion may outlive a wraparound.  A
 * tuple holds 32 of them; they are widened by the next id at the time of the
 * batch, which is right for every tuple that is not frozen.  A frozen one may
 * be older than the widening can express, hence PSH_UNSURE.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/snapmgr.h"
#include "utils/xid8.h"

#include "horizon.h"
#include "sql.h"

static FullTransactionId
widen(TransactionId xid, FullTransactionId next)
{
	uint32		epoch = EpochFromFullTransactionId(next);

	if (xid > XidFromFullTransactionId(next))
		epoch--;
	return FullTransactionIdFromEpochAndXid(epoch, xid);
}

static int
compare_xids(const void *a, const void *b)
{
	FullTransactionId x = *(const FullTransactionId *) a;
	FullTransactionId y = *(const FullTransactionId *) b;

	if (FullTransactionIdPrecedes(x, y))
		return -1;
	return FullTransactionIdEquals(x, y) ? 0 : 1;
}

/*
 * Take the horizon and write it into the job's row.  The caller holds SHARE
 * ROW EXCLUSIVE on the source and has installed the capture triggers in this
 * transaction.
 */
void
psh_horizon_store(int job_id)
{
	Snapshot	snapshot = GetLatestSnapshot();
	FullTransactionId next = ReadNextFullTransactionId();
	int			nsub = snapshot->suboverflowed ? 0 : snapshot->subxcnt;
	int			n = snapshot->xcnt + nsub;
	FullTransactionId *xip = palloc(sizeof(FullTransactionId) * Max(n, 1));
	Datum	   *elements = palloc(sizeof(Datum) * Max(n, 1));
	Oid			types[5] = {INT4OID, XID8OID, XID8OID, XID8ARRAYOID, BOOLOID};
	Datum		values[5];
	int			i;

	for (i = 0; i < n; i++)
		xip[i] = widen(i < snapshot->xcnt ? snapshot->xip[i] :
					   snapshot->subxip[i - snapshot->xcnt], next);
	qsort(xip, n, sizeof(FullTransactionId), compare_xids);
	for (i = 0; i < n; i++)
		elements[i] = FullTransactionIdGetDatum(xip[i]);

	values[0] = Int32GetDatum(job_id);
	values[1] = FullTransactionIdGetDatum(widen(snapshot->xmin, next));
	values[2] = FullTransactionIdGetDatum(widen(snapshot->xmax, next));
	values[3] = PointerGetDatum(construct_array(elements, n, XID8OID, 8,
												FLOAT8PASSBYVAL,
												TYPALIGN_DOUBLE));
	values[4] = BoolGetDatum(snapshot->suboverflowed);
	psh_sql(SPI_OK_UPDATE,
			"UPDATE partshift.job SET horizon_xmin = $2, horizon_xmax = $3,"
			" horizon_xip = $4, horizon_overflowed = $5 WHERE job_id = $1",
			5, types, values, NULL);
}

/*
 * The age of a visible tuple of the source.  `next` is the next transaction
 * id, read after the snapshot that sees the tuple was taken.
 */
PshAge
psh_horizon_age(const PshHorizon *horizon, FullTransactionId next,
				HeapTupleHeader tuple)
{
	TransactionId raw = HeapTupleHeaderGetRawXmin(tuple);
	FullTransactionId xmin;

	if (!TransactionIdIsNormal(raw))
		return PSH_OLD;
	xmin = widen(raw, next);
	if (FullTransactionIdPrecedes(xmin, horizon->xmin))
		return PSH_OLD;
	if (HeapTupleHeaderXminFrozen(tuple))
		return PSH_UNSURE;
	if (FullTransactionIdFollowsOrEquals(xmin, horizon->xmax))
		return PSH_NEW;
	if (bsearch(&xmin, horizon->xip, horizon->nxip,
				sizeof(FullTransactionId), compare_xids) != NULL)
		return PSH_NEW;
	return horizon->overflowed ? PSH_UNSURE : PSH_OLD;
}
