/*
 * sse-load.c
 *		Thousands of SSE clients in one thread, that count and time what they receive.
 *
 * Connects --clients connections, client i to stream --first + i / --per-stream,
 * and says so on standard output as soon as every response has begun.  Then it
 * takes commands from standard input, and answers each with one line of JSON:
 *
 *		reset			 forget what was counted (not the positions in the streams)
 *		report			 what was counted since
 *		expect N MS		 the same as soon as N events were counted, or after MS milliseconds
 *
 * and ends when standard input does.  A connection that the server closes is
 * counted; with --reconnect it is made again, from where it was.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sse-parse.h"
#include "util.h"

#define EVENTS_AT_ONCE     512
#define RECEIVE_SIZE       ((size_t) 256 * 1024)
#define HANDSHAKES_AT_ONCE 128
#define CONNECT_TIMEOUT    ((int64_t) 120 * 1000000)
#define RECONNECT_DELAY    ((int64_t) 50 * 1000)
#define COMMAND_MAX        256

typedef enum ClientState
{
	CLIENT_IDLE,       /* to be connected */
	CLIENT_CONNECTING, /* waits until it can send its request */
	CLIENT_REQUESTED,  /* waits for the response's head */
	CLIENT_STREAMING
} ClientState;

typedef struct Client
{
	ClientState state;
	int fd;
	long long stream;
	SseParser parser;
} Client;

static struct
{
	int port;
	int clients;
	int per_stream;
	long long first;
	const char *path; /* with one %lld for the stream */
	long long after;  /* Last-Event-ID of the first connection; -1: none */
	bool reconnect;
} options = {.port = 0,
			 .clients = 1,
			 .per_stream = 1,
			 .first = 1,
			 .path = "/events/%lld",
			 .after = -1,
			 .reconnect = false};

static Client *clients;
static SseTotals totals;
static int epoll_fd;
static int next_idle;    /* no client before this one is idle */
static int handshakes;   /* connecting or requested */
static int streaming;    /* have a response */
static uint64_t closed;  /* connections that the server ended */
static int64_t cpu_base; /* processor time at the last reset */
static int64_t retry_at; /* when idle clients may be connected */

static struct
{
	bool waiting;
	uint64_t deliveries;
	int64_t deadline;
} expected;

