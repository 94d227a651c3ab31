/*-------------------------------------------------------------------------
 *
 * privileges.c
 *	  Making one table's privileges those of another.
 *
 * The access lists are copied as they are and not by GRANT, which cannot
 * repeat who granted what to whom, nor tell a table without a list from one
 * whose list says the same.  Both tables have the same owner.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_class.h"
#include "utils/acl.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "privileges.h"

/* Where the list of a kind of object stands in its catalog. */
typedef struct AclPlace
{
	Oid			catalog;
	int			cache;
	AttrNumber	column;
} AclPlace;

static const AclPlace table_place = {
	RelationRelationId, RELOID, Anum_pg_class_relacl
};
static const AclPlace column_place = {
	AttributeRelationId, ATTNUM, Anum_pg_attribute_attacl
};

static Acl *
read_acl(const AclPlace *place, HeapTuple tuple)
{
	bool		isnull;
	Datum		value = SysCacheGetAttr(place->cache, tuple, place->column,
										&isnull);

	return isnull ? NULL : DatumGetAclPCopy(value);
}

/*
 * Give the object that `tuple` describes the access list `acl`, and the
 * dependencies on roles that follow from it.
 */
static void
write_acl(const AclPlace *place, HeapTuple tuple, Acl *acl,
		  Oid relid, int32 attnum, Oid owner)
{
	Acl		   *old = read_acl(place, tuple);
	Relation	catalog;
	Datum		values[Max(Natts_pg_class, Natts_pg_attribute)];
	bool		nulls[Max(Natts_pg_class, Natts_pg_attribute)];
	bool		replaces[Max(Natts_pg_class, Natts_pg_attribute)];
	HeapTuple	changed;
	Oid		   *old_members = NULL;
	Oid		   *new_members = NULL;
	int			n_old;
	int			n_new;

	if (old == NULL && acl == NULL)
		return;

	memset(values, 0, sizeof(values));
	memset(nulls, 0, sizeof(nulls));
	memset(replaces, 0, sizeof(replaces));
	replaces[place->column - 1] = true;
	nulls[place->column - 1] = acl == NULL;
	values[place->column - 1] = PointerGetDatum(acl);

	catalog = table_open(place->catalog, RowExclusiveLock);
	changed = heap_modify_tuple(tuple, RelationGetDescr(catalog),
								values, nulls, replaces);
	CatalogTupleUpdate(catalog, &changed->t_self, changed);
	table_close(catalog, RowExclusiveLock);
	heap_freetuple(changed);

	n_old = aclmembers(old, &old_members);
	n_new = aclmembers(acl, &new_members);
	updateAclDependencies(RelationRelationId, relid, attnum, owner,
						  n_old, old_members, n_new, new_members);
}

static void
copy_column(Oid from, Oid to, Form_pg_attribute column, Oid owner)
{
	HeapTuple	source = SearchSysCacheAttName(from, NameStr(column->attname));
	HeapTuple	target;

	if (!HeapTupleIsValid(source))
		return;
	target = SearchSysCacheCopy2(ATTNUM, ObjectIdGetDatum(to),
								 Int16GetDatum(column->attnum));
	if (!HeapTupleIsValid(target))
		elog(ERROR, "cache lookup failed for attribute %d of relation %u",
			 column->attnum, to);
	write_acl(&column_place, target, read_acl(&column_place, source),
			  to, column->attnum, owner);
	heap_freetuple(target);
	ReleaseSysCache(source);
}

/*
 * Give table `to` exactly the privileges of table `from`, on the table and on
 * columns of the same name.  The caller holds ACCESS EXCLUSIVE on both.
 */
void
psh_privileges_copy(Oid from, Oid to)
{
	HeapTuple	source = SearchSysCache1(RELOID, ObjectIdGetDatum(from));
	HeapTuple	target = SearchSysCacheCopy1(RELOID, ObjectIdGetDatum(to));
	Oid			owner;
	Relation	rel;
	TupleDesc	desc;
	int			i;

	if (!HeapTupleIsValid(source) || !HeapTupleIsValid(target))
		elog(ERROR, "cache lookup failed for relation %u or %u", from, to);
	owner = ((Form_pg_class) GETSTRUCT(target))->relowner;
	write_acl(&table_place, target, read_acl(&table_place, source),
			  to, 0, owner);
	heap_freetuple(target);
	ReleaseSysCache(source);

	rel = table_open(to, NoLock);
	desc = CreateTupleDescCopy(RelationGetDescr(rel));
	table_close(rel, NoLock);
	for (i = 0; i < desc->natts; i++)
		if (!TupleDescAttr(desc, i)->attisdropped)
			copy_column(from, to, TupleDescAttr(desc, i), owner);
	CommandCounterIncrement();
}
