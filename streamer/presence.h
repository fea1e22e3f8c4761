/*
 * presence.h
 *		Clients that are present in the streams they listen to, and are told who else is.
 */
#ifndef PEV_PRESENCE_H
#define PEV_PRESENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config.h"
#include "subscriber.h"

extern void presence_start(const StringList *kinds, int64_t grace);
extern void presence_stop(void);
extern bool presence_is_on(void);
extern bool presence_covers(const char *key);
extern bool presence_claims(const char *type, size_t type_len, const char *data);
extern Holder *presence_here(void);
/* Both strings stay the caller's, and as long as the subscriber. */
extern void presence_enter(Subscriber *sub, const char *user, const char *name);
extern void presence_leave(Place *place);
extern Frame *presence_next(Subscriber *sub, const Place **from);

#endif
