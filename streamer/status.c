/*
 * status.c
 *		What operators and their machines ask: health and readiness.
 */
#include <stdio.h>
#include <time.h>

#include "db.h"
#include "events.h"
#include "respond.h"
#include "status.h"

/* The process lives. */
enum MHD_Result
status_healthz(Request *req)
{
	return respond_json(req->conn, MHD_HTTP_OK, "{\"status\":\"ok\"}\n");
}

/* It can serve, or why not and since when. */
enum MHD_Result
status_readyz(Request *req)
{
	int64_t since;
	const char *trouble = db_trouble(&since);
	char body[160];
	char when[32];
	time_t seconds;
	struct tm parts;

	if (events_are_draining())
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
