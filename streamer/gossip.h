/*
 * gossip.h
 *		Streamers of one database tell each other who is present at each.
 */
#ifndef PEV_GOSSIP_H
#define PEV_GOSSIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mem.h"
#include "roster.h"

extern void gossip_start(int64_t grace);
extern void gossip_stop(void);
extern size_t gossip_peers(void);

/* The connection to the database: it is there, brings a message, is gone. */
extern void gossip_connect(void);
extern void gossip_hear(const char *payload);
extern void gossip_disconnect(void);

/* What is to be sent by it. */
extern bool gossip_is_due(void);
extern void gossip_take(Buf *payload);
extern void gossip_sent(void);

/* How a user is held here has changed; and: it is about to be freed. */
extern void gossip_tell(User *user);
extern void gossip_forget(User *user);

/* The streamer stops, and its clients will be at others within so many milliseconds. */
extern void gossip_leave(int64_t back);
extern bool gossip_is_leaving(void);

#endif
