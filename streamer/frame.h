/*
 * frame.h
 *		Immutable, reference-counted Server-Sent Events frames.
 */
#ifndef PEV_FRAME_H
#define PEV_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The bytes of one frame, with its blank line.  Whoever makes one holds one
 * reference; the last frame_unref frees it.
 */
typedef struct Frame
{
	int refs;
	bool terminal;     /* the event that ends its stream */
	bool claims;       /* that a user comes or goes, as presence_claims says */
	uint8_t id_len;    /* bytes of the line with the id, with which it begins; 0: there is none */
	int64_t seq;       /* 0 for what is not a stored event */
	int64_t born;      /* when the event was created, by loop_clock; 0: not known */
	size_t type_start; /* where in bytes the event's type stands */
	size_t type_len;
	size_t len;
	char bytes[];
} Frame;

extern Frame *frame_event(int64_t seq, const char *type, size_t type_len, const char *data,
						  size_t data_len, bool terminal);
extern Frame *frame_comment(const char *text);
extern Frame *frame_retry(unsigned int ms, const char *comment);
extern Frame *frame_mark(int64_t seq);
extern Frame *frame_gap(int64_t from, int64_t to);
extern Frame *frame_closed(int64_t last);
extern Frame *frame_idle(int64_t ms);
extern Frame *frame_id(const char *id);
extern Frame *frame_ref(Frame *frame);
extern void frame_unref(Frame *frame);
extern bool frame_is_event(const Frame *frame);
extern size_t frame_unnamed_start(const Frame *frame);
extern bool frame_has_type(const Frame *frame, const char *type);

#endif
