/*
 * emission.h
 *		Events on their way into the database, for a request that waits.
 */
#ifndef PEV_EMISSION_H
#define PEV_EMISSION_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "cursor.h"
#include "mem.h"

/* Its owner makes it and frees it, but not between its submission and done. */
typedef struct Emission
{
	char stream[STREAM_KEY_MAX + 1];
	char *key;          /* by which a retry is known; NULL: none */
	const char *events; /* a JSON array; let go of when it has been sent */
	bool is_batch;      /* the client sent an array, too */
	bool everything;    /* global events are allowed */

	unsigned int status; /* the answer; 0: there is none yet */
	unsigned int retry;  /* if that is 503, in milliseconds */
	Buf answer;          /* JSON */

	void (*sent)(struct Emission *emission); /* events is not needed any more */
	void (*done)(struct Emission *emission); /* status is set */
	void *owner;
	int64_t deadline; /* by loop_now: not to be sent later */
	TAILQ_ENTRY(Emission) link;
} Emission;

#endif
