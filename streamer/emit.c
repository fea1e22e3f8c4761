/*
 * emit.c
 *		Requests that emit events, and those that queue jobs.
 *
 * What can be refused by its header is, before memory is spent on its body: who
 * may not do it, who does it too often, what is no JSON or too large.  The body is
 * then checked for being events, or JSON, at all (emit_body.c), and the database
 * does the rest (emit_pool.c), while the connection is suspended.
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

static struct
{
	const Config *config;
	Rate *requests; /* --emit-rate */
	Rate *typing;   /* --typing-rate */
} emitting;

static const char stopping[] = "The server is stopping.";

/* A request's header, or NULL. */
static const char *
request_header(const Request *req, const char *name)
{
	return MHD_lookup_connection_value(req->conn, MHD_HEADER_KIND, name);
}

/* Count what has become of a request, by its status. */
static void
emit_count(const Request *req, unsigned int status)
{
	bool job = req->emission->kind == EMISSION_JOB;
	Metric metric = job ? METRIC_JOBS_REFUSED : METRIC_EMITS_REFUSED;

	if (status == MHD_HTTP_CREATED)
		metric = METRIC_EMITS_STORED;
	else if (status == MHD_HTTP_ACCEPTED)
		metric = job ? METRIC_JOBS_QUEUED : METRIC_EMITS_UNSTORED;
	else if (status == MHD_HTTP_TOO_MANY_REQUESTS)
		metric = job ? METRIC_JOBS_LIMITED : METRIC_EMITS_LIMITED;
	else if (status == MHD_HTTP_SERVICE_UNAVAILABLE)
		metric = job ? METRIC_JOBS_UNAVAILABLE : METRIC_EMITS_UNAVAILABLE;
	metric_add(metric, 1);
}

/* It cannot be served now, but in so many milliseconds, which are spread, perhaps. */
static enum MHD_Result
emit_answer_busy(Request *req, unsigned int status, const char *why, unsigned int ms)
{
	int64_t retry = ms < EMIT_RETRY_LEAST ? EMIT_RETRY_LEAST : ms;

	emit_count(req, status);
	return respond_busy(req->conn, status, why,
						(unsigned int) loop_jitter(retry, EMIT_RETRY_JITTER));
}

/* It comes too often, and may so many microseconds later. */
static enum MHD_Result
emit_answer_often(Request *req, const char *why, int64_t wait)
{
	return emit_answer_busy(req, MHD_HTTP_TOO_MANY_REQUESTS, why, (unsigned int) (wait / 1000));
}

/* It is wrong. */
static enum MHD_Result
emit_answer_wrong(Request *req, unsigned int status, const char *why)
{
	emit_count(req, status);
	return respond_wrong(req->conn, status, why);
}

