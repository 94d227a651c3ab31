/*-------------------------------------------------------------------------
 *
 * reference.h
 *	  A foreign key that was extended, and queries over both its tables.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_REFERENCE_H
#define PARTSHIFT_REFERENCE_H

#include "commands/trigger.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "utils/rel.h"

#include "sql.h"

typedef struct PshReference
{
	Oid			constraint;
	Oid			child;
	Oid			parent;
	bool		extended;		/* the constraint has the columns already */
	bool		deferrable;
	int			nkeys;			/* columns of the original key */
	char	   *child_key[INDEX_MAX_KEYS];
	char	   *parent_key[INDEX_MAX_KEYS];
	Oid			operator[INDEX_MAX_KEYS];	/* parent = child */
	int			nmore;			/* columns by which it is extended */
	char	   *child_more[INDEX_MAX_KEYS];
	char	   *parent_more[INDEX_MAX_KEYS];
} PshReference;

/* A prepared query of this session. */
typedef struct PshSavedPlan
{
	Oid			key[2];			/* constraint, trigger */
	SPIPlanPtr	plan;			/* NULL: not prepared yet */
} PshSavedPlan;

extern bool psh_reference_load(PshReference *ref, Oid constraint, char **args,
							   int nargs, int first);
extern TriggerData *psh_reference_event(FunctionCallInfo fcinfo, bool before);
extern bool psh_reference_changed(Relation rel, char *const *names, int n,
								  HeapTuple old, HeapTuple new);
extern int	psh_reference_read(Relation rel, HeapTuple tuple,
							   char *const *names, int n, int *columns, Datum *values);

extern void psh_reference_become(Oid owner, PshUser *saved);
extern void psh_reference_leave(const PshUser *saved);
extern char *psh_reference_table(Oid relid);
extern Oid	psh_reference_type(Oid relid, const char *name);
extern void psh_reference_conditions(StringInfo query, const PshReference *ref,
									 bool of_parent, int first);
extern PshSavedPlan *psh_reference_plan(Oid constraint, Oid trigger);
extern void psh_reference_prepare(PshSavedPlan *saved, const char *query,
								  int nargs, Oid *types);
extern void psh_reference_run(PshSavedPlan *saved, Datum *values, int expected,
							  bool changes);

#endif							/* PARTSHIFT_REFERENCE_H */
