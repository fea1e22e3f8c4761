/*
 * emit_link.h
 *		One connection to PostgreSQL by which events are emitted, and jobs queued.
 */
#ifndef PEV_EMIT_LINK_H
#define PEV_EMIT_LINK_H

#include "emission.h"
#include "link.h"

typedef struct EmitLink
{
	Link base;
	Emission *emission; /* while busy */
	bool stale;         /* the session is good for no other */
} EmitLink;

/* What is told about links. */
typedef struct EmitLinkHooks
{
	void (*idle)(EmitLink *link);               /* it can be given an emission */
	void (*down)(bool was_up, const char *why); /* it has to be connected again */
} EmitLinkHooks;

/* timeout: of a statement, in milliseconds; hooks and dsn stay the caller's. */
extern void emit_link_init(const char *dsn, int64_t timeout, const EmitLinkHooks *hooks);
extern void emit_link_connect(EmitLink *link);
extern void emit_link_send(EmitLink *link, Emission *emission);
extern void emit_link_close(EmitLink *link);

#endif
