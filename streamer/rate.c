/*
 * rate.c
 *		How often each client may do something.
 *
 * Each client may use up a second's worth at once, and then goes on at the rate
 * itself.  Kept is one number a client: when it will have all of it back (the
 * theoretical arrival time of GCRA).  One for which that time has come is as good
 * as unknown, so clients need not leave.
 *
 * The table has a fixed size, however many clients there are.  A client has a
 * place among few; if others take them all, who has used up least is forgotten.
 * Whoever has that many addresses can be served more than is due to one: but so
 * they could anyway, by using each address in turn.
 *
 * Pure: no libpq, no libmicrohttpd.
 */
#include <stdlib.h>

#include "hash.h"
#include "mem.h"
#include "rate.h"

#define RATE_SETS 4096 /* a power of two */
#define RATE_WAYS 8
#define SECOND    INT64_C(1000000)

typedef struct RateSlot
{
	uint64_t client;
	int64_t whole; /* when it has a second's worth again */
} RateSlot;

/* Of one thing that clients may do.  rate_free ends it. */
struct Rate
{
	int64_t cost; /* of one, in microseconds */
	RateSlot sets[RATE_SETS][RATE_WAYS];
};

static uint64_t rate_seed;

/* Set the seed, which keeps clients from choosing whom they share a place with. */
void
rates_seed(uint64_t seed)
{
	rate_seed = seed;
}

/* So many a second; 0 is NULL, which limits nothing. */
Rate *
rate_new(int64_t per_second)
{
	Rate *rate;

	if (per_second == 0)
		return NULL;
	rate = mem_zero(sizeof(Rate));
	rate->cost = SECOND / per_second;
	return rate;
}

void
rate_free(Rate *rate)
{
	free(rate);
}

/* What a client is known by: the hash of its bytes; kinds of bytes are told apart. */
uint64_t
rate_client(char kind, const void *bytes, size_t len)
{
	uint64_t h = hash_bytes(HASH_START ^ rate_seed, &kind, 1);

	return hash_finish(hash_bytes(h, bytes, len));
}

/* The client's slot, or else the one that can best be spared. */
static RateSlot *
rate_find(Rate *rate, uint64_t client)
{
	RateSlot *slots = rate->sets[client & (RATE_SETS - 1)];
	RateSlot *least = slots;

	for (int i = 0; i < RATE_WAYS; i++)
	{
		if (slots[i].client == client)
			return &slots[i];
		if (slots[i].whole < least->whole)
			least = &slots[i];
	}
	*least = (RateSlot){.client = client};
	return least;
}

/*
 * May the client do it so many times more, at this time in microseconds?  0 if
 * so, and then they are counted; else how many microseconds later it may.  More
 * than a second's worth at once it never may.
 */
int64_t
rate_take(Rate *rate, uint64_t client, int64_t count, int64_t now)
{
	RateSlot *slot;
	int64_t whole;

	if (rate == NULL)
		return 0;
	if (count > SECOND / rate->cost)
		return SECOND;
	slot = rate_find(rate, client);
	whole = (slot->whole > now ? slot->whole : now) + count * rate->cost;
	if (whole - now > SECOND)
		return whole - now - SECOND;
	slot->whole = whole;
	return 0;
}
