/*
 * subscriber.h
 *		One client of one stream: its position, and what it is sent next.
 */
#ifndef PEV_SUBSCRIBER_H
#define PEV_SUBSCRIBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "cursor.h"
#include "frame.h"
#include "hub.h"

/* What subscriber_fill returns besides a number of bytes. */
#define FILL_WAIT  0
#define FILL_END   (-1)
#define FILL_ABORT (-2)

typedef enum SubscriberState
{
	SUBSCRIBER_NEW,       /* attached, nothing decided */
	SUBSCRIBER_ADMITTING, /* its answer waits for the database; suspended */
	SUBSCRIBER_ADMITTED,  /* its answer can be given */
	SUBSCRIBER_ACTIVE,    /* being sent what it lacks */
	SUBSCRIBER_IDLE,      /* lacks nothing; suspended */
	SUBSCRIBER_ENDING,    /* the last frame is on its way */
	SUBSCRIBER_GONE
} SubscriberState;

/* How a request for a stream is to be answered. */
typedef enum Verdict
{
	VERDICT_OPEN,    /* stream */
	VERDICT_CLOSED,  /* it has everything, and nothing more will come */
	VERDICT_BAD_TYPE /* the filter names a type that does not exist */
} Verdict;

/* Where a subscriber's own page of history stands. */
typedef enum PageState
{
	PAGE_NONE,
	PAGE_QUEUED,
	PAGE_READING
} PageState;

typedef struct LiveQueue LiveQueue;

/*
 * A subscriber.  Whoever makes one ends it with subscriber_free; its stream
 * lives as long.
 */
typedef struct Subscriber
{
	uint64_t client;
	void *owner; /* for the hooks */
	Stream *stream;
	SubscriberState state;
	Verdict verdict;

	Cursor cursor; /* what it asked for */
	TypeFilter filter;
	const char *bad_type; /* of the filter, with VERDICT_BAD_TYPE */
	bool placed;          /* pos and read are known */
	bool looking;         /* a look begun after it came will place it */
	bool hung_up;         /* the peer has closed */
	bool ending;          /* to be ended, after last if that is set */
	bool beat_due;        /* it has heard nothing for long */
	bool quiet;           /* what it was sent last is no event */

	int64_t pos;  /* events up to here it has, or does not want */
	int64_t read; /* rows up to here are in its page or behind it */

	Frame *current; /* being copied */
	size_t offset;  /* in current */
	Frame *last;    /* to be sent before it is ended */

	PageState page_state;
	bool page_void; /* what is being read was meant to follow rows given back since */
	Frame **page;   /* rows of its own, those in use are page[first .. count) */
	size_t page_first;
	size_t page_count;
	size_t page_size;
	size_t page_bytes;
	int64_t page_rows; /* asked for with its last page; 0: it has had none */
	LiveQueue *live;   /* frames that are not stored */

	int64_t sent_time;
	int64_t opened; /* when the response began, by loop_clock */
	TAILQ_ENTRY(Subscriber) stream_link;
	TAILQ_ENTRY(Subscriber) pulse_link;  /* by sent_time, once the response has begun */
	TAILQ_ENTRY(Subscriber) holder_link; /* by age of the page, while it has one */
	TAILQ_ENTRY(Subscriber) queue_link;  /* in the queue that it waits in, for the database */
	struct SubscriberList *waiting;      /* that queue, or NULL */
	bool pulsing;
} Subscriber;

/* How the owner of the connection and the reader of the table are told. */
typedef struct SubscriberHooks
{
	void (*resume)(Subscriber *subscriber);    /* it was suspended and is not any more */
	void (*want_tail)(Stream *stream);         /* somebody lacks rows after the tail */
	void (*want_page)(Subscriber *subscriber); /* it lacks rows before the window */
	void (*forget)(Subscriber *subscriber);    /* it is about to be freed */
	void (*forget_stream)(Stream *stream);     /* nobody watches it any more */
} SubscriberHooks;

extern void subscriber_init(const SubscriberHooks *hooks, int64_t heartbeat);
extern void subscriber_close(void);
extern size_t subscriber_count(void);
extern Subscriber *subscriber_new(uint64_t client, void *owner, const StreamKey *key,
								  const Cursor *cursor, TypeFilter *filter);
extern void subscriber_free(Subscriber *sub);

extern void subscriber_set_state(Subscriber *sub, SubscriberState state);
extern void subscriber_admit(Subscriber *sub, Verdict verdict);
extern void subscriber_open(Subscriber *sub, Frame *hello);
extern void subscriber_place(Subscriber *sub, int64_t last);
extern void subscriber_end(Subscriber *sub, Frame *last);
extern void subscriber_wake(Subscriber *sub);
extern void subscriber_hang_up(Subscriber *sub);
extern void subscriber_enqueue(struct SubscriberList *queue, Subscriber *sub);
extern void subscriber_dequeue(Subscriber *sub);
extern void subscriber_probe(Subscriber *sub);
extern void subscriber_send(Subscriber *sub, Frame *frame);
extern void subscriber_send_live(Subscriber *sub, Frame *frame);
extern ssize_t subscriber_fill(Subscriber *sub, char *out, size_t size);

extern bool stream_is_wanted(const Stream *stream);
extern void stream_wake(Stream *stream);
extern void stream_send_live(Stream *stream, Frame *frame);
extern void stream_reset(Stream *stream, int64_t last);

#endif
