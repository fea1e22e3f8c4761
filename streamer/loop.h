/*
 * loop.h
 *		The event loop: file descriptors, timers and one clock.
 */
#ifndef PEV_LOOP_H
#define PEV_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

typedef void (*WatchCallback)(void *arg, uint32_t events);
typedef void (*TimerCallback)(void *arg);

/*
 * A watched descriptor.  Its memory is the caller's, and outlives the turn of
 * the loop in which it is removed: later events of that turn may still name it.
 */
typedef struct Watch
{
	int fd; /* -1 while not watched */
	WatchCallback callback;
	void *arg;
} Watch;

/* A timer that rings once.  Its memory is the caller's. */
typedef struct Timer
{
	struct Timer *next; /* in the list of those that are set */
	bool set;
	int64_t due; /* by loop_now */
	TimerCallback callback;
	void *arg;
} Timer;

extern void loop_init(void);
extern void loop_close(void);
extern int64_t loop_now(void);
extern int64_t loop_clock(void);
extern void loop_watch(Watch *watch, int fd, uint32_t events, WatchCallback callback, void *arg);
extern void loop_change(Watch *watch, uint32_t events);
extern void loop_unwatch(Watch *watch);
extern void timer_set(Timer *timer, int64_t ms, TimerCallback callback, void *arg);
extern void timer_clear(Timer *timer);
extern void loop_turn(int64_t most_ms);

/* A value spread evenly around itself, by so many percent to either side. */
extern int64_t loop_jitter(int64_t value, int percent);

#endif
