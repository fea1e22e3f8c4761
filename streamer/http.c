/*
 * http.c
 *		The HTTP server: routes, headers, and subscribers' connections.
 *
 * libmicrohttpd runs without a thread of its own: its epoll descriptor is one
 * of the loop's.  The connection of a subscriber that lacks nothing is
 * suspended, for a content reader that returns 0 unsuspended is called again
 * at once, for ever.  A suspended connection notices neither time-outs nor
 * hang-ups, so the loop watches the socket of every subscriber for the latter,
 * and heartbeats wake it for the former.
 *
 * A connection that is not suspended and makes no progress is closed by
 * libmicrohttpd after --send-timeout; so is one whose request does not come.
 *
 * The request target is taken raw, before libmicrohttpd decodes it: cursor.c
 * knows why.  503 and 429 end an EventSource for good, so a subscriber that
 * cannot be served is answered 200, told when to come back, and let go.
 */
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include <microhttpd.h>

#include "cursor.h"
#include "db.h"
#include "frame.h"
#include "http.h"
#include "hub.h"
#include "listen.h"
#include "log.h"
#include "loop.h"
#include "mem.h"
#include "lookup.h"
#include "respond.h"

#define HTTP_SPARE_CLIENTS     256         /* connections for those who are not subscribers */
#define HTTP_SPARE_FILES       64          /* descriptors that are not connections */
#define HTTP_CONNECTION_MEMORY (16 * 1024) /* also bounds a request header */
#define HTTP_BLOCK             1024        /* buffer of an HTTP/1.0 response; 1.1 does without */
#define HTTP_UNSENT            (64 * 1024) /* bytes that may wait in a subscriber's socket */
#define RETRY_JITTER           25          /* percent, as below */
#define COME_BACK_JITTER       50
#define COME_BACK_DRAIN        5 /* times --retry */
#define COME_BACK_OVERLOAD     15
#define OVERLOAD_LOG_INTERVAL  60000

/* A connection and the request on it; the next request takes the structure over. */
typedef struct Request
{
	uint64_t client;
	char *target; /* raw; NULL once it has been taken apart */
	bool begun;   /* its header has been read */
	bool head;
	struct MHD_Connection *conn;
	Subscriber *sub; /* of a stream's request, once it has been found valid */
	Watch hang_up;
} Request;

typedef enum MHD_Result (*Handler)(Request *req);

typedef struct Route
{
	const char *path; /* one that ends in a slash goes on with a key */
	const char *allow;
	Handler handler;
} Route;

static struct
{
	const Config *config;
	struct MHD_Daemon *daemon;
	int listener;
	Watch watch;
	uint64_t last_client;
	int64_t max_clients;
	bool draining;
	bool closed;           /* a connection, since libmicrohttpd last ran */
	int64_t overload_time; /* when too many clients were last logged */
} http = {.listener = -1, .watch = {.fd = -1}};

static enum MHD_Result http_stream(Request *req);
static enum MHD_Result http_healthz(Request *req);
static enum MHD_Result http_readyz(Request *req);

#define ALLOW_READING "GET, HEAD, OPTIONS"

static const Route routes[] = {
	{"/events/", ALLOW_READING, http_stream},
	{"/healthz", ALLOW_READING, http_healthz},
	{"/readyz", ALLOW_READING, http_readyz},
};

/* ---- health ---- */

/* The process lives. */
static enum MHD_Result
http_healthz(Request *req)
{
	return respond_json(req->conn, MHD_HTTP_OK, "{\"status\":\"ok\"}\n");
}

/* It can serve, or why not and since when. */
static enum MHD_Result
http_readyz(Request *req)
{
	int64_t since;
	const char *trouble = db_trouble(&since);
	char body[160];
	char when[32];
	time_t seconds;
	struct tm parts;

	if (http.draining)
		return respond_json(req->conn, MHD_HTTP_SERVICE_UNAVAILABLE,
							"{\"status\":\"not ready\",\"reason\":\"draining\"}\n");
	if (trouble == NULL)
		return respond_json(req->conn, MHD_HTTP_OK, "{\"status\":\"ready\"}\n");
	seconds = (time_t) since;
	gmtime_r(&seconds, &parts);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &parts);
	snprintf(body, sizeof(body), "{\"status\":\"not ready\",\"reason\":\"%s\",\"since\":\"%s\"}\n",
			 trouble, when);
	return respond_json(req->conn, MHD_HTTP_SERVICE_UNAVAILABLE, body);
}

