/*-------------------------------------------------------------------------
 *
 * verify.c
 *	  The phase that proves that source and shadow are equal.
 *
 * Since the log was settled, every snapshot shows both tables with the same
 * rows.  Here that is checked in one of them, and what was found is recorded
 * leaf by leaf in partshift.verification, in a transaction of its own, because
 * a difference then ends the phase with an error.  Nothing is repaired: a
 * difference means that a rule of the protocol was broken, by us or by
 * somebody who wrote to the shadow, and mending would only hide it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "compare.h"
#include "differences.h"
#include "sql.h"
#include "verify.h"

/* So many identities are part of the error; the table has more. */
#define DETAIL_IDENTITIES 5

static Datum
sum_as_text(uint64 sum)
{
	return CStringGetTextDatum(psprintf(UINT64_FORMAT, sum));
}

static Datum
text_array(List *strings)
{
	Datum	   *elements = palloc(sizeof(Datum) * list_length(strings));
	int			n = 0;
	ListCell   *lc;

	foreach(lc, strings)
		elements[n++] = CStringGetTextDatum(lfirst(lc));
	return PointerGetDatum(construct_array(elements, n, TEXTOID, -1, false,
										   TYPALIGN_INT));
}

static void
record_leaf(const PshComparison *cmp, const PshCompareLeaf *leaf)
{
	Oid			types[9] = {INT4OID, TEXTOID, TEXTOID, INT8OID, INT8OID,
	TEXTOID, TEXTOID, BOOLOID, TEXTARRAYOID};
	Datum		values[9] = {0};
	char		nulls[10] = "         ";

	values[0] = Int32GetDatum(cmp->job->id);
	values[1] = CStringGetTextDatum(cmp->hashed ? "full" : "count");
	values[2] = CStringGetTextDatum(leaf->name);
	values[3] = Int64GetDatum(leaf->rows[PSH_SIDE_SOURCE]);
	values[4] = Int64GetDatum(leaf->rows[PSH_SIDE_SHADOW]);
	if (cmp->hashed)
	{
		values[5] = sum_as_text(leaf->sum[PSH_SIDE_SOURCE]);
		values[6] = sum_as_text(leaf->sum[PSH_SIDE_SHADOW]);
	}
	else
		nulls[5] = nulls[6] = 'n';
	values[7] = BoolGetDatum(leaf->equal);
	if (leaf->identities != NIL)
		values[8] = text_array(leaf->identities);
	else
		nulls[8] = 'n';
	psh_sql(SPI_OK_INSERT,
			"INSERT INTO partshift.verification (job_id, mode, leaf,"
			" source_rows, shadow_rows, source_sum, shadow_sum, equal,"
			" identities)"
			" VALUES ($1, $2, $3, $4, $5, $6::numeric, $7::numeric, $8, $9)",
			9, types, values, nulls);
}

/*
 * Replace what is recorded of the last comparison.  The pseudo leaf of rows
 * without a partition is recorded only if there are such rows.
 */
static void
record(const PshComparison *cmp)
{
	MemoryContext context = CurrentMemoryContext;
	Oid			types[1] = {INT4OID};
	Datum		values[1] = {Int32GetDatum(cmp->job->id)};
	int			i;

	psh_txn_begin("record what was compared");
	psh_sql(SPI_OK_DELETE,
			"DELETE FROM partshift.verification WHERE job_id = $1",
			1, types, values, NULL);
	for (i = 0; i < cmp->nleaves; i++)
		if (OidIsValid(cmp->leaves[i].relid) || !cmp->leaves[i].equal)
			record_leaf(cmp, &cmp->leaves[i]);
	psh_txn_commit();
	MemoryContextSwitchTo(context);
}

/*
 * Rows that have no place in the shadow are no difference that somebody has
 * made: they have an error of their own.
 */
static void
look_for_unplaced(const PshJob *job)
{
	MemoryContext context = CurrentMemoryContext;

	if (job->computed == NULL || job->reverse || job->phase == PSH_PHASE_DONE)
		return;
	psh_txn_begin("looking for rows without a partition key");
	psh_unplaced_settle(job->id);
	psh_txn_commit();
	MemoryContextSwitchTo(context);
}

/*
 * Compare, and record what was found.  The caller is in no transaction.
 */
