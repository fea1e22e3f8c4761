/*
 * respond.c
 *		Responses that are no streams: problems, small documents, no content.
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
#include "respond.h"

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

/* Queue a response and give it up.  Every response goes this way. */
enum MHD_Result
respond_send(struct MHD_Connection *conn, unsigned int status, struct MHD_Response *response)
{
	enum MHD_Result result;

	cors_mark(conn, response);
	result = MHD_queue_response(conn, status, response);

	MHD_destroy_response(response);
	return result;
}

/* Make the response to what is wrong. */
static struct MHD_Response *
respond_problem(unsigned int status, const char *detail)
{
	struct MHD_Response *response;
	Buf body;

	buf_init(&body);
	problem_begin(&body, status, detail);
	problem_end(&body);
	response = respond_text("application/problem+json", body.data);
	buf_free(&body);
	return response;
}

enum MHD_Result
respond_bad(struct MHD_Connection *conn, const char *detail)
{
	return respond_send(conn, MHD_HTTP_BAD_REQUEST, respond_problem(MHD_HTTP_BAD_REQUEST, detail));
}

enum MHD_Result
respond_not_found(struct MHD_Connection *conn)
{
	static const char detail[] = "There is nothing here. Streams are at /events/ and their key.";

	return respond_send(conn, MHD_HTTP_NOT_FOUND, respond_problem(MHD_HTTP_NOT_FOUND, detail));
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
respond_denied(struct MHD_Connection *conn, unsigned int status, const char *why)
{
	bool forbidden = status == MHD_HTTP_FORBIDDEN;
	struct MHD_Response *response = respond_problem(status, why);

	respond_header(response, "WWW-Authenticate",
				   forbidden ? "Bearer error=\"insufficient_scope\""
							 : "Bearer error=\"invalid_token\"");
	return respond_send(conn, status, response);
}

/* It cannot be served now, but in so many milliseconds perhaps. */
enum MHD_Result
respond_busy(struct MHD_Connection *conn, unsigned int status, const char *why, unsigned int ms)
{
	struct MHD_Response *response = respond_problem(status, why);
	char seconds[16];

	snprintf(seconds, sizeof(seconds), "%u", ms / 1000 + 1);
	respond_header(response, "Retry-After", seconds);
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
