/*-------------------------------------------------------------------------
 *
 * default_leaf.c
 *	  Dropping the DEFAULT partition that a conversion needed, when empty.
 *
 * A foreign key to the partitioned table has a row in pg_constraint for each
 * of its partitions, which forbids a plain DROP TABLE of one.  DETACH would
 * remove it after a join with the referencing table, run as whoever we are;
 * nothing refers to an empty partition, so the rows can simply go.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "executor/tuptable.h"
#include "nodes/pg_list.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "default_leaf.h"

/*
 * Whether the leaf has no row that anybody can see.  One that has been deleted
 * counts while a snapshot may be in use that still shows it: whoever has that
 * snapshot must find the row after the swap as well.  The caller holds a lock
 * on the leaf.  Read without the executor, which would load the owner's
 * expressions.
 */
bool
psh_default_leaf_empty(Oid leaf)
{
	Relation	rel = table_open(leaf, AccessShareLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	SnapshotData snapshot;
	TableScanDesc scan;
	bool		empty;

	InitNonVacuumableSnapshot(snapshot, GlobalVisTestFor(rel));
	scan = table_beginscan(rel, &snapshot, 0, NULL);
	empty = !table_scan_getnextslot(scan, ForwardScanDirection, slot);
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, NoLock);
	return empty;
}

/*
 * The foreign keys' rows for this leaf as a referenced table.
 */
static List *
referencing_parts(Oid leaf)
{
	Relation	catalog = table_open(ConstraintRelationId, AccessShareLock);
	List	   *parts = NIL;
	ScanKeyData key[2];
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key[0], Anum_pg_constraint_confrelid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(leaf));
	ScanKeyInit(&key[1], Anum_pg_constraint_contype, BTEqualStrategyNumber,
				F_CHAREQ, CharGetDatum(CONSTRAINT_FOREIGN));
	scan = systable_beginscan(catalog, InvalidOid, false, NULL, 2, key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_constraint row = (Form_pg_constraint) GETSTRUCT(tuple);

		if (OidIsValid(row->conparentid))
			parts = lappend_oid(parts, row->oid);
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return parts;
}

/*
 * Drop the leaf.  The caller holds ACCESS EXCLUSIVE on it, on its parent and
 * on every table with a foreign key to the parent, and knows it to be empty.
 */
void
psh_default_leaf_drop(Oid leaf)
{
	ObjectAddress address;
	ListCell   *cell;

	foreach(cell, referencing_parts(leaf))
	{
		Oid			part = lfirst_oid(cell);

		ConstraintSetParentConstraint(part, InvalidOid, InvalidOid);
		deleteDependencyRecordsForClass(ConstraintRelationId, part,
										ConstraintRelationId,
										DEPENDENCY_INTERNAL);
		CommandCounterIncrement();
		ObjectAddressSet(address, ConstraintRelationId, part);
		performDeletion(&address, DROP_RESTRICT, PERFORM_DELETION_INTERNAL);
	}
	ObjectAddressSet(address, RelationRelationId, leaf);
	performDeletion(&address, DROP_RESTRICT, PERFORM_DELETION_INTERNAL);
	CommandCounterIncrement();
}
