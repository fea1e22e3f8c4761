/*
 * notifier_shmem.c
 *		What committing sessions and notifiers share.
 *
 * Each database that has a notifier owns a slot: a ring of doorbells, a ring of
 * unstored events, and the notifier's latch.  Sessions put, the notifier takes,
 * both under a spinlock held for the time of a small copy; no session ever
 * waits for the notifier.  A full ring of doorbells is not an error: it becomes
 * one flag that stands for all streams.
 *
 * Slots outlive their notifier, so that what was put while it died is rung by
 * the next.  An idle slot without a notifier may be given to another database.
 */
#include "postgres.h"

#include "commands/dbcommands.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "notifier.h"

#define START_PATIENCE_MS 10000 /* a start that takes longer has failed */
#define SLOT_PATIENCE_MS  60000 /* doorbells older than this are given up */

/* All slots. */
typedef struct NotifierShared
{
	LWLock *lock; /* for taking slots and their states */
	int count;
	NotifierSlot slots[FLEXIBLE_ARRAY_MEMBER];
} NotifierShared;

static NotifierShared *shared = NULL; /* NULL: the library is not preloaded */
static int max_notifiers = 8;

PG_FUNCTION_INFO_V1(pev_notifier_status);

/* Bytes of shared memory. */
Size
notifier_shmem_size(void)
{
	return add_size(offsetof(NotifierShared, slots), mul_size(max_notifiers, sizeof(NotifierSlot)));
}

/* Find or make the shared state; the caller holds AddinShmemInitLock. */
void
notifier_shmem_start(void)
{
	bool found;

	shared = ShmemInitStruct("pev notifiers", notifier_shmem_size(), &found);
	if (found)
		return;
	memset(shared, 0, notifier_shmem_size());
	shared->lock = &GetNamedLWLockTranche(NOTIFIER_TRANCHE)->lock;
	shared->count = max_notifiers;
	for (int i = 0; i < shared->count; i++)
		SpinLockInit(&shared->slots[i].mutex);
}

/* Called once, while shared_preload_libraries is processed. */
void
notifier_shmem_init(void)
{
	DefineCustomIntVariable("pev.max_notifiers",
							"Databases that can have a notifier at the same time.",
							"Each takes a background worker while it is in use and about 400 kB "
							"of shared memory.  Other databases ring with a plain NOTIFY.",
							&max_notifiers, 8, 1, 1024, PGC_POSTMASTER, 0, NULL, NULL, NULL);
}

/* The slot of this number; NULL for a negative one. */
NotifierSlot *
notifier_slot(int index)
{
	return index < 0 ? NULL : &shared->slots[index];
}

/* Is the library preloaded, so that there can be notifiers? */
bool
notifier_available(void)
{
	return shared != NULL;
}

/* The number of a database's slot, or -1. */
int
notifier_find(Oid database)
{
	if (shared == NULL)
		return -1;
	for (int i = 0; i < shared->count; i++)
		if (shared->slots[i].database == database)
			return i;
	return -1;
}

/*
 * Does nobody need this slot?  What still waits in one that has had no notifier
 * for long will not be rung any more: perhaps its database is gone.
 */
static bool
is_idle(const NotifierSlot *slot, TimestampTz now)
{
	if (slot->state == NOTIFIER_STOPPED &&
		TimestampDifferenceExceeds(slot->changed_at, now, SLOT_PATIENCE_MS))
		return true;
	return slot->state == NOTIFIER_STOPPED && slot->head == slot->tail && !slot->everything &&
		   slot->live_head == slot->live_tail;
}

/* May a notifier be started for this slot now? */
static bool
may_start(const NotifierSlot *slot, TimestampTz now)
{
	/* a hold is short: one that is long is of a clock that was set back since */
	if (now < slot->hold_until && slot->hold_until - now <= NOTIFIER_HOLD_US)
		return false;
	if (slot->state == NOTIFIER_STARTING)
		return TimestampDifferenceExceeds(slot->changed_at, now, START_PATIENCE_MS);
	return slot->state == NOTIFIER_STOPPED;
}

