/*
 * heads.c
 *		Where streams stand, in shared memory.
 *
 * Who wins a stream's turn has to know its last event.  Asking the table costs
 * an index probe, a sixth of a small transaction; so a committing transaction
 * leaves here what the next one needs.  It does so after its commit is visible
 * and before its turns are released, hence the next to win the turn finds it.
 * What is not here, or not to be relied on, is read from the table: the cache
 * may forget anything at any time.
 *
 * The turn keeps other events out, but a stream can change without one: the
 * owner restores rows that have their numbers, a logical replication worker
 * applies what was done elsewhere, or triggers are disabled for a while.
 * Against these every entry says when its author learned what it says, on a
 * clock that counts such occasions:
 *
 * - Rows that come, change or go without a turn are noticed by triggers.  As
 *	 that commits, heads_invalidate() makes all that was learned before worthless.
 * - A backend that has just looked up the extension's tables, because it is new
 *	 or because they changed, relies only on what is learned from then on:
 *	 heads_distrust().  Disabling triggers takes a lock that no transaction with
 *	 a turn leaves room for, so whoever learned something later has seen that
 *	 change too.
 *
 * Entries belong to a file, not to a table: TRUNCATE gives a table a new one.
 * A transaction that is prepared takes out the streams it has the turn of,
 * because its commit is not seen by a callback.  What it does without turns
 * counts when it is committed: COMMIT PREPARED passes a hook (notifier.c), and
 * of a replication worker every commit is taken for one that may have been that.
 *
 * The table is an array of small sets, each with a spinlock of its own.  A full
 * set gives up its entries in turn.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/guc.h"
#include "utils/rel.h"

#include "compat.h"
#include "heads.h"

#define SET_WAYS 4

/* What an entry is found by; compared bytewise. */
typedef struct HeadKey
{
	int64 stream;
	Oid database; /* InvalidOid: the entry is free */
	Oid file;
} HeadKey;

typedef struct HeadEntry
{
	HeadKey key;
	uint64 learned; /* when, on the clock */
	StreamHead head;
} HeadEntry;

typedef struct HeadSet
{
	slock_t mutex;
	uint32 next; /* the entry to give up next */
	HeadEntry entries[SET_WAYS];
} HeadSet;

typedef struct Heads
{
	slock_t mutex;          /* of who moves the clock; it is read without */
	pg_atomic_uint64 clock; /* counts occasions to distrust what was learned */
	pg_atomic_uint64 floor; /* what was learned before is worthless */
	HeadSet sets[FLEXIBLE_ARRAY_MEMBER];
} Heads;

static Heads *heads = NULL; /* NULL: the library is not preloaded, or no cache is wanted */
static int cached_streams = 16384;
static uint64 trusted_since = 0; /* this backend does not rely on what was learned before */

/* How many sets there are. */
static uint32
set_count(void)
{
	return (cached_streams + SET_WAYS - 1) / SET_WAYS;
}

/* Bytes of shared memory. */
Size
heads_shmem_size(void)
{
	return add_size(offsetof(Heads, sets), mul_size(set_count(), sizeof(HeadSet)));
}

/* Find or make the cache; the caller holds AddinShmemInitLock. */
void
heads_shmem_start(void)
{
	bool found;

	if (cached_streams == 0)
		return;
	heads = ShmemInitStruct("pev stream heads", heads_shmem_size(), &found);
	if (found)
		return;
	memset(heads, 0, heads_shmem_size());
	SpinLockInit(&heads->mutex);
	pg_atomic_init_u64(&heads->clock, 1);
	pg_atomic_init_u64(&heads->floor, 0);
	for (uint32 i = 0; i < set_count(); i++)
		SpinLockInit(&heads->sets[i].mutex);
}

