/*
 * emit_pool.c
 *		The connections by which events are emitted and jobs queued, and what waits for them.
 *
 * Connections are made when there is more to emit than those that are there can
 * take; a streamer that nobody emits by makes none.  Only one event of a stream
 * is under way at a time: others of the same stream could do nothing but wait for
 * its turn, each with a connection that other streams need.  A job takes no turn, but
 * those of one idempotency key wait for each other likewise.
 *
 * The queue is bounded in length and in time.  When the database is away, what
 * waits is sent back at once, and so is what comes, until it is tried again.
 */
#include <string.h>

#include "emit_link.h"
#include "emit_pool.h"
#include "log.h"
#include "loop.h"
#include "problem.h"

#define POOL_BUSY_RETRY 1000 /* when to try again, if it is only that there is much to do */

static struct
{
	int64_t timeout;
	size_t most_waiting;
	int size;
	EmitLink links[EMIT_CONNECTIONS_MAX];
	TAILQ_HEAD(, Emission) queue; /* by deadline */
	size_t waiting;
	Timer deadline;
	LinkRetry retries;
	int64_t down_until; /* by loop_now */
} pool;

static const char away[] = "The database is not available.";

/* How many links are in this state? */
static int
pool_count(LinkState state)
{
	int count = 0;

	for (int i = 0; i < pool.size; i++)
		count += pool.links[i].base.state == state;
	return count;
}

/* A link in this state, or NULL. */
static EmitLink *
pool_find(LinkState state)
{
	for (int i = 0; i < pool.size; i++)
		if (pool.links[i].base.state == state)
			return &pool.links[i];
	return NULL;
}

/* Take an emission out of the queue. */
static void
pool_dequeue(Emission *emission)
{
	TAILQ_REMOVE(&pool.queue, emission, link);
	pool.waiting--;
}

/* Send back what has not been sent to the database. */
static void
pool_refuse(Emission *emission, const char *why, unsigned int ms)
{
	pool_dequeue(emission);
	emission->status = 503;
	emission->retry = ms;
	problem_begin(&emission->answer, 503, why);
	problem_end(&emission->answer);
	emission->done(emission);
}

/* Would the one do nothing in the database but wait for the other? */
static bool
emissions_collide(const Emission *one, const Emission *other)
{
	if (one->kind != other->kind || strcmp(one->stream, other->stream) != 0)
		return false;
	return one->kind == EMISSION_EVENTS ||
		   (one->key != NULL && other->key != NULL && strcmp(one->key, other->key) == 0);
}

/* Must it wait for one that is under way? */
static bool
pool_must_wait(const Emission *emission)
{
	for (int i = 0; i < pool.size; i++)
	{
		const Emission *other = pool.links[i].emission;

		if (other != NULL && emissions_collide(emission, other))
			return true;
	}
	return false;
}

/* The first in the queue that can be sent, or NULL. */
static Emission *
pool_next(void)
{
	Emission *emission;

	TAILQ_FOREACH(emission, &pool.queue, link)
	{
		if (!pool_must_wait(emission))
			return emission;
	}
	return NULL;
}

static void pool_on_deadline(void *arg);

/* Wait until the first in the queue has waited for too long. */
static void
pool_wait(void)
{
	Emission *first = TAILQ_FIRST(&pool.queue);

	timer_clear(&pool.deadline);
	if (first != NULL)
		timer_set(&pool.deadline, first->deadline - loop_now(), pool_on_deadline, NULL);
}

static void
pool_on_deadline(void *arg)
{
	Emission *first;

	(void) arg;
	while ((first = TAILQ_FIRST(&pool.queue)) != NULL && first->deadline <= loop_now())
		pool_refuse(first, "This has waited for the database for too long, and is not stored.",
					POOL_BUSY_RETRY);
	pool_wait();
}

/* Send what can be sent, and connect if that is not all. */
static void
pool_dispatch(void)
{
	Emission *next;
	EmitLink *link;

	while ((next = pool_next()) != NULL && (link = pool_find(LINK_IDLE)) != NULL)
	{
		pool_dequeue(next);
		emit_link_send(link, next);
	}
	if (next != NULL && pool_count(LINK_CONNECTING) + pool_count(LINK_SETUP) == 0 &&
		loop_now() >= pool.down_until && (link = pool_find(LINK_DOWN)) != NULL)
		emit_link_connect(link);
	pool_wait();
}

/* How long until the database is tried again, in milliseconds. */
static unsigned int
pool_pause(void)
{
	return pool.down_until > loop_now() ? (unsigned int) (pool.down_until - loop_now()) : 0;
}

/* A link can be given something to do. */
static void
pool_on_idle(EmitLink *link)
{
	(void) link;
	pool.retries = (LinkRetry){0};
	pool.down_until = 0;
	pool_dispatch();
}

/* A link has broken, or could not be made. */
static void
pool_on_down(bool was_up, const char *why)
{
	Emission *emission;

	link_retry_log(&pool.retries, ", to emit", why);
	if (!was_up)
		pool.down_until = loop_now() + link_retry_delay(&pool.retries);
	if (!was_up && pool_count(LINK_DOWN) == pool.size)
		while ((emission = TAILQ_FIRST(&pool.queue)) != NULL)
			pool_refuse(emission, away, pool_pause());
	pool_dispatch();
}

const char *
emit_pool_trouble(unsigned int *ms)
{
	*ms = pool_pause();
	if (*ms > 0 && pool_count(LINK_DOWN) == pool.size)
		return away;
	*ms = POOL_BUSY_RETRY;
	return pool.waiting >= pool.most_waiting ? "Too much waits to be stored." : NULL;
}

/* Emit; done is called some time, perhaps at once. */
void
emit_pool_submit(Emission *emission)
{
	emission->deadline = loop_clock() / 1000 + pool.timeout;
	TAILQ_INSERT_TAIL(&pool.queue, emission, link);
	pool.waiting++;
	pool_dispatch();
}

/* How many emissions have no answer yet? */
size_t
emit_pool_load(void)
{
	return pool.waiting + (size_t) pool_count(LINK_BUSY);
}

/* How many connections are there? */
size_t
emit_pool_connections(void)
{
	return (size_t) (pool_count(LINK_IDLE) + pool_count(LINK_BUSY));
}

/* Start; the configuration stays the caller's. */
void
emit_pool_start(const Config *config)
{
	static const EmitLinkHooks hooks = {pool_on_idle, pool_on_down};

	emit_link_init(config->emit_dsn != NULL ? config->emit_dsn : config->dsn, config->emit_timeout,
				   &hooks);
	pool.timeout = config->emit_timeout;
	pool.most_waiting = (size_t) config->emit_queue;
	pool.size = (int) config->emit_connections;
	TAILQ_INIT(&pool.queue);
	for (int i = 0; i < pool.size; i++)
		pool.links[i].base.watch.fd = -1;
}

/* Send back what has not been sent; the rest is waited for. */
void
emit_pool_drain(void)
{
	Emission *emission;

	while ((emission = TAILQ_FIRST(&pool.queue)) != NULL)
		pool_refuse(emission, "The server is stopping.", POOL_BUSY_RETRY);
	pool_wait();
}

/* Close all connections, and so answer whoever still waits. */
void
emit_pool_stop(void)
{
	emit_pool_drain();
	for (int i = 0; i < pool.size; i++)
		emit_link_close(&pool.links[i]);
}