/* ---- streams ---- */

/* The headers that every response with events has. */
static void
response_stream_headers(struct MHD_Response *response)
{
	respond_header(response, "Content-Type", "text/event-stream; charset=utf-8");
	respond_header(response, "Cache-Control", "no-cache, no-transform");
	respond_header(response, "X-Accel-Buffering", "no");
}

/* When to come back, in milliseconds, so many times later than after a mere hiccup. */
static unsigned int
come_back(int times)
{
	return (unsigned int) loop_jitter(http.config->retry * times, COME_BACK_JITTER);
}

/* Answer a subscriber that cannot be served now. */
static enum MHD_Result
request_come_back(Request *req, int times, const char *why)
{
	Frame *frame = frame_retry(come_back(times), why);
	struct MHD_Response *response =
		MHD_create_response_from_buffer(frame->len, frame->bytes, MHD_RESPMEM_MUST_COPY);

	frame_unref(frame);
	if (response == NULL)
		log_fatal("cannot make a response");
	response_stream_headers(response);
	respond_header(response, "Connection", "close");
	log_write(LOG_DEBUG, req->client, "sent away: %s", why);
	return respond_send(req->conn, MHD_HTTP_OK, response);
}

/* Say, but not for each client, that there are too many. */
static void
http_log_overload(void)
{
	if (http.overload_time != 0 && loop_now() - http.overload_time < OVERLOAD_LOG_INTERVAL)
		return;
	http.overload_time = loop_now();
	log_warning("clients are sent away: there are %" PRId64 ", the most allowed", http.max_clients);
}

/* libmicrohttpd has room for more of the response. */
static ssize_t
http_on_room(void *arg, uint64_t pos, char *out, size_t size)
{
	Request *req = arg;
	ssize_t filled = subscriber_fill(req->sub, out, size);

	(void) pos;
	if (filled == FILL_WAIT)
		MHD_suspend_connection(req->conn);
	else if (filled == FILL_END)
		return MHD_CONTENT_READER_END_OF_STREAM;
	else if (filled == FILL_ABORT)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	return filled;
}

/* A client is closed because it takes nothing. */
static void
request_log_timeout(const Request *req)
{
	log_write(LOG_INFO, req->client, "closed: it took nothing for the send time-out");
}

/* The peer has closed its side, or TCP has given it up. */
static void
http_on_hang_up(void *arg, uint32_t events)
{
	Request *req = arg;
	int error = 0;
	socklen_t len = sizeof(error);

	if ((events & EPOLLERR) &&
		getsockopt(req->hang_up.fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 && error == ETIMEDOUT)
		request_log_timeout(req);
	loop_unwatch(&req->hang_up);
	subscriber_hang_up(req->sub);
}

/* Watch for the peer's hang-up, and let TCP give up on one that has vanished. */
static void
request_watch(Request *req)
{
	int fd = MHD_get_connection_info(req->conn, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
	unsigned int patience = (unsigned int) http.config->send_timeout;
	int unsent = HTTP_UNSENT;

	(void) setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &patience, sizeof(patience));
	/*
	 * A socket counts as writable again only when a third of its buffer is free,
	 * and the kernel lets that buffer grow to megabytes: a slow reader would seem
	 * to make no progress for longer than the time-out.  This bounds what waits
	 * there, and with it the kernel's memory for slow readers.
	 */
	(void) setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof(unsent));
	loop_watch(&req->hang_up, fd, EPOLLRDHUP | EPOLLET, http_on_hang_up, req);
}

