/*-------------------------------------------------------------------------
 *
 * forecast.c
 *	  What the plan of a conversion measures: where rows will go, how much
 *	  room there is, how fast rows are copied here.
 *
 * All of it is internal, called by the SQL functions of 39_forecast.sql.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/stat.h>
#include <sys/statvfs.h>

#include "access/heapam.h"
#include "access/hio.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/catalog.h"
#include "catalog/partition.h"
#include "catalog/pg_tablespace.h"
#include "commands/cluster.h"
#include "common/hashfn.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "portability/instr_time.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/typcache.h"

PG_FUNCTION_INFO_V1(partshift_hash_remainder);
PG_FUNCTION_INFO_V1(partshift_free_space);
PG_FUNCTION_INFO_V1(partshift_calibrate);

#define SAMPLES 8				/* places in the table */
#define SAMPLE_BLOCKS 32		/* at each */
#define SAMPLE_MS 150.0			/* for reading, and again for copying */
#define SLOTS 200				/* rows inserted at once */

/*
 * hash_remainder(modulus integer, VARIADIC "any") returns integer: the
 * partition of a row in a table partitioned by hash of these values, with the
 * default operator classes of their types.
 */
Datum
partshift_hash_remainder(PG_FUNCTION_ARGS)
{
	uint64		modulus = (uint64) PG_GETARG_INT32(0);
	uint64		row_hash = 0;
	Node	   *call = fcinfo->flinfo->fn_expr;
	int			i;

	if (PG_ARGISNULL(0) || modulus < 1 || call == NULL ||
		!IsA(call, FuncExpr))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("modulus is missing")));
	for (i = 1; i < PG_NARGS(); i++)
	{
		Node	   *arg = list_nth(((FuncExpr *) call)->args, i);
		Oid			type = getBaseType(exprType(arg));
		TypeCacheEntry *entry = lookup_type_cache(type,
												  TYPECACHE_HASH_EXTENDED_PROC_FINFO);

		if (PG_ARGISNULL(i))
			continue;
		if (!OidIsValid(entry->hash_extended_proc_finfo.fn_oid))
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_FUNCTION),
					 errmsg("could not identify an extended hash function for type %s",
							format_type_be(type))));
		row_hash = hash_combine64(row_hash,
								  DatumGetUInt64(FunctionCall2Coll(&entry->hash_extended_proc_finfo,
																   exprCollation(arg),
																   PG_GETARG_DATUM(i),
																   UInt64GetDatum(HASH_PARTITION_SEED))));
	}
	PG_RETURN_INT32((int32) (row_hash % modulus));
}

/* Where the files of a tablespace are, from the data directory. */
static char *
tablespace_path(Oid tablespace)
{
	if (tablespace == InvalidOid)
		tablespace = MyDatabaseTableSpace;
	if (tablespace == DEFAULTTABLESPACE_OID)
		return pstrdup("base");
	return psprintf("pg_tblspc/%u", tablespace);
}

/* Bytes that the server's user may still write; false when it is not told. */
static bool
free_at(const char *path, int64 *bytes)
{
	struct statvfs space;

	if (statvfs(path, &space) != 0)
		return false;
	*bytes = (int64) space.f_bavail * (int64) space.f_frsize;
	return true;
}

/*
 * free_space(tablespace oid, OUT bytes bigint, OUT wal_bytes bigint,
 * OUT one_disk boolean): what is free where the tablespace and the WAL are.
 */
Datum
partshift_free_space(PG_FUNCTION_ARGS)
{
	char	   *path = tablespace_path(PG_GETARG_OID(0));
	TupleDesc	desc;
	Datum		values[3];
	bool		nulls[3];
	int64		bytes = 0;
	int64		wal_bytes = 0;
	struct stat a;
	struct stat b;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	nulls[0] = !free_at(path, &bytes);
	nulls[1] = !free_at("pg_wal", &wal_bytes);
	nulls[2] = stat(path, &a) != 0 || stat("pg_wal", &b) != 0;
	values[0] = Int64GetDatum(bytes);
	values[1] = Int64GetDatum(wal_bytes);
	values[2] = BoolGetDatum(!nulls[2] && a.st_dev == b.st_dev);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc),
													  values, nulls)));
}

/* One pass over the sample. */
typedef struct Pass
{
	Relation	target;			/* NULL to read only */
	TupleTableSlot **slots;
	int			nslots;
	BulkInsertState bulk;
	instr_time	start;
	BlockNumber blocks;
	int64		rows;
	int64		bytes;
	int64		cost;
	double		ms;
} Pass;

static double
elapsed(const Pass *pass)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, pass->start);
	return INSTR_TIME_GET_MILLISEC(now);
}

