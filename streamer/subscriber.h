/*
 * subscriber.h
 *		A client: its places in the streams it listens to, and what it is sent next.
 */
#ifndef PEV_SUBSCRIBER_H
#define PEV_SUBSCRIBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "frame.h"
#include "hub.h"
#include "live.h"
#include "place.h"
#include "selection.h"

TAILQ_HEAD(SubscriberList, Subscriber);

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

/* A subscriber.  Whoever makes one ends it with subscriber_free. */
typedef struct Subscriber
{
	uint64_t client;
	void *owner; /* for the hooks */
	SubscriberState state;
	Verdict verdict;

	TypeFilter filter;
	const char *bad_type; /* of the filter, with VERDICT_BAD_TYPE */
	bool composite;       /* its ids tell the places in all its streams */
	bool hung_up;         /* the peer has closed */
	bool ending;          /* to be ended, after last if that is set */
	bool beat_due;        /* it has heard nothing for long */
	bool quiet;           /* what it was sent last is no event */
	bool pulsing;

	Frame *current; /* being copied */
	size_t offset;  /* in current */
	size_t stop;    /* up to where in current */
	Frame *rest;    /* of which the rest is copied after current; see subscriber_next */
	Frame *last;    /* to be sent before it is ended */

	LiveQueue *live;               /* frames that are not stored */
	struct Generation *generation; /* NULL: it is as other streams are; see generation.c */
	bool news;                     /* there may be something to tell of who is present */
	bool told;                     /* what it was sent last told that */
	int news_turn;                 /* the place whose turn it is to do so */
	const char *user;              /* who it is present as, or NULL; presence_enter's caller's */
	const char *user_name;

	int64_t sent_time;
	int64_t opened; /* when the response began, by loop_clock */
	TAILQ_ENTRY(Subscriber) all_link;
	TAILQ_ENTRY(Subscriber) pulse_link; /* by sent_time, once the response has begun */

	uint64_t check; /* of the streams, see composite.h */
	int unknown;    /* places that are not known */
	int unsettled;  /* places that the answer waits for */
	int turn;       /* the place whose turn it is */
	int count;
	Place places[];
} Subscriber;

/* How the owner of the connection and the reader of the table are told. */
typedef struct SubscriberHooks
{
	void (*resume)(Subscriber *subscriber); /* it was suspended and is not any more */
	void (*want_tail)(Stream *stream);      /* somebody lacks rows after the tail */
	void (*want_page)(Place *place);        /* it lacks rows before the window */
	void (*forget)(Place *place);           /* its subscriber is about to be freed */
	void (*forget_stream)(Stream *stream);  /* nobody watches it any more */
} SubscriberHooks;

extern void subscriber_init(const SubscriberHooks *hooks, int64_t heartbeat);
extern void subscriber_close(void);
extern size_t subscriber_count(void);
extern struct SubscriberList *subscriber_list(void);
extern Subscriber *subscriber_new(uint64_t client, void *owner, Selection *selection);
extern void subscriber_free(Subscriber *sub);

extern void subscriber_set_state(Subscriber *sub, SubscriberState state);
extern void subscriber_admit(Subscriber *sub, Verdict verdict);
extern void subscriber_open(Subscriber *sub, Frame *hello);
extern void subscriber_end(Subscriber *sub, Frame *last);
extern void subscriber_end_place(Place *place);
extern bool subscriber_is_over(const Subscriber *sub);
extern void subscriber_wake(Subscriber *sub);
extern void subscriber_hang_up(Subscriber *sub);
extern void subscriber_probe(Subscriber *sub);
extern bool subscriber_takes(const Subscriber *sub, const Frame *frame);
extern void subscriber_send(Subscriber *sub, Frame *frame);
extern void subscriber_send_everywhere(Frame *frame);
extern void stream_send_live(Stream *stream, Frame *frame);
extern ssize_t subscriber_fill(Subscriber *sub, char *out, size_t size);

#endif
