/*
 * page.h
 *		Pages of history that subscribers behind their stream's window hold.
 */
#ifndef PEV_PAGE_H
#define PEV_PAGE_H

#include <stdbool.h>
#include <stddef.h>

#include "subscriber.h"

extern void page_init(size_t bound);
extern void page_add(Subscriber *sub, Frame *frame);
extern void page_end(Subscriber *sub, bool complete);
extern Frame *page_take(Subscriber *sub);
extern void page_drop(Subscriber *sub);
extern size_t page_bytes(void);
extern size_t page_bound(void);

#endif
