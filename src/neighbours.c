/*-------------------------------------------------------------------------
 *
 * neighbours.c
 *	  The tables that a swap or an abort changes, and locking them.
 *
 * Dropping and renaming foreign keys locks the tables at both ends, ACCESS
 * EXCLUSIVE.  Left to the statements, those locks would be taken in their
 * order, some by upgrading a weaker one.  So all are taken beforehand, in OID
 * order, and the list is made before the first is asked for.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "storage/lmgr.h"
#include "utils/snapmgr.h"

#include "neighbours.h"
#include "sql.h"

/*
 * OIDs of the job's tables and of what foreign keys join to them, sorted.
 * Without of_source the neighbours of the source alone are left out.
 */
List *
psh_neighbours_list(int job_id, bool of_source)
{
	Oid			types[2] = {INT4OID, BOOLOID};
	Datum		values[2];
	List	   *relations = NIL;
	int			n;
	int			i;

	values[0] = Int32GetDatum(job_id);
	values[1] = BoolGetDatum(of_source);
	n = (int) psh_sql(SPI_OK_SELECT,
					  "SELECT r FROM partshift.swap_relations($1, $2)"
					  " WITH ORDINALITY AS s (r, n) ORDER BY s.n",
					  2, types, values, NULL);
	for (i = 0; i < n; i++)
	{
		bool		isnull;

		relations = lappend_oid(relations,
								DatumGetObjectId(psh_sql_value(i, 1, &isnull)));
	}
	return relations;
}

/*
 * Lock `relations`, which psh_neighbours_list() made in an earlier
 * transaction, and note when the first lock was granted.  Returns false when
 * they are no longer the job's neighbours: the caller ends the transaction and
 * begins again.
 */
bool
psh_neighbours_lock(int job_id, bool of_source, List *relations,
					instr_time *since)
{
	ListCell   *cell;

	INSTR_TIME_SET_ZERO(*since);
	foreach(cell, relations)
	{
		LockRelationOid(lfirst_oid(cell), AccessExclusiveLock);
		if (INSTR_TIME_IS_ZERO(*since))
			INSTR_TIME_SET_CURRENT(*since);
	}
	return equal(relations, psh_neighbours_list(job_id, of_source));
}
