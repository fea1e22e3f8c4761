/*
 * emit_pool.h
 *		The connections by which events are emitted and jobs queued, and what waits for them.
 */
#ifndef PEV_EMIT_POOL_H
#define PEV_EMIT_POOL_H

#include <stdbool.h>
#include <stddef.h>

#include "config.h"
#include "emission.h"

/* Why nothing can be taken; NULL: it can.  Then ms says when to try again. */
extern const char *emit_pool_trouble(unsigned int *ms);
extern void emit_pool_submit(Emission *emission);
extern size_t emit_pool_load(void);
extern size_t emit_pool_connections(void);
extern void emit_pool_start(const Config *config);
extern void emit_pool_drain(void);
extern void emit_pool_stop(void);

#endif