static PshComparison *
compare(const PshJob *job, bool hashed)
{
	PshComparison *cmp;

	look_for_unplaced(job);
	cmp = psh_compare_begin(job, hashed);
	psh_compare_sums(cmp);
	if (!cmp->equal)
		psh_differences_find(cmp);
	psh_compare_end(cmp);
	record(cmp);
	return cmp;
}

static char *
some_identities(const PshCompareLeaf *leaf)
{
	StringInfoData text;
	ListCell   *lc;

	initStringInfo(&text);
	foreach(lc, leaf->identities)
	{
		if (foreach_current_index(lc) == DETAIL_IDENTITIES)
		{
			appendStringInfoString(&text, " and others");
			break;
		}
		appendStringInfo(&text, "%s%s", text.len > 0 ? ", " : "",
						 (char *) lfirst(lc));
	}
	return text.data;
}

/*
 * Raise the error that names the first leaf that differs.
 */
static void
report_difference(const PshComparison *cmp)
{
	const PshCompareLeaf *leaf = cmp->leaves;

	while (leaf->equal)
		leaf++;
	if (!OidIsValid(leaf->relid) && cmp->computed)
		ereport(ERROR,
				(errcode(ERRCODE_NOT_NULL_VIOLATION),
				 errmsg("rows of table \"%s\" have no value for partition key column \"%s\"",
						cmp->job->table_name, cmp->computed->column),
				 errdetail("There are %lld of them: %s.",
						   (long long) leaf->rows[PSH_SIDE_SOURCE],
						   some_identities(leaf)),
				 errhint("Change or delete them, and resume the conversion.")));
	if (!OidIsValid(leaf->relid))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("table \"%s\" has rows that belong to no partition",
						cmp->job->table_name),
				 errdetail("There are %lld of them: %s.",
						   (long long) leaf->rows[PSH_SIDE_SOURCE],
						   some_identities(leaf)),
				 errhint("See partshift.verification for more of them.")));
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("source and shadow of table \"%s\" differ in partition \"%s\"",
					cmp->job->table_name, leaf->name),
			 leaf->identities == NIL ?
			 errdetail("The source has %lld rows for it, and it has %lld.",
					   (long long) leaf->rows[PSH_SIDE_SOURCE],
					   (long long) leaf->rows[PSH_SIDE_SHADOW]) :
			 errdetail("The source has %lld rows for it, and it has %lld.  Rows that differ: %s.",
					   (long long) leaf->rows[PSH_SIDE_SOURCE],
					   (long long) leaf->rows[PSH_SIDE_SHADOW],
					   some_identities(leaf)),
			 errhint("See partshift.verification for all partitions that differ, then abort the conversion or verify again.")));
}

/*
 * Compare source and shadow, or new table and legacy: 'full' compares
 * contents, 'count' the numbers of rows, 'none' nothing.  Returns whether they
 * are equal; the partitions' results replace the job's earlier ones in
 * partshift.verification.  The caller is in no transaction.  Raises
 * LOCK_NOT_AVAILABLE when it had to give way to somebody's lock request.
 */
bool
psh_verify_compare(const PshJob *job, const char *mode)
{
	MemoryContext outer = CurrentMemoryContext;
	MemoryContext context;
	bool		equal;

	if (strcmp(mode, "none") == 0)
		return true;
	context = AllocSetContextCreate(outer, "partshift verification",
									ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(context);
	equal = compare(job, strcmp(mode, "full") == 0)->equal;
	MemoryContextSwitchTo(outer);
	MemoryContextDelete(context);
	return equal;
}

/*
 * Run the phase: go on when the tables are equal, else raise DATA_CORRUPTED.
 * Before a swap back rows are counted at least: partitions may have come and
 * gone since, which fires no trigger.
 */
PshStep
psh_verify_run(PshJob *job)
{
	MemoryContext context = CurrentMemoryContext;

	if (strcmp(job->verify_mode, "none") != 0 || job->reverse)
	{
		PshComparison *cmp = compare(job,
									 strcmp(job->verify_mode, "full") == 0);

		if (!cmp->equal)
			report_difference(cmp);
	}
	psh_txn_begin("finish phase verify");
	psh_job_advance(psh_job_lock(job->id), PSH_PHASE_READY);
	psh_txn_commit();
	MemoryContextSwitchTo(context);
	return PSH_STEP_FINISHED;
}