static void
insert_slots(Pass *pass)
{
	int			i;

	if (pass->nslots == 0)
		return;
	table_multi_insert(pass->target, pass->slots, pass->nslots,
					   GetCurrentCommandId(true), TABLE_INSERT_SKIP_FSM,
					   pass->bulk);
	for (i = 0; i < pass->nslots; i++)
		ExecClearTuple(pass->slots[i]);
	pass->nslots = 0;
}

static void
copy_tuple(Pass *pass, HeapTuple tuple)
{
	if (pass->slots[pass->nslots] == NULL)
		pass->slots[pass->nslots] =
			MakeSingleTupleTableSlot(RelationGetDescr(pass->target),
									 &TTSOpsHeapTuple);
	ExecForceStoreHeapTuple(heap_copytuple(tuple), pass->slots[pass->nslots],
							true);
	if (++pass->nslots == SLOTS)
		insert_slots(pass);
}

static void
scan_place(Pass *pass, Relation source, BlockNumber first, BlockNumber n)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(source),
													&TTSOpsHeapTuple);
	TableScanDesc scan = table_beginscan_strat(source, GetActiveSnapshot(), 0,
											   NULL, true, false);
	HeapTuple	tuple;

	heap_setscanlimits(scan, first, n);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		ExecStoreHeapTuple(tuple, slot, false);
		slot_getallattrs(slot);
		pass->rows++;
		pass->bytes += tuple->t_len;
		if (pass->target)
			copy_tuple(pass, tuple);
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	pass->blocks += n;
}

/* Read the sample, and copy it if there is a target, until the time is up. */
static void
run_pass(Pass *pass, Relation source)
{
	BlockNumber nblocks = RelationGetNumberOfBlocks(source);
	BlockNumber stride = nblocks / SAMPLES;

	if (pass->target)
	{
		pass->slots = palloc0(sizeof(TupleTableSlot *) * SLOTS);
		pass->bulk = GetBulkInsertState();
	}
	VacuumCostBalance = 0;
	INSTR_TIME_SET_CURRENT(pass->start);
	if (stride < SAMPLE_BLOCKS)
		scan_place(pass, source, 0, Min(nblocks, SAMPLES * SAMPLE_BLOCKS));
	else
		for (int i = 0; i < SAMPLES && (i == 0 || elapsed(pass) < SAMPLE_MS); i++)
			scan_place(pass, source, stride * i, SAMPLE_BLOCKS);
	if (pass->target)
	{
		insert_slots(pass);
		FreeBulkInsertState(pass->bulk);
	}
	pass->ms = elapsed(pass);
	pass->cost = VacuumCostBalance;
}

/*
 * calibrate(relid oid, OUT blocks bigint, OUT rows bigint, OUT read_ms double
 * precision, OUT copied_blocks bigint, OUT copy_ms double precision, OUT
 * copy_cost double precision): read some blocks, then copy some to a new table
 * like this one, and say how long that took and what the cost model makes of
 * it.  The caller rolls the new table back.  No statement is run, so that no
 * event trigger fires, and nothing of the table's is evaluated.
 */
Datum
partshift_calibrate(PG_FUNCTION_ARGS)
{
	Relation	source;
	bool		was_active = VacuumCostActive;
	int			was_balance = VacuumCostBalance;
	Pass		read = {0};
	Pass		copy = {0};
	TupleDesc	desc;
	Datum		values[6];
	bool		nulls[6] = {0};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	PreventCommandIfReadOnly("a timed copy");
	if (get_rel_relkind(PG_GETARG_OID(0)) != RELKIND_RELATION)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("relation with OID %u is not a table",
						PG_GETARG_OID(0))));
	source = table_open(PG_GETARG_OID(0), AccessShareLock);
	if (source->rd_tableam != GetHeapamTableAmRoutine() ||
		IsCatalogRelation(source) || RelationUsesLocalBuffers(source))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("cannot copy a sample of \"%s\"",
						RelationGetRelationName(source))));
	PG_TRY();
	{
		VacuumCostActive = true;
		run_pass(&read, source);
		copy.target = table_open(make_new_heap(RelationGetRelid(source),
											   source->rd_rel->reltablespace,
											   source->rd_rel->relam,
											   source->rd_rel->relpersistence,
											   AccessShareLock),
								 AccessExclusiveLock);
		run_pass(&copy, source);
		table_close(copy.target, NoLock);
	}
	PG_FINALLY();
	{
		VacuumCostActive = was_active;
		VacuumCostBalance = was_balance;
	}
	PG_END_TRY();
	table_close(source, AccessShareLock);
	values[0] = Int64GetDatum(read.blocks);
	values[1] = Int64GetDatum(read.rows);
	values[2] = Float8GetDatum(read.ms);
	values[3] = Int64GetDatum(copy.blocks);
	values[4] = Float8GetDatum(copy.ms);
	values[5] = Float8GetDatum((double) copy.cost);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc),
													  values, nulls)));
}
