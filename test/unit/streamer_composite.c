/*
 * streamer_composite.c
 *		Ids that tell the position in each of several streams.
 */
#include <inttypes.h>
#include <stdint.h>

#include "composite.h"
#include "hash.h"
#include "streamer_tap.h"

#define HEADER_MAX 128 /* bytes that a browser sends to another origin without asking */

static const int indexes[] = {0, 1, 3};

/* The checksum of the streams 1, 2, 3 … */
static uint64_t
check_of(int count)
{
	uint64_t check = HASH_START;

	for (int i = 1; i <= count; i++)
	{
		StreamKey key;

		snprintf(key.text, sizeof(key.text), "%d", i);
		check = composite_check(check, &key);
	}
	return check;
}

/* An event of the stream in that place must have this id, which must be read as it is. */
static void
is_id(int which, int64_t a, int64_t b, int64_t c, const char *want)
{
	int64_t positions[3] = {a, b, c};
	int64_t got[3] = {-1, -1, -1};
	char id[COMPOSITE_ID_MAX + 1];

	composite_format(check_of(3), indexes[which], which, 3, positions, id);
	is(id, want, "an id");
	ok(composite_parse(id, check_of(3), 3, indexes, got) &&
		   memcmp(got, positions, sizeof(got)) == 0,
	   "is read as what it was");
}

/* This is no id of these streams. */
static void
is_none(const char *id, const char *name)
{
	int64_t positions[3];

	ok(!composite_parse(id, check_of(3), 3, indexes, positions), name);
}

static void
test_spelling(void)
{
	is_id(0, 0, 0, 0, "0:0:-__AA");
	is_id(1, 5, 17, 31, "1:17:-__Ff");
	is_id(2, 32, 1024, 7, "3:7:-__gBggB");
	is_id(0, 1, INT64_MAX, 0, "0:1:-______________HA");
	is_id(1, 1, INT64_MAX, 0, "1:9223372036854775807:-__BA");
}

static void
test_refused(void)
{
	is_none("", "nothing");
	is_none("17", "a number");
	is_none("now", "a word");
	is_none("0:0:", "no positions");
	is_none("0:0:-__", "too few positions: none");
	is_none("0:0:-__A", "too few positions: one");
	is_none("0:0:-__AAA", "too many positions");
	is_none("0:0:-__Ag", "a position without its last digit");
	is_none("0:0:-__AgA", "a position with a digit too many");
	is_none("0:0:-__A____________I", "a position beyond bigint");
	is_none("0:0:-__A____________Q", "a position beyond 64 bits");
	is_none("0:0:-__A_____________B", "a position of too many digits");
	is_none("0:9223372036854775808:-__AA", "a number beyond bigint");
	is_none("0:00:-__AA", "a number with a zero too many");
	is_none("00:0:-__AA", "an index with a zero too many");
	is_none("0:-1:-__AA", "a negative number");
	is_none("-:0:-__AA", "no index");
	is_none(":0:-__AA", "an empty index");
	is_none("0::-__AA", "an empty number");
	is_none("2:0:-__AA", "an index that names no stream first");
	is_none("4:0:-__AA", "an index beyond");
	is_none("0:0:-_AAA", "another checksum");
	is_none("0:0:-__A=", "a character of no digit");
	is_none("0:0:-__AA ", "something after it");
	is_none("0:0", "no rest");
}

/* Ids of other streams, or of another order, are none. */
static void
test_check(void)
{
	StreamKey one = {.text = "1"};
	StreamKey two = {.text = "2"};
	StreamKey twelve = {.text = "12"};
	uint64_t first = HASH_START;
	int64_t positions[2] = {1, 2};
	char id[COMPOSITE_ID_MAX + 1];

	composite_format(composite_check(composite_check(first, &one), &two), 0, 0, 2, positions, id);
	ok(composite_parse(id, composite_check(composite_check(first, &one), &two), 2, indexes,
					   positions),
	   "the same streams");
	ok(!composite_parse(id, composite_check(composite_check(first, &two), &one), 2, indexes,
						positions),
	   "the same in another order");
	ok(!composite_parse(id, composite_check(composite_check(first, &one), &twelve), 2, indexes,
						positions),
	   "others");
	ok(composite_check(composite_check(first, &one), &two) != composite_check(first, &twelve),
	   "where one key ends makes a difference");
}

/* The length of an id whose streams all have so many events. */
static size_t
length(int count, int64_t events)
{
	int64_t positions[COMPOSITE_STREAMS_MAX];
	char id[COMPOSITE_ID_MAX + 1];

	for (int i = 0; i < count; i++)
		positions[i] = events;
	composite_format(check_of(count), count - 1, count - 1, count, positions, id);
	return strlen(id);
}

static void
test_length(void)
{
	ok(length(32, 32767) <= HEADER_MAX,
	   "32 streams of 32,767 events make an id that needs no question");
	ok(length(23, 33554431) <= HEADER_MAX, "so do 23 of 33 million");
	ok(length(COMPOSITE_STREAMS_MAX, INT64_MAX) <= COMPOSITE_ID_MAX, "the longest has room");
	ok(length(COMPOSITE_STREAMS_MAX, INT64_MAX) < 4000, "and fits a parameter");
}

int
main(void)
{
	test_spelling();
	test_refused();
	test_check();
	test_length();
	return done();
}
