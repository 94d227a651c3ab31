/*-------------------------------------------------------------------------
 *
 * sql.h
 *	  Transactions of a worker, SPI with parameters, and changes of user.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_SQL_H
#define PARTSHIFT_SQL_H

#include "nodes/pg_list.h"

/* The user that psh_user_switch() left. */
typedef struct PshUser
{
	Oid			userid;
	int			sec_context;
	int			guc_nest;
} PshUser;

extern void psh_txn_begin(const char *activity);
extern void psh_txn_commit(void);

extern Oid	psh_extension_owner(void);
extern void psh_user_switch(Oid userid, bool restricted, PshUser *saved);
extern void psh_user_restore(const PshUser *saved);

extern uint64 psh_sql(int expected, const char *query, int nargs,
					  Oid *types, Datum *values, const char *nulls);
extern Datum psh_sql_value(int row, int column, bool *isnull);
extern char *psh_sql_text(int row, int column);
extern int64 psh_sql_run(Oid run_as, const char *command);
extern void psh_sql_run_alone(const char *command, int patience);
extern int	psh_sql_run_list(const char *query, int nargs, Oid *types,
							 Datum *values);
extern int	psh_sql_run_steps(const char *query, int job_id);

#endif							/* PARTSHIFT_SQL_H */
