/*
 * events.c
 *		Requests for streams of events, and the connections of subscribers.
 *
 * The connection of a subscriber that lacks nothing is suspended, for a content
 * reader that returns 0 unsuspended is called again at once, for ever.
 *
 * 503 and 429 end an EventSource for good, so one that cannot be served is
 * answered 200, told when to come back, and let go.  Others, who do not say
 * that they accept an event stream, get the plain status.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "access.h"
#include "db.h"
#include "events.h"
#include "frame.h"
#include "gossip.h"
#include "hang_up.h"
#include "hub.h"
#include "log.h"
#include "lookup.h"
#include "metrics.h"
#include "presence.h"
#include "respond.h"
#include "selection.h"
#include "ticket.h"

#define RETRY_JITTER          25 /* percent, as below */
#define COME_BACK_JITTER      50
#define COME_BACK_DRAIN       5 /* times --retry */
#define COME_BACK_OVERLOAD    15
#define OVERLOAD_LOG_INTERVAL 60000

static struct
{
	const Config *config;
	int64_t max_clients;
	bool draining;
	int64_t overload_time; /* when too many clients were last logged */
} serving;

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
	return (unsigned int) loop_jitter(serving.config->retry * times, COME_BACK_JITTER);
}

/* Why clients are sent away. */
typedef struct Refusal
{
	const char *why;
	unsigned int status; /* for those who are no EventSource */
	int times;           /* how much later than after a hiccup to come back */
	Metric metric;
} Refusal;

static const Refusal refusal_draining = {"draining", MHD_HTTP_SERVICE_UNAVAILABLE, COME_BACK_DRAIN,
										 METRIC_REFUSED_DRAINING};
static const Refusal refusal_database = {"the database is not available",
										 MHD_HTTP_SERVICE_UNAVAILABLE, 1, METRIC_REFUSED_DATABASE};
static const Refusal refusal_ticket = {"the ticket is in use", MHD_HTTP_SERVICE_UNAVAILABLE, 1,
									   METRIC_REFUSED_TICKET};
static const Refusal refusal_clients = {"too many clients", MHD_HTTP_SERVICE_UNAVAILABLE,
										COME_BACK_OVERLOAD, METRIC_REFUSED_CLIENTS};
static const Refusal refusal_clients_per_ip = {"too many clients from this address",
											   MHD_HTTP_TOO_MANY_REQUESTS, COME_BACK_OVERLOAD,
											   METRIC_REFUSED_CLIENTS_PER_IP};

/* Answer a client that cannot be served now. */
static enum MHD_Result
request_refuse(Request *req, const Refusal *refusal)
{
	unsigned int ms = come_back(refusal->times);
	struct MHD_Response *response;
	Frame *frame;

	metric_add(refusal->metric, 1);
	log_write(LOG_DEBUG, req->client, "sent away: %s", refusal->why);
	if (!request_wants_events(req))
		return respond_busy(req->conn, refusal->status, refusal->why, ms);
	frame = frame_retry(ms, refusal->why);
	response = MHD_create_response_from_buffer(frame->len, frame->bytes, MHD_RESPMEM_MUST_COPY);
	frame_unref(frame);
	if (response == NULL)
		log_fatal("cannot make a response");
	response_stream_headers(response);
	respond_header(response, "Connection", "close");
	return respond_send(req->conn, MHD_HTTP_OK, response);
}

/* Say, but not for each client, that there are too many. */
static void
events_log_overload(const Refusal *refusal)
{
	if (serving.overload_time != 0 && loop_now() - serving.overload_time < OVERLOAD_LOG_INTERVAL)
		return;
	serving.overload_time = loop_now();
	log_warning("clients are sent away: %s (%zu in all)", refusal->why, subscriber_count());
}

/* Why the client cannot be served; NULL if it can, and then it is counted. */
static const Refusal *
request_enter(Request *req)
{
	size_t most_per_ip = (size_t) serving.config->max_clients_per_ip;
	struct sockaddr_in6 address;

	if (subscriber_count() >= (size_t) serving.max_clients)
		return &refusal_clients;
	if (most_per_ip == 0)
		return NULL;
	request_address(req, &address);
	req->peer = peer_enter((const struct sockaddr *) &address, most_per_ip);
	return req->peer == NULL ? &refusal_clients_per_ip : NULL;
}

/* It is no client any more. */
static void
request_leave(Request *req)
{
	if (req->peer != NULL)
		peer_leave(req->peer);
	req->peer = NULL;
}

/*
 * Give the machine back the memory of a buffer whose contents nobody needs; it
 * comes back, zeroed, when it is written to.
 *
 * libmicrohttpd writes to each connection's 16 kB all over before the response
 * begins, and a subscriber may be idle for hours after.  So two thirds of what
 * an idle one takes are saved, and the memory can be as large as is good for
 * request headers and long writes.
 */
static void
buffer_release(char *buffer, size_t size)
{
	uintptr_t page = (uintptr_t) sysconf(_SC_PAGESIZE);
	uintptr_t start = ((uintptr_t) buffer + page - 1) & ~(page - 1);
	uintptr_t end = ((uintptr_t) buffer + size) & ~(page - 1);

	if (start < end)
		(void) madvise((void *) start, end - start, MADV_DONTNEED);
}

/* libmicrohttpd has room for more of the response. */
static ssize_t
events_on_room(void *arg, uint64_t pos, char *out, size_t size)
{
	Request *req = arg;
	ssize_t filled = subscriber_fill(req->sub, out, size);

	(void) pos;
	if (filled == FILL_WAIT)
	{
		/* Between one event and the next the memory stays, for that would cost time. */
		if (req->sub->quiet)
			buffer_release(out, size);
		MHD_suspend_connection(req->conn);
	}
	else if (filled == FILL_END)
		return MHD_CONTENT_READER_END_OF_STREAM;
	else if (filled == FILL_ABORT)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	return filled;
}

