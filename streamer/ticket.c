/*
 * ticket.c
 *		One-time tickets, which the database redeems.
 *
 * An EventSource can send no header, and a token in a URL ends up in histories,
 * in the logs of proxies and in what users send each other.  A ticket may stand
 * in a URL, since it is good for one stream, must be redeemed within a minute or
 * so, and then is worth nothing to anybody else for as long as its client
 * listens.
 *
 * An EventSource reconnects with the same URL, without asking, whenever its
 * connection breaks.  So a ticket that has been redeemed once can be used again,
 * for the same stream, within the lifetime that its redemption began; but never
 * twice at a time.  A second use while the first is open is refused, unless it
 * comes from an EventSource: then it may well be the first one, whose old
 * connection broke without a word, as happens when a telephone changes its
 * network.  It is told to come back, and the old connection is sent something,
 * so that TCP finds out that nobody is there.  Neither lets an onlooker who has
 * got hold of the URL see anything, nor can one drive out the rightful client.
 *
 * "At a time" is within one streamer: others do not know who is connected here.
 * The database knows only when a ticket was first redeemed, so a streamer that
 * dies takes nothing with it that would keep its clients from returning.
 *
 * The database is sent a ticket's hash, never the ticket, which therefore is in
 * none of its tables, logs and statistics.
 */
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>

#include "db.h"
#include "grant.h"
#include "mem.h"
#include "ticket.h"

#define TICKET_PREFIX "pevt_"
#define TICKET_BATCH  256 /* redeemed in one query */

static struct
{
	TAILQ_HEAD(RequestList, Request) queue; /* suspended */
	Request *asked[TICKET_BATCH];           /* in the query under way; NULL: has been answered */
	int asked_count;
} tickets;

void
ticket_init(void)
{
	TAILQ_INIT(&tickets.queue);
}

/* Is it a ticket, rather than a token? */
bool
ticket_is_one(const char *text)
{
	return strncmp(text, TICKET_PREFIX, strlen(TICKET_PREFIX)) == 0;
}

/* What the database knows a ticket by. */
void
ticket_digest(const char *text, unsigned char digest[TOKEN_DIGEST_LEN])
{
	SHA256((const unsigned char *) text, strlen(text), digest);
}

/* Let a request wait until its ticket, the grant, is redeemed for the stream or is not. */
void
ticket_redeem(Request *req, const char *stream)
{
	req->ticket_stream = mem_string(stream);
	TAILQ_INSERT_TAIL(&tickets.queue, req, ticket_link);
	MHD_suspend_connection(req->conn);
}

/* Let a request go on, now that its grant is settled, or else cannot be. */
static void
ticket_answer(Request *req)
{
	free(req->ticket_stream);
	req->ticket_stream = NULL;
	MHD_resume_connection(req->conn);
}

static void
ticket_on_row(const PGresult *row)
{
	int place = atoi(PQgetvalue(row, 0, 0)) - 1;
	Request *req = place < tickets.asked_count ? tickets.asked[place] : NULL;

	if (req == NULL)
		return;
	tickets.asked[place] = NULL;
	if (req->grant->state == GRANT_PENDING)
		req->grant->state = PQgetisnull(row, 0, 1) ? GRANT_REFUSED : GRANT_VALID;
	if (req->grant->state == GRANT_VALID)
		req->grant->expires = strtoll(PQgetvalue(row, 0, 1), NULL, 10);
	ticket_answer(req);
}

/* Those for whom no row came do not know. */
static void
ticket_on_end(bool ok)
{
	(void) ok;
	for (int i = 0; i < tickets.asked_count; i++)
		if (tickets.asked[i] != NULL)
			ticket_answer(tickets.asked[i]);
	tickets.asked_count = 0;
}

/* Ask the database to redeem the tickets that wait. */
bool
ticket_send(void)
{
	Buf digests;
	Buf streams;
	const char *params[2];
	Request *req;

	if (TAILQ_EMPTY(&tickets.queue))
		return false;
	buf_init(&digests);
	buf_init(&streams);
	while (tickets.asked_count < TICKET_BATCH && (req = TAILQ_FIRST(&tickets.queue)) != NULL)
	{
		const char *comma = tickets.asked_count > 0 ? "," : "{";

		TAILQ_REMOVE(&tickets.queue, req, ticket_link);
		tickets.asked[tickets.asked_count++] = req;
		buf_format(&digests, "%s%s", comma, req->grant->id);
		/* Keys hold neither quotes nor backslashes. */
		buf_format(&streams, "%s\"%s\"", comma, req->ticket_stream);
	}
	buf_text(&digests, "}");
	buf_text(&streams, "}");
	params[0] = digests.data;
	params[1] = streams.data;
	db_send(DB_TICKETS, 2, params, ticket_on_row, ticket_on_end);
	buf_free(&digests);
	buf_free(&streams);
	return true;
}

/* Let all that wait go on, unanswered: there is no connection, or no time. */
void
ticket_give_up(void)
{
	Request *req;

	while ((req = TAILQ_FIRST(&tickets.queue)) != NULL)
	{
		TAILQ_REMOVE(&tickets.queue, req, ticket_link);
		ticket_answer(req);
	}
	for (int i = 0; i < tickets.asked_count; i++)
	{
		if (tickets.asked[i] != NULL)
			ticket_answer(tickets.asked[i]);
		tickets.asked[i] = NULL;
	}
}
