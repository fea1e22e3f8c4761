/*
 * page.h
 *		Pages of history that subscribers behind their stream's window hold.
 */
#ifndef PEV_PAGE_H
#define PEV_PAGE_H

#include <stdbool.h>
#include <stddef.h>

#include "place.h"

extern void page_init(size_t bound);
extern void page_add(Place *place, Frame *frame);
extern void page_end(Place *place, bool complete);
extern Frame *page_take(Place *place);
extern void page_drop(Place *place);
extern size_t page_bytes(void);
extern size_t page_bound(void);

#endif
