/*
 * hang_up.h
 *		Finding out that the client of a long response has gone.
 */
#ifndef PEV_HANG_UP_H
#define PEV_HANG_UP_H

#include "request.h"

extern void hang_up_watch(Request *req, int64_t patience, WatchCallback callback);
extern void hang_up_end(Request *req, uint32_t events);
extern void hang_up_unwatch(Request *req, enum MHD_RequestTerminationCode code);

#endif