/* The peer has closed its side, or TCP has given it up. */
static void
events_on_hang_up(void *arg, uint32_t events)
{
	Request *req = arg;

	hang_up_end(req, events);
	subscriber_hang_up(req->sub);
}

/* Log what happens to its streams. */
static void
request_log(const Request *req, const char *what)
{
	const char *key = req->sub->places[0].stream->key;

	if (req->sub->count == 1)
		log_write(LOG_DEBUG, req->client, "%s stream %s", what, key);
	else
		log_write(LOG_DEBUG, req->client, "%s stream %s and %d more", what, key,
				  req->sub->count - 1);
}

/* Begin the stream of events. */
static enum MHD_Result
request_open_stream(Request *req)
{
	struct MHD_Response *response = respond_by_reader(req, events_on_room);
	int64_t retry = loop_jitter(serving.config->retry, RETRY_JITTER);

	response_stream_headers(response);
	if (!req->head)
	{
		request_limit_time(req, false);
		subscriber_open(req->sub,
						frame_retry((unsigned int) retry,
									db_is_up() ? "pev"
											   : "the database is not available; events will "
												 "follow when it is back"));
		presence_enter(req->sub, req->grant != NULL ? req->grant->user : NULL,
					   req->grant != NULL ? req->grant->user_name : NULL);
	}
	request_log(req, "opened");
	return respond_send(req->conn, MHD_HTTP_OK, response);
}

/* Answer the request for a stream, now that it is known how. */
enum MHD_Result
events_continue(Request *req)
{
	char detail[TYPE_NAME_MAX + 64];

	if (req->sub->hung_up)
		return MHD_NO;
	if (serving.draining)
		return request_refuse(req, &refusal_draining);
	if (access_is_withdrawn(req))
		return access_answer_withdrawn(req);
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

/* May the request be answered?  If not, it is refused, or waits until that is known. */
static bool
request_has_access(Request *req, const Selection *selection, enum MHD_Result *answer)
{
	if (serving.draining)
	{
		*answer = request_refuse(req, &refusal_draining);
		return false;
	}
	switch (access_check_streams(req, selection, answer))
	{
		case ACCESS_GRANTED:
			return true;
		case ACCESS_UNKNOWN:
			*answer = request_refuse(req, &refusal_database);
			return false;
		case ACCESS_IN_USE:
			*answer = request_refuse(req, &refusal_ticket);
			return false;
		default:
			return false;
	}
}

/* Serve the streams, now that they may be. */
static enum MHD_Result
request_subscribe(Request *req, Selection *selection)
{
	const Refusal *refusal = request_enter(req);

	if (refusal != NULL)
	{
		events_log_overload(refusal);
		return request_refuse(req, refusal);
	}
	if (selection->error[0] != '\0')
	{
		request_leave(req);
		return respond_bad(req->conn, selection->error);
	}
	req->sub = subscriber_new(req->client, req, selection);
	free(req->target);
	req->target = NULL;
	access_attach(req);
	hang_up_watch(req, serving.config->send_timeout, events_on_hang_up);
	if (lookup_admit(req->sub))
	{
		subscriber_admit(req->sub, req->sub->verdict);
		return events_continue(req);
	}
	subscriber_set_state(req->sub, SUBSCRIBER_ADMITTING);
	MHD_suspend_connection(req->conn);
	return MHD_YES;
}

/*
 * GET or HEAD /events/:stream, /events or /generations/:id/stream, called again when the answer is
 * known.
 */
enum MHD_Result
events_request(Request *req)
{
	Selection selection;
	enum MHD_Result answer;

	if (req->sub != NULL)
		return events_continue(req);
	selection_parse(&selection, req->target,
					MHD_lookup_connection_value(req->conn, MHD_HEADER_KIND, "Last-Event-ID"),
					(int) serving.config->max_streams_per_client);
	if (request_has_access(req, &selection, &answer))
		answer = request_subscribe(req, &selection);
	selection_free(&selection);
	return answer;
}

/* The request is over, one way or another. */
void
events_end(Request *req, enum MHD_RequestTerminationCode code)
{
	access_end(req);
	if (req->sub == NULL)
		return;
	request_log(req, "closed");
	hang_up_unwatch(req, code);
	subscriber_free(req->sub);
	req->sub = NULL;
	request_leave(req);
}

/* A subscriber's connection is wanted again. */
void
events_resume(Subscriber *sub)
{
	Request *req = sub->owner;

	MHD_resume_connection(req->conn);
}

/* Are clients being sent away because the daemon stops? */
bool
events_are_draining(void)
{
	return serving.draining;
}

/* Tell everybody when to come back. */
void
events_drain(void)
{
	Subscriber *sub;

	serving.draining = true;
	gossip_leave(serving.config->retry * COME_BACK_DRAIN * (100 + COME_BACK_JITTER) / 100);
	ticket_give_up();
	TAILQ_FOREACH(sub, subscriber_list(), all_link)
	{
		if (sub->state == SUBSCRIBER_ADMITTING)
			subscriber_admit(sub, VERDICT_OPEN);
		else
			subscriber_end(sub, frame_retry(come_back(COME_BACK_DRAIN), "draining"));
	}
}

/* Start; max_clients is what the limit of open files leaves of the configured one. */
void
events_start(const Config *config, int64_t max_clients)
{
	serving.config = config;
	serving.max_clients = max_clients;
	if (config->max_clients_per_ip > 0)
		peers_start((size_t) max_clients);
}

/* Stop; all clients are gone. */
void
events_stop(void)
{
	peers_stop();
}