/* What this process has used of a processor, in microseconds. */
static int64_t
cpu_us(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return ((int64_t) usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 +
		   usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
}

/* What was counted, as one line. */
static void
print_report(const char *name)
{
	printf("{\"answer\": \"%s\", \"now_us\": %" PRId64 ", \"cpu_us\": %" PRId64
		   ", \"connected\": %d, \"closed\": %" PRIu64 ", \"deliveries\": %" PRIu64
		   ", \"bytes\": %" PRIu64 ", \"lost\": %" PRIu64 ", \"backwards\": %" PRIu64
		   ", \"unstamped\": %" PRIu64 ", \"first_us\": %" PRId64 ", \"last_us\": %" PRId64 ", ",
		   name, now_us(), cpu_us() - cpu_base, streaming, closed, totals.deliveries, totals.bytes,
		   totals.lost, totals.backwards, totals.unstamped, totals.first_us, totals.last_us);
	histogram_print(&totals.latency, "latency", stdout);
	puts("}");
	fflush(stdout);
}

static void
watch(int operation, int fd, uint32_t events, uint64_t index)
{
	struct epoll_event event = {.events = events, .data.u64 = index};

	if (epoll_ctl(epoll_fd, operation, fd, &event) != 0)
		die("epoll_ctl: %s", strerror(errno));
}

static void
client_connect(Client *client)
{
	client->fd = loopback_connect(options.port, false);
	client->state = CLIENT_CONNECTING;
	sse_start(&client->parser, client->parser.last_id);
	handshakes++;
	watch(EPOLL_CTL_ADD, client->fd, EPOLLOUT, (uint64_t) (client - clients));
}

/* The connection is there: ask for the stream. */
static void
client_request(Client *client)
{
	char request[512];
	char path[256];
	char resume[64] = "";
	int length;

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	/* main() has checked the one conversion in it. */
	snprintf(path, sizeof(path), options.path, client->stream);
#pragma GCC diagnostic pop
	if (client->parser.last_id >= 0)
		snprintf(resume, sizeof(resume), "Last-Event-ID: %" PRId64 "\r\n", client->parser.last_id);
	length = snprintf(request, sizeof(request),
					  "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: text/event-stream\r\n%s"
					  "\r\n",
					  path, options.port, resume);
	send_all(client->fd, request, (size_t) length);
	client->state = CLIENT_REQUESTED;
	watch(EPOLL_CTL_MOD, client->fd, EPOLLIN, (uint64_t) (client - clients));
}

/* The server closed the connection, refused it, or ended the response. */
static void
client_closed(Client *client)
{
	if (client->state != CLIENT_STREAMING && !options.reconnect)
		die("stream %lld: the server closed the connection without an answer", client->stream);
	closed++;
	if (client->state == CLIENT_STREAMING)
		streaming--;
	else
		handshakes--;
	close(client->fd);
	client->fd = -1;
	if (!options.reconnect)
	{
		client->state = CLIENT_STREAMING; /* not to be connected any more */
		return;
	}
	client->state = CLIENT_IDLE;
	retry_at = now_us() + RECONNECT_DELAY;
	if (client - clients < next_idle)
		next_idle = (int) (client - clients);
}

/* Has a connection come about? */
static bool
client_is_connected(const Client *client)
{
	int error = 0;
	socklen_t length = sizeof(error);

	return getsockopt(client->fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 && error == 0;
}

static void
client_receive(Client *client)
{
	static char buffer[RECEIVE_SIZE];
	ssize_t n = recv(client->fd, buffer, sizeof(buffer), 0);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0)
	{
		client_closed(client);
		return;
	}
	if (!sse_feed(&client->parser, buffer, (size_t) n, now_us(), &totals))
		die("stream %lld: the server does not answer with an event stream", client->stream);
	if (client->state == CLIENT_REQUESTED && client->parser.status != 0)
	{
		if (client->parser.status != 200)
			die("stream %lld: HTTP status %d", client->stream, client->parser.status);
		client->state = CLIENT_STREAMING;
		handshakes--;
		streaming++;
	}
	if (client->parser.state == SSE_ENDED)
		client_closed(client);
}

/* Connect idle clients, a few at a time: a full accept queue would drop some. */
static void
connect_idle(void)
{
	if (next_idle == options.clients || now_us() < retry_at)
		return;
	while (next_idle < options.clients && handshakes < HANDSHAKES_AT_ONCE)
	{
		if (clients[next_idle].state == CLIENT_IDLE)
			client_connect(&clients[next_idle]);
		next_idle++;
	}
}

/* Wait for something to happen, and deal with it.  Returns whether a command is there. */
static bool
turn(int timeout)
{
	struct epoll_event events[EVENTS_AT_ONCE];
	bool command = false;
	int n;

	connect_idle();
	n = epoll_wait(epoll_fd, events, EVENTS_AT_ONCE, next_idle < options.clients ? 10 : timeout);
	for (int i = 0; i < n; i++)
	{
		Client *client;

		if (events[i].data.u64 == UINT64_MAX)
		{
			command = true;
			continue;
		}
		client = &clients[events[i].data.u64];
		if (client->state == CLIENT_CONNECTING && !client_is_connected(client))
			client_closed(client);
		else if (client->state == CLIENT_CONNECTING)
			client_request(client);
		else
			client_receive(client);
	}
	return command;
}

static void
reset_totals(void)
{
	memset(&totals, 0, sizeof(totals));
	closed = 0;
	cpu_base = cpu_us();
}

static void
run_command(const char *command)
{
	uint64_t count;
	int64_t ms;

	if (strcmp(command, "reset") == 0)
	{
		reset_totals();
		print_report("reset");
	}
	else if (strcmp(command, "report") == 0)
		print_report("report");
	else if (sscanf(command, "expect %" SCNu64 " %" SCNd64, &count, &ms) == 2)
	{
		expected.waiting = true;
		expected.deliveries = count;
		expected.deadline = now_us() + ms * 1000;
	}
	else
		die("unknown command: %s", command);
}

/* Read what standard input has; false at its end. */
static bool
read_commands(void)
{
	static char line[COMMAND_MAX];
	static size_t length;
	ssize_t n = read(STDIN_FILENO, line + length, sizeof(line) - 1 - length);
	char *newline;

	if (n < 0 && errno == EINTR)
		return true;
	if (n <= 0)
		return false;
	length += (size_t) n;
	line[length] = '\0';
	while ((newline = strchr(line, '\n')) != NULL)
	{
		*newline = '\0';
		run_command(line);
		length -= (size_t) (newline + 1 - line);
		memmove(line, newline + 1, length + 1);
	}
	if (length == sizeof(line) - 1)
		die("a command is too long");
	return true;
}

/* Answer "expect" when what it waits for is there, or late. */
static void
check_expected(void)
{
	if (!expected.waiting ||
		(totals.deliveries < expected.deliveries && now_us() < expected.deadline))
		return;
	expected.waiting = false;
	print_report("expect");
}

/* The path may hold one "%lld" and no other conversion. */
static void
check_path(const char *path)
{
	const char *percent = strchr(path, '%');

	if (percent != NULL && (strncmp(percent, "%lld", 4) != 0 || strchr(percent + 1, '%') != NULL))
		die("--path: %%lld stands for the stream, and nothing else may be converted");
}

static void
parse_options(int argc, char **argv)
{
	static const struct option table[] = {
		{"port", required_argument, NULL, 'p'},       {"clients", required_argument, NULL, 'c'},
		{"per-stream", required_argument, NULL, 's'}, {"first", required_argument, NULL, 'f'},
		{"path", required_argument, NULL, 'u'},       {"after", required_argument, NULL, 'a'},
		{"reconnect", no_argument, NULL, 'r'},        {NULL, 0, NULL, 0}};
	int c;

	while ((c = getopt_long(argc, argv, "", table, NULL)) != -1)
	{
		switch (c)
		{
			case 'p':
				options.port = (int) number_arg("port", optarg, 1, 65535);
				break;
			case 'c':
				options.clients = (int) number_arg("clients", optarg, 1, 1000000);
				break;
			case 's':
				options.per_stream = (int) number_arg("per-stream", optarg, 1, 1000000);
				break;
			case 'f':
				options.first = number_arg("first", optarg, 0, INT64_MAX / 2);
				break;
			case 'u':
				options.path = optarg;
				break;
			case 'a':
				options.after = number_arg("after", optarg, 0, INT64_MAX / 2);
				break;
			case 'r':
				options.reconnect = true;
				break;
			default:
				exit(2);
		}
	}
	if (options.port == 0 || optind < argc)
		die("usage: sse-load --port PORT [--clients N] [--per-stream N] [--first STREAM] "
			"[--path PATH] [--after ID] [--reconnect]");
	check_path(options.path);
}

/* Connect everyone. */
static void
connect_all(void)
{
	int64_t deadline = now_us() + CONNECT_TIMEOUT;

	clients = xrealloc(NULL, (size_t) options.clients * sizeof(Client));
	memset(clients, 0, (size_t) options.clients * sizeof(Client));
	for (int i = 0; i < options.clients; i++)
	{
		clients[i].stream = options.first + i / options.per_stream;
		clients[i].parser.last_id = options.after;
	}
	while (streaming < options.clients)
	{
		turn(100);
		if (now_us() > deadline)
			die("only %d of %d clients are connected", streaming, options.clients);
	}
}

int
main(int argc, char **argv)
{
	parse_options(argc, argv);
	need_descriptors(options.clients);
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0)
		die("epoll_create1: %s", strerror(errno));
	connect_all();
	print_report("ready");
	watch(EPOLL_CTL_ADD, STDIN_FILENO, EPOLLIN, UINT64_MAX);
	for (;;)
	{
		if (turn(expected.waiting ? 10 : 1000) && !read_commands())
			return 0;
		check_expected();
	}
}