/* Its body is too large. */
static enum MHD_Result
emit_answer_too_large(Request *req)
{
	char detail[64];

	snprintf(detail, sizeof(detail), "A body takes at most %lld bytes.",
			 (long long) emitting.config->max_body_bytes);
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
emit_check_header(Request *req, const char *target_error, enum MHD_Result *answer)
{
	static const char bad_key[] = "An Idempotency-Key has 1 to 255 visible ASCII characters.";
	const char *key = request_header(req, "Idempotency-Key");
	const char *length = request_header(req, "Content-Length");
	unsigned int ms;
	const char *trouble = emit_pool_trouble(&ms);

	if (target_error != NULL)
		*answer = emit_answer_wrong(req, MHD_HTTP_BAD_REQUEST, target_error);
	else if (!request_is_json(req))
		*answer = emit_answer_wrong(req, MHD_HTTP_UNSUPPORTED_MEDIA_TYPE,
									"The body must be application/json, in UTF-8.");
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

/* Who is it, to rate.c?  A token's subject, or else an address. */
static uint64_t
emit_client(const Request *req, const Emitter *emitter)
{
	struct sockaddr_in6 address;
	uint64_t network[2];

	if (emitter->named)
		return emitter->client;
	request_address(req, &address);
	peer_network((const struct sockaddr *) &address, network);
	return rate_client('a', network, sizeof(network));
}

/* The body is in the database's hands, or is not needed. */
static void
emit_on_sent(Emission *emission)
{
	Request *req = emission->owner;

	body_end(&req->body);
	emission->body = NULL;
}

/* The answer is there. */
static void
emit_on_done(Emission *emission)
{
	Request *req = emission->owner;

	MHD_resume_connection(req->conn);
}

/* What the request is to bring into the database. */
static Emission *
emit_begin(Request *req, EmissionKind kind)
{
	req->emission = mem_zero(sizeof(Emission));
	req->emission->kind = kind;
	req->emission->sent = emit_on_sent;
	req->emission->done = emit_on_done;
	req->emission->owner = req;
	buf_init(&req->emission->answer);
	return req->emission;
}

/* Who may do this asks for it: take it on, unless its header speaks against that. */
static enum MHD_Result
emit_accept(Request *req, const Emitter *emitter, const char *target_error)
{
	const char *key = request_header(req, "Idempotency-Key");
	enum MHD_Result answer;
	int64_t wait;

	req->emission->client = emit_client(req, emitter);
	req->emission->everything = emitter->everything;
	wait = rate_take(emitting.requests, req->emission->client, 1, loop_clock());
	if (wait > 0)
		return emit_answer_often(req, "This client sends too often.", wait);
	if (!emit_check_header(req, target_error, &answer))
		return answer;
	req->emission->key = key != NULL ? mem_string(key) : NULL;
	req->body.wanted = true;
	return MHD_YES;
}

/* POST /events/:stream, as soon as its header is there. */
enum MHD_Result
emit_request(Request *req)
{
	const char *path = req->target + strlen("/events/");
	StreamKey stream;
	const char *error = stream_key_parse(path, strcspn(path, "?"), &stream);
	Emission *emission = emit_begin(req, EMISSION_EVENTS);
	Emitter emitter;
	enum MHD_Result answer;

	if (events_are_draining())
		return emit_answer_busy(req, MHD_HTTP_SERVICE_UNAVAILABLE, stopping, 0);
	if (!access_check_emit(req, error == NULL ? stream.text : "", &emitter, &answer))
		return answer;
	if (error == NULL)
		strcpy(emission->stream, stream.text);
	return emit_accept(req, &emitter, error);
}

/* POST /jobs/:kind, as soon as its header is there. */
enum MHD_Result
enqueue_request(Request *req)
{
	JobTarget job;
	const char *error = job_target_parse(req->target, &job);
	Emission *emission = emit_begin(req, EMISSION_JOB);
	Emitter emitter;
	enum MHD_Result answer;

	if (events_are_draining())
		return emit_answer_busy(req, MHD_HTTP_SERVICE_UNAVAILABLE, stopping, 0);
	if (!access_check_enqueue(req, &job, error, &emitter, &answer))
		return answer;
	if (error == NULL && !job.has_channel)
		error = "\"channel\" must name the stream that the job's events go to.";
	if (error == NULL)
		strcpy(emission->stream, job.channel.text);
	strcpy(emission->job_kind, job.kind);
	return emit_accept(req, &emitter, error);
}

/* Is the body what it should be?  What it holds of events is counted. */
static bool
emit_parse_body(Request *req, const char *text, EmitBody *body, EmitFault *fault)
{
	*body = (EmitBody){0};
	if (req->emission->kind == EMISSION_JOB)
		return emit_payload_check(text, req->body.len, fault);
	if (!emit_body_check(text, req->body.len, body, fault))
		return false;
	req->emission->is_batch = body->is_batch;
	metric_add(METRIC_EMIT_EVENTS, (int64_t) body->count);
	return true;
}

/* Check the body; false: it is refused, and the request is answered. */
static bool
emit_check_body(Request *req, enum MHD_Result *answer)
{
	static const char often[] = "This client sends events of type \"typing\" too often.";
	static const char many[] = "The body holds more events of type \"typing\" than --typing-rate "
							   "ever allows at once.";
	const char *text = req->body.len > 0 ? req->body.bytes + BODY_MARGIN : "";
	char detail[256];
	EmitBody body;
	EmitFault fault;
	int64_t wait;

	if (!emit_parse_body(req, text, &body, &fault))
	{
		snprintf(detail, sizeof(detail), "Line %zu, column %zu: %s", fault.line, fault.column,
				 fault.what);
		*answer = emit_answer_wrong(req, MHD_HTTP_BAD_REQUEST, detail);
		return false;
	}
	if (body.typing == 0)
		return true;
	if (emitting.typing != NULL && (int64_t) body.typing > emitting.config->typing_rate)
	{
		*answer = emit_answer_wrong(req, MHD_HTTP_UNPROCESSABLE_CONTENT, many);
		return false;
	}
	wait = rate_take(emitting.typing, req->emission->client, (int64_t) body.typing, loop_clock());
	if (wait > 0)
		*answer = emit_answer_often(req, often, wait);
	return wait == 0;
}

/* Give the body to the database; one event alone is made an array. */
static enum MHD_Result
emit_send(Request *req)
{
	Emission *emission = req->emission;
	enum MHD_Result answer;
	bool alone;
	char *text;

	if (!emit_check_body(req, &answer))
		return answer;
	alone = emission->kind == EMISSION_EVENTS && !emission->is_batch;
	text = req->body.bytes + BODY_MARGIN;
	text[-1] = '[';
	strcpy(text + req->body.len, alone ? "]" : "");
	emission->body = alone ? text - 1 : text;
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
	emit_count(req, emission->status);
	if (emission->status == MHD_HTTP_CREATED || emission->status == MHD_HTTP_ACCEPTED)
		return respond_json(req->conn, emission->status, emission->answer.data);
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
		return emit_answer_busy(req, MHD_HTTP_SERVICE_UNAVAILABLE, stopping, 0);
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

	emitting.config = config;
	if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		seed = (uint64_t) loop_clock();
	rates_seed(seed);
	emitting.requests = rate_new(config->emit_rate);
	emitting.typing = rate_new(config->typing_rate);
	emit_pool_start(config);
}

/* Stop: every request that waits is answered. */
void
emit_stop(void)
{
	emit_pool_stop();
	rate_free(emitting.requests);
	rate_free(emitting.typing);
}
