/*
 * hub.c
 *		The streams somebody watches, and their recent frames.
 *
 * All subscribers of a stream share one window of frames.  It moves with the
 * subscriber that is furthest ahead; who falls behind it reads pages of their
 * own (subscriber.c) until they meet it again.  Hence a window may be cut or
 * dropped at any time without loss: the table is the truth.
 *
 * Two bounds hold: one for each window and one for all together.  Beyond the
 * second, windows that have been quiet for longest are emptied first.  The
 * newest frame of a window stays in any case, or an event larger than the
 * bound could never be delivered.
 *
 * A stream that nobody watches any more lingers for a while with its window:
 * when a proxy dies, all of its clients come back within seconds, each where it
 * was, and need not read the table.  Nobody reads on for it meanwhile.  Such
 * streams are bounded in number, and the first to go when memory is short.
 */
#include <stdlib.h>
#include <string.h>

#include "hash.h"
#include "hub.h"
#include "loop.h"
#include "mem.h"
#include "metrics.h"

#define HUB_BUCKETS_FIRST  64
#define LINGER_MOST        4096
#define WINDOW_SLOTS_FIRST 8
#define FRAME_MEAN_FIRST   512
#define FRAME_MEAN_WEIGHT  16

static struct
{
	size_t stream_bytes; /* bound of a window */
	size_t total_bytes;  /* bound of all windows */
	size_t bytes;        /* in all windows */
	size_t count;
	size_t unresolved;
	size_t buckets; /* a power of two */
	Stream **by_id;
	Stream **by_key;
	struct StreamList all;
	struct StreamList windows; /* that are not empty, longest quiet first */
	int64_t linger;            /* for so many milliseconds */
	size_t lingering;
	struct StreamList lingerers; /* longest left first */
	Timer linger_timer;
} hub;

/* Spread an id over the buckets. */
static size_t
hub_hash_id(int64_t id)
{
	return (size_t) hash_finish((uint64_t) id) & (hub.buckets - 1);
}

/* Spread a key over the buckets. */
static size_t
hub_hash_key(const char *key)
{
	return (size_t) hash_finish(hash_bytes(HASH_START, key, strlen(key))) & (hub.buckets - 1);
}

/* Make both tables anew with so many buckets, and put every stream into them. */
static void
hub_rehash(size_t buckets)
{
	Stream *stream;

	free(hub.by_id);
	free(hub.by_key);
	hub.buckets = buckets;
	hub.by_id = mem_zero(buckets * sizeof(Stream *));
	hub.by_key = mem_zero(buckets * sizeof(Stream *));
	TAILQ_FOREACH(stream, &hub.all, all_link)
	{
		Stream **bucket = &hub.by_key[hub_hash_key(stream->key)];

		stream->next_by_key = *bucket;
		*bucket = stream;
		if (!stream->resolved)
			continue;
		bucket = &hub.by_id[hub_hash_id(stream->id)];
		stream->next_by_id = *bucket;
		*bucket = stream;
	}
}

/* Start with no streams; one that nobody watches lingers for so many milliseconds. */
void
hub_init(size_t stream_bytes, size_t total_bytes, int64_t linger)
{
	hub.stream_bytes = stream_bytes;
	hub.total_bytes = total_bytes;
	hub.bytes = 0;
	hub.count = 0;
	hub.unresolved = 0;
	TAILQ_INIT(&hub.all);
	TAILQ_INIT(&hub.windows);
	hub.linger = linger;
	hub.lingering = 0;
	TAILQ_INIT(&hub.lingerers);
	hub_rehash(HUB_BUCKETS_FIRST);
}

/* Release all; nobody watches any stream. */
void
hub_close(void)
{
	hub_forget_lingering();
	free(hub.by_id);
	free(hub.by_key);
	hub.by_id = NULL;
	hub.by_key = NULL;
}

/* All streams, for iterating. */
struct StreamList *
hub_streams(void)
{
	return &hub.all;
}

/* How many watched keys have no id yet? */
size_t
hub_unresolved(void)
{
	return hub.unresolved;
}

/* How many streams are watched? */
size_t
hub_count(void)
{
	return hub.count - hub.lingering;
}

/* How many bytes do all windows hold? */
size_t
hub_bytes(void)
{
	return hub.bytes;
}

/* How many may one window hold? */
size_t
hub_stream_bound(void)
{
	return hub.stream_bytes;
}

