/*
 * streamer_tap.h
 *		What the streamer's unit tests need to print TAP.
 */
#ifndef STREAMER_TAP_H
#define STREAMER_TAP_H

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static int tap_count;
static int tap_failures;

/* One test point. */
static inline bool
ok(bool passed, const char *name)
{
	printf("%sok %d - %s\n", passed ? "" : "not ", ++tap_count, name);
	if (!passed)
		tap_failures++;
	return passed;
}

/* Strings must be equal; NULL equals NULL only. */
static inline bool
is(const char *got, const char *want, const char *name)
{
	bool same = got == NULL || want == NULL ? got == want : strcmp(got, want) == 0;

	ok(same, name);
	if (!same)
		printf("#   got: %s\n#  want: %s\n", got ? got : "(null)", want ? want : "(null)");
	return same;
}

/* Numbers must be equal. */
static inline bool
is_number(long long got, long long want, const char *name)
{
	ok(got == want, name);
	if (got != want)
		printf("#   got: %lld\n#  want: %lld\n", got, want);
	return got == want;
}

/* The plan, and the exit code of main. */
static inline int
done(void)
{
	printf("1..%d\n", tap_count);
	return tap_failures == 0 ? 0 : 1;
}

#endif
