/*
 * export.c
 *		Requests for the events of a stream as a file.
 *
 * The status and the headers are sent when the stream has been found, the events
 * as they are read (export_read.c); between pages the connection is suspended.
 *
 * An export that cannot be finished must not look as if it were whole.  In HTTP/1.1
 * its last chunk is missing.  In HTTP/1.0 the end of the connection is the end of
 * the file, so there the connection is reset.
 *
 * Whoever may read the stream may export it.  The right is looked at when the
 * export begins and, for its being revoked, while it goes on; that a token expires
 * meanwhile is no reason to break off a download.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "access.h"
#include "encoding.h"
#include "events.h"
#include "export.h"
#include "hang_up.h"
#include "log.h"
#include "metrics.h"
#include "peers.h"
#include "respond.h"
#include "selection.h"

#define EXPORT_RETRY        2000 /* milliseconds, after which to try again */
#define EXPORT_RETRY_JITTER 50   /* percent */

static const Config *exporting;

static const char stopping[] = "The server is stopping.";
static const char away[] = "The database is not available.";

/* It cannot be served now: to anybody (503), or to this client (429). */
static enum MHD_Result
export_answer_later(Request *req, unsigned int status, const char *why)
{
	metric_add(METRIC_EXPORTS_UNAVAILABLE, 1);
	return respond_busy(req->conn, status, why,
						(unsigned int) loop_jitter(EXPORT_RETRY, EXPORT_RETRY_JITTER));
}

/* It cannot be served to anybody now. */
static enum MHD_Result
export_answer_busy(Request *req, const char *why)
{
	return export_answer_later(req, MHD_HTTP_SERVICE_UNAVAILABLE, why);
}

/* It is wrong. */
static enum MHD_Result
export_answer_wrong(Request *req, unsigned int status, const char *why)
{
	metric_add(METRIC_EXPORTS_REFUSED, 1);
	return respond_wrong(req->conn, status, why);
}

/* May the client have the stream?  If not it is answered, or waits until that is known. */
static bool
export_has_access(Request *req, const Selection *stream, enum MHD_Result *answer)
{
	switch (access_check_streams(req, stream, answer))
	{
		case ACCESS_GRANTED:
			return true;
		case ACCESS_UNKNOWN:
			*answer = export_answer_busy(req, away);
			return false;
		case ACCESS_IN_USE:
			*answer = export_answer_busy(req, "The ticket is in use.");
			return false;
		default:
			return false;
	}
}

/* Copy what there is and fits. */
static size_t
export_fill(Export *export, char *out, size_t size)
{
	size_t left = export->page.len - export->sent;
	size_t n = left < size ? left : size;

	memcpy(out, export->page.data + export->sent, n);
	export->sent += n;
	metric_add(METRIC_EXPORT_BYTES, (int64_t) n);
	return n;
}

/* libmicrohttpd has room for more of the response. */
static ssize_t
export_on_room(void *arg, uint64_t pos, char *out, size_t size)
{
	Request *req = arg;
	Export *export = req->export;
	size_t filled;

	(void) pos;
	if (access_is_withdrawn(req) && export->state != EXPORT_FAILED)
		export_fail(export);
	if (export->state == EXPORT_FAILED)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	filled = export_fill(export, out, size);
	if (export->sent == export->page.len && export->state == EXPORT_OPEN)
		export_read_page(export);
	if (filled > 0)
		return (ssize_t) filled;
	if (export->state == EXPORT_WHOLE)
		return MHD_CONTENT_READER_END_OF_STREAM;
	if (export->state == EXPORT_FAILED)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	export->waiting = true;
	MHD_suspend_connection(req->conn);
	return 0;
}

/* End the connection in a way that cannot be taken for the end of a file. */
static void
request_reset(const Request *req)
{
	const struct sockaddr nobody = {.sa_family = AF_UNSPEC};

	(void) connect(request_socket(req), &nobody, sizeof(nobody));
}

/* See Export. */
static void
export_on_change(Export *export)
{
	Request *req = export->owner;

	if (export->state == EXPORT_FAILED && export->begun && !export->left)
	{
		log_write(LOG_INFO, req->client, "export of stream %s broken off at event %" PRId64,
				  export->key.text, export->read);
		if (!req->chunked)
			request_reset(req);
	}
	if (!export->waiting || export->state == EXPORT_READING)
		return;
	export->waiting = false;
	MHD_resume_connection(req->conn);
}

/* The client has gone. */
static void
export_on_hang_up(void *arg, uint32_t events)
{
	Request *req = arg;

	hang_up_end(req, events);
	req->export->left = true;
	export_fail(req->export);
}

