/*
 * uuid7.c
 *		Time-ordered identifiers, RFC 9562 version 7.
 *
 * 48 bits of Unix time in milliseconds, 12 bits of the fraction below that
 * (RFC 9562, section 6.2, method 3), 62 random bits.  The random bytes come
 * from the operating system in larger pieces, since asking for sixteen at a
 * time costs more than the rest of an event's stamping.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "uuid7.h"

#define RANDOM_BYTES 8 /* of each identifier */

static unsigned char pool[RANDOM_BYTES * 64];
static size_t pool_used = sizeof(pool);

/* The next random bytes. */
static const unsigned char *
next_random(void)
{
	const unsigned char *bytes;

	if (pool_used == sizeof(pool))
	{
		if (!pg_strong_random(pool, sizeof(pool)))
			ereport(ERROR,
					(errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate random values")));
		pool_used = 0;
	}
	bytes = &pool[pool_used];
	pool_used += RANDOM_BYTES;
	return bytes;
}

/* Write the identifier of an instant, UUID_TEXT_LEN characters. */
void
uuid7_text(TimestampTz when, char *out)
{
	static const char hex[] = "0123456789abcdef";
	uint64 micros = (uint64) (when + (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY);
	uint64 millis = micros / 1000;
	uint32 fraction = (uint32) ((micros % 1000) * 4096 / 1000);
	unsigned char bytes[16];

	for (int i = 0; i < 6; i++)
		bytes[i] = (unsigned char) (millis >> (8 * (5 - i)));
	bytes[6] = 0x70 | (fraction >> 8);
	bytes[7] = fraction & 0xff;
	memcpy(&bytes[8], next_random(), RANDOM_BYTES);
	bytes[8] = 0x80 | (bytes[8] & 0x3f);

	for (int i = 0; i < 16; i++)
	{
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*out++ = '-';
		*out++ = hex[bytes[i] >> 4];
		*out++ = hex[bytes[i] & 0x0f];
	}
}
