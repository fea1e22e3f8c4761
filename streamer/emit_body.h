/*
 * emit_body.h
 *		The body of a request that emits, one event or an array of them, or that queues a job.
 */
#ifndef PEV_EMIT_BODY_H
#define PEV_EMIT_BODY_H

#include <stdbool.h>
#include <stddef.h>

#define EMIT_DEPTH_MAX 128 /* how deep arrays and objects may be in each other */

/* What a body is found to hold. */
typedef struct EmitBody
{
	bool is_batch; /* an array, if only of one */
	size_t count;  /* of events, at least one */
	size_t typing; /* of those, events of type typing */
} EmitBody;

/* What is wrong with a body, and where: characters are counted from 1. */
typedef struct EmitFault
{
	const char *what; /* goes on after "Line 1, column 2: ", and ends with a full stop */
	size_t line;
	size_t column;
} EmitFault;

extern bool emit_body_check(const char *text, size_t len, EmitBody *body, EmitFault *fault);
extern bool emit_payload_check(const char *text, size_t len, EmitFault *fault);

#endif