/* Called once, while shared_preload_libraries is processed. */
void
heads_init(void)
{
	DefineCustomIntVariable("pev.cached_streams",
							"Streams whose last event is remembered in shared memory.",
							"Each takes 50 bytes.  Emitting to another one costs an index probe.  "
							"0: none.",
							&cached_streams, 16384, 0, 16 * 1024 * 1024, PGC_POSTMASTER, 0, NULL,
							NULL, NULL);
}

/* The time of what is learned from now on.  To be taken before the learning. */
uint64
heads_now(void)
{
	uint64 now = heads == NULL ? 0 : pg_atomic_read_u64(&heads->clock);

	pg_read_barrier();
	return now;
}

/* Move the clock on; `worthless`: with the floor. */
static uint64
advance(bool worthless)
{
	uint64 now;

	SpinLockAcquire(&heads->mutex);
	now = pg_atomic_read_u64(&heads->clock) + 1;
	/* the floor first: who reads the new time must see it */
	if (worthless)
		pg_atomic_write_u64(&heads->floor, now);
	pg_write_barrier();
	pg_atomic_write_u64(&heads->clock, now);
	SpinLockRelease(&heads->mutex);
	return now;
}

/* Rely no longer on what any backend has learned so far; for this backend. */
void
heads_distrust(void)
{
	if (heads != NULL)
		trusted_since = advance(false);
}

/* What has been learned so far is worthless, for all.  Cannot fail: called after a commit. */
void
heads_invalidate(void)
{
	if (heads != NULL)
		(void) advance(true);
}

/* The set of a key. */
static HeadSet *
set_of(const HeadKey *key)
{
	uint32 hash = hash_bytes((const unsigned char *) key, sizeof(*key));

	return &heads->sets[hash % set_count()];
}

/* The entry of a key in its locked set, or NULL. */
static HeadEntry *
find_entry(HeadSet *set, const HeadKey *key)
{
	for (int i = 0; i < SET_WAYS; i++)
		if (memcmp(&set->entries[i].key, key, sizeof(*key)) == 0)
			return &set->entries[i];
	return NULL;
}

/* Where a stream of this file stands; false if that is not known.  The caller has its turn. */
bool
heads_get(Relation events, int64 stream, StreamHead *head)
{
	HeadKey key = {stream, MyDatabaseId, compat_relation_file(events)};
	HeadSet *set;
	const HeadEntry *entry;
	bool found;

	if (heads == NULL)
		return false;
	set = set_of(&key);
	SpinLockAcquire(&set->mutex);
	entry = find_entry(set, &key);
	found = entry != NULL && entry->learned >= trusted_since &&
			entry->learned >= pg_atomic_read_u64(&heads->floor);
	if (found)
		*head = entry->head;
	SpinLockRelease(&set->mutex);
	return found;
}

/*
 * Leave where a stream stands to the next who wins its turn.  The caller has
 * the turn still.  Cannot fail: called after the commit.
 */
void
heads_put(Oid file, int64 stream, uint64 learned, const StreamHead *head)
{
	HeadKey key = {stream, MyDatabaseId, file};
	HeadSet *set;
	HeadEntry *entry;

	if (heads == NULL)
		return;
	set = set_of(&key);
	SpinLockAcquire(&set->mutex);
	entry = find_entry(set, &key);
	if (entry == NULL)
		entry = &set->entries[set->next++ % SET_WAYS];
	entry->key = key;
	entry->learned = learned;
	entry->head = *head;
	SpinLockRelease(&set->mutex);
}

/* Forget a stream.  Cannot fail either. */
void
heads_remove(Oid file, int64 stream)
{
	HeadKey key = {stream, MyDatabaseId, file};
	HeadSet *set;
	HeadEntry *entry;

	if (heads == NULL)
		return;
	set = set_of(&key);
	SpinLockAcquire(&set->mutex);
	entry = find_entry(set, &key);
	if (entry != NULL)
		memset(entry, 0, sizeof(*entry));
	SpinLockRelease(&set->mutex);
}