/* Begin the response. */
static enum MHD_Result
export_respond(Request *req)
{
	Export *export = req->export;
	struct MHD_Response *response = respond_by_reader(req, export_on_room);
	Buf disposition;

	buf_init(&disposition);
	export_disposition(export->query.format, export->key.text, &disposition);
	respond_header(response, "Content-Type", export_media_type(export->query.format));
	respond_header(response, "Content-Disposition", disposition.data);
	respond_header(response, "X-Content-Type-Options", "nosniff");
	respond_header(response, "Cache-Control", "no-store");
	respond_header(response, "Vary", "Accept-Encoding");
	respond_header(response, "X-Accel-Buffering", "no");
	if (export->gzip != NULL)
		respond_header(response, "Content-Encoding", "gzip");
	buf_free(&disposition);
	if (!req->head)
	{
		request_limit_time(req, false);
		export->begun = true;
	}
	return respond_send(req->conn, MHD_HTTP_OK, response);
}

/* The stream has been looked up, or could not be. */
enum MHD_Result
export_continue(Request *req)
{
	Export *export = req->export;
	char detail[TYPE_NAME_MAX + 64];

	if (export->left)
		return MHD_NO;
	if (events_are_draining())
		return export_answer_busy(req, stopping);
	if (access_is_withdrawn(req))
		return access_answer_withdrawn(req);
	if (export->state == EXPORT_FAILED)
		return export_answer_busy(req, away);
	if (export->bad_type != NULL)
	{
		snprintf(detail, sizeof(detail), "There is no event type \"%s\".", export->bad_type);
		return export_answer_wrong(req, MHD_HTTP_BAD_REQUEST, detail);
	}
	if (!export->found)
		return export_answer_wrong(req, MHD_HTTP_NOT_FOUND, "This stream has no events.");
	return export_respond(req);
}

/* Why the client cannot have one more export now, and the status that says so; NULL if it can. */
static const char *
export_find_limit(const uint64_t network[2], unsigned int *status)
{
	const Export *export;
	int64_t same = 0;

	TAILQ_FOREACH(export, export_all(), link)
	{
		same += memcmp(export->network, network, sizeof(export->network)) == 0;
	}
	*status = MHD_HTTP_TOO_MANY_REQUESTS;
	if (exporting->max_exports_per_ip > 0 && same >= exporting->max_exports_per_ip)
		return "Too much is being exported to this address.";
	*status = MHD_HTTP_SERVICE_UNAVAILABLE;
	return export_count() >= (size_t) exporting->max_exports ? "Too much is being exported at once."
															 : NULL;
}

/* Begin an export, now that the client may have it; error: what is wrong with the stream. */
static enum MHD_Result
export_open(Request *req, const Selection *stream, const char *error)
{
	const char *query = strchr(req->target, '?');
	const char *accept = MHD_lookup_connection_value(req->conn, MHD_HEADER_KIND, "Accept-Encoding");
	struct sockaddr_in6 address;
	uint64_t network[2];
	unsigned int status;
	const char *limit;
	ExportQuery wanted;

	if (error == NULL)
		error = export_query_parse(query != NULL ? query + 1 : NULL, &wanted);
	if (error != NULL)
		return export_answer_wrong(req, MHD_HTTP_BAD_REQUEST, error);
	request_address(req, &address);
	peer_network((const struct sockaddr *) &address, network);
	limit = export_find_limit(network, &status);
	if (limit != NULL)
	{
		export_query_free(&wanted);
		return export_answer_later(req, status, limit);
	}
	req->export = export_new(&stream->choices[0].key, &wanted, encoding_is_gzip(accept),
							 export_on_change, req);
	memcpy(req->export->network, network, sizeof(network));
	hang_up_watch(req, exporting->send_timeout, export_on_hang_up);
	req->export->waiting = true;
	MHD_suspend_connection(req->conn);
	export_read_open(req->export);
	return MHD_YES;
}

/* GET or HEAD /events/:stream/export, called again when its ticket has been redeemed. */
enum MHD_Result
export_request(Request *req)
{
	enum MHD_Result answer;
	Selection stream;
	const char *error;

	if (events_are_draining())
		return export_answer_busy(req, stopping);
	error = selection_take_path(&stream, req->target);
	if (export_has_access(req, &stream, &answer))
		answer = export_open(req, &stream, error);
	selection_free(&stream);
	return answer;
}

/* What has become of an export whose response had begun. */
static Metric
export_result(const Export *export, enum MHD_RequestTerminationCode code)
{
	if (code == MHD_REQUEST_TERMINATED_COMPLETED_OK)
		return METRIC_EXPORTS_COMPLETE;
	return export->state == EXPORT_FAILED && !export->left ? METRIC_EXPORTS_BROKEN
														   : METRIC_EXPORTS_LEFT;
}

/* The request is over. */
void
export_end(Request *req, enum MHD_RequestTerminationCode code)
{
	Export *export = req->export;

	if (export == NULL)
		return;
	if (export->begun)
		metric_add(export_result(export, code), 1);
	hang_up_unwatch(req, code);
	export_free(export);
	req->export = NULL;
}

/* Start; the configuration stays the caller's. */
void
export_start(const Config *config)
{
	exporting = config;
	export_read_start(config->dsn);
}

/* Stop: exports that are not whole are broken off. */
void
export_stop(void)
{
	Export *export;

	TAILQ_FOREACH(export, export_all(), link)
	{
		if (export->state != EXPORT_WHOLE && export->state != EXPORT_FAILED)
			export_fail(export);
	}
	export_read_stop();
}