/* Begin the stream of events. */
static enum MHD_Result
request_open_stream(Request *req)
{
	struct MHD_Response *response =
		MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, HTTP_BLOCK, http_on_room, req, NULL);
	int64_t retry = loop_jitter(http.config->retry, RETRY_JITTER);

	if (response == NULL)
		log_fatal("cannot make a response");
	response_stream_headers(response);
	/* libmicrohttpd ends even an empty chunked body with a chunk, HEAD or not. */
	if (req->head)
		MHD_set_response_options(response, MHD_RF_HTTP_1_0_COMPATIBLE_STRICT, MHD_RO_END);
	else
		subscriber_open(req->sub,
						frame_retry((unsigned int) retry,
									db_is_up() ? "pev"
											   : "the database is not available; events will "
												 "follow when it is back"));
	log_write(LOG_DEBUG, req->client, "opened stream %s", req->sub->stream->key);
	return respond_send(req->conn, MHD_HTTP_OK, response);
}

/* Answer the request for a stream, now that it is known how. */
static enum MHD_Result
request_answer_stream(Request *req)
{
	char detail[TYPE_NAME_MAX + 64];

	if (req->sub->hung_up)
		return MHD_NO;
	if (http.draining)
		return request_come_back(req, COME_BACK_DRAIN, "draining");
	switch (req->sub->verdict)
	{
		case VERDICT_CLOSED:
			return respond_send(req->conn, MHD_HTTP_NO_CONTENT, respond_text(NULL, ""));
		case VERDICT_BAD_TYPE:
			snprintf(detail, sizeof(detail), "There is no event type \"%s\".", req->sub->bad_type);
			return respond_bad(req->conn, detail);
		default:
			return request_open_stream(req);
	}
}

/* Make the request's subscriber from its target; or NULL, or what is wrong. */
static const char *
request_subscribe(Request *req, const char *path, const char *query)
{
	StreamKey key;
	Cursor cursor;
	TypeFilter filter;
	const char *error = stream_key_parse(path, strlen(path), &key);

	if (error == NULL)
		error = query_parse(query, &cursor, &filter);
	if (error != NULL)
		return error;
	cursor_header(MHD_lookup_connection_value(req->conn, MHD_HEADER_KIND, "Last-Event-ID"),
				  &cursor);
	req->sub = subscriber_new(req->client, req, &key, &cursor, &filter);
	return NULL;
}

/* GET or HEAD /events/:stream, called again when the answer is known. */
static enum MHD_Result
http_stream(Request *req)
{
	char *query;
	const char *error;

	if (req->sub != NULL)
		return request_answer_stream(req);
	if (http.draining)
		return request_come_back(req, COME_BACK_DRAIN, "draining");
	if (subscriber_count() >= (size_t) http.max_clients)
	{
		http_log_overload();
		return request_come_back(req, COME_BACK_OVERLOAD, "too many clients");
	}
	query = strchr(req->target, '?');
	if (query != NULL)
		*query++ = '\0';
	error = request_subscribe(req, req->target + strlen("/events/"), query);
	free(req->target);
	req->target = NULL;
	if (error != NULL)
		return respond_bad(req->conn, error);
	request_watch(req);
	if (lookup_admit(req->sub))
	{
		subscriber_admit(req->sub, req->sub->verdict);
		return request_answer_stream(req);
	}
	subscriber_set_state(req->sub, SUBSCRIBER_ADMITTING);
	MHD_suspend_connection(req->conn);
	return MHD_YES;
}

/* ---- requests ---- */

/* A connection is accepted or closed; its request structure lives as long. */
static void
http_on_connection(void *cls, struct MHD_Connection *conn, void **context,
				   enum MHD_ConnectionNotificationCode code)
{
	Request *req = *context;

	(void) cls;
	if (code == MHD_CONNECTION_NOTIFY_STARTED)
	{
		req = mem_zero(sizeof(Request));
		req->conn = conn;
		req->hang_up.fd = -1;
		*context = req;
		return;
	}
	free(req->target);
	free(req);
	*context = NULL;
	http.closed = true;
}

/*
 * libmicrohttpd has read the request line.  The result comes back as *con_cls,
 * but if the header never comes then nothing else does: hence the structure is
 * the connection's.
 */
