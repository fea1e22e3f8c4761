/*
 * grant.h
 *		What lets a client listen to a stream, until it ends.
 */
#ifndef PEV_GRANT_H
#define PEV_GRANT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "alarm.h"
#include "subscriber.h"
#include "token.h"

typedef enum GrantState
{
	GRANT_VALID,
	GRANT_PENDING, /* a ticket that the database has not been heard about */
	GRANT_REFUSED  /* or taken back */
} GrantState;

/*
 * A token or a ticket in use.  Its request makes it and ends it with
 * grant_free; its subscriber, if any, is the request's and is freed later.
 */
typedef struct Grant
{
	GrantState state;
	bool ticket;
	char *id; /* by which it can be revoked; NULL: by none */
	/* of the key that verified the token; of a ticket, its own */
	unsigned char digest[TOKEN_DIGEST_LEN];
	int64_t expires; /* seconds of Unix time */
	char *user;      /* who is present by it; NULL: nobody */
	char *user_name;
	bool warned;
	Alarm alarm;
	Subscriber *sub; /* NULL: not listening yet */
	TAILQ_ENTRY(Grant) link;
	LIST_ENTRY(Grant) ticket_link; /* of those with similar digests */
} Grant;

extern void grants_init(void);
extern Grant *grant_new_token(const Token *token);
extern Grant *grant_new_ticket(const unsigned char digest[TOKEN_DIGEST_LEN]);
extern void grant_attach(Grant *grant, Subscriber *sub);
extern void grant_free(Grant *grant);
extern Grant *grant_find_ticket(const unsigned char digest[TOKEN_DIGEST_LEN]);
extern void grants_end_revoked(void);
extern void grants_end_unverified(const TokenKeys *keys);

#endif