/* A slot for this database: its own, an unused one, or another's that is idle. */
static int
choose_slot(Oid database, TimestampTz now)
{
	int index = notifier_find(database);

	if (index < 0)
		index = notifier_find(InvalidOid);
	for (int i = 0; index < 0 && i < shared->count; i++)
		if (is_idle(&shared->slots[i], now))
			index = i;
	return index;
}

/* Make a slot another database's. */
static void
assign_slot(NotifierSlot *slot, Oid database)
{
	if (slot->database == database)
		return;
	slot->hold_until = 0;
	SpinLockAcquire(&slot->mutex);
	slot->database = database;
	slot->tail = slot->head;
	slot->live_tail = slot->live_head;
	slot->everything = false;
	slot->deadline = DT_NOEND;
	memset(&slot->counters, 0, sizeof(slot->counters));
	SpinLockRelease(&slot->mutex);
}

/*
 * Take the right to start a notifier for a database.  False if there is one, if
 * somebody else is starting it, or if there is no room for it.
 */
bool
notifier_reserve(Oid database, int *index)
{
	TimestampTz now = GetCurrentTimestamp();
	bool reserved = false;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	*index = choose_slot(database, now);
	if (*index >= 0)
	{
		NotifierSlot *slot = &shared->slots[*index];

		assign_slot(slot, database);
		reserved = may_start(slot, now);
		if (reserved)
		{
			slot->state = NOTIFIER_STARTING;
			slot->changed_at = now;
		}
	}
	LWLockRelease(shared->lock);
	return reserved;
}

/* Note what the notifier of a slot, which is this process or none, does now. */
static void
set_state(NotifierSlot *slot, NotifierState state, pid_t pid)
{
	slot->state = state;
	slot->pid = pid;
	slot->changed_at = GetCurrentTimestamp();
	SpinLockAcquire(&slot->mutex);
	slot->latch = pid == 0 ? NULL : MyLatch;
	slot->sleeping = false;
	SpinLockRelease(&slot->mutex);
}

/*
 * Become the notifier of a slot.  False if it has one: a start that took very
 * long was taken for failed, and another came first.
 */
bool
notifier_claim(NotifierSlot *slot)
{
	bool claimed;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	claimed = slot->pid == 0;
	if (claimed)
		set_state(slot, NOTIFIER_STARTING, MyProcPid);
	LWLockRelease(shared->lock);
	return claimed;
}

/* Ready for doorbells. */
void
notifier_set_running(NotifierSlot *slot)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	set_state(slot, NOTIFIER_RUNNING, MyProcPid);
	LWLockRelease(shared->lock);
}

/* Give a claimed slot back. */
void
notifier_release(NotifierSlot *slot)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	set_state(slot, NOTIFIER_STOPPED, 0);
	LWLockRelease(shared->lock);
}

/* Let no notifier start for a database until then; the process id of the one it has, or 0. */
pid_t
notifier_hold(Oid database, TimestampTz until)
{
	int index;
	pid_t pid = 0;

	if (shared == NULL)
		return 0;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	index = notifier_find(database);
	if (index >= 0)
	{
		shared->slots[index].hold_until = until;
		pid = shared->slots[index].pid;
	}
	LWLockRelease(shared->lock);
	return pid;
}

/* Which latch to set after something was put; NULL if the notifier will see it anyway. */
static Latch *
latch_to_set(NotifierSlot *slot, bool urgent)
{
	Latch *latch = slot->sleeping || urgent ? slot->latch : NULL;

	slot->sleeping = false;
	return latch;
}

/*
 * Put doorbells.  Cannot fail: called after the commit.  An urgent one ends the
 * notifier's pause between batches.
 */
