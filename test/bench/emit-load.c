/*
 * emit-load.c
 *		Writers that emit events at a fixed rate, or as fast as they can.
 *
 * One thread with --writers database connections.  Each runs the statement --sql
 * for a stream chosen at random, one at a time, with the stream as $1 and the event
 * as $2; with --batch N, $2 is a JSON array of N events and they count as N.
 *
 * An event is --item with the "@" replaced by the time, taken right before the
 * statement is sent.  A fixed rate is a schedule that does not slow down when the
 * server does; "late" says how far the writers fell behind it.  (pgbench can
 * neither pass its clock into a statement nor keep to a rate below a millisecond.)
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "histogram.h"
#include "pace.h"
#include "util.h"

#define STATEMENT    "emit"
#define STOP_TIMEOUT ((int64_t) 60 * 1000000)

typedef struct Writer
{
	PGconn *conn;
	bool busy;
	int64_t sent; /* when its statement was sent */
} Writer;

static struct
{
	const char *dsn;
	const char *sql;
	const char *item;
	int writers;
	int64_t first;
	int64_t streams;
	int64_t rate;
	int64_t batch;
	int64_t seconds;
} options = {
	.dsn = "", .writers = 1, .first = 1, .streams = 1, .rate = 0, .batch = 0, .seconds = 1};

static Writer *writers;
static int idle; /* how many writers are not busy */
static int epoll_fd;
static int timer_fd;
static Pace pace; /* in statements */
static uint64_t done;
static uint64_t failed;
static uint64_t random_state = 88172645463325252;
static Histogram commit;
static Histogram late;

/* The text of $2.  The buffer is reused. */
static const char *
event_text(int64_t now)
{
	static char *text;
	static size_t size;
	const char *at = strchr(options.item, '@');
	int64_t count = options.batch > 0 ? options.batch : 1;
	size_t length = 0;

	if (text == NULL)
	{
		size = (strlen(options.item) + 32) * (size_t) count + 8;
		text = xrealloc(NULL, size);
	}
	if (options.batch > 0)
		text[length++] = '[';
	for (int64_t i = 0; i < count; i++)
		length +=
			(size_t) snprintf(text + length, size - length, "%s%.*s%" PRId64 "%s", i > 0 ? "," : "",
							  (int) (at - options.item), options.item, now, at + 1);
	if (options.batch > 0)
		text[length++] = ']';
	text[length] = '\0';
	return text;
}

/* Let a writer run the statement. */
static void
writer_send(Writer *writer)
{
	char stream[32];
	const char *values[2];
	int64_t now = now_us();

	snprintf(stream, sizeof(stream), "%" PRId64,
			 options.first + (int64_t) (random_next(&random_state) % (uint64_t) options.streams));
	values[0] = stream;
	values[1] = event_text(now);
	if (!PQsendQueryPrepared(writer->conn, STATEMENT, 2, values, NULL, NULL, 0))
		die("%s", PQerrorMessage(writer->conn));
	histogram_add(&late, options.rate > 0 ? now - pace_next(&pace) : 0);
	writer->sent = now;
	writer->busy = true;
	idle--;
	pace.taken++;
}

/* Take what the server answered. */
static void
writer_receive(Writer *writer)
{
	PGresult *result;

	if (!PQconsumeInput(writer->conn))
		die("%s", PQerrorMessage(writer->conn));
	while (writer->busy && !PQisBusy(writer->conn))
	{
		result = PQgetResult(writer->conn);
		if (result == NULL)
		{
			writer->busy = false;
			idle++;
			histogram_add(&commit, now_us() - writer->sent);
			continue;
		}
		if (PQresultStatus(result) == PGRES_TUPLES_OK || PQresultStatus(result) == PGRES_COMMAND_OK)
			done++;
		else if (failed++ == 0)
			fprintf(stderr, "emit-load: %s", PQresultErrorMessage(result));
		PQclear(result);
	}
}

/* Let idle writers run what is due, and set the timer for what is due next. */
static void
send_due(void)
{
	struct itimerspec at = {0};
	int64_t now = now_us();
	int64_t next;

	for (int i = 0; i < options.writers && idle > 0; i++)
	{
		if (pace_ended(&pace, now) || pace_next(&pace) > now)
			break;
		if (!writers[i].busy)
			writer_send(&writers[i]);
	}
	next = pace_next(&pace);
	if (options.rate <= 0 || idle == 0 || pace_ended(&pace, now))
		return;
	at.it_value.tv_sec = next / 1000000;
	at.it_value.tv_nsec = next % 1000000 * 1000;
	timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &at, NULL);
}

