/*
 * reader.h
 *		Reads rows after positions: the tails of streams, and pages of history.
 */
#ifndef PEV_READER_H
#define PEV_READER_H

#include <stdbool.h>

#include "place.h"

extern void reader_init(void);
extern void reader_mark_stale(Stream *stream);
extern void reader_poll(Stream *stream);
extern void reader_want_tail(Stream *stream);
extern void reader_want_page(Place *place);
extern void reader_forget(Place *place);
extern void reader_forget_stream(Stream *stream);

/* Send the query if there is need for it; only while the connection is idle. */
extern bool reader_send_tails(void);
extern bool reader_send_pages(void);

#endif