void
notifier_put(NotifierSlot *slot, const Doorbell *doorbells, int count, bool everything, bool urgent)
{
	TimestampTz now = GetCurrentTimestamp();
	Latch *latch;

	SpinLockAcquire(&slot->mutex);
	if (slot->database != MyDatabaseId)
	{
		/* the notifier ended since, and the slot is another's now: the poll will find the events */
		SpinLockRelease(&slot->mutex);
		return;
	}
	if (slot->head == slot->tail && !slot->everything)
		slot->oldest = now;
	slot->counters.doorbells += count;
	if (everything || count > NOTIFIER_RING_SIZE - (int) (slot->head - slot->tail))
	{
		slot->everything = true;
		slot->counters.overflows++;
	}
	else
		for (int i = 0; i < count; i++)
			slot->ring[slot->head++ % NOTIFIER_RING_SIZE] = doorbells[i];
	latch = latch_to_set(slot, urgent);
	SpinLockRelease(&slot->mutex);
	if (latch)
		SetLatch(latch);
}

/*
 * Is there ample room for so many bytes of unstored events?  Other commits may
 * come first, so only half of what is free is promised.
 */
bool
notifier_live_has_room(NotifierSlot *slot, Size size)
{
	Size used;

	SpinLockAcquire(&slot->mutex);
	used = slot->live_head - slot->live_tail;
	SpinLockRelease(&slot->mutex);
	return size <= (NOTIFIER_LIVE_SIZE - used) / 2;
}

/* Copy bytes into the ring of unstored events, around its end. */
static void
copy_in(NotifierSlot *slot, const void *bytes, uint32 len)
{
	uint32 at = slot->live_head % NOTIFIER_LIVE_SIZE;
	uint32 first = Min(len, NOTIFIER_LIVE_SIZE - at);

	memcpy(slot->live + at, bytes, first);
	memcpy(slot->live, (const char *) bytes + first, len - first);
	slot->live_head += len;
}

/* Put an unstored event's payload; false if there is no room for it. */
bool
notifier_put_live(NotifierSlot *slot, const char *payload, int len)
{
	uint32 size = len;
	Latch *latch = NULL;
	bool fits;

	SpinLockAcquire(&slot->mutex);
	fits = slot->database == MyDatabaseId &&
		   NOTIFIER_LIVE_HEADER + size <= NOTIFIER_LIVE_SIZE - (slot->live_head - slot->live_tail);
	if (fits)
	{
		copy_in(slot, &size, NOTIFIER_LIVE_HEADER);
		copy_in(slot, payload, size);
		slot->counters.live++;
		latch = latch_to_set(slot, false);
	}
	else
		slot->counters.live_dropped++;
	SpinLockRelease(&slot->mutex);
	if (latch)
		SetLatch(latch);
	return fits;
}

/* Say that there is a new deadline.  Cannot fail: called after the commit. */
void
notifier_put_deadline(NotifierSlot *slot, TimestampTz deadline)
{
	Latch *latch = NULL;

	SpinLockAcquire(&slot->mutex);
	if (slot->database == MyDatabaseId)
	{
		slot->deadline = Min(slot->deadline, deadline);
		latch = latch_to_set(slot, false);
	}
	SpinLockRelease(&slot->mutex);
	if (latch)
		SetLatch(latch);
}

/* The earliest that came since the last call, or DT_NOEND. */
TimestampTz
notifier_take_deadline(NotifierSlot *slot)
{
	TimestampTz deadline;

	SpinLockAcquire(&slot->mutex);
	deadline = slot->deadline;
	slot->deadline = DT_NOEND;
	SpinLockRelease(&slot->mutex);
	return deadline;
}

/*
 * Take up to max doorbells; how many.  *everything is set if the ring had
 * overflowed, *oldest to when the first of them was put.
 */
int
notifier_take(NotifierSlot *slot, Doorbell *doorbells, int max, bool *everything,
			  TimestampTz *oldest)
{
	int count;

	SpinLockAcquire(&slot->mutex);
	count = Min(max, (int) (slot->head - slot->tail));
	for (int i = 0; i < count; i++)
		doorbells[i] = slot->ring[slot->tail++ % NOTIFIER_RING_SIZE];
	*everything = slot->everything;
	slot->everything = false;
	*oldest = slot->oldest;
	if (slot->head != slot->tail)
		slot->oldest = GetCurrentTimestamp();
	SpinLockRelease(&slot->mutex);
	return count;
}

