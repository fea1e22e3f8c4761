/*
 * sse-parse.h
 *		One HTTP response that is an event stream, parsed as it arrives.
 */
#ifndef BENCH_SSE_PARSE_H
#define BENCH_SSE_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "histogram.h"

/* What all connections together received. */
typedef struct SseTotals
{
	uint64_t deliveries; /* events */
	uint64_t bytes;      /* as received, headers and chunk sizes included */
	uint64_t lost;       /* numbers that were skipped */
	uint64_t backwards;  /* numbers that came again, or too late */
	uint64_t unstamped;  /* events without a time */
	int64_t first_us;    /* when the first and the last event came */
	int64_t last_us;
	Histogram latency; /* from the time in the event to its arrival */
} SseTotals;

typedef enum SseState
{
	SSE_HEAD,
	SSE_BODY,        /* not chunked: up to the connection's end */
	SSE_CHUNK_SIZE,  /* hexadecimal digits */
	SSE_CHUNK_NOISE, /* what may follow them, up to the line's end */
	SSE_CHUNK,
	SSE_CHUNK_END, /* the line's end after a chunk */
	SSE_ENDED      /* the server ended the response */
} SseState;

/* One response.  Owns its stash. */
typedef struct SseParser
{
	SseState state;
	int status;        /* HTTP status, once the head is there */
	size_t chunk_left; /* of the current chunk */
	int64_t last_id;   /* of the last event that had one; -1: none yet */
	int64_t frame_id;  /* of the frame being parsed; -1: none */
	int64_t frame_stamp;
	bool frame_data;
	uint64_t events;
	char *stash; /* a head or line of which the end is missing */
	size_t stash_length;
	size_t stash_size;
} SseParser;

extern void sse_start(SseParser *p, int64_t last_id);
extern bool sse_feed(SseParser *p, const char *bytes, size_t length, int64_t now,
					 SseTotals *totals);
extern void sse_free(SseParser *p);

#endif
