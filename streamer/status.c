/*
 * status.c
 *		What operators and their machines ask: health, readiness, metrics.
 */
#include <stdio.h>
#include <time.h>

#include "access.h"
#include "db.h"
#include "emit_pool.h"
#include "events.h"
#include "export_read.h"
#include "gossip.h"
#include "hub.h"
#include "metrics.h"
#include "page.h"
#include "process.h"
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

/* Set those metrics that are asked for, not counted. */
static void
status_measure(Request *req)
{
	struct MHD_Daemon *daemon =
		MHD_get_connection_info(req->conn, MHD_CONNECTION_INFO_DAEMON)->daemon;
	unsigned int connections =
		MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS)->num_connections;

	metric_set(METRIC_CLIENTS, (int64_t) subscriber_count());
	metric_set(METRIC_CONNECTIONS, connections);
	metric_set(METRIC_STREAMS, (int64_t) hub_count());
	metric_set(METRIC_WINDOW_BYTES, (int64_t) hub_bytes());
	metric_set(METRIC_PAGE_BYTES, (int64_t) page_bytes());
	metric_set(METRIC_EMIT_PENDING, (int64_t) emit_pool_load());
	metric_set(METRIC_EMIT_CONNECTIONS, (int64_t) emit_pool_connections());
	metric_set(METRIC_BODY_BYTES, (int64_t) bodies_bytes());
	metric_set(METRIC_EXPORTS, (int64_t) export_count());
	metric_set(METRIC_PRESENCE_USERS, (int64_t) roster_users());
	metric_set(METRIC_PRESENCE_STREAMERS, (int64_t) gossip_peers());
	metric_set(METRIC_DATABASE_UP, db_is_up());
	process_measure();
}

/* What Prometheus reads. */
enum MHD_Result
status_metrics(Request *req)
{
	struct MHD_Response *response;
	enum MHD_Result answer;
	Buf body;

	if (!access_check_metrics(req, &answer))
		return answer;
	status_measure(req);
	buf_init(&body);
	metrics_render(&body);
	response = respond_text("text/plain; version=0.0.4; charset=utf-8", body.data);
	buf_free(&body);
	return respond_send(req->conn, MHD_HTTP_OK, response);
}