static void *
http_on_target(void *cls, const char *target, struct MHD_Connection *conn)
{
	Request *req =
		MHD_get_connection_info(conn, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;

	(void) cls;
	free(req->target);
	req->target = mem_string(target);
	req->client = ++http.last_client;
	req->begun = false;
	req->head = false;
	return req;
}

/* A target may be absolute (RFC 9112, section 3.2.2); only its path matters. */
static void
request_strip_authority(Request *req)
{
	char *path;

	if (strncasecmp(req->target, "http://", 7) != 0)
		return;
	path = req->target + 7;
	path += strcspn(path, "/?");
	memmove(req->target, path, strlen(path) + 1);
}

/* The route of the request's path, or NULL. */
static const Route *
request_route(const Request *req)
{
	size_t len = strcspn(req->target, "?");

	for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++)
	{
		size_t prefix = strlen(routes[i].path);

		if (len < prefix || strncmp(req->target, routes[i].path, prefix) != 0)
			continue;
		if (len == prefix ? routes[i].path[prefix - 1] != '/'
						  : routes[i].path[prefix - 1] == '/' &&
								memchr(req->target + prefix, '/', len - prefix) == NULL)
			return &routes[i];
	}
	return NULL;
}

/* Answer the request. */
static enum MHD_Result
request_dispatch(Request *req, const char *method)
{
	const Route *route = request_route(req);

	if (strcmp(method, MHD_HTTP_METHOD_OPTIONS) == 0 && strcmp(req->target, "*") == 0)
		return respond_options(req->conn, ALLOW_READING);
	if (route == NULL)
		return respond_not_found(req->conn);
	if (strcmp(method, MHD_HTTP_METHOD_OPTIONS) == 0)
		return respond_options(req->conn, route->allow);
	req->head = strcmp(method, MHD_HTTP_METHOD_HEAD) == 0;
	if (!req->head && strcmp(method, MHD_HTTP_METHOD_GET) != 0)
		return respond_bad_method(req->conn, route->allow);
	return route->handler(req);
}

/*
 * libmicrohttpd calls this when the header is there, for each piece of a body,
 * at the end of the body, and again when a suspended request is resumed.
 */
static enum MHD_Result
http_on_request(void *cls, struct MHD_Connection *conn, const char *url, const char *method,
				const char *version, const char *body, size_t *body_len, void **con_cls)
{
	Request *req = *con_cls;

	(void) cls, (void) conn, (void) url, (void) version, (void) body;
	if (req->sub != NULL)
		return request_answer_stream(req);
	if (!req->begun)
	{
		req->begun = true;
		request_strip_authority(req);
		return MHD_YES;
	}
	if (*body_len > 0)
	{
		*body_len = 0;
		return MHD_YES;
	}
	return request_dispatch(req, method);
}

/* The request is over, one way or another. */
static void
http_on_completed(void *cls, struct MHD_Connection *conn, void **con_cls,
				  enum MHD_RequestTerminationCode code)
{
	Request *req = *con_cls;

	(void) cls, (void) conn;
	if (req == NULL)
		return;
	*con_cls = NULL;
	if (req->sub != NULL)
	{
		if (code == MHD_REQUEST_TERMINATED_TIMEOUT_REACHED)
			request_log_timeout(req);
		else
			log_write(LOG_DEBUG, req->client, "closed stream %s", req->sub->stream->key);
		loop_unwatch(&req->hang_up);
		subscriber_free(req->sub);
		req->sub = NULL;
	}
	free(req->target);
	req->target = NULL;
}

/* A subscriber's connection is wanted again. */
void
http_resume(Subscriber *sub)
{
	Request *req = sub->owner;

	MHD_resume_connection(req->conn);
}

/* Leave escapes as they are; cursor.c decodes what it takes. */
static size_t
http_no_unescape(void *cls, struct MHD_Connection *conn, char *text)
{
	(void) cls, (void) conn;
	return strlen(text);
}

/* libmicrohttpd's own complaints are about clients; they may quote what those sent. */
static void
http_on_log(void *cls, const char *format, va_list args)
{
	(void) cls, (void) format, (void) args;
}

/* ---- start and end ---- */

