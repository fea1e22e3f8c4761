/*
 * body.h
 *		The body of a request, taken in within bounds of size, memory and time.
 */
#ifndef PEV_BODY_H
#define PEV_BODY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alarm.h"
#include "config.h"

/* What may be put around a body where it stands in memory. */
#define BODY_MARGIN 1

/* Zeroed before the first request of a connection. */
typedef struct Body
{
	bool coming;     /* it is not here in full */
	bool unhindered; /* its sender listens already, or sends more than will be read */
	bool wanted;     /* keep what comes; else it is thrown away */
	bool too_large;
	bool no_room; /* all bodies together are too large */
	bool late;    /* its time is over, but more of it was here, unread */
	uint64_t received;
	char *bytes; /* the margin, then the text, then room for a margin and a NUL */
	size_t len;  /* of the text */
	size_t size; /* of the memory */
	Alarm alarm; /* when it, or the header before it, should have come */
	int fd;      /* to be closed then */
} Body;

extern void bodies_start(const Config *config);
extern size_t bodies_bytes(void);
extern bool body_is_too_large(uint64_t declared);
extern void body_await_header(Body *body, int fd);
extern void body_begin(Body *body, uint64_t declared, bool chunked, bool awaits, int fd);
extern bool body_take(Body *body, const char *bytes, size_t len);
extern void body_complete(Body *body);
extern void body_end(Body *body);

#endif
