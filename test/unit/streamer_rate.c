/*
 * streamer_rate.c
 *		How often each client may do something.
 */
#include "rate.h"
#include "streamer_tap.h"

#define SECOND INT64_C(1000000)

/* How many in a row are let through at this time. */
static int
take_all(Rate *rate, uint64_t client, int64_t now)
{
	int count = 0;

	while (rate_take(rate, client, 1, now) == 0)
		count++;
	return count;
}

int
main(void)
{
	Rate *rate;
	Rate *other;
	uint64_t a;
	uint64_t b;
	int64_t now = 5 * SECOND;

	rates_seed(42);
	rate = rate_new(10);
	a = rate_client('s', "a", 1);
	b = rate_client('s', "b", 1);
	ok(a != b, "clients are told apart");
	ok(a != rate_client('a', "a", 1), "and so are kinds of them");
	is_number((long long) (a == rate_client('s', "a", 1)), 1, "a client is known again");

	is_number(take_all(rate, a, now), 10, "a second's worth at once");
	is_number(rate_take(rate, a, 1, now), SECOND / 10, "and then one after a tenth of a second");
	is_number(rate_take(rate, a, 1, now), SECOND / 10, "refusals are not counted");
	is_number(rate_take(rate, a, 1, now + SECOND / 10 - 1), 1, "not a moment earlier");
	is_number(take_all(rate, a, now + SECOND / 10), 1, "one then");
	is_number(take_all(rate, b, now), 10, "another client has its own");
	is_number(take_all(rate, a, now + SECOND / 10 + SECOND / 2), 5,
			  "half a second later, half of it");
	is_number(take_all(rate, a, now + 60 * SECOND), 10, "never more than a second's worth");

	/* far more clients than there is room for */
	for (uint64_t i = 0; i < 1000000; i++)
		(void) rate_take(rate, rate_client('a', &i, sizeof(i)), 1, now + 120 * SECOND);
	is_number(take_all(rate, a, now + 120 * SECOND), 10, "those that came long ago make room");
	is_number(take_all(rate, a, now + 120 * SECOND), 0, "which holds");
	for (uint64_t i = 0; i < 20000; i++)
		(void) rate_take(rate, rate_client('a', &i, sizeof(i)), 1, now + 120 * SECOND);
	is_number(take_all(rate, a, now + 120 * SECOND), 0, "who has used up most is forgotten last");

	other = rate_new(20);
	is_number(take_all(other, a, now + 120 * SECOND), 20, "what else it does is counted apart");
	rate_free(other);
	rate_free(rate);

	rate = rate_new(10);
	is_number(rate_take(rate, a, 8, now), 0, "eight at once");
	is_number(rate_take(rate, a, 3, now), SECOND / 10, "not three more");
	is_number(rate_take(rate, a, 2, now), 0, "but two");
	is_number(rate_take(rate, b, 11, now), SECOND, "never more than a second's worth at once");
	is_number(rate_take(rate, b, INT64_MAX, now), SECOND, "however many");
	is_number(take_all(rate, b, now), 10, "which counts for nothing");
	rate_free(rate);

	rate = rate_new(1);
	is_number(take_all(rate, a, now), 1, "one a second");
	is_number(rate_take(rate, a, 1, now + SECOND / 4), SECOND * 3 / 4, "is one a second");
	rate_free(rate);

	is_number((long long) (rate_new(0) == NULL), 1, "no limit");
	is_number(rate_take(NULL, a, 1000000, now), 0, "is none");
	return done();
}
