/*
 * pace.c
 *		When the next thing is due, at a fixed rate.
 *
 * The schedule is fixed at the start.  Whoever falls behind it catches up: a
 * server that stalls must not be asked for less because it stalls.
 */
#include "pace.h"
#include "util.h"

void
pace_start(Pace *pace, double rate, double seconds)
{
	pace->start = now_us();
	pace->end = pace->start + (int64_t) (seconds * 1e6);
	pace->rate = rate;
	pace->taken = 0;
}

/* When the next one is due. */
int64_t
pace_next(const Pace *pace)
{
	if (pace->rate <= 0)
		return pace->start;
	return pace->start + (int64_t) ((double) pace->taken * 1e6 / pace->rate);
}

/* Has the schedule been worked off, or, without a rate, has the time passed? */
bool
pace_ended(const Pace *pace, int64_t now)
{
	return pace->rate > 0 ? pace_next(pace) >= pace->end : now >= pace->end;
}
