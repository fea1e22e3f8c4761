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

static struct
{
	int64_t cost; /* of one, in microseconds */
	uint64_t seed;
	RateSlot (*sets)[RATE_WAYS];
} rates;

/* Start; the seed keeps clients from choosing whom they share a place with. */
void
rate_start(int64_t per_second, uint64_t seed)
{
	rates.cost = SECOND / per_second;
	rates.seed = seed;
	rates.sets = mem_zero(RATE_SETS * sizeof(rates.sets[0]));
}

void
rate_stop(void)
{
	free(rates.sets);
	rates.sets = NULL;
}

/* What a client is known by: the hash of its bytes; kinds of bytes are told apart. */
uint64_t
rate_client(char kind, const void *bytes, size_t len)
{
	uint64_t h = hash_bytes(HASH_START ^ rates.seed, &kind, 1);

	return hash_finish(hash_bytes(h, bytes, len));
}

/* The client's slot, or else the one that can best be spared. */
static RateSlot *
rate_find(uint64_t client)
{
	RateSlot *slots = rates.sets[client & (RATE_SETS - 1)];
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
 * May the client do it once more, at this time in microseconds?  0 if so, and
 * then it is counted; else how many microseconds later it may.
 */
int64_t
rate_take(uint64_t client, int64_t now)
{
	RateSlot *slot = rate_find(client);
	int64_t whole = (slot->whole > now ? slot->whole : now) + rates.cost;

	if (whole - now > SECOND)
		return whole - now - SECOND;
	slot->whole = whole;
	return 0;
}
