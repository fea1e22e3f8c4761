/*
 * emit_link.h
 *		One connection to PostgreSQL by which events are emitted.
 */
#ifndef PEV_EMIT_LINK_H
#define PEV_EMIT_LINK_H

#include <stdbool.h>
#include <libpq-fe.h>

#include "emission.h"
#include "loop.h"

typedef enum EmitLinkState
{
	LINK_DOWN,
	LINK_CONNECTING, /* PQconnectPoll */
	LINK_SETUP,      /* finding the extension, preparing */
	LINK_IDLE,
	LINK_BUSY, /* with an emission */
	LINK_STATES
} EmitLinkState;

/* Zeroed, but for watch.fd, which is -1.  It outlives the loop's turns. */
typedef struct EmitLink
{
	EmitLinkState state;
	PGconn *conn;
	Watch watch;
	bool flushing;  /* waiting for the socket to take more of a query */
	Timer patience; /* when to give up on the server */
	int step;
	char *schema;       /* quoted */
	Emission *emission; /* while busy */
	PGresult *result;   /* its first row, or its first error, which outweighs it */
} EmitLink;

/* What all links have in common. */
typedef struct EmitLinkHooks
{
	const char *dsn;                            /* NULL: libpq's environment */
	int64_t timeout;                            /* of a statement, in milliseconds */
	void (*idle)(EmitLink *link);               /* it can be given an emission */
	void (*down)(bool was_up, const char *why); /* it has to be connected again */
} EmitLinkHooks;

extern void emit_link_connect(EmitLink *link, const EmitLinkHooks *hooks);
extern void emit_link_send(EmitLink *link, Emission *emission);
extern void emit_link_close(EmitLink *link);

#endif
