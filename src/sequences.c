/*-------------------------------------------------------------------------
 *
 * sequences.c
 *	  Exchanging the sequences that belong to columns of two tables.
 *
 * What ties a sequence to a column, serial or identity, is one row of
 * pg_depend and nothing else: an identity column finds its sequence through
 * it.  So those rows are turned to the column of the same name of the other
 * table, and every sequence stays what it was, with its name, position and
 * grants.
 *
 * ALTER SEQUENCE ... OWNED BY would do for serial columns, but it locks the
 * sequence against nextval(), and a session that has called nextval() keeps
 * its lock to the end of its transaction.  One that fetches a number first
 * and inserts with it later, as many frameworks do, would wait for our lock
 * on the table while we wait for its lock on the sequence.  We take none.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "nodes/pg_list.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

#include "sequences.h"

static bool
ties_sequence(Form_pg_depend row)
{
	return row->classid == RelationRelationId &&
		row->objsubid == 0 &&
		row->refobjsubid != 0 &&
		(row->deptype == DEPENDENCY_AUTO ||
		 row->deptype == DEPENDENCY_INTERNAL) &&
		get_rel_relkind(row->objid) == RELKIND_SEQUENCE;
}

/*
 * The rows, copied, that tie sequences to columns of a table.
 */
static List *
find_ties(Relation catalog, Oid relid)
{
	List	   *ties = NIL;
	ScanKeyData key[2];
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key[0], Anum_pg_depend_refclassid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(RelationRelationId));
	ScanKeyInit(&key[1], Anum_pg_depend_refobjid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(catalog, DependReferenceIndexId, true, NULL,
							  2, key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		if (ties_sequence((Form_pg_depend) GETSTRUCT(tuple)))
			ties = lappend(ties, heap_copytuple(tuple));
	systable_endscan(scan);
	return ties;
}

static void
turn_ties(Relation catalog, List *ties, Oid to)
{
	ListCell   *cell;

	foreach(cell, ties)
	{
		HeapTuple	tuple = lfirst(cell);
		Form_pg_depend row = (Form_pg_depend) GETSTRUCT(tuple);
		char	   *column = get_attname(row->refobjid, row->refobjsubid,
										 false);
		AttrNumber	attnum = get_attnum(to, column);

		if (attnum == InvalidAttrNumber)
			elog(ERROR, "relation %u has no column \"%s\"", to, column);
		row->refobjid = to;
		row->refobjsubid = attnum;
		CatalogTupleUpdate(catalog, &tuple->t_self, tuple);
	}
}

/*
 * Give the sequences that belong to columns of table a to the columns of the
 * same names of table b, and the reverse.  The caller holds ACCESS EXCLUSIVE
 * on both tables, which have the same owner.
 */
void
psh_sequences_exchange(Oid a, Oid b)
{
	Relation	catalog = table_open(DependRelationId, RowExclusiveLock);
	List	   *ties_a = find_ties(catalog, a);
	List	   *ties_b = find_ties(catalog, b);

	turn_ties(catalog, ties_a, b);
	turn_ties(catalog, ties_b, a);
	table_close(catalog, RowExclusiveLock);
	CommandCounterIncrement();
}
