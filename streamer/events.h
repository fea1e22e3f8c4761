/*
 * events.h
 *		Requests for streams of events, and the connections of subscribers.
 */
#ifndef PEV_EVENTS_H
#define PEV_EVENTS_H

#include <stdbool.h>
#include <stdint.h>

#include "config.h"
#include "request.h"

extern void events_start(const Config *config, int64_t max_clients);
extern void events_stop(void);
extern enum MHD_Result events_request(Request *req);
extern enum MHD_Result events_continue(Request *req);
extern void events_end(Request *req, enum MHD_RequestTerminationCode code);
extern bool events_are_draining(void);
extern void events_drain(void);

/* See SubscriberHooks. */
extern void events_resume(Subscriber *sub);

#endif
