/*
 * cors.c
 *		Which pages of other origins may read responses (CORS).
 *
 * Every response is marked, errors too, for a page can tell a 401 from a dead
 * server only if it may read it.  An origin that is allowed by name may send
 * credentials; "*" allows every page and therefore none of them.  As soon as
 * any origin is configured, every response says that it depends on the origin,
 * or a cache would hand one page the permission of another.
 *
 * An origin that is not allowed gets the same response unmarked: it is the
 * browser that refuses, and nobody learns which origins are allowed.
 */
#include <string.h>

#include "cors.h"
#include "respond.h"

#define CORS_HEADERS "Authorization, Content-Type, Idempotency-Key, Last-Event-ID"
#define CORS_MAX_AGE "7200" /* seconds; Chromium remembers for no longer */

static const StringList *cors_origins;

/* Start; the list stays the caller's. */
void
cors_start(const StringList *origins)
{
	cors_origins = origins;
}

/* The configured origin that the request's matches, or NULL. */
static const char *
cors_find(struct MHD_Connection *conn)
{
	const char *origin = MHD_lookup_connection_value(conn, MHD_HEADER_KIND, "Origin");

	for (int i = 0; origin != NULL && i < cors_origins->count; i++)
		if (strcmp(cors_origins->items[i], "*") == 0 || strcmp(cors_origins->items[i], origin) == 0)
			return cors_origins->items[i];
	return NULL;
}

/* Say on a response who may read it. */
void
cors_mark(struct MHD_Connection *conn, struct MHD_Response *response)
{
	const char *origin;

	if (cors_origins->count == 0)
		return;
	respond_header(response, "Vary", "Origin");
	origin = cors_find(conn);
	if (origin == NULL)
		return;
	respond_header(response, "Access-Control-Allow-Origin", origin);
	if (strcmp(origin, "*") != 0)
		respond_header(response, "Access-Control-Allow-Credentials", "true");
	/* a page that saves a file itself should know how to call it, and one that is refused when to return */
	if (MHD_get_response_header(response, "Content-Disposition") != NULL)
		respond_header(response, "Access-Control-Expose-Headers", "Content-Disposition");
	else if (MHD_get_response_header(response, "Retry-After") != NULL)
		respond_header(response, "Access-Control-Expose-Headers", "Retry-After");
}

/* Answer, if it is asked, what a page may send. */
void
cors_preflight(struct MHD_Connection *conn, struct MHD_Response *response, const char *methods)
{
	if (MHD_lookup_connection_value(conn, MHD_HEADER_KIND, "Access-Control-Request-Method") ==
			NULL ||
		cors_find(conn) == NULL)
		return;
	respond_header(response, "Access-Control-Allow-Methods", methods);
	respond_header(response, "Access-Control-Allow-Headers", CORS_HEADERS);
	respond_header(response, "Access-Control-Max-Age", CORS_MAX_AGE);
}