/* The watched stream of this id, or NULL. */
Stream *
hub_find(int64_t id)
{
	Stream *stream = hub.by_id[hub_hash_id(id)];

	while (stream != NULL && stream->id != id)
		stream = stream->next_by_id;
	return stream;
}

/* The watched stream of this key, or NULL. */
Stream *
hub_find_key(const char *key)
{
	Stream *stream = hub.by_key[hub_hash_key(key)];

	while (stream != NULL && strcmp(stream->key, key) != 0)
		stream = stream->next_by_key;
	return stream;
}

/* Learn a stream's id. */
void
hub_resolve(Stream *stream, int64_t id)
{
	Stream **bucket = &hub.by_id[hub_hash_id(id)];

	stream->id = id;
	stream->resolved = true;
	stream->next_by_id = *bucket;
	*bucket = stream;
	hub.unresolved--;
}

/* Take a stream out of the table of ids. */
static void
hub_remove_id(Stream *stream)
{
	Stream **link = &hub.by_id[hub_hash_id(stream->id)];

	while (*link != stream)
		link = &(*link)->next_by_id;
	*link = stream->next_by_id;
}

/* Forget a stream's id. */
void
hub_unresolve(Stream *stream)
{
	hub_remove_id(stream);
	stream->resolved = false;
	hub.unresolved++;
}

/* It does not linger any more, if it did. */
static void
hub_end_lingering(Stream *stream)
{
	if (!stream->lingering)
		return;
	TAILQ_REMOVE(&hub.lingerers, stream, linger_link);
	stream->lingering = false;
	hub.lingering--;
}

/* The stream of this key, made if nobody watches it yet. */
Stream *
hub_watch(const StreamKey *key)
{
	Stream *stream = hub_find_key(key->text);

	if (stream != NULL)
	{
		hub_end_lingering(stream);
		return stream;
	}
	stream = mem_zero(sizeof(Stream));
	stream->key = mem_string(key->text);
	stream->mean = FRAME_MEAN_FIRST;
	stream->stale = true;
	TAILQ_INIT(&stream->places);
	TAILQ_INSERT_TAIL(&hub.all, stream, all_link);
	hub.unresolved++;
	if (++hub.count > hub.buckets)
		hub_rehash(hub.buckets * 2);
	else
	{
		Stream **bucket = &hub.by_key[hub_hash_key(stream->key)];

		stream->next_by_key = *bucket;
		*bucket = stream;
	}
	stream->numeric = key->numeric;
	if (key->numeric)
		hub_resolve(stream, key->id);
	return stream;
}

/* Drop the oldest frame of the window. */
static void
stream_drop_first(Stream *stream)
{
	Frame *frame = stream->slots[stream->first].frame;

	stream->base = frame->seq;
	stream->bytes -= frame->len;
	hub.bytes -= frame->len;
	stream->first++;
	stream->count--;
	frame_unref(frame);
}

/* Empty the window and let it go on after seq. */
void
stream_restart(Stream *stream, int64_t seq)
{
	if (stream->count > 0)
		TAILQ_REMOVE(&hub.windows, stream, window_link);
	while (stream->count > 0)
		stream_drop_first(stream);
	free(stream->slots);
	stream->slots = NULL;
	stream->first = 0;
	stream->size = 0;
	stream->base = seq;
	stream->tail = seq;
	stream->read_rows = 0;
}

/* Free a stream. */
static void
hub_release(Stream *stream)
{
	Stream **link = &hub.by_key[hub_hash_key(stream->key)];

	hub_end_lingering(stream);
	stream_restart(stream, 0);
	while (*link != stream)
		link = &(*link)->next_by_key;
	*link = stream->next_by_key;
	if (stream->resolved)
		hub_remove_id(stream);
	else
		hub.unresolved--;
	TAILQ_REMOVE(&hub.all, stream, all_link);
	hub.count--;
	free(stream->key);
	free(stream);
}

/* Free the streams that have lingered for long. */
static void
hub_on_linger(void *arg)
{
	Stream *stream;

	(void) arg;
	while ((stream = TAILQ_FIRST(&hub.lingerers)) != NULL)
	{
		int64_t due = stream->left_time + hub.linger;

		if (due > loop_now())
		{
			timer_set(&hub.linger_timer, due - loop_now(), hub_on_linger, NULL);
			return;
		}
		hub_release(stream);
	}
	/* their windows lay between what stays: without this the memory would, too */
	mem_trim();
}

