/*-------------------------------------------------------------------------
 *
 * chore.h
 *	  The things that maintenance does to a table.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_CHORE_H
#define PARTSHIFT_CHORE_H

/* A managed table. */
typedef struct PshManaged
{
	int64		run;			/* under which it is logged */
	Oid			relid;
	Oid			owner;
	char	   *name;			/* qualified, for people */
	char	   *column;			/* the partition key */
	int			move_rows;		/* how many may be moved under a lock */
} PshManaged;

/* One thing to do to it; see partshift.list_chores(). */
typedef struct PshChore
{
	char	   *action;
	char	   *object;			/* a new partition's name, or qualified */
	Oid			leaf;			/* of what there is */
	char	   *lower;
	char	   *upper;
	char	   *sqlstate;		/* NULL, or why it is not even tried */
	char	   *problem;
	bool		pending;		/* a DETACH that was begun before */
	bool		begun;			/* that we have begun */
} PshChore;

extern void psh_chore_log(const PshManaged *table, const char *action,
						  const char *object, const char *status, int64 rows,
						  const char *sqlstate, const char *detail);
extern void psh_chore_create(PshManaged *table, PshChore *chore);
extern void psh_chore_detach(PshManaged *table, PshChore *chore);
extern void psh_chore_retire(PshManaged *table, PshChore *chore);
extern void psh_chore_drop_backup(PshManaged *table,
								  PshChore *chore);
extern void psh_chore_analyze(PshManaged *table, PshChore *chore);

#endif							/* PARTSHIFT_CHORE_H */
