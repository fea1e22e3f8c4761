/*
 * live.h
 *		The frames that wait for one client and cannot be read again: those of no row.
 */
#ifndef PEV_LIVE_H
#define PEV_LIVE_H

#include "frame.h"
#include "place.h"

typedef struct LiveQueue LiveQueue;

extern void live_add(LiveQueue **queue, Frame *frame, const Place *place);
extern Frame *live_take(LiveQueue **queue, const Place **place);
extern void live_drop(LiveQueue **queue);

#endif
