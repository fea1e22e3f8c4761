/*
 * http.c
 *		The HTTP server: connections, requests and routes.
 *
 * libmicrohttpd runs without a thread of its own: its epoll descriptor is one
 * of the loop's.  It closes a connection whose request does not come within
 * --send-timeout, and one that does not take its answer; but it knows nothing of
 * streams (events.c).
 *
 * The request target is taken raw, before libmicrohttpd decodes it: cursor.c
 * knows why.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <microhttpd.h>

#include "emit.h"
#include "emit_pool.h"
#include "events.h"
#include "export.h"
#include "forwarded.h"
#include "header.h"
#include "host.h"
#include "http.h"
#include "listen.h"
#include "log.h"
#include "loop.h"
#include "mem.h"
#include "request.h"
#include "respond.h"
#include "status.h"

#define HTTP_SPARE_CLIENTS     256         /* connections for those who are not subscribers */
#define HTTP_SPARE_FILES       64          /* descriptors that are not connections */
#define HTTP_CONNECTION_MEMORY (16 * 1024) /* also bounds a request header, and one write */

typedef struct Route
{
	const char *path;   /* one that ends in a slash goes on with a key */
	const char *suffix; /* after the key; NULL: nothing */
	const char *allow;
	Handler handler; /* NULL: GET is not allowed */
	Handler post; /* called when the header is there, before the body; NULL: POST is not allowed */
} Route;

static struct
{
	const Config *config;
	struct MHD_Daemon *daemon;
	int listener;
	Watch watch;
	uint64_t last_client;
	int64_t max_clients;
	bool closed; /* a connection, since libmicrohttpd last ran */
} http = {.listener = -1, .watch = {.fd = -1}};

#define ALLOW_READING       "GET, HEAD, OPTIONS"
#define ALLOW_POSTING       "GET, HEAD, OPTIONS, POST"
#define ALLOW_POSTING_ALONE "OPTIONS, POST"

static const Route routes[] = {
	{"/events", NULL, ALLOW_READING, events_request, NULL},
	{"/events/", NULL, ALLOW_POSTING, events_request, emit_request},
	{"/events/", "/export", ALLOW_READING, export_request, NULL},
	{"/generations/", "/stream", ALLOW_READING, events_request, NULL},
	{"/healthz", NULL, ALLOW_READING, status_healthz, NULL},
	{"/jobs/", NULL, ALLOW_POSTING_ALONE, NULL, enqueue_request},
	{"/metrics", NULL, ALLOW_READING, status_metrics, NULL},
	{"/readyz", NULL, ALLOW_READING, status_readyz, NULL},
};

/* ---- requests ---- */

/*
 * See the header.  No limit is libmicrohttpd's default here, because it goes
 * through all connections that have another one whenever it runs.
 */
void
request_limit_time(Request *req, bool limited)
{
	unsigned int seconds = (unsigned int) ((http.config->send_timeout + 999) / 1000);

	(void) MHD_set_connection_option(req->conn, MHD_CONNECTION_OPTION_TIMEOUT,
									 limited ? seconds : 0);
}

/* Add one header X-Forwarded-For to those before it: several are one (RFC 9110, section 5.3). */
static enum MHD_Result
http_on_forwarded(void *arg, enum MHD_ValueKind kind, const char *name, const char *value)
{
	Buf *header = arg;

	(void) kind;
	if (strcasecmp(name, "X-Forwarded-For") == 0)
		buf_format(header, "%s%s", header->len > 0 ? "," : "", value != NULL ? value : "");
	return MHD_YES;
}

/* See the header. */
void
request_address(const Request *req, struct sockaddr_in6 *address)
{
	const struct sockaddr *peer =
		MHD_get_connection_info(req->conn, MHD_CONNECTION_INFO_CLIENT_ADDRESS)->client_addr;
	Buf header;

	if (!forwarded_trusts(peer))
	{
		forwarded_client(peer, NULL, address);
		return;
	}
	buf_init(&header);
	MHD_get_connection_values(req->conn, MHD_HEADER_KIND, http_on_forwarded, &header);
	forwarded_client(peer, header.data, address);
	buf_free(&header);
}

