/*
 * newid.h
 *		Ids that the database names before it is known whose they are.
 */
#ifndef PEV_NEWID_H
#define PEV_NEWID_H

#include <stdbool.h>
#include <stdint.h>

#include "frame.h"

extern void newid_init(void);
extern void newid_reset(void);
extern void newid_ask(int64_t id);
extern void newid_hold(int64_t id, Frame *frame);
extern bool newid_send(void);

#endif
