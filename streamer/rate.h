/*
 * rate.h
 *		How often each client may do something.
 */
#ifndef PEV_RATE_H
#define PEV_RATE_H

#include <stddef.h>
#include <stdint.h>

extern void rate_start(int64_t per_second, uint64_t seed);
extern void rate_stop(void);
extern uint64_t rate_client(char kind, const void *bytes, size_t len);
extern int64_t rate_take(uint64_t client, int64_t now);

#endif
