/*
 * lookup.h
 *		What must be found out before events can be read: ids, last rows, type names.
 */
#ifndef PEV_LOOKUP_H
#define PEV_LOOKUP_H

#include <stdbool.h>
#include <stdint.h>

#include "subscriber.h"

extern void lookup_init(void);
extern bool lookup_admit(Subscriber *sub);
extern void lookup_want(Stream *stream);
extern void lookup_want_keys(void);
extern void lookup_everything(void);
extern bool lookup_is_unsure(void);
extern void lookup_give_up(void);
extern void lookup_forget(Place *place);
extern void lookup_forget_stream(Stream *stream);

/* Send the query if there is need for it; only while the connection is idle. */
extern bool lookup_send(void);
extern bool lookup_send_rest(void);
extern bool lookup_send_types(void);

#endif
