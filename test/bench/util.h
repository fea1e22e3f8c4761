/*
 * util.h
 *		What the load programs share: errors, the clock, descriptors, sockets, numbers.
 */
#ifndef BENCH_UTIL_H
#define BENCH_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdnoreturn.h>

extern noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));
extern void *xrealloc(void *old, size_t size);
extern int64_t now_us(void);
extern void need_descriptors(long count);
extern int64_t number_arg(const char *name, const char *text, int64_t min, int64_t max);
extern uint64_t random_next(uint64_t *state);

extern int loopback_connect(int port, bool blocking);
extern void send_all(int fd, const char *bytes, size_t length);

#endif