/* Does the client say that it is an EventSource, or the like? */
bool
request_wants_events(const Request *req)
{
	const char *accept = MHD_lookup_connection_value(req->conn, MHD_HEADER_KIND, "Accept");

	return accept != NULL && strcasestr(accept, "text/event-stream") != NULL;
}

/* The socket of its connection. */
int
request_socket(const Request *req)
{
	return MHD_get_connection_info(req->conn, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
}

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
		if (tls_is_on())
			handshake_begin(&req->handshake, conn);
		else
			request_limit_time(req, true);
		body_await_header(&req->body, request_socket(req));
		return;
	}
	handshake_end(&req->handshake);
	body_end(&req->body);
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
	if (req->handshake.conn != NULL)
	{
		handshake_end(&req->handshake);
		request_limit_time(req, true);
	}
	free(req->target);
	req->target = mem_string(target);
	req->target_end = (uintptr_t) target + strlen(target);
	req->client = ++http.last_client;
	req->begun = false;
	req->head = false;
	access_log_begin(&req->access);
	return req;
}

/* A target may be absolute (RFC 9112, section 3.2.2); only its path matters. */
static void
request_strip_authority(Request *req)
{
	const char *scheme = tls_is_on() ? "https://" : "http://";
	char *path;

	if (strncasecmp(req->target, scheme, strlen(scheme)) != 0)
		return;
	path = req->target + strlen(scheme);
	path += strcspn(path, "/?");
	memmove(req->target, path, strlen(path) + 1);
}

/*
 * Does the target hold a NUL, escaped or not?  To libmicrohttpd it ends at one
 * that is not; but then the version does not follow, which lies behind it in the
 * same memory, and a NUL between them.
 */
static bool
request_has_nul(const Request *req, const char *version)
{
	uintptr_t gap = (uintptr_t) version - req->target_end;

	return (gap > 1 && gap < HTTP_CONNECTION_MEMORY) || strstr(req->target, "%00") != NULL;
}

/* Is it for a host that is not this one?  Without the header it comes from no browser. */
static bool
request_is_misdirected(const Request *req)
{
	const char *host = MHD_lookup_connection_value(req->conn, MHD_HEADER_KIND, "Host");

	return host != NULL && !host_is_ours(host);
}

/* Does the path, of this length, lead to the route? */
static bool
route_matches(const Route *route, const char *path, size_t len)
{
	size_t prefix = strlen(route->path);
	bool has_key = route->path[prefix - 1] == '/';
	size_t key = has_key && len > prefix ? strcspn(path + prefix, "/?") : 0;
	size_t rest = prefix + key;

	if (len < prefix || strncmp(path, route->path, prefix) != 0 || has_key != (key > 0))
		return false;
	if (route->suffix == NULL)
		return len == rest;
	return len == rest + strlen(route->suffix) &&
		   strncmp(path + rest, route->suffix, len - rest) == 0;
}

/* The route of the request's path, or NULL. */
static const Route *
request_route(const Request *req)
{
	size_t len = strcspn(req->target, "?");

	for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++)
		if (route_matches(&routes[i], req->target, len))
			return &routes[i];
	return NULL;
}

/* Answer the request. */
static enum MHD_Result
request_dispatch(Request *req, const char *method)
{
	static const char misdirected[] =
		"Without a key only requests for localhost, an address or an allowed host are served.";
	const Route *route = request_route(req);

	if (req->nul)
		return respond_bad(req->conn, "The request target holds a NUL character.");
	if (req->misdirected)
		return respond_wrong(req->conn, MHD_HTTP_MISDIRECTED_REQUEST, misdirected);
	if (strcmp(method, MHD_HTTP_METHOD_OPTIONS) == 0 && strcmp(req->target, "*") == 0)
		return respond_options(req->conn, ALLOW_POSTING);
	if (route == NULL)
		return respond_not_found(req->conn);
	if (strcmp(method, MHD_HTTP_METHOD_OPTIONS) == 0)
		return respond_options(req->conn, route->allow);
	req->head = strcmp(method, MHD_HTTP_METHOD_HEAD) == 0;
	if (route->handler == NULL || (!req->head && strcmp(method, MHD_HTTP_METHOD_GET) != 0))
		return respond_bad_method(req->conn, route->allow);
	return route->handler(req);
}

