/*-------------------------------------------------------------------------
 *
 * table.c
 *	  A table, partitioned or not, and which of its leaves a row belongs to.
 *
 * A trigger opens the same tables for each row, a million times if need be.
 * What has to be worked out for that, all but the locks and the relations
 * themselves, can be kept from row to row: a table that is kept is closed like
 * any other, and reopened.  What is kept of a leaf is as good as the
 * relation cache's entry that it was made from, see trigcache.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "utils/rel.h"

#include "table.h"
#include "trigcache.h"

static PshTable *
make(Relation rel, List *identity, const PshTable *like,
	 const PshComputed *computed, bool for_write)
{
	PshTable   *table = palloc0(sizeof(PshTable));
	PshProjection *projection = psh_projection_make(rel, identity, computed);

	table->lockmode = for_write ? RowExclusiveLock : AccessShareLock;
	table->rel = rel;
	table->relid = RelationGetRelid(rel);
	psh_trigcache_watch(table->relid);
	table->identity = identity;
	table->nidentity = list_length(identity);
	table->types = like ? like->types : projection->types;
	table->computed = computed;
	table->fill = like ? like->computed : NULL;
	psh_identity_check(rel, projection->columns, projection->nown,
					   table->types);
	table->for_write = for_write;
	table->context = table->scratch = CurrentMemoryContext;
	if (table->rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
	{
		table->route = psh_route_make_identity(table->rel, identity);
		table->nleaves = psh_route_count(table->route);
	}
	else
		table->nleaves = 1;
	table->leaves = palloc0(sizeof(PshLeaf *) * Max(table->nleaves, 1));
	return table;
}

/*
 * Open a table to find its rows by identity and, for_write, to change them.
 * The identities are of the types that they have in `like`, if that is given:
 * a table whose owner has changed them is refused, since values are passed
 * from one to the other as they are.  `computed` says how a plain table's
 * partition key comes about, NULL if it is in the table.
 */
PshTable *
psh_table_open(Oid relid, List *identity, const PshTable *like,
			   const PshComputed *computed, bool for_write)
{
	LOCKMODE	lockmode = for_write ? RowExclusiveLock : AccessShareLock;

	return make(table_open(relid, lockmode), identity, like, computed,
				for_write);
}

/*
 * Open a table again that was closed; what is open lives in the current
 * context until it is closed.  Returns false when the table is gone or has
 * another number of partitions.
 */
bool
psh_table_reopen(PshTable *table)
{
	table->rel = try_table_open(table->relid, table->lockmode);
	if (table->rel == NULL)
		return false;
	table->scratch = CurrentMemoryContext;
	if (table->route == NULL)
		return true;
	psh_route_refresh(table->route, table->rel);
	/* Whether one that is being detached counts depends on the snapshot. */
	if (psh_route_count(table->route) == table->nleaves)
		return true;
	psh_table_close(table);
	return false;
}

/* A partition that has partitions itself, as it may after the swap. */
static PshLeaf *
leaf_of_part(PshTable *table, Relation rel, const Datum *identity)
{
	MemoryContext caller = MemoryContextSwitchTo(table->scratch);
	PshTable   *part = NULL;
	ListCell   *cell;

	foreach(cell, table->parts)
	{
		if (((PshTable *) lfirst(cell))->relid == RelationGetRelid(rel))
			part = (PshTable *) lfirst(cell);
	}
	if (part == NULL)
	{
		part = make(rel, table->identity, table, table->computed,
					table->for_write);
		part->fill = table->fill;
		table->parts = lappend(table->parts, part);
	}
	else
		table_close(rel, NoLock);
	MemoryContextSwitchTo(caller);
	return psh_table_leaf(part, identity);
}

/*
 * The heap in which a row of this identity is or would be, or NULL when no
 * partition takes it.
 */
PshLeaf *
psh_table_leaf(PshTable *table, const Datum *identity)
{
	Relation	rel = table->rel;
	PshLeaf    *leaf;
	int			i = 0;

	if (table->route)
		i = psh_route_find_identity(table->route, identity);
	if (i < 0)
		return NULL;
	if (table->leaves[i] && table->leaves[i]->rel)
		return table->leaves[i];
	if (table->route)
		rel = table_open(psh_route_leaf(table->route, i), table->lockmode);
	if (table->route && rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
		return leaf_of_part(table, rel, identity);
	leaf = table->leaves[i] = psh_leaf_open(table, table->leaves[i], rel);
	leaf->next_open = table->open_leaves;
	table->open_leaves = leaf;
	return leaf;
}

/*
 * Close a table and its leaves; the locks stay to the end of the transaction.
 * What was worked out stays as long as the context in which it was opened.
 */
void
psh_table_close(PshTable *table)
{
	PshLeaf    *leaf;
	ListCell   *cell;

	foreach(cell, table->parts)
		psh_table_close((PshTable *) lfirst(cell));
	table->parts = NIL;
	for (leaf = table->open_leaves; leaf; leaf = leaf->next_open)
	{
		Relation	rel = leaf->rel;

		psh_leaf_close(leaf);
		if (table->route)
			table_close(rel, NoLock);
	}
	table->open_leaves = NULL;
	table_close(table->rel, NoLock);
	table->rel = NULL;
}
