/*
 * sse-resume.c
 *		One client after the other that resumes a long stream somewhere in it.
 *
 * With --max, each of --count connections asks for what comes after a random
 * number below it, and ends as soon as it has the first event: how long that
 * takes from the connect on, and whether it is the right event.  Without, one
 * connection reads --events events from the start: how many come in a second.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "sse-parse.h"
#include "util.h"

#define RECEIVE_SIZE    ((size_t) 256 * 1024)
#define RECEIVE_TIMEOUT 30 /* seconds */

static int port;
static const char *path;
static SseTotals totals;

/* Connect and ask for what comes after a number. */
static int
request(int64_t after)
{
	char text[512];
	struct timeval timeout = {.tv_sec = RECEIVE_TIMEOUT};
	int fd = loopback_connect(port, true);
	int length;

	(void) setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	length = snprintf(text, sizeof(text),
					  "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: text/event-stream\r\n"
					  "Last-Event-ID: %" PRId64 "\r\n\r\n",
					  path, port, after);
	send_all(fd, text, (size_t) length);
	return fd;
}

/* Receive until so many events are there.  Sets when the first byte of the answer came. */
static void
receive(int fd, SseParser *parser, uint64_t events, int64_t *first_byte)
{
	static char buffer[RECEIVE_SIZE];

	while (parser->events < events)
	{
		ssize_t n = recv(fd, buffer, sizeof(buffer), 0);

		if (n <= 0)
			die("after %" PRIu64 " events: %s", parser->events,
				n == 0 ? "the server closed the connection" : strerror(errno));
		if (*first_byte == 0)
			*first_byte = now_us();
		if (!sse_feed(parser, buffer, (size_t) n, now_us(), &totals))
			die("the server does not answer with an event stream");
		if (parser->status != 0 && parser->status != 200)
			die("HTTP status %d", parser->status);
	}
}

/* Resume at random places. */
static void
resume_many(int64_t count, int64_t max)
{
	static Histogram first_byte;
	static Histogram first_event;
	SseParser parser = {0};
	uint64_t seed = 20250101;

	for (int64_t i = 0; i < count; i++)
	{
		int64_t after = (int64_t) (random_next(&seed) % (uint64_t) max);
		int64_t start = now_us();
		int64_t byte_us = 0;
		int fd = request(after);

		sse_start(&parser, after);
		receive(fd, &parser, 1, &byte_us);
		histogram_add(&first_byte, byte_us - start);
		histogram_add(&first_event, now_us() - start);
		close(fd);
	}
	sse_free(&parser);
	printf("{\"resumes\": %" PRId64 ", \"lost\": %" PRIu64 ", \"backwards\": %" PRIu64 ", ", count,
		   totals.lost, totals.backwards);
	histogram_print(&first_byte, "first_byte", stdout);
	printf(", ");
	histogram_print(&first_event, "first_event", stdout);
	puts("}");
}

/* Read a stream from its start. */
static void
replay(int64_t events)
{
	SseParser parser = {0};
	int64_t start = now_us();
	int64_t first_byte = 0;
	int64_t took;
	int fd = request(0);

	sse_start(&parser, 0);
	receive(fd, &parser, (uint64_t) events, &first_byte);
	took = now_us() - start;
	close(fd);
	printf("{\"events\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"lost\": %" PRIu64
		   ", \"backwards\": %" PRIu64 ", \"seconds\": %.3f, \"rate\": %.0f}\n",
		   parser.events, totals.bytes, totals.lost, totals.backwards, (double) took / 1e6,
		   (double) parser.events * 1e6 / (double) took);
	sse_free(&parser);
}

int
main(int argc, char **argv)
{
	static const struct option table[] = {{"port", required_argument, NULL, 'p'},
										  {"path", required_argument, NULL, 'u'},
										  {"count", required_argument, NULL, 'c'},
										  {"max", required_argument, NULL, 'm'},
										  {"events", required_argument, NULL, 'e'},
										  {NULL, 0, NULL, 0}};
	int64_t count = 1;
	int64_t max = 0;
	int64_t events = 0;
	int c;

	while ((c = getopt_long(argc, argv, "", table, NULL)) != -1)
	{
		switch (c)
		{
			case 'p':
				port = (int) number_arg("port", optarg, 1, 65535);
				break;
			case 'u':
				path = optarg;
				break;
			case 'c':
				count = number_arg("count", optarg, 1, INT64_C(1000000000));
				break;
			case 'm':
				max = number_arg("max", optarg, 1, INT64_MAX / 2);
				break;
			case 'e':
				events = number_arg("events", optarg, 1, INT64_MAX / 2);
				break;
			default:
				exit(2);
		}
	}
	if (port == 0 || path == NULL || optind < argc || (max > 0) == (events > 0))
		die("usage: sse-resume --port PORT --path PATH {--count N --max ID | --events N}");
	if (max > 0)
		resume_many(count, max);
	else
		replay(events);
	return 0;
}