/* Look at one field of the header. */
static enum MHD_Result
http_on_field(void *arg, enum MHD_ValueKind kind, const char *name, const char *value)
{
	(void) kind;
	header_check(arg, name, value != NULL ? value : "");
	return MHD_YES;
}

/* Why the request's header can be read in more ways than one; NULL: it cannot. */
static const char *
request_fault(const Request *req)
{
	HeaderCheck check = {0};

	MHD_get_connection_values(req->conn, MHD_HEADER_KIND, http_on_field, &check);
	return header_fault(&check, !req->chunked);
}

/* Prepare for the request's body. */
static void
request_begin_body(Request *req)
{
	const char *length = MHD_lookup_connection_value(req->conn, MHD_HEADER_KIND, "Content-Length");
	const char *coding =
		MHD_lookup_connection_value(req->conn, MHD_HEADER_KIND, "Transfer-Encoding");
	const char *expect = MHD_lookup_connection_value(req->conn, MHD_HEADER_KIND, "Expect");

	body_begin(&req->body, length != NULL ? strtoull(length, NULL, 10) : 0, coding != NULL,
			   expect != NULL && strcasecmp(expect, "100-continue") == 0, request_socket(req));
}

/* The header is there. */
static enum MHD_Result
request_begin(Request *req, const char *method, const char *version)
{
	const Route *route;
	const char *fault;

	req->begun = true;
	req->chunked = strcmp(version, MHD_HTTP_VERSION_1_0) != 0;
	req->nul = request_has_nul(req, version);
	req->misdirected = request_is_misdirected(req);
	request_strip_authority(req);
	access_log_header(&req->access, method, req->target);
	body_end(&req->body);
	fault = request_fault(req);
	if (fault != NULL)
		return respond_malformed(req->conn, fault);
	request_begin_body(req);
	route = request_route(req);
	if (strcmp(method, MHD_HTTP_METHOD_POST) != 0 || req->nul || req->misdirected ||
		route == NULL || route->post == NULL)
		return MHD_YES;
	return route->post(req);
}

/* Give the answer that waited for the end of the body. */
static enum MHD_Result
request_answer_early(Request *req)
{
	enum MHD_Result result = MHD_queue_response(req->conn, req->early_status, req->early);

	MHD_destroy_response(req->early);
	req->early = NULL;
	return result;
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

	(void) cls, (void) conn, (void) url;
	if (req->sub != NULL)
		return events_continue(req);
	if (req->export != NULL)
		return export_continue(req);
	if (!req->begun)
		return request_begin(req, method, version);
	if (*body_len > 0)
	{
		bool bearable = body_take(&req->body, body, *body_len);

		*body_len = 0;
		return bearable ? MHD_YES : MHD_NO;
	}
	body_complete(&req->body);
	if (req->early != NULL)
		return request_answer_early(req);
	if (req->emission != NULL)
		return emit_continue(req);
	return request_dispatch(req, method);
}

