/*
 * gossip_link.c
 *		The connection to PostgreSQL by which streamers tell each other who is present.
 *
 * One that notifies waits, when it commits, for all others of the server that do,
 * and so for whoever of them waits for a standby.  It may also be refused: the
 * right to call pg_notify taken away, the queue full.  Events must not wait for
 * that, so presence has a connection of its own, and trouble with it costs presence
 * and nothing else.
 */
#include "gossip.h"
#include "gossip_link.h"
#include "link.h"

#define GOSSIP_PATIENCE 30000

/* What is told is lost in a crash anyway, so nobody need wait for the disk. */
static const LinkStatement gossip_statements[] = {
	{"pev_tell", "SELECT set_config('synchronous_commit', 'off', true),"
				 " pg_notify('pev_presence', $1::text)"},
};

/* The lock's time-out ends a session that waits, which closing its connection does not. */
static const char gossip_settings[] =
	LINK_SETTINGS "SET statement_timeout = 0; SET lock_timeout = 5000; LISTEN pev_presence";

static struct
{
	LinkKind kind;
	Link link;
	Timer retry; /* while it is down: when to connect */
	LinkRetry retries;
} gossip_link = {.link = {.watch = {.fd = -1}}};

static void
gossip_link_connect(void *arg)
{
	(void) arg;
	link_connect(&gossip_link.link, &gossip_link.kind);
}

static void
gossip_link_on_ready(Link *link)
{
	(void) link;
	gossip_connect();
}

static void
gossip_link_on_result(Link *link, const PGresult *result)
{
	ExecStatusType status = PQresultStatus(result);

	if (status != PGRES_SINGLE_TUPLE && status != PGRES_TUPLES_OK)
		link_fail_query(link, result);
}

static void
gossip_link_on_done(Link *link)
{
	(void) link;
	gossip_link.retries = (LinkRetry){0};
	gossip_sent();
}

/* The connection is lost, or could not be made: come back later. */
static void
gossip_link_on_down(Link *link, LinkState was, const char *trouble, const char *why)
{
	(void) link, (void) trouble;
	link_retry_log(&gossip_link.retries, ", to tell who is present", why);
	timer_set(&gossip_link.retry, link_retry_delay(&gossip_link.retries), gossip_link_connect,
			  NULL);
	if (was == LINK_IDLE || was == LINK_BUSY)
		gossip_disconnect();
}

static void
gossip_link_on_notify(const PGnotify *notify)
{
	gossip_hear(notify->extra);
}

/* If the connection is free, send what is due. */
void
gossip_link_pump(void)
{
	Buf payload;
	const char *params[1];

	if (gossip_link.link.state != LINK_IDLE || !gossip_is_due())
		return;
	buf_init(&payload);
	gossip_take(&payload);
	params[0] = payload.data;
	link_send(&gossip_link.link, 0, 1, params, false);
	buf_free(&payload);
}

/* Start connecting; dsn may be NULL, and stays the caller's. */
void
gossip_link_start(const char *dsn)
{
	gossip_link.kind = (LinkKind){
		.dsn = dsn,
		.patience = GOSSIP_PATIENCE,
		.settings = gossip_settings,
		.statements = gossip_statements,
		.statement_count = sizeof(gossip_statements) / sizeof(gossip_statements[0]),
		.ready = gossip_link_on_ready,
		.result = gossip_link_on_result,
		.done = gossip_link_on_done,
		.down = gossip_link_on_down,
		.notify = gossip_link_on_notify,
	};
	gossip_link_connect(NULL);
}

/* Close the connection for good, without telling anybody. */
void
gossip_link_stop(void)
{
	timer_clear(&gossip_link.retry);
	link_close(&gossip_link.link);
}
