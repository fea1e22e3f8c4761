/*
 * live.c
 *		The frames that wait for one client and cannot be read again: those of no row.
 *
 * Few clients have any, and not for long: there is no queue where nothing waits.
 *
 * Pure: no libpq, no libmicrohttpd.
 */
#include <stdlib.h>

#include "live.h"
#include "mem.h"

#define LIVE_MAX 64 /* frames that wait for one client; the oldest goes first */

/* A frame, and in which place of the client its stream is; NULL: it is of no stream. */
typedef struct Live
{
	Frame *frame;
	const Place *place;
} Live;

struct LiveQueue
{
	size_t first;
	size_t count;
	Live items[LIVE_MAX];
};

/* Add a frame.  It takes a reference of its own. */
void
live_add(LiveQueue **queue, Frame *frame, const Place *place)
{
	LiveQueue *live = *queue;

	if (live == NULL)
		live = *queue = mem_zero(sizeof(LiveQueue));
	if (live->count == LIVE_MAX)
	{
		frame_unref(live->items[live->first++ % LIVE_MAX].frame);
		live->count--;
	}
	live->items[(live->first + live->count++) % LIVE_MAX] = (Live){frame_ref(frame), place};
}

/* Take the next frame, or NULL; the reference goes to the caller. */
Frame *
live_take(LiveQueue **queue, const Place **place)
{
	LiveQueue *live = *queue;
	Live item;

	if (live == NULL)
		return NULL;
	item = live->items[live->first++ % LIVE_MAX];
	if (--live->count == 0)
		live_drop(queue);
	*place = item.place;
	return item.frame;
}

/* Drop all. */
void
live_drop(LiveQueue **queue)
{
	LiveQueue *live = *queue;

	for (; live != NULL && live->count > 0; live->count--)
		frame_unref(live->items[live->first++ % LIVE_MAX].frame);
	free(live);
	*queue = NULL;
}