/* Log the request, which is over. */
static void
request_log(Request *req)
{
	const union MHD_ConnectionInfo *status =
		MHD_get_connection_info(req->conn, MHD_CONNECTION_INFO_HTTP_STATUS);
	struct sockaddr_in6 address;

	if (req->access.begun == 0)
		return;
	request_address(req, &address);
	access_log_end(&req->access, req->client, &address, status != NULL ? status->http_status : 0,
				   request_socket(req));
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
	events_end(req, code);
	export_end(req, code);
	emit_end(req);
	body_end(&req->body);
	if (req->early != NULL)
		MHD_destroy_response(req->early);
	req->early = NULL;
	if (code == MHD_REQUEST_TERMINATED_COMPLETED_OK) /* it awaits the next request */
	{
		request_limit_time(req, true);
		body_await_header(&req->body, request_socket(req));
	}
	free(req->target);
	req->target = NULL;
	request_log(req);
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
	int64_t others = HTTP_SPARE_CLIENTS + HTTP_SPARE_FILES + http.config->emit_connections +
					 http.config->max_exports;
	rlim_t wanted = (rlim_t) (http.config->max_clients + others);

	http.max_clients = http.config->max_clients;
	if (getrlimit(RLIMIT_NOFILE, &files) != 0)
		return;
	files.rlim_cur = files.rlim_max;
	(void) setrlimit(RLIMIT_NOFILE, &files);
	if (files.rlim_cur >= wanted)
		return;
	http.max_clients = (int64_t) files.rlim_cur - others;
	if (http.max_clients < 1)
		http.max_clients = 1;
	log_warning("only %" PRId64 " clients instead of %" PRId64 ": the limit of open files is %llu",
				http.max_clients, http.config->max_clients, (unsigned long long) files.rlim_cur);
}

/* How many connections there may be. */
static unsigned int
http_connections(void)
{
	return (unsigned int) (http.max_clients + http.config->max_exports + HTTP_SPARE_CLIENTS);
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
	const unsigned int flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG |
							   (tls_is_on() ? MHD_USE_TLS : 0);

	http.config = config;
	http_raise_files();
	events_start(config, http.max_clients);
	bodies_start(config);
	emit_start(config);
	export_start(config);
	forwarded_start(&config->proxies);
	handshakes_start(config->send_timeout);
	http.listener = listen_open(&config->listen);
	if (http.listener < 0)
		return false;
	http.daemon =
		MHD_start_daemon(flags, 0, NULL, NULL, http_on_request, NULL, MHD_OPTION_EXTERNAL_LOGGER,
						 http_on_log, NULL, MHD_OPTION_LISTEN_SOCKET, http.listener,
						 MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_STRICT_FOR_CLIENT, 1,
						 MHD_OPTION_CONNECTION_LIMIT, http_connections(),
						 MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t) HTTP_CONNECTION_MEMORY,
						 MHD_OPTION_URI_LOG_CALLBACK, http_on_target, NULL,
						 MHD_OPTION_UNESCAPE_CALLBACK, http_no_unescape, NULL,
						 MHD_OPTION_NOTIFY_COMPLETED, http_on_completed, NULL,
						 MHD_OPTION_NOTIFY_CONNECTION, http_on_connection, NULL,
						 tls_is_on() ? MHD_OPTION_HTTPS_CERT_CALLBACK : MHD_OPTION_END,
						 tls_retrieve, MHD_OPTION_HTTPS_PRIORITIES, TLS_PRIORITIES, MHD_OPTION_END);
	if (http.daemon == NULL)
	{
		log_error("cannot start the HTTP server: %s", strerror(errno));
		return false;
	}
	loop_watch(&http.watch, MHD_get_daemon_info(http.daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd,
			   EPOLLIN, http_on_event, NULL);
	listen_log(http.listener, tls_is_on() ? "https" : "http");
	return true;
}

/* Let libmicrohttpd do what there is to do. */
void
http_run(void)
{
	http.closed = false;
	if (MHD_run(http.daemon) != MHD_YES)
		log_fatal("libmicrohttpd cannot go on");
	handshakes_rest();
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
	if (MHD_quiesce_daemon(http.daemon) != MHD_INVALID_SOCKET)
		close(http.listener);
	events_drain();
	emit_pool_drain();
}

/* Close every connection.  http_drain came before, so no subscriber is suspended. */
void
http_stop(void)
{
	emit_stop();
	export_stop();
	http_run();
	handshakes_stop();
	loop_unwatch(&http.watch);
	MHD_stop_daemon(http.daemon);
	events_stop();
}
