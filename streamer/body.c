/*
 * body.c
 *		The body of a request, taken in within bounds of size, memory and time.
 *
 * Memory is taken as bytes come, not as they are announced: who only announces
 * costs nothing.  A body that is not wanted, or is found too large, is read on
 * and thrown away, for a client that still sends might not hear the answer; but
 * not for ever.
 *
 * One that has not come in full in time is cut off, however busily its sender
 * drips: the connection's own time-out knows only silence.  So is a header.  And
 * so is a body whose sender has hung up half-way, if libmicrohttpd has missed
 * that, as it can when the end comes together with data.  None is answered (408):
 * before the end of a body libmicrohttpd queues no response, once it has begun to
 * read it, nor before that of a header.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "body.h"
#include "log.h"
#include "loop.h"
#include "mem.h"
#include "metrics.h"

#define BODY_FIRST_SIZE 1024
#define BODY_LATE       1000               /* milliseconds */
#define BODY_EXCESS     (16 * 1024 * 1024) /* read of a body beyond the largest that is taken */

static struct
{
	size_t most;  /* bytes of one */
	size_t bound; /* of all */
	size_t bytes; /* that they have */
	int64_t patience;
	int64_t header_patience;
} bodies;

void
bodies_start(const Config *config)
{
	bodies.most = (size_t) config->max_body_bytes;
	bodies.bound = (size_t) config->bodies_bytes;
	bodies.patience = config->body_timeout;
	bodies.header_patience = config->send_timeout + config->body_timeout;
}

/* How much memory do all bodies take? */
size_t
bodies_bytes(void)
{
	return bodies.bytes;
}

/* Is a body of so many bytes refused? */
bool
body_is_too_large(uint64_t declared)
{
	return declared > bodies.most;
}

static void body_on_alarm(void *arg);

/* Ring in so many milliseconds. */
static void
body_set_alarm(Body *body, int64_t ms)
{
	alarm_set(&body->alarm, loop_clock() / 1000 + ms, body_on_alarm, body);
}

/* Has it come in part, or in full, and was not read yet? */
static bool
body_waits(const Body *body)
{
	int bytes;

	return ioctl(body->fd, FIONREAD, &bytes) == 0 && bytes > 0;
}

/*
 * It has not come in time.  libmicrohttpd finds the connection at its end.  But
 * alarms ring before sockets are read: what came while this process was halted is
 * read first.
 */
static void
body_on_alarm(void *arg)
{
	Body *body = arg;

	if (!body->late && body_waits(body))
	{
		body->late = true;
		body_set_alarm(body, BODY_LATE);
		return;
	}
	metric_add(body->coming ? METRIC_EVICTED_BODY_TIMEOUT : METRIC_EVICTED_HEADER_TIMEOUT, 1);
	log_debug("closed: a request's %s did not come in time", body->coming ? "body" : "header");
	(void) shutdown(body->fd, SHUT_RDWR);
}

/* A connection waits for a request, for --send-timeout at most, which then has to come. */
void
body_await_header(Body *body, int fd)
{
	body->fd = fd;
	body->late = false;
	body_set_alarm(body, bodies.header_patience);
}

/* A request begins, with a body of so many bytes, or chunked; awaits: for word to send it. */
void
body_begin(Body *body, uint64_t declared, bool chunked, bool awaits, int fd)
{
	*body = (Body){.coming = declared > 0 || chunked, .fd = fd};
	body->unhindered = awaits || declared > bodies.most + BODY_EXCESS;
	if (body->coming)
		body_set_alarm(body, bodies.patience);
}

/* Give its memory back. */
static void
body_drop(Body *body)
{
	bodies.bytes -= body->size;
	free(body->bytes);
	body->bytes = NULL;
	body->len = 0;
	body->size = 0;
	body->wanted = false;
}

/* Make room for so many more bytes; false if all bodies together would be too large. */
static bool
body_reserve(Body *body, size_t more)
{
	size_t need = BODY_MARGIN + body->len + more + BODY_MARGIN + 1;
	size_t most = BODY_MARGIN + bodies.most + BODY_MARGIN + 1;
	size_t size = body->size == 0 ? BODY_FIRST_SIZE : body->size;

	while (size < need)
		size *= 2;
	if (size > most)
		size = most;
	if (size == body->size)
		return true;
	if (bodies.bytes - body->size + size > bodies.bound)
		return false;
	bodies.bytes += size - body->size;
	body->bytes = mem_array(body->bytes, size, 1);
	body->size = size;
	return true;
}

/* More of it is here.  False: it is so much that the connection must end. */
bool
body_take(Body *body, const char *bytes, size_t len)
{
	body->received += len;
	if (body->received > bodies.most + BODY_EXCESS)
		return false;
	if (!body->wanted)
		return true;
	body->too_large = body_is_too_large(body->received);
	body->no_room = !body->too_large && !body_reserve(body, len);
	if (body->too_large || body->no_room)
	{
		body_drop(body);
		return true;
	}
	memcpy(body->bytes + BODY_MARGIN + body->len, bytes, len);
	body->len += len;
	return true;
}

/* It is here in full. */
void
body_complete(Body *body)
{
	body->coming = false;
	alarm_clear(&body->alarm);
}

/* Nobody needs it any more. */
void
body_end(Body *body)
{
	body_complete(body);
	body_drop(body);
}
