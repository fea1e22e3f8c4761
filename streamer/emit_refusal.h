/*
 * emit_refusal.h
 *		What a client is told when the database refuses its events.
 */
#ifndef PEV_EMIT_REFUSAL_H
#define PEV_EMIT_REFUSAL_H

#include <stdbool.h>

#include "mem.h"

/* An error as PostgreSQL raised it; only the first two are never NULL. */
typedef struct EmitError
{
	const char *sqlstate;
	const char *message;
	const char *detail;
	const char *context;
} EmitError;

/* What follows from it. */
typedef struct EmitRefusal
{
	unsigned int status; /* of the answer; 503: it may be tried again */
	bool stale;          /* the session is of no use any more */
	bool alarming;       /* the operator should know */
} EmitRefusal;

extern EmitRefusal emit_refusal(const EmitError *error, bool is_batch, Buf *body);

#endif
