/*
 * frame.c
 *		Immutable, reference-counted Server-Sent Events frames.
 *
 * An event is rendered once, whatever the number of its subscribers; they all
 * copy from the same bytes.  The rendering follows the WHATWG HTML standard,
 * section 9.2: CR, LF and CRLF all end a line there, so data is split at each
 * of them, and names lose them, else data could forge fields or whole frames.
 *
 * Pure: no libpq, no libmicrohttpd, and no state besides the reference counts.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frame.h"
#include "mem.h"

static const char frame_id_prefix[] = "id: ";
static const char frame_event_prefix[] = "event: ";
static const char frame_data_prefix[] = "data: ";
static const char frame_comment_prefix[] = ": ";

/* The longest decimal of a bigint, its sign and the terminator. */
#define FRAME_NUMBER_MAX 21

/* Allocate a frame with room for len bytes. */
static Frame *
frame_new(size_t len)
{
	Frame *frame = mem_alloc(sizeof(Frame) + len);

	frame->refs = 1;
	frame->terminal = false;
	frame->claims = false;
	frame->id_len = 0;
	frame->seq = 0;
	frame->born = 0;
	frame->type_start = 0;
	frame->type_len = 0;
	frame->len = len;
	return frame;
}

/* Is there no line break?  Of JSON there never is, and memchr finds that out fast. */
static bool
frame_is_one_line(const char *text, size_t len)
{
	return memchr(text, '\n', len) == NULL && memchr(text, '\r', len) == NULL;
}

/* How many lines do the bytes make?  None at all make one. */
static size_t
frame_count_lines(const char *text, size_t len)
{
	size_t lines = 1;

	if (frame_is_one_line(text, len))
		return lines;
	for (size_t i = 0; i < len; i++)
		if (text[i] == '\n' || (text[i] == '\r' && !(i + 1 < len && text[i + 1] == '\n')))
			lines++;
	return lines;
}

/* Append bytes and return the place after them. */
static char *
frame_put(char *out, const char *bytes, size_t len)
{
	memcpy(out, bytes, len);
	return out + len;
}

/* Append every line of the text, each with the prefix and a newline. */
static char *
frame_put_lines(char *out, const char *prefix, const char *text, size_t len)
{
	size_t start = 0;

	/* of one line only the end is looked at */
	for (size_t i = frame_is_one_line(text, len) ? len : 0; i <= len; i++)
	{
		if (i < len && text[i] != '\r' && text[i] != '\n')
			continue;
		out = frame_put(out, prefix, strlen(prefix));
		out = frame_put(out, text + start, i - start);
		*out++ = '\n';
		if (i + 1 < len && text[i] == '\r' && text[i + 1] == '\n')
			i++;
		start = i + 1;
	}
	return out;
}

/* Append a name without the bytes that would end its line; NUL is unsafe in ids. */
static char *
frame_put_name(char *out, const char *name, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (name[i] != '\r' && name[i] != '\n' && name[i] != '\0')
			*out++ = name[i];
	return out;
}

/*
 * Render an event.  seq 0 stands for one that is not stored and so has no id;
 * type_len 0 for the unnamed "message" event.
 */
Frame *
frame_event(int64_t seq, const char *type, size_t type_len, const char *data, size_t data_len,
			bool terminal)
{
	size_t lines = frame_count_lines(data, data_len);
	size_t most = sizeof(frame_id_prefix) + FRAME_NUMBER_MAX + sizeof(frame_event_prefix) +
				  type_len + lines * sizeof(frame_data_prefix) + data_len + 1;
	Frame *frame = frame_new(most);
	char *out = frame->bytes;

	frame->seq = seq;
	frame->terminal = terminal;
	if (seq != 0)
		frame->id_len = (uint8_t) sprintf(out, "%s%" PRId64 "\n", frame_id_prefix, seq);
	out += frame->id_len;
	if (type_len != 0)
	{
		out = frame_put(out, frame_event_prefix, strlen(frame_event_prefix));
		frame->type_start = (size_t) (out - frame->bytes);
		out = frame_put_name(out, type, type_len);
		frame->type_len = (size_t) (out - frame->bytes) - frame->type_start;
		*out++ = '\n';
	}
	out = frame_put_lines(out, frame_data_prefix, data, data_len);
	*out++ = '\n';
	frame->len = (size_t) (out - frame->bytes);
	return frame;
}

