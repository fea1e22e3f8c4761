/*
 * job_target.h
 *		Which job a request queues: of which kind, and for which channel.
 */
#ifndef PEV_JOB_TARGET_H
#define PEV_JOB_TARGET_H

#include <stdbool.h>

#include "cursor.h"

#define JOB_KIND_MAX 63 /* bytes */

typedef struct JobTarget
{
	char kind[JOB_KIND_MAX + 1]; /* empty: the path names none */
	bool has_channel;
	StreamKey channel; /* where its events go */
} JobTarget;

/* NULL, or a sentence that says what is wrong. */
extern const char *job_target_parse(const char *target, JobTarget *job);

#endif
