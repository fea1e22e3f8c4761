/*
 * grant.c
 *		What lets a client listen to a stream, until it ends.
 *
 * A stream outlives by far the moment at which its token was verified, so the
 * token is kept in mind for as long.  Half a minute before it expires the client
 * is told, to open the next stream with a new one; when it expires, is revoked,
 * or its key is withdrawn, the stream ends.  The client's own reconnect is then
 * refused with 401, which ends an EventSource for good.
 *
 * When a token expires is converted to the loop's clock once: stepping the wall
 * clock lets no stream live longer that is open.
 */
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "grant.h"
#include "log.h"
#include "loop.h"
#include "mem.h"
#include "presence.h"
#include "revoked.h"

#define GRANT_WARNING  30   /* seconds before it expires */
#define TICKET_BUCKETS 4096 /* a power of two, 65,536 at most */

static struct
{
	TAILQ_HEAD(, Grant) all;
	LIST_HEAD(, Grant) tickets[TICKET_BUCKETS]; /* by digest */
} grants;

void
grants_init(void)
{
	TAILQ_INIT(&grants.all);
}

/* Make one of a token that has been verified. */
Grant *
grant_new_token(const Token *token)
{
	Grant *grant = mem_zero(sizeof(Grant));
	const char *user;
	const char *name;

	grant->state = GRANT_VALID;
	grant->id = token->id[0] != '\0' ? mem_string(token->id) : NULL;
	memcpy(grant->digest, token->key_digest, sizeof(grant->digest));
	grant->expires = token->expires;
	if (presence_is_on() && token_user(token, ROSTER_ID_MAX, ROSTER_NAME_MAX, &user, &name))
	{
		grant->user = mem_string(user);
		grant->user_name = mem_string(name);
	}
	TAILQ_INSERT_TAIL(&grants.all, grant, link);
	return grant;
}

/* The number of the bucket for a ticket. */
static unsigned int
ticket_bucket(const unsigned char *digest)
{
	return (digest[0] | (unsigned int) digest[1] << 8) & (TICKET_BUCKETS - 1);
}

/* Make one of a ticket that has yet to be redeemed.  Its id is its digest in hexadecimal. */
Grant *
grant_new_ticket(const unsigned char digest[TOKEN_DIGEST_LEN])
{
	Grant *grant = mem_zero(sizeof(Grant));

	grant->state = GRANT_PENDING;
	grant->ticket = true;
	grant->id = mem_zero(2 * TOKEN_DIGEST_LEN + 1);
	for (int i = 0; i < TOKEN_DIGEST_LEN; i++)
		sprintf(grant->id + 2 * i, "%02x", digest[i]);
	memcpy(grant->digest, digest, sizeof(grant->digest));
	TAILQ_INSERT_TAIL(&grants.all, grant, link);
	LIST_INSERT_HEAD(&grants.tickets[ticket_bucket(digest)], grant, ticket_link);
	return grant;
}

/* The ticket of this digest that somebody uses, or NULL; one whose client has gone is free. */
Grant *
grant_find_ticket(const unsigned char digest[TOKEN_DIGEST_LEN])
{
	Grant *grant;

	LIST_FOREACH(grant, &grants.tickets[ticket_bucket(digest)], ticket_link)
	{
		if (CRYPTO_memcmp(grant->digest, digest, TOKEN_DIGEST_LEN) == 0 &&
			(grant->sub == NULL || !grant->sub->hung_up))
			return grant;
	}
	return NULL;
}

/* An event about the grant itself. */
static Frame *
grant_frame(const Grant *grant, const char *type)
{
	char data[64];
	time_t seconds = (time_t) grant->expires;
	struct tm parts;
	size_t len;

	gmtime_r(&seconds, &parts);
	len = strftime(data, sizeof(data), "{\"expiresAt\": \"%Y-%m-%dT%H:%M:%SZ\"}", &parts);
	return frame_event(0, type, strlen(type), data, len, false);
}

/* Take it back, and end the stream with the reason. */
static void
grant_end(Grant *grant, const char *type)
{
	grant->state = GRANT_REFUSED;
	alarm_clear(&grant->alarm);
	if (grant->sub == NULL)
		return;
	log_write(LOG_DEBUG, grant->sub->client, "stream ends: %s", type);
	subscriber_end(grant->sub, grant_frame(grant, type));
}

static void grant_on_alarm(void *arg);

/* Wait until so many seconds before it expires. */
static void
grant_wait(Grant *grant, int64_t seconds)
{
	int64_t now = loop_clock() / 1000;
	struct timespec wall;
	int64_t left;

	clock_gettime(CLOCK_REALTIME, &wall);
	left =
		(grant->expires - seconds) * 1000 - (int64_t) wall.tv_sec * 1000 - wall.tv_nsec / 1000000;
	/* never too early, or the client could come back with the same token */
	alarm_set(&grant->alarm, now + (left > 0 ? left : 0) + 1, grant_on_alarm, grant);
}

/* It is about to expire, or has. */
static void
grant_on_alarm(void *arg)
{
	Grant *grant = arg;
	Frame *frame;

	if (grant->warned)
	{
		grant_end(grant, "token-expired");
		return;
	}
	grant->warned = true;
	frame = grant_frame(grant, "token-expiring");
	subscriber_send(grant->sub, frame);
	frame_unref(frame);
	grant_wait(grant, 0);
}

/* Its client begins to listen. */
void
grant_attach(Grant *grant, Subscriber *sub)
{
	grant->sub = sub;
	grant_wait(grant, GRANT_WARNING);
}

/* The request is over. */
void
grant_free(Grant *grant)
{
	alarm_clear(&grant->alarm);
	if (grant->ticket)
		LIST_REMOVE(grant, ticket_link);
	TAILQ_REMOVE(&grants.all, grant, link);
	free(grant->id);
	free(grant->user);
	free(grant->user_name);
	free(grant);
}

/* End the streams whose token or ticket has been revoked. */
void
grants_end_revoked(void)
{
	Grant *grant;

	TAILQ_FOREACH(grant, &grants.all, link)
	{
		if (grant->state != GRANT_REFUSED && grant->id != NULL && revoked_has(grant->id))
			grant_end(grant, "token-revoked");
	}
}

/* End the streams whose token was verified by a key that is no longer there. */
void
grants_end_unverified(const TokenKeys *keys)
{
	Grant *grant;

	TAILQ_FOREACH(grant, &grants.all, link)
	{
		bool known = grant->ticket || grant->state == GRANT_REFUSED;

		for (int i = 0; i < keys->count && !known; i++)
			known = memcmp(keys->keys[i].digest, grant->digest, TOKEN_DIGEST_LEN) == 0;
		if (!known)
			grant_end(grant, "token-revoked");
	}
}
