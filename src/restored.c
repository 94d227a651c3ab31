/*-------------------------------------------------------------------------
 *
 * restored.c
 *	  What a restored dump brings of conversions that are not here.
 *
 * Foreign keys of the table that was being made, and the trigger for the old
 * one: each is made by an ALTER TABLE, the last thing that a dump does to it,
 * and gone at the end of that.  What belongs to a job that is here stays.
 * sql/87_restored.sql tells one from the other, as the extension's owner, who
 * sees all jobs; the rest is done as the user who restores.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/array.h"

#include "ddl.h"
#include "restored.h"
#include "sql.h"

static Datum
oid_array(Datum *oids, int n)
{
	return PointerGetDatum(construct_array(oids, n, OIDOID, sizeof(Oid), true,
										   TYPALIGN_INT));
}

/*
 * Drop what the present ALTER TABLE has made that belongs to a conversion
 * which is not in this database.  For an event trigger at a command's end.
 */
void
psh_restored_discard(void)
{
	MemoryContext caller = CurrentMemoryContext;
	Oid			owner = psh_extension_owner();
	Oid			types[2] = {OIDARRAYOID, OIDARRAYOID};
	Datum		values[2];
	PshTouched	touched = {0};
	PshUser		saved;
	char	  **commands;
	char	  **messages;
	int			n;
	int			i;

	if (!OidIsValid(owner))
		return;
	psh_user_switch(owner, false, &saved);
	SPI_connect();
	psh_ddl_read_done(&touched);
	values[0] = oid_array(touched.classes, touched.n);
	values[1] = oid_array(touched.objects, touched.n);
	n = (int) psh_sql(SPI_OK_SELECT,
					  "SELECT command, message"
					  " FROM partshift.restored_commands($1, $2)",
					  2, types, values, NULL);
	MemoryContextSwitchTo(caller);
	commands = palloc(sizeof(char *) * Max(n, 1));
	messages = palloc(sizeof(char *) * Max(n, 1));
	for (i = 0; i < n; i++)
	{
		commands[i] = psh_sql_text(i, 1);
		messages[i] = psh_sql_text(i, 2);
	}
	SPI_finish();
	psh_user_restore(&saved);
	if (n == 0)
		return;

	SPI_connect();
	for (i = 0; i < n; i++)
	{
		psh_sql_run(InvalidOid, commands[i]);
		ereport(WARNING,
				(errmsg("%s", messages[i]),
				 errdetail("It belongs to a conversion that is not in this database.")));
	}
	SPI_finish();
}
