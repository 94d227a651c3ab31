/*-------------------------------------------------------------------------
 *
 * trigcache.c
 *	  What a session keeps of a trigger of ours from row to row.
 *
 * A trigger function is called for each row, and most of what it needs is the
 * same for all of them: the meaning of the trigger's arguments, which columns
 * make the identity, which index finds a row, how a leaf's indexes are
 * entered.  Working that out takes longer than writing the row.  It is kept
 * for the session, so that a statement of one row does not pay for it either.
 *
 * Kept are values only.  Relations are opened and locked for each row as if
 * nothing were kept: locks belong to transactions, and a relation that is
 * open for longer would have to be closed whichever way its statement ends.
 *
 * What is kept was read from the relation cache, and the server says when an
 * entry there is no longer good.  For any relation that somebody here has
 * looked at (psh_trigcache_watch) that begins a new generation, in which
 * everything is worked out again.  The order is: lock the relation, which
 * takes in what others have committed, then look whether the generation is
 * still the same.  While the lock is held nobody can change what was kept,
 * and from other relations nothing is kept.
 *
 * A row's trigger may run inside another's: the expressions of the owner's
 * indexes may do anything.  What is in use is not used again; the inner call
 * makes its own and forgets it.  A call that ends by an error leaves slots
 * that may hold buffers the transaction has given back.  It stays in use, and
 * is forgotten when the transaction or subtransaction is aborted.
 *
 * A computed partition key is not kept, because its expression calls functions
 * of the user's, which may be redefined.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "capture.h"
#include "source.h"
#include "trigcache.h"

typedef struct Kept
{
	Oid			trigger;
	PshTriggerCache *cache;		/* or NULL */
} Kept;

static HTAB *caches = NULL;		/* of Kept */
static HTAB *watched = NULL;	/* of Oid */
static uint64 generation = 1;

static HTAB *
make_table(const char *name, Size entry)
{
	HASHCTL		control = {0};

	control.keysize = sizeof(Oid);
	control.entrysize = entry;
	return hash_create(name, 64, &control, HASH_ELEM | HASH_BLOBS);
}

static void
note_invalidation(Datum arg, Oid relid)
{
	if (!OidIsValid(relid) ||
		hash_search(watched, &relid, HASH_FIND, NULL) != NULL)
		generation++;
}

/* Forget what was in use in a subtransaction, or in any of its children. */
static void
forget_used(SubTransactionId first)
{
	HASH_SEQ_STATUS status;
	Kept	   *kept;

	hash_seq_init(&status, caches);
	while ((kept = hash_seq_search(&status)) != NULL)
	{
		if (kept->cache == NULL || kept->cache->user == InvalidSubTransactionId ||
			kept->cache->user < first)
			continue;
		MemoryContextDelete(kept->cache->context);
		kept->cache = NULL;
	}
}

static void
at_end_of_transaction(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_ABORT)
		forget_used(TopSubTransactionId);
}

static void
at_end_of_subtransaction(SubXactEvent event, SubTransactionId mine,
						 SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		forget_used(mine);
}

static void
initialize(void)
{
	if (caches != NULL)
		return;
	watched = make_table("partshift watched relations", sizeof(Oid));
	caches = make_table("partshift triggers", sizeof(Kept));
	CacheRegisterRelcacheCallback(note_invalidation, (Datum) 0);
	RegisterXactCallback(at_end_of_transaction, NULL);
	RegisterSubXactCallback(at_end_of_subtransaction, NULL);
}

/*
 * What is worked out now is of this generation.
 */
uint64
psh_trigcache_generation(void)
{
	return generation;
}

/*
 * Begin a new generation when the server says that its entry of this relation
 * is no longer good.
 */
void
psh_trigcache_watch(Oid relid)
{
	initialize();
	(void) hash_search(watched, &relid, HASH_ENTER, NULL);
}

static PshTriggerCache *
make(const Trigger *trigger, Relation rel, bool reverse)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "partshift trigger",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	PshTriggerCache *cache = palloc0(sizeof(PshTriggerCache));
	ListCell   *cell;

	psh_trigcache_watch(RelationGetRelid(rel));
	cache->generation = generation;
	cache->trigger = trigger->tgoid;
	cache->context = context;
	cache->root = psh_source_root(RelationGetRelid(rel));
	cache->at_home = !reverse || psh_trigger_at_home(trigger, cache->root);
	if (cache->at_home)
		psh_trigger_check(trigger, reverse);
	cache->job_id = psh_trigger_job(trigger);
	cache->target = psh_trigger_target(trigger);
	psh_trigcache_watch(cache->target);
	psh_trigcache_watch(cache->root);

	/* The trigger's arguments are the relation cache's. */
	foreach(cell, psh_trigger_identity(trigger))
		cache->identity = lappend(cache->identity, pstrdup(lfirst(cell)));
	cache->computed = psh_trigger_computed(trigger);
	if (cache->at_home)
		cache->events = psh_projection_make(rel, cache->identity,
											cache->computed);
	MemoryContextSwitchTo(caller);
	return cache;
}

/*
 * What is known of a trigger of ours, which was called for a row of `rel`; in
 * use until psh_trigcache_end().  Raises as psh_trigger_check() does.  A
 * reverse trigger may be away from home, and then has nothing to do.
 */
PshTriggerCache *
psh_trigcache_begin(const Trigger *trigger, Relation rel, bool reverse)
{
	PshTriggerCache *cache;
	Kept	   *kept;
	bool		found;

	initialize();
	kept = hash_search(caches, &trigger->tgoid, HASH_ENTER, &found);
	if (!found)
		kept->cache = NULL;
	if (kept->cache && kept->cache->user != InvalidSubTransactionId)
		return make(trigger, rel, reverse);
	if (kept->cache && !psh_trigcache_is_current(kept->cache))
	{
		MemoryContextDelete(kept->cache->context);
		kept->cache = NULL;
	}
	cache = kept->cache;
	if (cache == NULL)
	{
		cache = make(trigger, rel, reverse);
		cache->kept = cache->computed == NULL;
	}
	if (cache->kept && kept->cache == NULL)
	{
		MemoryContextSetParent(cache->context, TopMemoryContext);
		kept->cache = cache;
	}
	cache->user = GetCurrentSubTransactionId();
	if (cache->events)
		cache->events->rel = rel;
	return cache;
}

/*
 * The call is over.
 */
void
psh_trigcache_end(PshTriggerCache *cache)
{
	cache->user = InvalidSubTransactionId;
	if (cache->events)
		psh_projection_end(cache->events);
}

/*
 * Whether nothing has changed of what was looked at since it was made.
 */
bool
psh_trigcache_is_current(const PshTriggerCache *cache)
{
	return cache->generation == generation;
}
