/*
 * hub.h
 *		The streams somebody watches, and their recent frames.
 */
#ifndef PEV_HUB_H
#define PEV_HUB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "cursor.h"
#include "frame.h"

struct Place;
TAILQ_HEAD(PlaceList, Place);

/* One frame of a window; end is how many bytes were ever appended up to its end. */
typedef struct Slot
{
	Frame *frame;
	uint64_t end;
} Slot;

/*
 * A watched stream.  Its window holds all of the stream's rows in (base, tail],
 * and each slot one reference to its frame.  The hub makes a stream when its
 * first subscriber comes, and frees it some time after the last one has left.
 */
typedef struct Stream
{
	char *key;
	bool numeric;  /* the key is the id */
	bool resolved; /* id is known */
	int64_t id;
	int64_t made;            /* microseconds of Unix time when its key got the id; 0: not known */
	struct PlaceList places; /* of its subscribers */

	int64_t base;
	int64_t tail;
	Slot *slots; /* those in use are slots[first .. first + count) */
	size_t first;
	size_t count;
	size_t size;
	size_t bytes;      /* in the window */
	uint64_t appended; /* bytes ever */
	size_t mean;       /* running mean of a frame's bytes */
	int64_t closed_at; /* seq of the terminal event, 0 while it is not known */

	/* The reader's. */
	bool stale;        /* there may be rows after tail */
	bool polled;       /* only because the poll thinks so */
	bool read_queued;  /* in the queue for a tail read */
	bool reading;      /* a tail read is under way */
	bool look_queued;  /* in the queue for a look */
	bool unsure;       /* what is known of it may be of another database */
	int64_t read_rows; /* asked for when there were more; 0: not since the window began */
	int64_t read_time; /* when the tail was last read */
	TAILQ_ENTRY(Stream) read_link;
	TAILQ_ENTRY(Stream) look_link;

	/* The hub's. */
	struct Stream *next_by_id;
	struct Stream *next_by_key;
	TAILQ_ENTRY(Stream) window_link; /* by time of the last append */
	TAILQ_ENTRY(Stream) all_link;
	bool lingering;    /* nobody watches it */
	int64_t left_time; /* since then */
	TAILQ_ENTRY(Stream) linger_link;
} Stream;

TAILQ_HEAD(StreamList, Stream);

extern void hub_init(size_t stream_bytes, size_t total_bytes, int64_t linger);
extern void hub_close(void);
extern Stream *hub_watch(const StreamKey *key);
extern void hub_leave(Stream *stream);
extern void hub_forget_lingering(void);
extern Stream *hub_find(int64_t id);
extern Stream *hub_find_key(const char *key);
extern void hub_resolve(Stream *stream, int64_t id);
extern void hub_unresolve(Stream *stream);
extern struct StreamList *hub_streams(void);
extern size_t hub_unresolved(void);
extern size_t hub_count(void);
extern size_t hub_bytes(void);
extern size_t hub_stream_bound(void);

extern void stream_weigh(Stream *stream, size_t bytes);
extern void stream_append(Stream *stream, Frame *frame);
extern void stream_restart(Stream *stream, int64_t seq);
extern Frame *stream_after(const Stream *stream, int64_t seq);
extern size_t stream_left(const Stream *stream, int64_t seq);

#endif