/* Raise the limit of open files and see how many clients it leaves. */
static void
http_raise_files(void)
{
	struct rlimit files;
	rlim_t wanted = (rlim_t) http.config->max_clients + HTTP_SPARE_CLIENTS + HTTP_SPARE_FILES;

	http.max_clients = http.config->max_clients;
	if (getrlimit(RLIMIT_NOFILE, &files) != 0)
		return;
	files.rlim_cur = files.rlim_max;
	(void) setrlimit(RLIMIT_NOFILE, &files);
	if (files.rlim_cur >= wanted)
		return;
	http.max_clients = (int64_t) files.rlim_cur - HTTP_SPARE_CLIENTS - HTTP_SPARE_FILES;
	if (http.max_clients < 1)
		http.max_clients = 1;
	log_warning("only %" PRId64 " clients instead of %" PRId64 ": the limit of open files is %llu",
				http.max_clients, http.config->max_clients, (unsigned long long) files.rlim_cur);
}

/* The loop wakes up for libmicrohttpd; http_run does the work, once a turn. */
static void
http_on_event(void *arg, uint32_t events)
{
	(void) arg, (void) events;
}

/* Start serving.  The configuration stays the caller's. */
bool
http_start(const Config *config)
{
	const unsigned int flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;

	http.config = config;
	http_raise_files();
	http.listener = listen_open(&config->listen);
	if (http.listener < 0)
		return false;
	http.daemon = MHD_start_daemon(
		flags, 0, NULL, NULL, http_on_request, NULL, MHD_OPTION_EXTERNAL_LOGGER, http_on_log, NULL,
		MHD_OPTION_LISTEN_SOCKET, http.listener, MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1,
		MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_CONNECTION_LIMIT,
		(unsigned int) http.max_clients + HTTP_SPARE_CLIENTS, MHD_OPTION_CONNECTION_TIMEOUT,
		(unsigned int) ((config->send_timeout + 999) / 1000), MHD_OPTION_CONNECTION_MEMORY_LIMIT,
		(size_t) HTTP_CONNECTION_MEMORY, MHD_OPTION_URI_LOG_CALLBACK, http_on_target, NULL,
		MHD_OPTION_UNESCAPE_CALLBACK, http_no_unescape, NULL, MHD_OPTION_NOTIFY_COMPLETED,
		http_on_completed, NULL, MHD_OPTION_NOTIFY_CONNECTION, http_on_connection, NULL,
		MHD_OPTION_END);
	if (http.daemon == NULL)
	{
		log_error("cannot start the HTTP server: %s", strerror(errno));
		return false;
	}
	loop_watch(&http.watch, MHD_get_daemon_info(http.daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd,
			   EPOLLIN, http_on_event, NULL);
	listen_log(http.listener);
	return true;
}

/* Let libmicrohttpd do what there is to do. */
void
http_run(void)
{
	http.closed = false;
	if (MHD_run(http.daemon) != MHD_YES)
		log_fatal("libmicrohttpd cannot go on");
}

/*
 * How many milliseconds until it wants to run again; -1 for no hurry.  At the
 * limit of connections libmicrohttpd stops listening, and takes it up again only
 * in the run after the one that closed a connection: it would have to be woken
 * by those whom it does not hear.
 */
int64_t
http_patience(void)
{
	MHD_UNSIGNED_LONG_LONG ms;

	if (http.closed)
		return 0;
	return MHD_get_timeout(http.daemon, &ms) == MHD_YES ? (int64_t) ms : -1;
}

/* Accept nobody any more and tell everybody when to come back. */
void
http_drain(void)
{
	Stream *stream;
	Subscriber *sub;

	http.draining = true;
	if (MHD_quiesce_daemon(http.daemon) != MHD_INVALID_SOCKET)
		close(http.listener);
	TAILQ_FOREACH(stream, hub_streams(), all_link)
	{
		TAILQ_FOREACH(sub, &stream->subscribers, stream_link)
		{
			if (sub->state == SUBSCRIBER_ADMITTING)
				subscriber_admit(sub, VERDICT_OPEN);
			else
				subscriber_end(sub, frame_retry(come_back(COME_BACK_DRAIN), "draining"));
		}
	}
}

/* Close every connection.  http_drain came before, so none is suspended. */
void
http_stop(void)
{
	loop_unwatch(&http.watch);
	MHD_stop_daemon(http.daemon);
}
