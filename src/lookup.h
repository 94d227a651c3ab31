/*-------------------------------------------------------------------------
 *
 * lookup.h
 *	  Finding a row by its identity, whoever is writing it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTSHIFT_LOOKUP_H
#define PARTSHIFT_LOOKUP_H

#include "access/skey.h"
#include "executor/tuptable.h"
#include "nodes/pg_list.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

typedef enum PshFound
{
	PSH_ABSENT,
	PSH_FOUND,
	PSH_BUSY					/* a transaction in progress wrote it */
} PshFound;

/* An index that finds a row by the leading columns of its identity. */
typedef struct PshKey
{
	Oid			indexid;
	Relation	index;			/* NULL while it is closed */
	int			nkeys;
	ScanKeyData keys[INDEX_MAX_KEYS];
} PshKey;

extern AttrNumber *psh_identity_columns(Relation rel, List *identity);
extern Oid *psh_identity_types(Relation rel, const AttrNumber *columns, int n);
extern void psh_identity_check(Relation rel, const AttrNumber *columns, int n,
							   const Oid *types);
extern void psh_identity_read(TupleTableSlot *slot, const AttrNumber *columns,
							  int n, Datum *identity);
extern bool psh_identity_equal(Relation rel, const AttrNumber *columns,
							   int n, const Datum *a, const Datum *b);
extern PshKey *psh_key_make(Relation rel, const AttrNumber *columns, int n,
							LOCKMODE lockmode);
extern void psh_key_open(PshKey *key, LOCKMODE lockmode);
extern void psh_key_close(PshKey *key);
extern PshFound psh_key_find(PshKey *key, Relation rel, const Datum *identity,
							 Snapshot snapshot, TupleTableSlot *slot,
							 TransactionId *busy);

#endif							/* PARTSHIFT_LOOKUP_H */