static void
wait_and_receive(void)
{
	struct epoll_event events[64];
	int n = epoll_wait(epoll_fd, events, 64, 10);

	for (int i = 0; i < n; i++)
	{
		uint64_t ticks;

		if (events[i].data.ptr != NULL)
			writer_receive(events[i].data.ptr);
		else
			(void) !read(timer_fd, &ticks, sizeof(ticks));
	}
}

static void
watch(int fd, void *pointer)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = pointer};

	if (fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
		die("epoll_ctl: %s", strerror(errno));
}

static void
writer_connect(Writer *writer)
{
	PGresult *result;

	writer->conn = PQconnectdb(options.dsn);
	if (PQstatus(writer->conn) != CONNECTION_OK)
		die("%s", PQerrorMessage(writer->conn));
	result = PQprepare(writer->conn, STATEMENT, options.sql, 0, NULL);
	if (PQresultStatus(result) != PGRES_COMMAND_OK)
		die("%s", PQresultErrorMessage(result));
	PQclear(result);
	watch(PQsocket(writer->conn), writer);
}

static void
connect_all(void)
{
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	watch(timer_fd, NULL);
	writers = xrealloc(NULL, (size_t) options.writers * sizeof(Writer));
	memset(writers, 0, (size_t) options.writers * sizeof(Writer));
	for (int i = 0; i < options.writers; i++)
		writer_connect(&writers[i]);
	idle = options.writers;
}

static void
print_report(int64_t stopped)
{
	uint64_t events = done * (uint64_t) (options.batch > 0 ? options.batch : 1);
	double took = (double) (stopped - pace.start) / 1e6;

	printf("{\"events\": %" PRIu64 ", \"statements\": %" PRIu64 ", \"failed\": %" PRIu64
		   ", \"seconds\": %.3f, \"rate\": %.1f, \"started_us\": %" PRId64
		   ", \"stopped_us\": %" PRId64 ", ",
		   events, done, failed, took, (double) events / took, pace.start, stopped);
	histogram_print(&commit, "commit", stdout);
	printf(", ");
	histogram_print(&late, "late", stdout);
	puts("}");
}

static void
parse_options(int argc, char **argv)
{
	static const struct option table[] = {
		{"dsn", required_argument, NULL, 'd'},     {"sql", required_argument, NULL, 'q'},
		{"item", required_argument, NULL, 'i'},    {"writers", required_argument, NULL, 'w'},
		{"first", required_argument, NULL, 'f'},   {"streams", required_argument, NULL, 'n'},
		{"rate", required_argument, NULL, 'r'},    {"batch", required_argument, NULL, 'b'},
		{"seconds", required_argument, NULL, 's'}, {NULL, 0, NULL, 0}};
	int c;

	while ((c = getopt_long(argc, argv, "", table, NULL)) != -1)
	{
		switch (c)
		{
			case 'd':
				options.dsn = optarg;
				break;
			case 'q':
				options.sql = optarg;
				break;
			case 'i':
				options.item = optarg;
				break;
			case 'w':
				options.writers = (int) number_arg("writers", optarg, 1, 1000);
				break;
			case 'f':
				options.first = number_arg("first", optarg, 0, INT64_MAX / 2);
				break;
			case 'n':
				options.streams = number_arg("streams", optarg, 1, INT64_MAX / 2);
				break;
			case 'r':
				options.rate = number_arg("rate", optarg, 0, 10000000);
				break;
			case 'b':
				options.batch = number_arg("batch", optarg, 0, 100000);
				break;
			case 's':
				options.seconds = number_arg("seconds", optarg, 1, 86400);
				break;
			default:
				exit(2);
		}
	}
	if (options.sql == NULL || options.item == NULL || strchr(options.item, '@') == NULL ||
		optind < argc)
		die("usage: emit-load --dsn CONNINFO --sql STATEMENT --item TEMPLATE [--writers N] "
			"[--first STREAM] [--streams N] [--rate EVENTS] [--batch N] [--seconds N]");
}

int
main(int argc, char **argv)
{
	int64_t stopped;

	parse_options(argc, argv);
	need_descriptors(options.writers + 16);
	connect_all();
	pace_start(&pace, (double) options.rate / (double) (options.batch > 0 ? options.batch : 1),
			   (double) options.seconds);
	while (!pace_ended(&pace, now_us()) || idle < options.writers)
	{
		send_due();
		wait_and_receive();
		if (now_us() > pace.end + STOP_TIMEOUT)
			die("the server does not answer");
	}
	stopped = now_us();
	for (int i = 0; i < options.writers; i++)
		PQfinish(writers[i].conn);
	print_report(stopped);
	return failed > 0;
}
