/*
 * respond.c
 *		Responses: problems, small documents, no content, and what streams have in common.
 *
 * Every function queues the response, or returns it for headers of its own.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "cors.h"
#include "log.h"
#include "mem.h"
#include "problem.h"
#include "request.h"
#include "respond.h"

/*
 * An HTTP/1.1 response is written straight into the connection's memory; one of
 * HTTP/1.0, which proxies like to speak, needs a buffer of its own.
 */
#define HTTP_1_1_BLOCK 64
#define HTTP_1_0_BLOCK (8 * 1024)

/* Add a header; only memory can be lacking. */
void
respond_header(struct MHD_Response *response, const char *name, const char *value)
{
	if (MHD_add_response_header(response, name, value) != MHD_YES)
		log_fatal("cannot add header %s", name);
}

/* Make a response with a body, which is copied.  Who may have it is nothing that a cache knows. */
struct MHD_Response *
respond_text(const char *type, const char *body)
{
	struct MHD_Response *response =
		MHD_create_response_from_buffer(strlen(body), (void *) (uintptr_t) body,
										MHD_RESPMEM_MUST_COPY);

	if (response == NULL)
		log_fatal("cannot make a response");
	if (type != NULL)
		respond_header(response, "Content-Type", type);
	respond_header(response, "X-Content-Type-Options", "nosniff");
	respond_header(response, "Cache-Control", "no-store");
	return response;
}

/* Make a response whose body the reader is asked for, as there is room, with the request. */
struct MHD_Response *
respond_by_reader(Request *req, MHD_ContentReaderCallback reader)
{
	struct MHD_Response *response =
		MHD_create_response_from_callback(MHD_SIZE_UNKNOWN,
										  req->chunked ? HTTP_1_1_BLOCK : HTTP_1_0_BLOCK, reader,
										  req, NULL);

	if (response == NULL)
		log_fatal("cannot make a response");
	/* libmicrohttpd ends even an empty chunked body with a chunk, HEAD or not. */
	if (req->head)
		MHD_set_response_options(response, MHD_RF_HTTP_1_0_COMPATIBLE_STRICT, MHD_RO_END);
	return response;
}

/*
 * Queue a response and give it up.  Every response goes this way.  One that is
 * known before the request's body has come is kept until then: libmicrohttpd
 * would close the connection after it, and a client that still sends might find
 * the connection reset rather than the answer.
 */
enum MHD_Result
respond_send(struct MHD_Connection *conn, unsigned int status, struct MHD_Response *response)
{
	Request *req =
		MHD_get_connection_info(conn, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
	enum MHD_Result result;

	cors_mark(conn, response);
	if (req->body.coming && !req->body.unhindered)
	{
		req->early = response;
		req->early_status = status;
		return MHD_YES;
	}
	result = MHD_queue_response(conn, status, response);
	MHD_destroy_response(response);
	return result;
}

/* Make the response to what is wrong; body is a problem. */
static struct MHD_Response *
respond_problem_text(const char *body)
{
	return respond_text("application/problem+json", body);
}

/* The same, in words. */
static struct MHD_Response *
respond_problem(unsigned int status, const char *detail)
{
	struct MHD_Response *response;
	Buf body;

	buf_init(&body);
	problem_begin(&body, status, detail);
	problem_end(&body);
	response = respond_problem_text(body.data);
	buf_free(&body);
	return response;
}

enum MHD_Result
respond_wrong(struct MHD_Connection *conn, unsigned int status, const char *detail)
{
	return respond_send(conn, status, respond_problem(status, detail));
}

enum MHD_Result
respond_bad(struct MHD_Connection *conn, const char *detail)
{
	return respond_wrong(conn, MHD_HTTP_BAD_REQUEST, detail);
}

/* Where the next request begins cannot be told, so nothing more is read. */
enum MHD_Result
respond_malformed(struct MHD_Connection *conn, const char *detail)
{
	struct MHD_Response *response = respond_problem(MHD_HTTP_BAD_REQUEST, detail);

	respond_header(response, "Connection", "close");
	return respond_send(conn, MHD_HTTP_BAD_REQUEST, response);
}

enum MHD_Result
respond_not_found(struct MHD_Connection *conn)
{
	static const char detail[] = "There is nothing here. Streams are at /events/ and their key.";

	return respond_wrong(conn, MHD_HTTP_NOT_FOUND, detail);
}

enum MHD_Result
respond_bad_method(struct MHD_Connection *conn, const char *allow)
{
	struct MHD_Response *response =
		respond_problem(MHD_HTTP_METHOD_NOT_ALLOWED,
						"The Allow header lists the methods that this resource knows.");

	respond_header(response, "Allow", allow);
	return respond_send(conn, MHD_HTTP_METHOD_NOT_ALLOWED, response);
}

/* It is served to nobody without a token (401), or not to this one's bearer (403). */
enum MHD_Result
respond_denied(struct MHD_Connection *conn, unsigned int status, const char *challenge,
			   const char *why)
{
	struct MHD_Response *response = respond_problem(status, why);

	respond_header(response, "WWW-Authenticate", challenge);
	return respond_send(conn, status, response);
}

/* Say when to come back, in milliseconds. */
static void
respond_retry(struct MHD_Response *response, unsigned int ms)
{
	char seconds[16];

	snprintf(seconds, sizeof(seconds), "%u", ms / 1000 + 1);
	respond_header(response, "Retry-After", seconds);
}

/* It cannot be served now, but in so many milliseconds perhaps. */
enum MHD_Result
respond_busy(struct MHD_Connection *conn, unsigned int status, const char *why, unsigned int ms)
{
	struct MHD_Response *response = respond_problem(status, why);

	respond_retry(response, ms);
	return respond_send(conn, status, response);
}

/* Answer with a problem; if it is that it cannot be served now, then after ms perhaps. */
enum MHD_Result
respond_problem_body(struct MHD_Connection *conn, unsigned int status, const char *body,
					 unsigned int ms)
{
	struct MHD_Response *response = respond_problem_text(body);

	if (status == MHD_HTTP_SERVICE_UNAVAILABLE)
		respond_retry(response, ms);
	return respond_send(conn, status, response);
}

enum MHD_Result
respond_options(struct MHD_Connection *conn, const char *allow)
{
	struct MHD_Response *response = respond_text(NULL, "");

	respond_header(response, "Allow", allow);
	cors_preflight(conn, response, allow);
	return respond_send(conn, MHD_HTTP_NO_CONTENT, response);
}

enum MHD_Result
respond_json(struct MHD_Connection *conn, unsigned int status, const char *body)
{
	return respond_send(conn, status, respond_text("application/json", body));
}
