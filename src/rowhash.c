/*-------------------------------------------------------------------------
 *
 * rowhash.c
 *	  A 64-bit hash of the values of a row.
 *
 * Two rows hash alike when the binary images of their values are the same,
 * whatever the layout of their tables: columns are taken by name, in an order
 * that the caller fixes, and a varlena counts with its plain bytes, so that a
 * short header, compression and TOAST storage make no difference.  That is
 * stricter than any operator's equality (0 and -0 differ), as it should be
 * between a row and its copy, and it calls no function of the user's.
 *
 * The seed is fixed, so that sums of hashes can be kept and compared later.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/tupmacs.h"
#include "catalog/pg_attribute.h"
#include "common/hashfn.h"
#include "fmgr.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "rowhash.h"

#define SEED UINT64CONST(0x70617274)

/* A longer value enters the image as its own hash: the image stays small. */
#define INLINE_BYTES 256

/* At most this much of the image is one column's: null flag, length, bytes. */
#define COLUMN_BYTES (1 + sizeof(uint32) + INLINE_BYTES)

typedef struct HashColumn
{
	int			index;			/* in the slot, from 0 */
	int16		typlen;
	bool		typbyval;
} HashColumn;

struct PshRowHash
{
	int			ncolumns;
	int			last;			/* how much of a row must be deformed */
	char	   *image;
	HashColumn	columns[FLEXIBLE_ARRAY_MEMBER];
};

/*
 * The names of the columns whose values are stored, in the table's order, as
 * char * that live as long as the caller's context.
 */
List *
psh_rowhash_columns(Relation rel)
{
	TupleDesc	desc = RelationGetDescr(rel);
	List	   *columns = NIL;
	int			i;

	for (i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(desc, i);

		if (attr->attisdropped)
			continue;
		/* Since 18 a generated column may have no stored value. */
		if (attr->attgenerated != '\0' &&
			attr->attgenerated != ATTRIBUTE_GENERATED_STORED)
			continue;
		columns = lappend(columns, pstrdup(NameStr(attr->attname)));
	}
	return columns;
}

/*
 * Prepare to hash the named columns of rows of a table, in this order.
 */
PshRowHash *
psh_rowhash_make(Relation rel, List *columns)
{
	PshRowHash *hash = palloc(offsetof(PshRowHash, columns) +
							  sizeof(HashColumn) * list_length(columns));
	ListCell   *lc;

	hash->ncolumns = 0;
	hash->last = 0;
	hash->image = palloc(COLUMN_BYTES * Max(list_length(columns), 1));
	foreach(lc, columns)
	{
		const char *name = lfirst(lc);
		AttrNumber	attnum = get_attnum(RelationGetRelid(rel), name);
		HashColumn *column = &hash->columns[hash->ncolumns++];
		Form_pg_attribute attr;

		if (attnum <= 0)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("table \"%s\" has no column \"%s\"",
							RelationGetRelationName(rel), name)));
		attr = TupleDescAttr(RelationGetDescr(rel), attnum - 1);
		column->index = attnum - 1;
		column->typlen = attr->attlen;
		column->typbyval = attr->attbyval;
		hash->last = Max(hash->last, attnum);
	}
	return hash;
}

static inline char *
put(char *p, const char *bytes, Size length)
{
	uint64		digest;

	if (length > INLINE_BYTES)
	{
		digest = hash_bytes_extended((const unsigned char *) bytes,
									 (int) length, SEED);
		bytes = (const char *) &digest;
		length = sizeof(digest);
	}
	memcpy(p, bytes, length);
	return p + length;
}

static char *
put_varlena(char *p, Datum value)
{
	struct varlena *stored = (struct varlena *) DatumGetPointer(value);
	struct varlena *plain = pg_detoast_datum_packed(stored);
	uint32		length = VARSIZE_ANY_EXHDR(plain);

	/* With its length first, two neighbours cannot trade bytes. */
	memcpy(p, &length, sizeof(length));
	p = put(p + sizeof(length), VARDATA_ANY(plain), length);
	if (plain != stored)
		pfree(plain);
	return p;
}

/*
 * The hash of a row of the table that `hash` was made for.
 */
uint64
psh_rowhash(PshRowHash *hash, TupleTableSlot *slot)
{
	char	   *p = hash->image;
	int			i;

	slot_getsomeattrs(slot, hash->last);
	for (i = 0; i < hash->ncolumns; i++)
	{
		const HashColumn *column = &hash->columns[i];
		Datum		value = slot->tts_values[column->index];

		*p++ = !slot->tts_isnull[column->index];
		if (slot->tts_isnull[column->index])
			continue;
		if (column->typbyval)
		{
			Datum		stored = 0;

			store_att_byval(&stored, value, column->typlen);
			memcpy(p, &stored, column->typlen);
			p += column->typlen;
		}
		else if (column->typlen == -1)
			p = put_varlena(p, value);
		else if (column->typlen == -2)
			p = put(p, DatumGetCString(value),
					strlen(DatumGetCString(value)) + 1);
		else
			p = put(p, DatumGetPointer(value), column->typlen);
	}
	return hash_bytes_extended((const unsigned char *) hash->image,
							   (int) (p - hash->image), SEED);
}
