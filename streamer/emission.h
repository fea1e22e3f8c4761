/*
 * emission.h
 *		What a request brings into the database, and waits for: events, or a job.
 */
#ifndef PEV_EMISSION_H
#define PEV_EMISSION_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "cursor.h"
#include "job_target.h"
#include "mem.h"

typedef enum EmissionKind
{
	EMISSION_EVENTS,
	EMISSION_JOB
} EmissionKind;

/* Its owner makes it and frees it, but not between its submission and done. */
typedef struct Emission
{
	EmissionKind kind;
	char stream[STREAM_KEY_MAX + 1]; /* of a job: its channel */
	char job_kind[JOB_KIND_MAX + 1]; /* of a job */
	char *key;                       /* by which a retry is known; NULL: none */
	const char *body; /* a JSON array of events, or a payload; let go of when it has been sent */
	bool is_batch;    /* the client sent an array of events, too */
	bool everything;  /* global events are allowed */
	uint64_t client;  /* of rate.c */

	unsigned int status; /* the answer; 0: there is none yet */
	unsigned int retry;  /* if that is 503, in milliseconds */
	Buf answer;          /* JSON */

	void (*sent)(struct Emission *emission); /* body is not needed any more */
	void (*done)(struct Emission *emission); /* status is set */
	void *owner;
	int64_t deadline; /* by loop_now: not to be sent later */
	TAILQ_ENTRY(Emission) link;
} Emission;

#endif