/* Render a comment, which clients ignore. */
Frame *
frame_comment(const char *text)
{
	size_t len = strlen(text);
	size_t lines = frame_count_lines(text, len);
	Frame *frame = frame_new(lines * sizeof(frame_comment_prefix) + len + 1);
	char *out = frame_put_lines(frame->bytes, frame_comment_prefix, text, len);

	*out++ = '\n';
	frame->len = (size_t) (out - frame->bytes);
	return frame;
}

/* Render how long to wait before reconnecting, with a comment for the reader. */
Frame *
frame_retry(unsigned int ms, const char *comment)
{
	size_t len = strlen(comment);
	size_t lines = frame_count_lines(comment, len);
	Frame *frame = frame_new(sizeof("retry: \n") + FRAME_NUMBER_MAX +
							 lines * sizeof(frame_comment_prefix) + len + 1);
	char *out = frame->bytes + sprintf(frame->bytes, "retry: %u\n", ms);

	out = frame_put_lines(out, frame_comment_prefix, comment, len);
	*out++ = '\n';
	frame->len = (size_t) (out - frame->bytes);
	return frame;
}

/*
 * Render an id alone: the client takes note of it as the last it has seen, and
 * no event is dispatched.
 */
Frame *
frame_mark(int64_t seq)
{
	Frame *frame = frame_new(sizeof("id: \n\n") + FRAME_NUMBER_MAX);

	frame->len = (size_t) sprintf(frame->bytes, "%s%" PRId64 "\n\n", frame_id_prefix, seq);
	return frame;
}

/* Render the in-band notice that retention has removed events from..to. */
Frame *
frame_gap(int64_t from, int64_t to)
{
	static const char type[] = "stream-gap";
	char data[2 * FRAME_NUMBER_MAX + sizeof("{\"from\":,\"to\":}")];
	int len = sprintf(data, "{\"from\":%" PRId64 ",\"to\":%" PRId64 "}", from, to);

	return frame_event(0, type, strlen(type), data, (size_t) len, false);
}

/* Render the notice, for who listens to several streams, that one is over after this number. */
Frame *
frame_closed(int64_t last)
{
	static const char type[] = "stream-closed";
	char data[FRAME_NUMBER_MAX + sizeof("{\"last\":}")];
	int len = sprintf(data, "{\"last\":%" PRId64 "}", last);

	return frame_event(0, type, strlen(type), data, (size_t) len, false);
}

/* Render the notice that the stream ends because there was no event for so many milliseconds. */
Frame *
frame_idle(int64_t ms)
{
	static const char type[] = "idle-timeout";
	char data[32 + sizeof("{\"seconds\": }")];
	int len = sprintf(data, "{\"seconds\": %.10g}", (double) ms / 1000);

	return frame_event(0, type, strlen(type), data, (size_t) len, false);
}

/* Render the line of an id, which takes the place of that of the frame it is sent before. */
Frame *
frame_id(const char *id)
{
	Frame *frame = frame_new(sizeof(frame_id_prefix) + strlen(id) + 1);

	frame->len = (size_t) sprintf(frame->bytes, "%s%s\n", frame_id_prefix, id);
	return frame;
}

/* Take one more reference. */
Frame *
frame_ref(Frame *frame)
{
	frame->refs++;
	return frame;
}

/* Give one back; the last one frees.  NULL is nothing to give. */
void
frame_unref(Frame *frame)
{
	if (frame != NULL && --frame->refs == 0)
		free(frame);
}

/* Does the client see an event, stored or not, or the notice of a gap? */
bool
frame_is_event(const Frame *frame)
{
	return frame->seq != 0 || frame->type_len != 0;
}

/* Where does it go on after its id and its name? */
size_t
frame_unnamed_start(const Frame *frame)
{
	return frame->type_len == 0 ? frame->id_len : frame->type_start + frame->type_len + 1;
}

/* Is the frame an event of this type? */
bool
frame_has_type(const Frame *frame, const char *type)
{
	return strlen(type) == frame->type_len &&
		   memcmp(frame->bytes + frame->type_start, type, frame->type_len) == 0;
}
