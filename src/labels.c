/*-------------------------------------------------------------------------
 *
 * labels.c
 *	  Making one table's security labels those of another.
 *
 * Written to the catalog as they are.  SECURITY LABEL would want the provider
 * loaded, which may be so in sessions only, and would have it judge a label,
 * perhaps of the table's owner, as if a superuser had given it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/seclabel.h"
#include "executor/spi.h"
#include "fmgr.h"

#include "labels.h"
#include "sql.h"

PG_FUNCTION_INFO_V1(partshift_copy_labels);

/*
 * Give a table, its partitions and their columns the labels that another
 * table has, and no others.  SPI is connected.
 */
void
psh_labels_copy(Oid from, Oid to)
{
	Oid			types[2] = {OIDOID, OIDOID};
	Datum		values[2];
	int			n;
	int			i;

	values[0] = ObjectIdGetDatum(from);
	values[1] = ObjectIdGetDatum(to);
	n = (int) psh_sql(SPI_OK_SELECT,
					  "SELECT relation, attnum, provider, label"
					  " FROM partshift.missing_labels($1, $2)",
					  2, types, values, NULL);
	for (i = 0; i < n; i++)
	{
		ObjectAddress object;
		bool		isnull;

		object.classId = RelationRelationId;
		object.objectId = DatumGetObjectId(psh_sql_value(i, 1, &isnull));
		object.objectSubId = DatumGetInt32(psh_sql_value(i, 2, &isnull));
		SetSecurityLabel(&object, psh_sql_text(i, 3), psh_sql_text(i, 4));
	}
	if (n > 0)
		CommandCounterIncrement();
}

/*
 * The same for SQL.
 */
Datum
partshift_copy_labels(PG_FUNCTION_ARGS)
{
	SPI_connect();
	psh_labels_copy(PG_GETARG_OID(0), PG_GETARG_OID(1));
	SPI_finish();
	PG_RETURN_VOID();
}
