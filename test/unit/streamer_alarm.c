/*
 * streamer_alarm.c
 *		Alarms ring in the order in which they are due, and none rings that was cleared.
 */
#include "alarm.h"
#include "loop.h"
#include "streamer_tap.h"

#define ALARMS 1000

static Alarm alarms[ALARMS];
static int64_t last;
static int rung;
static bool in_order = true;

static void
on_alarm(void *arg)
{
	const Alarm *alarm = arg;

	in_order = in_order && alarm->due >= last && alarm->due <= loop_now();
	last = alarm->due;
	rung++;
}

/* Ringing, it sets itself anew, and clears another one. */
static void
on_busy_alarm(void *arg)
{
	on_alarm(arg);
	if (rung == 1)
	{
		alarm_clear(&alarms[1]);
		alarm_set(&alarms[0], loop_now() + 5, on_busy_alarm, &alarms[0]);
	}
}

/* Turn the loop until so many have rung, or for two seconds. */
static void
turn(int count)
{
	int64_t end = loop_clock() / 1000 + 2000;

	while (rung < count && loop_clock() / 1000 < end)
		loop_turn(10);
}

int
main(void)
{
	unsigned int number = 1;

	loop_init();
	for (int i = 0; i < ALARMS; i++)
	{
		number = number * 1103515245 + 12345;
		alarm_set(&alarms[i], loop_now() + (number >> 16) % 50, on_alarm, &alarms[i]);
	}
	for (int i = 0; i < ALARMS; i += 3)
		alarm_clear(&alarms[i]);
	alarm_clear(&alarms[0]);
	for (int i = 1; i < ALARMS; i += 3)
		alarm_set(&alarms[i], loop_now() + 60 - i % 50, on_alarm, &alarms[i]);
	turn(ALARMS * 2 / 3);
	loop_turn(0);
	is_number(rung, ALARMS * 2 / 3, "as many ring as are set");
	ok(in_order, "in order, and none early");

	rung = 0;
	last = 0;
	alarm_set(&alarms[0], loop_now(), on_busy_alarm, &alarms[0]);
	alarm_set(&alarms[1], loop_now(), on_alarm, &alarms[1]);
	turn(2);
	is_number(rung, 2, "alarms set and clear alarms");
	alarms_close();
	loop_close();
	return done();
}
