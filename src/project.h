/*-------------------------------------------------------------------------
 *
 * project.h
 *	  The row of a plain table as the row of the partitioned one, where the
 *	  partition key is computed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_PROJECT_H
#define PARTSHIFT_PROJECT_H

#include "executor/tuptable.h"
#include "nodes/pg_list.h"
#include "utils/relcache.h"

/* A partition key column whose values come from an expression. */
typedef struct PshComputed
{
	char	   *column;			/* of the partitioned table */
	bool		derived;		/* the plain table lacks it; otherwise the
								 * expression stands for its nulls */
	Oid			type;
	Oid			collation;
	char	   *tree;			/* the expression over the plain table */
} PshComputed;

/* How to tell the identity of rows of one table. */
typedef struct PshProjection
{
	Relation	rel;
	int			n;				/* columns of the identity */
	int			nown;			/* of these, how many the table has: one that
								 * is derived is the last */
	AttrNumber *columns;		/* nown of them */
	Oid		   *types;			/* n of them */
	const PshComputed *computed;	/* or NULL */
	int			place;			/* of the computed column in the identity */
	struct PshExpression *expression;	/* made when first needed */
	struct MemoryContextData *context;	/* what it is made in */
} PshProjection;

extern List *psh_computed_words(const PshComputed *computed);
extern PshComputed *psh_computed_from_words(char **words);
extern void psh_computed_depend(Oid trigger, const PshComputed *computed);
extern int	psh_computed_place(const PshComputed *computed, List *identity);

extern PshProjection *psh_projection_make(Relation rel, List *identity,
										  const PshComputed *computed);
extern void psh_projection_end(PshProjection *projection);
extern bool psh_projection_identity(PshProjection *projection,
									TupleTableSlot *row, Datum *identity);
extern void psh_projection_identity_or_raise(PshProjection *projection,
											 TupleTableSlot *row,
											 Datum *identity);
extern bool psh_projection_equal(const PshProjection *projection,
								 const Datum *a, const Datum *b);
extern void psh_projection_row(const PshComputed *computed, Relation from,
							   TupleTableSlot *row, const Datum *value,
							   TupleTableSlot *result);

extern void psh_unplaced_note(int job_id);
extern void psh_unplaced_settle(int job_id);
extern bool psh_unplaced_any(int job_id);

#endif							/* PARTSHIFT_PROJECT_H */
