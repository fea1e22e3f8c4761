/*
 * post-load.c
 *		Publishes events over HTTP at a fixed rate, or as fast as it is answered, one
 *		POST an event.
 *
 * At a rate, by several connections in turn, so that the publisher does not wait
 * for one answer before it sends the next event, as it would over a single one.
 * Without one, each connection sends the next event when it has its answer.
 * The time of sending replaces the "@" in --item; with --streams, one of so many
 * numbers is added to --path.  Prints what it did as JSON.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "pace.h"
#include "util.h"

#define MESSAGE_MAX     8192
#define CONNECTIONS_MAX 256

static int port;
static const char *path;
static const char *item;
static int64_t streams; /* 0: the path is whole */
static int connections = 8;
static int fds[CONNECTIONS_MAX];
static uint64_t random_state = 1;

/* Sleep until a time has come. */
static void
sleep_until(int64_t us)
{
	struct timespec at = {.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
		;
}

/* Send one event. */
static void
post(int fd)
{
	char body[MESSAGE_MAX / 2];
	char message[MESSAGE_MAX];
	const char *at = strchr(item, '@');
	char number[24] = "";
	int length = snprintf(body, sizeof(body), "%.*s%" PRId64 "%s", (int) (at - item), item,
						  now_us(), at + 1);

	if (length >= (int) sizeof(body))
		die("--item is too long");
	if (streams > 0)
		snprintf(number, sizeof(number), "%" PRIu64,
				 1 + random_next(&random_state) % (uint64_t) streams);
	length =
		snprintf(message, sizeof(message),
				 "POST %s%s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\n"
				 "Content-Length: %d\r\n\r\n%s",
				 path, number, port, length, body);
	if (length >= (int) sizeof(message))
		die("--path is too long");
	send_all(fd, message, (size_t) length);
}

/* Wait for the answer, which is short and comes in one piece or few. */
static void
wait_answer(int fd)
{
	char answer[MESSAGE_MAX];
	size_t length = 0;
	const char *body;
	const char *field;

	for (;;)
	{
		ssize_t n = recv(fd, answer + length, sizeof(answer) - 1 - length, 0);

		if (n <= 0)
			die("the server does not answer");
		length += (size_t) n;
		answer[length] = '\0';
		body = strstr(answer, "\r\n\r\n");
		field = strcasestr(answer, "content-length:");
		if (body != NULL && field != NULL &&
			length >= (size_t) (body + 4 - answer) + (size_t) atoi(field + 15))
			break;
	}
	if (strncmp(answer, "HTTP/1.1 20", 11) != 0)
		die("the server answers: %.60s", answer);
}

/* Send at the schedule's times, by all connections in turn. */
static void
publish_paced(Pace *pace)
{
	uint64_t count = (uint64_t) connections;

	while (!pace_ended(pace, now_us()))
	{
		sleep_until(pace_next(pace));
		if (pace->taken >= count)
			wait_answer(fds[pace->taken % count]);
		post(fds[pace->taken % count]);
		pace->taken++;
	}
	/* The oldest of the unanswered first. */
	for (uint64_t i = pace->taken > count ? pace->taken - count : 0; i < pace->taken; i++)
		wait_answer(fds[i % count]);
}

/* Send by each connection as soon as it has been answered. */
static void
publish_unpaced(Pace *pace)
{
	struct pollfd polled[CONNECTIONS_MAX];
	int open = connections;

	for (int i = 0; i < connections; i++)
	{
		polled[i] = (struct pollfd){.fd = fds[i], .events = POLLIN};
		post(fds[i]);
	}
	while (open > 0)
	{
		if (poll(polled, (nfds_t) connections, -1) < 0)
			die("poll: %s", strerror(errno));
		for (int i = 0; i < connections; i++)
		{
			if (polled[i].revents == 0)
				continue;
			wait_answer(fds[i]);
			pace->taken++;
			if (!pace_ended(pace, now_us()))
			{
				post(fds[i]);
				continue;
			}
			polled[i].fd = -1;
			open--;
		}
	}
}

int
main(int argc, char **argv)
{
	static const struct option table[] = {
		{"port", required_argument, NULL, 'p'},    {"path", required_argument, NULL, 'u'},
		{"item", required_argument, NULL, 'i'},    {"rate", required_argument, NULL, 'r'},
		{"seconds", required_argument, NULL, 's'}, {"connections", required_argument, NULL, 'c'},
		{"streams", required_argument, NULL, 'n'}, {NULL, 0, NULL, 0}};
	int64_t rate = 0;
	int64_t seconds = 1;
	Pace pace;
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
			case 'i':
				item = optarg;
				break;
			case 'r':
				rate = number_arg("rate", optarg, 0, 10000000);
				break;
			case 's':
				seconds = number_arg("seconds", optarg, 1, 86400);
				break;
			case 'c':
				connections = (int) number_arg("connections", optarg, 1, CONNECTIONS_MAX);
				break;
			case 'n':
				streams = number_arg("streams", optarg, 1, INT64_MAX / 2);
				break;
			default:
				exit(2);
		}
	}
	if (port == 0 || path == NULL || item == NULL || strchr(item, '@') == NULL || optind < argc)
		die("usage: post-load --port PORT --path PATH --item TEMPLATE [--rate N] [--seconds N] "
			"[--connections N] [--streams N]");
	for (int i = 0; i < connections; i++)
		fds[i] = loopback_connect(port, true);
	pace_start(&pace, (double) rate, (double) seconds);
	if (rate > 0)
		publish_paced(&pace);
	else
		publish_unpaced(&pace);
	printf("{\"events\": %" PRIu64 ", \"seconds\": %.3f, \"started_us\": %" PRId64
		   ", \"stopped_us\": %" PRId64 "}\n",
		   pace.taken, (double) (now_us() - pace.start) / 1e6, pace.start, now_us());
	return 0;
}
