/*
 * loop.c
 *		The event loop: file descriptors, timers and one clock.
 *
 * One epoll instance for everything: libmicrohttpd's own epoll descriptor,
 * libpq's socket, the signals, and the clients' hang-ups.  Timers are few (one
 * each for polling, heartbeats, reconnecting, ...: never one per client), so a
 * list serves.  The clock is read once a turn; it is monotonic, so stepping the
 * wall clock moves nothing.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "log.h"
#include "loop.h"

#define LOOP_EVENTS 256

static int loop_fd = -1;
static int64_t loop_time;
static Timer *loop_timers;

/* The time of this very moment, in microseconds since some fixed point. */
int64_t
loop_clock(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* Read the clock, in milliseconds. */
static void
loop_read_clock(void)
{
	loop_time = loop_clock() / 1000;
}

/* Create the loop. */
void
loop_init(void)
{
	unsigned int seed;

	loop_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop_fd < 0)
		log_fatal("epoll_create1: %s", strerror(errno));
	loop_read_clock();
	if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		seed = (unsigned int) loop_time;
	srandom(seed);
}

void
loop_close(void)
{
	close(loop_fd);
	loop_fd = -1;
}

/* The time of this turn, in milliseconds since some fixed point. */
int64_t
loop_now(void)
{
	return loop_time;
}

/* Call back whenever one of the events is there on fd. */
void
loop_watch(Watch *watch, int fd, uint32_t events, WatchCallback callback, void *arg)
{
	struct epoll_event event = {.events = events, .data.ptr = watch};

	watch->fd = fd;
	watch->callback = callback;
	watch->arg = arg;
	if (epoll_ctl(loop_fd, EPOLL_CTL_ADD, fd, &event) != 0)
		log_fatal("epoll_ctl: %s", strerror(errno));
}

/* Wait for other events than before. */
void
loop_change(Watch *watch, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = watch};

	if (epoll_ctl(loop_fd, EPOLL_CTL_MOD, watch->fd, &event) != 0)
		log_fatal("epoll_ctl: %s", strerror(errno));
}

/*
 * Stop watching.  The descriptor may have been closed before, which has ended
 * the watching already, so an error says nothing.
 */
void
loop_unwatch(Watch *watch)
{
	if (watch->fd >= 0)
		(void) epoll_ctl(loop_fd, EPOLL_CTL_DEL, watch->fd, NULL);
	watch->fd = -1;
}

/* Set a timer, anew if it was set already. */
void
timer_set(Timer *timer, int64_t ms, TimerCallback callback, void *arg)
{
	timer->due = loop_time + ms;
	timer->callback = callback;
	timer->arg = arg;
	if (timer->set)
		return;
	timer->set = true;
	timer->next = loop_timers;
	loop_timers = timer;
}

/* Clear a timer; one that is not set stays so. */
void
timer_clear(Timer *timer)
{
	Timer **link = &loop_timers;

	if (!timer->set)
		return;
	while (*link != timer)
		link = &(*link)->next;
	*link = timer->next;
	timer->set = false;
}

/* Ring the timers that are due, each once: callbacks may set and clear any. */
static void
loop_ring_timers(void)
{
	Timer *timer = loop_timers;

	while (timer != NULL)
	{
		if (timer->due > loop_time)
		{
			timer = timer->next;
			continue;
		}
		timer_clear(timer);
		timer->callback(timer->arg);
		timer = loop_timers;
	}
}

/* How long may epoll_wait sleep? */
static int
loop_patience(int64_t most_ms)
{
	int64_t patience = most_ms;

	for (Timer *timer = loop_timers; timer != NULL; timer = timer->next)
	{
		int64_t left = timer->due > loop_time ? timer->due - loop_time : 0;

		if (patience < 0 || left < patience)
			patience = left;
	}
	return patience > 60000 ? 60000 : (int) patience;
}

/* Wait for something to happen, most_ms at most (-1: for ever), and serve it. */
void
loop_turn(int64_t most_ms)
{
	struct epoll_event events[LOOP_EVENTS];
	int count;

	loop_read_clock();
	count = epoll_wait(loop_fd, events, LOOP_EVENTS, loop_patience(most_ms));
	if (count < 0 && errno != EINTR)
		log_fatal("epoll_wait: %s", strerror(errno));
	loop_read_clock();
	for (int i = 0; i < count; i++)
	{
		Watch *watch = events[i].data.ptr;

		if (watch->fd >= 0)
			watch->callback(watch->arg, events[i].events);
	}
	loop_ring_timers();
}

/* See the header. */
int64_t
loop_jitter(int64_t value, int percent)
{
	int64_t spread = value * percent / 100;

	return spread == 0 ? value : value - spread + random() % (2 * spread + 1);
}
