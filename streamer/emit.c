/*
 * emit.c
 *		Requests that emit events.
 *
 * What can be refused by its header is, before memory is spent on its body: who
 * may not emit, who does so too often, what is no JSON or too large.  The body is
 * then checked for being events at all (emit_body.c), and the database does the
 * rest (emit_pool.c), while the connection is suspended.
 *
 * Only application/json is taken.  A page of another origin can send text/plain or
 * a form without asking, cookies included; this it must ask for (CORS).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "access.h"
#include "emission.h"
#include "emit.h"
#include "emit_body.h"
#include "emit_pool.h"
#include "events.h"
#include "log.h"
#include "loop.h"
#include "mem.h"
#include "metrics.h"
#include "peers.h"
#include "rate.h"
#include "respond.h"

#define IDEMPOTENCY_KEY_MAX 255
#define EMIT_RETRY_JITTER   50  /* percent */
#define EMIT_RETRY_LEAST    500 /* milliseconds */

static const Config *emitting;

/* A request's header, or NULL. */
static const char *
request_header(const Request *req, const char *name)
{
	return MHD_lookup_connection_value(req->conn, MHD_HEADER_KIND, name);
}

/* It cannot be served now, but in so many milliseconds, which are spread, perhaps. */
static enum MHD_Result
emit_answer_busy(Request *req, unsigned int status, const char *why, unsigned int ms)
{
	int64_t retry = ms < EMIT_RETRY_LEAST ? EMIT_RETRY_LEAST : ms;

	metric_add(status == MHD_HTTP_TOO_MANY_REQUESTS ? METRIC_EMITS_LIMITED
													: METRIC_EMITS_UNAVAILABLE,
			   1);
	return respond_busy(req->conn, status, why,
						(unsigned int) loop_jitter(retry, EMIT_RETRY_JITTER));
}

/* It is wrong. */
static enum MHD_Result
emit_answer_wrong(Request *req, unsigned int status, const char *why)
{
	metric_add(METRIC_EMITS_REFUSED, 1);
	return respond_wrong(req->conn, status, why);
}

/* Its body is too large. */
static enum MHD_Result
emit_answer_too_large(Request *req)
{
	char detail[64];

	snprintf(detail, sizeof(detail), "A body takes at most %lld bytes.",
			 (long long) emitting->max_body_bytes);
	return emit_answer_wrong(req, MHD_HTTP_CONTENT_TOO_LARGE, detail);
}

/* Is it JSON in UTF-8, as it is? */
static bool
request_is_json(const Request *req)
{
	static const char json[] = "application/json";
	const char *type = request_header(req, "Content-Type");
	const char *encoding = request_header(req, "Content-Encoding");

	if (type == NULL || strncasecmp(type, json, strlen(json)) != 0 ||
		(encoding != NULL && strcasecmp(encoding, "identity") != 0))
		return false;
	type += strlen(json);
	type += strspn(type, " \t");
	if (*type == '\0')
		return true;
	if (*type++ != ';')
		return false;
	type += strspn(type, " \t");
	return *type == '\0' || strcasecmp(type, "charset=utf-8") == 0 ||
		   strcasecmp(type, "charset=\"utf-8\"") == 0;
}

/* Is it a key by which a retry can be known?  pev_emit_once() has the same rule. */
static bool
idempotency_key_is_valid(const char *key)
{
	size_t len = strlen(key);

	for (size_t i = 0; i < len; i++)
		if (key[i] < '!' || key[i] > '~')
			return false;
	return len > 0 && len <= IDEMPOTENCY_KEY_MAX;
}

/* Refuse by the header what can be; false: it is answered. */
static bool
emit_check_header(Request *req, const char *key_error, enum MHD_Result *answer)
{
	static const char bad_key[] = "An Idempotency-Key has 1 to 255 visible ASCII characters.";
	const char *key = request_header(req, "Idempotency-Key");
	const char *length = request_header(req, "Content-Length");
	unsigned int ms;
	const char *trouble = emit_pool_trouble(&ms);

	if (key_error != NULL)
		*answer = emit_answer_wrong(req, MHD_HTTP_BAD_REQUEST, key_error);
	else if (!request_is_json(req))
		*answer = emit_answer_wrong(req, MHD_HTTP_UNSUPPORTED_MEDIA_TYPE,
									"Events are sent as application/json, in UTF-8.");
	else if (key != NULL && !idempotency_key_is_valid(key))
		*answer = emit_answer_wrong(req, MHD_HTTP_BAD_REQUEST, bad_key);
	else if (length != NULL && body_is_too_large(strtoull(length, NULL, 10)))
		*answer = emit_answer_too_large(req);
	else if (trouble != NULL)
		*answer = emit_answer_busy(req, MHD_HTTP_SERVICE_UNAVAILABLE, trouble, ms);
	else
		return true;
	return false;
}

/* Does the client emit too often?  Then it is answered. */
static bool
emit_check_rate(Request *req, const Emitter *emitter, enum MHD_Result *answer)
{
	static const char often[] = "This client emits too often.";
	struct sockaddr_in6 address;
	uint64_t network[2];
	int64_t wait;

	if (emitting->emit_rate == 0)
		return true;
	request_address(req, &address);
	peer_network((const struct sockaddr *) &address, network);
	wait = rate_take(emitter->named ? emitter->client : rate_client('a', network, sizeof(network)),
					 loop_clock());
	if (wait == 0)
		return true;
	*answer =
		emit_answer_busy(req, MHD_HTTP_TOO_MANY_REQUESTS, often, (unsigned int) (wait / 1000));
	return false;
}

