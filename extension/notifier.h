/*
 * notifier.h
 *		Ringing the doorbell from a background worker instead of the writer.
 */
#ifndef PEV_NOTIFIER_H
#define PEV_NOTIFIER_H

#include "datatype/timestamp.h"
#include "storage/latch.h"
#include "storage/spin.h"

#include "wake.h"

#define NOTIFIER_TRANCHE     "pev_notifier" /* of the lock */
#define NOTIFIER_RING_SIZE   8192           /* doorbells that can wait; a power of two */
#define NOTIFIER_LIVE_SIZE   (256 * 1024)   /* bytes of unstored events that can wait; likewise */
#define NOTIFIER_HOLD_US     5000000        /* how long a database is kept free of its notifier */
#define NOTIFIER_LIVE_HEADER sizeof(uint32) /* before each of them */

/* What a database's notifier is doing. */
typedef enum NotifierState
{
	NOTIFIER_STOPPED,
	NOTIFIER_STARTING, /* asked for, not there yet */
	NOTIFIER_RUNNING
} NotifierState;

/* Counters since the slot was taken, under the slot's mutex. */
typedef struct NotifierCounters
{
	int64 doorbells;     /* posted by commits */
	int64 batches;       /* transactions of the notifier */
	int64 notifications; /* NOTIFYs sent */
	int64 overflows;     /* times the ring was full */
	int64 live;          /* unstored events posted */
	int64 live_dropped;  /* unstored events that found no room */
	int64 lag_last;      /* microseconds the oldest doorbell of the last batch waited */
	int64 lag_max;       /* and the longest ever */
} NotifierCounters;

/*
 * One database's notifier.  The first block changes under the slots' LWLock
 * and is read without it; the second belongs to the mutex.
 */
typedef struct NotifierSlot
{
	Oid database; /* InvalidOid: never used */
	NotifierState state;
	pid_t pid;              /* 0: none */
	TimestampTz changed_at; /* when `state` last did */
	TimestampTz hold_until; /* no start before: somebody wants the database alone */

	slock_t mutex;
	Latch *latch;         /* of the running notifier, or NULL */
	bool sleeping;        /* it waits for the latch */
	bool everything;      /* doorbells were lost: ring for all streams */
	TimestampTz deadline; /* the earliest that the notifier has not looked at */
	TimestampTz oldest;   /* when the oldest waiting doorbell was posted */
	uint32 head;          /* doorbells posted */
	uint32 tail;          /* doorbells taken */
	uint32 live_head;     /* bytes posted */
	uint32 live_tail;     /* bytes taken */
	NotifierCounters counters;
	Doorbell ring[NOTIFIER_RING_SIZE];
	char live[NOTIFIER_LIVE_SIZE];
} NotifierSlot;

/* notifier_shmem.c */
extern NotifierSlot *notifier_slot(int index);
extern bool notifier_available(void);
extern int notifier_find(Oid database);
extern bool notifier_reserve(Oid database, int *index);
extern bool notifier_claim(NotifierSlot *slot);
extern void notifier_set_running(NotifierSlot *slot);
extern void notifier_release(NotifierSlot *slot);
extern pid_t notifier_hold(Oid database, TimestampTz until);
extern void notifier_put(NotifierSlot *slot, const Doorbell *doorbells, int count, bool everything,
						 bool urgent);
extern bool notifier_live_has_room(NotifierSlot *slot, Size size);
extern bool notifier_put_live(NotifierSlot *slot, const char *payload, int len);
extern void notifier_put_deadline(NotifierSlot *slot, TimestampTz deadline);
extern TimestampTz notifier_take_deadline(NotifierSlot *slot);
extern int notifier_take(NotifierSlot *slot, Doorbell *doorbells, int max, bool *everything,
						 TimestampTz *oldest);
extern int notifier_take_live(NotifierSlot *slot, char *bytes, int max);
extern void notifier_count(NotifierSlot *slot, int notifications, TimestampTz oldest);
extern bool notifier_sleep(NotifierSlot *slot);
extern Size notifier_shmem_size(void);
extern void notifier_shmem_start(void);
extern void notifier_shmem_init(void);

/* notifier.c */
extern bool notifier_ready(void);
extern bool notifier_live_fits(Size size);
extern void notifier_post(const Doorbell *doorbells, int count, bool everything, bool urgent);
extern void notifier_post_deadline(TimestampTz deadline);
extern void notifier_post_live(const char *payload, int len);
extern void notifier_init(void);

#endif /* PEV_NOTIFIER_H */
