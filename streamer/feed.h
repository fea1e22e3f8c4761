/*
 * feed.h
 *		What the database tells unasked, and which query goes out next.
 */
#ifndef PEV_FEED_H
#define PEV_FEED_H

#include <stdint.h>

#include "place.h"

extern void feed_start(const char *dsn, int64_t poll);
extern void feed_stop(void);
extern void feed_pump(void);

/* See SubscriberHooks. */
extern void feed_forget(Place *place);
extern void feed_forget_stream(Stream *stream);

#endif