/* Free all that linger: what is in the table may have changed. */
void
hub_forget_lingering(void)
{
	timer_clear(&hub.linger_timer);
	while (!TAILQ_EMPTY(&hub.lingerers))
		hub_release(TAILQ_FIRST(&hub.lingerers));
}

/* Nobody watches the stream any more. */
void
hub_leave(Stream *stream)
{
	if (hub.linger == 0 || stream->count == 0)
	{
		hub_release(stream);
		return;
	}
	stream->lingering = true;
	stream->left_time = loop_now();
	TAILQ_INSERT_TAIL(&hub.lingerers, stream, linger_link);
	if (++hub.lingering > LINGER_MOST)
		hub_release(TAILQ_FIRST(&hub.lingerers));
	if (!hub.linger_timer.set)
		timer_set(&hub.linger_timer, hub.linger, hub_on_linger, NULL);
}

/* Make room for one more slot at the end. */
static void
stream_reserve(Stream *stream)
{
	if (stream->first + stream->count < stream->size)
		return;
	if (stream->first > stream->size / 2)
	{
		memmove(stream->slots, stream->slots + stream->first, stream->count * sizeof(Slot));
		stream->first = 0;
		return;
	}
	stream->size = stream->size == 0 ? WINDOW_SLOTS_FIRST : stream->size * 2;
	stream->slots = mem_array(stream->slots, stream->size, sizeof(Slot));
}

/* Hold both bounds; see the head of the file. */
static void
hub_evict(Stream *newest)
{
	while (newest->bytes > hub.stream_bytes && newest->count > 1)
	{
		stream_drop_first(newest);
		metric_add(METRIC_DROPPED_STREAM_BOUND, 1);
	}
	while (hub.bytes > hub.total_bytes && !TAILQ_EMPTY(&hub.lingerers))
		hub_release(TAILQ_FIRST(&hub.lingerers));
	while (hub.bytes > hub.total_bytes &&
		   (TAILQ_FIRST(&hub.windows) != newest || newest->count > 1))
	{
		Stream *quiet = TAILQ_FIRST(&hub.windows);

		metric_add(METRIC_DROPPED_TOTAL_BOUND, quiet != newest ? (int64_t) quiet->count : 1);
		if (quiet != newest)
			stream_restart(quiet, quiet->tail);
		else
			stream_drop_first(newest);
	}
}

/* Another frame of the stream has so many bytes. */
void
stream_weigh(Stream *stream, size_t bytes)
{
	stream->mean += bytes / FRAME_MEAN_WEIGHT;
	stream->mean -= stream->mean / FRAME_MEAN_WEIGHT;
}

/* Append the row that follows the tail.  The reference goes to the window. */
void
stream_append(Stream *stream, Frame *frame)
{
	if (stream->count > 0)
		TAILQ_REMOVE(&hub.windows, stream, window_link);
	TAILQ_INSERT_TAIL(&hub.windows, stream, window_link);
	stream_reserve(stream);
	stream->appended += frame->len;
	stream->slots[stream->first + stream->count] = (Slot){frame, stream->appended};
	stream->count++;
	stream->tail = frame->seq;
	stream->bytes += frame->len;
	hub.bytes += frame->len;
	if (frame->terminal)
		stream->closed_at = frame->seq;
	hub_evict(stream);
}

/*
 * The slot of the first frame after seq, which must not be before the base;
 * count if there is none.  Without gaps it is found at once.
 */
static size_t
stream_slot(const Stream *stream, int64_t seq)
{
	const Slot *slots = stream->slots + stream->first;
	size_t low = 0;
	size_t high = stream->count;

	if (seq >= stream->tail)
		return stream->count;
	if ((uint64_t) (seq - stream->base) < stream->count &&
		slots[seq - stream->base].frame->seq == seq + 1)
		return (size_t) (seq - stream->base);
	while (low < high)
	{
		size_t middle = low + (high - low) / 2;

		if (slots[middle].frame->seq <= seq)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The first frame after seq that the window holds, without a reference; NULL if none. */
Frame *
stream_after(const Stream *stream, int64_t seq)
{
	size_t slot = seq < stream->base ? stream->count : stream_slot(stream, seq);

	return slot < stream->count ? stream->slots[stream->first + slot].frame : NULL;
}

/* How many bytes does the window hold after seq? */
size_t
stream_left(const Stream *stream, int64_t seq)
{
	size_t slot = stream_slot(stream, seq);
	const Slot *next;

	if (slot == stream->count)
		return 0;
	next = &stream->slots[stream->first + slot];
	return (size_t) (stream->appended - next->end) + next->frame->len;
}
