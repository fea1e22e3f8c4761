/*
 * alarm.c
 *		Alarms, of which there may be one for every client.
 *
 * The loop's timers are few and kept in a list.  Tokens expire at ten thousand
 * different times, so these are in a heap, and one timer waits for the first.
 *
 * Pure: no libpq, no libmicrohttpd.
 */
#include <stdlib.h>

#include "alarm.h"
#include "loop.h"
#include "mem.h"

#define ALARMS_FIRST 64

static struct
{
	Alarm **heap; /* heap[1] is due first; heap[n] not before heap[n / 2] */
	size_t count;
	size_t size;
	Timer timer;
} alarms;

/* Put an alarm into a place of the heap. */
static void
heap_put(Alarm *alarm, size_t place)
{
	alarms.heap[place] = alarm;
	alarm->place = place;
}

/* Find the place for an alarm, from a free one on, and put it there. */
static void
heap_settle(Alarm *alarm, size_t place)
{
	while (place > 1 && alarm->due < alarms.heap[place / 2]->due)
	{
		heap_put(alarms.heap[place / 2], place);
		place /= 2;
	}
	for (;;)
	{
		size_t child = 2 * place;

		if (child + 1 <= alarms.count && alarms.heap[child + 1]->due < alarms.heap[child]->due)
			child++;
		if (child > alarms.count || alarms.heap[child]->due >= alarm->due)
			break;
		heap_put(alarms.heap[child], place);
		place = child;
	}
	heap_put(alarm, place);
}

/* Take an alarm out of the heap. */
static void
heap_remove(Alarm *alarm)
{
	Alarm *last = alarms.heap[alarms.count--];
	size_t place = alarm->place;

	alarm->place = 0;
	if (last != alarm)
		heap_settle(last, place);
}

static void alarms_on_timer(void *arg);

/* Let the timer wait for the first alarm. */
static void
alarms_wait(void)
{
	timer_clear(&alarms.timer);
	if (alarms.count > 0)
		timer_set(&alarms.timer, alarms.heap[1]->due - loop_now(), alarms_on_timer, NULL);
}

/* Ring the alarms that are due, each once: they may set and clear any. */
static void
alarms_on_timer(void *arg)
{
	(void) arg;
	while (alarms.count > 0 && alarms.heap[1]->due <= loop_now())
	{
		Alarm *alarm = alarms.heap[1];

		heap_remove(alarm);
		alarm->ring(alarm->arg);
	}
	alarms_wait();
}

/* Set an alarm, anew if it was set already. */
void
alarm_set(Alarm *alarm, int64_t due, void (*ring)(void *arg), void *arg)
{
	if (alarm->place != 0)
		heap_remove(alarm);
	if (alarms.count + 2 > alarms.size)
	{
		alarms.size = alarms.size == 0 ? ALARMS_FIRST : alarms.size * 2;
		alarms.heap = mem_array(alarms.heap, alarms.size, sizeof(Alarm *));
	}
	alarm->due = due;
	alarm->ring = ring;
	alarm->arg = arg;
	alarms.count++;
	heap_settle(alarm, alarms.count);
	alarms_wait();
}

/* Clear an alarm; one that is not set stays so. */
void
alarm_clear(Alarm *alarm)
{
	if (alarm->place == 0)
		return;
	heap_remove(alarm);
	alarms_wait();
}

/* Release the heap; no alarm is set. */
void
alarms_close(void)
{
	timer_clear(&alarms.timer);
	free(alarms.heap);
	alarms.heap = NULL;
	alarms.size = 0;
}
