/*
 * place.h
 *		A subscriber's place in one of its streams.
 */
#ifndef PEV_PLACE_H
#define PEV_PLACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "cursor.h"
#include "frame.h"
#include "hub.h"
#include "roster.h"

/* Where a place's own page of history stands. */
typedef enum PageState
{
	PAGE_NONE,
	PAGE_QUEUED,
	PAGE_READING
} PageState;

/*
 * What a subscriber has of a stream.  It is part of the subscriber, and the
 * stream lives as long.
 */
typedef struct Place
{
	struct Subscriber *sub;
	Stream *stream;
	Cursor cursor; /* what was asked for */
	int index;     /* of the parameter that names the stream, in a composite request */
	bool known;    /* pos and read are */
	bool looking;  /* a look begun after the subscriber came will tell them */
	bool over;     /* the stream's last event has been sent, or was not wanted */
	bool told;     /* that it is over, to a composite subscriber */

	int64_t pos;  /* events up to here have been sent, or are not wanted */
	int64_t read; /* rows up to here are in the page or behind it */

	PageState page_state;
	bool page_void; /* what is being read was meant to follow rows given back since */
	Frame **page;   /* rows of its own, those in use are page[first .. count) */
	size_t page_first;
	size_t page_count;
	size_t page_size;
	size_t page_bytes;
	int64_t page_rows; /* asked for with its last page; 0: it has had none */

	/* presence.c's. */
	Roster *roster; /* NULL: its client is not told who is present */
	uint64_t seen;  /* the version of the roster that it has been told */
	Hold *hold;     /* NULL: its client is not present */
	bool unshown;   /* for lack of room; it will be tried again */
	TAILQ_ENTRY(Place) unshown_link;

	TAILQ_ENTRY(Place) stream_link;
	TAILQ_ENTRY(Place) holder_link; /* by age of the page, while it has one */
	TAILQ_ENTRY(Place) queue_link;  /* in the queue that it waits in, for the database */
	struct PlaceList *waiting;      /* that queue, or NULL */
} Place;

extern void place_enter(Place *place, const StreamKey *key);
extern void place_enqueue(struct PlaceList *queue, Place *place);
extern void place_dequeue(Place *place);
extern void place_doubt(Place *place);
extern void place_find(Place *place, int64_t last);
extern bool place_is_near_tail(const Place *place);
extern Frame *place_next(Place *place);

extern bool stream_is_wanted(const Stream *stream);
extern void stream_wake(Stream *stream);
extern void stream_reset(Stream *stream, int64_t last);

#endif
