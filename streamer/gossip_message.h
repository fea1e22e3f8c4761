/*
 * gossip_message.h
 *		What streamers of one database tell each other about who is present.
 */
#ifndef PEV_GOSSIP_MESSAGE_H
#define PEV_GOSSIP_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mem.h"

#define GOSSIP_ID_LEN      32               /* hexadecimal digits of a streamer's id */
#define GOSSIP_PAYLOAD_MAX 7900             /* PostgreSQL takes less than 8,000 bytes */
#define GOSSIP_EVERY_MOST  INT64_C(60000)   /* milliseconds */
#define GOSSIP_BACK_MOST   INT64_C(7200000) /* likewise */

struct json_t;

/* gossip_message_free ends it. */
typedef struct GossipMessage
{
	char from[GOSSIP_ID_LEN + 1];
	int64_t number; /* counts the sender's messages, from 1 */
	int64_t every;  /* it will be heard again within so many milliseconds */
	bool hello;     /* it wants to be told everything */
	bool begin;     /* it begins to tell everything */
	bool end;       /* and has told it */
	bool bye;       /* it stops; its clients have been told to go elsewhere */
	int64_t back;   /* and will be there within so many milliseconds */
	struct json_t *json;
} GossipMessage;

/* A user that is present at the sender's; the strings are the message's. */
typedef struct GossipUser
{
	const char *key; /* of the stream */
	const char *id;
	const char *name; /* NULL: it is present there no more */
	int64_t since;    /* when it took the name, in milliseconds of Unix time */
} GossipUser;

/* Messages are written in one piece, users one by one. */
typedef struct GossipDraft
{
	Buf users;
	int count;
} GossipDraft;

extern bool gossip_message_parse(const char *payload, GossipMessage *message);
extern bool gossip_message_user(const GossipMessage *message, size_t index, GossipUser *user);
extern void gossip_message_free(GossipMessage *message);

extern void gossip_draft_init(GossipDraft *draft);
extern bool gossip_draft_add(GossipDraft *draft, const GossipUser *user);
extern void gossip_draft_end(GossipDraft *draft, const GossipMessage *message, Buf *payload);

#endif
