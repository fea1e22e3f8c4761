/*
 * streamer_frame.c
 *		What SSE frames must look like, byte for byte.
 */
#include <stdint.h>
#include <stdlib.h>

#include "frame.h"
#include "streamer_tap.h"

/* The frame's bytes must be these. */
static void
is_frame(Frame *frame, const char *want, const char *name)
{
	char *got = strndup(frame->bytes, frame->len);

	is(got, want, name);
	is_number((long long) frame->len, (long long) strlen(want), "and no byte more");
	free(got);
	frame_unref(frame);
}

/* Render an event of type "t" and sequence number 7. */
static Frame *
event(const char *data)
{
	return frame_event(7, "t", 1, data, strlen(data), false);
}

int
main(void)
{
	Frame *frame;

	is_frame(frame_event(7, "prompt-start", 12, "{\"position\": 1}", 15, false),
			 "id: 7\nevent: prompt-start\ndata: {\"position\": 1}\n\n", "an event");
	is_frame(frame_event(INT64_MAX, "t", 1, "x", 1, false),
			 "id: 9223372036854775807\nevent: t\ndata: x\n\n", "the largest id");
	is_frame(frame_event(0, "typing", 6, "{}", 2, false), "event: typing\ndata: {}\n\n",
			 "an event that is not stored has no id");
	is_frame(frame_event(7, "", 0, "{}", 2, false), "id: 7\ndata: {}\n\n", "an unnamed event");
	is_frame(event(""), "id: 7\nevent: t\ndata: \n\n", "no data");
	is_frame(event("a\nb"), "id: 7\nevent: t\ndata: a\ndata: b\n\n", "LF ends a line");
	is_frame(event("a\rb"), "id: 7\nevent: t\ndata: a\ndata: b\n\n", "CR ends a line");
	is_frame(event("a\r\nb"), "id: 7\nevent: t\ndata: a\ndata: b\n\n", "CRLF ends one line");
	is_frame(event("a\n\rb"), "id: 7\nevent: t\ndata: a\ndata: \ndata: b\n\n", "LFCR ends two");
	is_frame(event("a\n"), "id: 7\nevent: t\ndata: a\ndata: \n\n", "LF at the end");
	is_frame(event("a\r"), "id: 7\nevent: t\ndata: a\ndata: \n\n", "CR at the end");
	is_frame(event("a\r\n"), "id: 7\nevent: t\ndata: a\ndata: \n\n", "CRLF at the end");
	is_frame(event("\n\nid: 9"), "id: 7\nevent: t\ndata: \ndata: \ndata: id: 9\n\n",
			 "data cannot forge a frame");
	is_frame(frame_event(7, "a\nb\rc\0d", 7, "x", 1, false), "id: 7\nevent: abcd\ndata: x\n\n",
			 "a type loses CR, LF and NUL");
	is_frame(frame_comment("ping"), ": ping\n\n", "a comment");
	is_frame(frame_comment("a\ndata: b"), ": a\n: data: b\n\n", "a comment of two lines");
	is_frame(frame_retry(2000, "hello"), "retry: 2000\n: hello\n\n", "retry with a comment");
	is_frame(frame_mark(7), "id: 7\n\n", "an id alone");
	is_frame(frame_gap(3, 9), "event: stream-gap\ndata: {\"from\":3,\"to\":9}\n\n", "a gap");
	is_frame(frame_gap(INT64_MAX - 1, INT64_MAX),
			 "event: stream-gap\ndata: "
			 "{\"from\":9223372036854775806,\"to\":9223372036854775807}\n\n",
			 "a gap at the end of numbers");
	is_frame(frame_idle(300000), "event: idle-timeout\ndata: {\"seconds\": 300}\n\n",
			 "an idle time");
	is_frame(frame_idle(86400000 - 1), "event: idle-timeout\ndata: {\"seconds\": 86399.999}\n\n",
			 "to the millisecond");

	frame = frame_event(7, "prompt-start", 12, "{}", 2, true);
	ok(frame->terminal && frame->seq == 7, "a frame knows its number and whether it is the last");
	ok(frame_has_type(frame, "prompt-start"), "a frame knows its type");
	ok(!frame_has_type(frame, "prompt"), "and not by a part of it");
	ok(!frame_has_type(frame, "prompt-start-2"), "nor by more than it");
	is_number((long long) (frame->len - frame_unnamed_start(frame)),
			  (long long) strlen("data: {}\n\n"), "and where it goes on after it");
	ok(frame_ref(frame) == frame && frame->refs == 2, "a reference is counted");
	frame_unref(frame);
	is_number(frame->refs, 1, "and given back");
	frame_unref(frame);
	frame_unref(NULL);
	return done();
}
