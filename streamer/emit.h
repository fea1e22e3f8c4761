/*
 * emit.h
 *		Requests that emit events, and those that queue jobs.
 */
#ifndef PEV_EMIT_H
#define PEV_EMIT_H

#include "config.h"
#include "request.h"

extern void emit_start(const Config *config);
extern void emit_stop(void);
extern enum MHD_Result emit_request(Request *req);
extern enum MHD_Result enqueue_request(Request *req);
extern enum MHD_Result emit_continue(Request *req);
extern void emit_end(Request *req);

#endif
