/*
 * rate.h
 *		How often each client may do something.
 */
#ifndef PEV_RATE_H
#define PEV_RATE_H

#include <stddef.h>
#include <stdint.h>

typedef struct Rate Rate;

extern void rates_seed(uint64_t seed);
extern Rate *rate_new(int64_t per_second);
extern void rate_free(Rate *rate);
extern uint64_t rate_client(char kind, const void *bytes, size_t len);
extern int64_t rate_take(Rate *rate, uint64_t client, int64_t count, int64_t now);

#endif
