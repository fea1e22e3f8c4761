/*
 * hash.h
 *		Spreads bytes over the buckets of tables.
 */
#ifndef PEV_HASH_H
#define PEV_HASH_H

#include <stddef.h>
#include <stdint.h>

#define HASH_START UINT64_C(0xcbf29ce484222325)

extern uint64_t hash_bytes(uint64_t start, const void *bytes, size_t len);
extern uint64_t hash_finish(uint64_t h);

#endif