/* The body is in the database's hands, or is not needed. */
static void
emit_on_sent(Emission *emission)
{
	Request *req = emission->owner;

	body_end(&req->body);
	emission->events = NULL;
}

/* The answer is there. */
static void
emit_on_done(Emission *emission)
{
	Request *req = emission->owner;

	MHD_resume_connection(req->conn);
}

/* POST /events/:stream, as soon as its header is there. */
enum MHD_Result
emit_request(Request *req)
{
	const char *path = req->target + strlen("/events/");
	const char *key = request_header(req, "Idempotency-Key");
	StreamKey stream;
	const char *error = stream_key_parse(path, strcspn(path, "?"), &stream);
	Emitter emitter;
	enum MHD_Result answer;

	if (events_are_draining())
		return emit_answer_busy(req, MHD_HTTP_SERVICE_UNAVAILABLE, "The server is stopping.", 0);
	if (!access_check_emit(req, error == NULL ? stream.text : "", &emitter, &answer) ||
		!emit_check_rate(req, &emitter, &answer) || !emit_check_header(req, error, &answer))
		return answer;
	req->emission = mem_zero(sizeof(Emission));
	strcpy(req->emission->stream, stream.text);
	req->emission->key = key != NULL ? mem_string(key) : NULL;
	req->emission->everything = emitter.everything;
	req->emission->sent = emit_on_sent;
	req->emission->done = emit_on_done;
	req->emission->owner = req;
	buf_init(&req->emission->answer);
	req->body.wanted = true;
	return MHD_YES;
}

/* Find out whether the body is events; false: it is not, and the request is answered. */
static bool
emit_check_body(Request *req, enum MHD_Result *answer)
{
	const char *text = req->body.len > 0 ? req->body.bytes + BODY_MARGIN : "";
	char detail[256];
	EmitBody body;
	EmitFault fault;

	if (emit_body_check(text, req->body.len, &body, &fault))
	{
		req->emission->is_batch = body.is_batch;
		metric_add(METRIC_EMIT_EVENTS, (int64_t) body.count);
		return true;
	}
	snprintf(detail, sizeof(detail), "Line %zu, column %zu: %s", fault.line, fault.column,
			 fault.what);
	*answer = emit_answer_wrong(req, MHD_HTTP_BAD_REQUEST, detail);
	return false;
}

/* Give the events to the database; one alone is made an array. */
static enum MHD_Result
emit_send(Request *req)
{
	Emission *emission = req->emission;
	enum MHD_Result answer;
	char *text;

	if (!emit_check_body(req, &answer))
		return answer;
	text = req->body.bytes + BODY_MARGIN;
	text[-1] = '[';
	strcpy(text + req->body.len, emission->is_batch ? "" : "]");
	emission->events = emission->is_batch ? text : text - 1;
	MHD_suspend_connection(req->conn);
	emit_pool_submit(emission);
	return MHD_YES;
}

/* Pass on what the database has answered. */
static enum MHD_Result
emit_answer(Request *req)
{
	const Emission *emission = req->emission;

	log_write(LOG_DEBUG, req->client, "emitted: %u", emission->status);
	switch (emission->status)
	{
		case MHD_HTTP_CREATED:
			metric_add(METRIC_EMITS_STORED, 1);
			return respond_json(req->conn, emission->status, emission->answer.data);
		case MHD_HTTP_ACCEPTED:
			metric_add(METRIC_EMITS_UNSTORED, 1);
			return respond_json(req->conn, emission->status, emission->answer.data);
		case MHD_HTTP_SERVICE_UNAVAILABLE:
			metric_add(METRIC_EMITS_UNAVAILABLE, 1);
			break;
		default:
			metric_add(METRIC_EMITS_REFUSED, 1);
	}
	return respond_problem_body(req->conn, emission->status, emission->answer.data,
								emission->retry);
}

/* The body has come, or the answer has. */
enum MHD_Result
emit_continue(Request *req)
{
	unsigned int ms;
	const char *trouble;

	if (req->emission->status != 0)
		return emit_answer(req);
	if (req->body.too_large)
		return emit_answer_too_large(req);
	if (req->body.no_room)
		return emit_answer_busy(req, MHD_HTTP_SERVICE_UNAVAILABLE,
								"Too much is being received at once.", 0);
	if (events_are_draining())
		return emit_answer_busy(req, MHD_HTTP_SERVICE_UNAVAILABLE, "The server is stopping.", 0);
	trouble = emit_pool_trouble(&ms);
	if (trouble != NULL)
		return emit_answer_busy(req, MHD_HTTP_SERVICE_UNAVAILABLE, trouble, ms);
	return emit_send(req);
}

/* The request is over. */
void
emit_end(Request *req)
{
	if (req->emission == NULL)
		return;
	free(req->emission->key);
	buf_free(&req->emission->answer);
	free(req->emission);
	req->emission = NULL;
}

/* Start; the configuration stays the caller's. */
void
emit_start(const Config *config)
{
	uint64_t seed;

	emitting = config;
	if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		seed = (uint64_t) loop_clock();
	if (config->emit_rate > 0)
		rate_start(config->emit_rate, seed);
	emit_pool_start(config);
}

/* Stop: every request that waits is answered. */
void
emit_stop(void)
{
	emit_pool_stop();
	rate_stop();
}
