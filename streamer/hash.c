/*
 * hash.c
 *		Spreads bytes over the buckets of tables.
 *
 * FNV-1a, and MurmurHash3's finalizer, which its low bits need.  Whoever may choose
 * what is hashed can make it collide, unless the start is secret.
 */
#include "hash.h"

/* The hash of bytes that follow those whose hash is start. */
uint64_t
hash_bytes(uint64_t start, const void *bytes, size_t len)
{
	const unsigned char *p = bytes;
	uint64_t h = start;

	for (size_t i = 0; i < len; i++)
		h = (h ^ p[i]) * UINT64_C(0x100000001b3);
	return h;
}

/* Let every bit depend on all others. */
uint64_t
hash_finish(uint64_t h)
{
	h = (h ^ h >> 33) * UINT64_C(0xff51afd7ed558ccd);
	h = (h ^ h >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
	return h ^ h >> 33;
}