/* Copy bytes out of the ring of unstored events, around its end. */
static void
copy_out(NotifierSlot *slot, void *bytes, uint32 len)
{
	uint32 at = slot->live_tail % NOTIFIER_LIVE_SIZE;
	uint32 first = Min(len, NOTIFIER_LIVE_SIZE - at);

	memcpy(bytes, slot->live + at, first);
	memcpy((char *) bytes + first, slot->live, len - first);
	slot->live_tail += len;
}

/* Take the next unstored event's payload, null-terminated; its length, or -1 if there is none. */
int
notifier_take_live(NotifierSlot *slot, char *bytes, int max)
{
	uint32 len;

	SpinLockAcquire(&slot->mutex);
	if (slot->live_head == slot->live_tail)
	{
		SpinLockRelease(&slot->mutex);
		return -1;
	}
	copy_out(slot, &len, NOTIFIER_LIVE_HEADER);
	Assert((int) len < max);
	copy_out(slot, bytes, len);
	SpinLockRelease(&slot->mutex);
	bytes[len] = '\0';
	return len;
}

/* Announce that the notifier is going to wait for its latch; false if there is work instead. */
bool
notifier_sleep(NotifierSlot *slot)
{
	SpinLockAcquire(&slot->mutex);
	slot->sleeping = slot->head == slot->tail && !slot->everything && slot->deadline == DT_NOEND &&
					 slot->live_head == slot->live_tail;
	SpinLockRelease(&slot->mutex);
	return slot->sleeping;
}

/* Count a batch; `oldest` is when the first of its doorbells was put, or 0. */
void
notifier_count(NotifierSlot *slot, int notifications, TimestampTz oldest)
{
	int64 lag = oldest == 0 ? 0 : GetCurrentTimestamp() - oldest;

	SpinLockAcquire(&slot->mutex);
	slot->counters.batches++;
	slot->counters.notifications += notifications;
	slot->counters.lag_last = lag;
	slot->counters.lag_max = Max(slot->counters.lag_max, lag);
	SpinLockRelease(&slot->mutex);
}

/* A row of pev_notifier_status. */
static void
status_row(ReturnSetInfo *rsinfo, const NotifierSlot *slot)
{
	static const char *const states[] = {"stopped", "starting", "running"};
	const NotifierCounters *c = &slot->counters;
	char *database = get_database_name(slot->database);
	Datum values[13];
	bool nulls[13] = {false};
	int i = 0;

	nulls[i] = database == NULL;
	values[i++] = database == NULL ? (Datum) 0 : CStringGetTextDatum(database);
	values[i++] = CStringGetTextDatum(states[slot->state]);
	nulls[i] = slot->pid == 0;
	values[i++] = Int32GetDatum(slot->pid);
	values[i++] = Int64GetDatum(slot->head - slot->tail);
	values[i++] = Int64GetDatum(c->doorbells);
	values[i++] = Int64GetDatum(c->batches);
	values[i++] = Int64GetDatum(c->notifications);
	values[i++] = Int64GetDatum(c->overflows);
	values[i++] = Int64GetDatum(c->live);
	values[i++] = Int64GetDatum(c->live_dropped);
	values[i++] = Float8GetDatum(c->lag_last / 1000.0);
	values[i++] = Float8GetDatum(c->lag_max / 1000.0);
	values[i++] = TimestampTzGetDatum(slot->changed_at);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* pev_notifier_status(): a row for every database that has or had a notifier */
Datum
pev_notifier_status(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; shared != NULL && i < shared->count; i++)
	{
		NotifierSlot *slot = &shared->slots[i];
		NotifierSlot *copy = palloc(offsetof(NotifierSlot, ring));

		LWLockAcquire(shared->lock, LW_SHARED);
		SpinLockAcquire(&slot->mutex);
		memcpy(copy, slot, offsetof(NotifierSlot, ring));
		SpinLockRelease(&slot->mutex);
		LWLockRelease(shared->lock);
		if (OidIsValid(copy->database))
			status_row(rsinfo, copy);
		pfree(copy);
	}
	return (Datum) 0;
}
