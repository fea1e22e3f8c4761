/*
 * streamer_emit_refusal.c
 *		What a client is told when the database refuses its events.
 */
#include <stdlib.h>

#include "emit_refusal.h"
#include "streamer_tap.h"

/* An error must be answered so. */
static void
is_refusal(const EmitError *error, bool is_batch, unsigned int status, bool stale, const char *want)
{
	Buf body;
	EmitRefusal got;

	buf_init(&body);
	got = emit_refusal(error, is_batch, &body);
	is_number(got.status, status, error->message);
	is_number(got.stale, stale, "is the session stale?");
	is(body.data, want, error->message);
	buf_free(&body);
}

/* An error must be answered with this status, and not give away what it says. */
static void
is_secret(const char *sqlstate, const char *message, unsigned int status, bool stale)
{
	EmitError error = {sqlstate, message, "Secret.", "secret"};
	Buf body;
	EmitRefusal got;

	buf_init(&body);
	got = emit_refusal(&error, false, &body);
	is_number(got.status, status, sqlstate);
	ok(got.stale == stale && got.alarming, sqlstate);
	ok(strcasestr(body.data, "secret") == NULL, "nothing is given away");
	buf_free(&body);
}

#define UNPROCESSABLE                                                                              \
	"{\"type\":\"about:blank\",\"title\":\"Unprocessable Content\",\"status\":422,\"detail\":"

static void
test_faults(void)
{
	EmitError error = {"23514", "invalid event data for \"t\"",
					   "/a/0: must be >= 1; (root): must be of type object; /b~1\": x; y: z", NULL};

	is_refusal(&error, false, 422, false,
			   UNPROCESSABLE "\"invalid event data for \\\"t\\\".\",\"errors\":["
							 "{\"pointer\":\"/data/a/0\",\"detail\":\"must be >= 1\"},"
							 "{\"pointer\":\"/data\",\"detail\":\"must be of type object\"},"
							 "{\"pointer\":\"/data/b~1\\\"\",\"detail\":\"x; y: z\"}]}\n");
	error.detail = "/a: b; and 7 more";
	error.context = "event 12 of the batch\nPL/pgSQL function";
	is_refusal(&error, true, 422, false,
			   UNPROCESSABLE "\"invalid event data for \\\"t\\\".\",\"errors\":["
							 "{\"pointer\":\"/11/data/a\",\"detail\":\"b\"},"
							 "{\"pointer\":\"/11/data\",\"detail\":\"and 7 more\"}]}\n");
	error.detail = NULL;
	is_refusal(&error, false, 422, false,
			   UNPROCESSABLE "\"invalid event data for \\\"t\\\".\",\"errors\":["
							 "{\"pointer\":\"/data\",\"detail\":\"invalid event data for "
							 "\\\"t\\\"\"}]}\n");
}

static void
test_others(void)
{
	EmitError type = {"22023", "unknown event type \"x\t\"", NULL, "event 1 of the batch"};
	EmitError size = {"54000", "event data for \"t\" is too large", "It takes 9 bytes.", NULL};
	EmitError key = {"22023", "idempotency key was used for other events", NULL, NULL};
	EmitError job_kind = {"42704", "job kind \"k\" is not declared", NULL, NULL};
	EmitError channel = {"22023", "stream \"7\" cannot be the channel of a job", "A channel is.",
						 NULL};
	EmitError payload = {"54000", "payload of a job is too large", "It takes 9 bytes.", NULL};
	EmitError kind = {"42704", "stream kind \"k\" is not declared", "No row.", NULL};
	EmitError closed = {"55000", "stream 7 is closed", "Its event 3 (\"t\") ended it.", NULL};
	EmitError decided = {"55000", "action \"a\" has been decided", "It was denied.", NULL};
	EmitError again = {"23505", "action \"a\" has been asked for already", NULL, NULL};
	EmitError unknown = {"42704", "action \"a\" is not known", "Nobody asked.", NULL};
	EmitError check = {"23514", "new row violates check constraint \"c\"",
					   "Failing row contains (secret).", NULL};

	is_refusal(&type, true, 422, false,
			   UNPROCESSABLE "\"unknown event type \\\"x\\u0009\\\".\",\"errors\":[{\"pointer\":"
							 "\"/0/type\",\"detail\":\"unknown event type \\\"x\\u0009\\\"\"}]}\n");
	is_refusal(&size, false, 422, false,
			   UNPROCESSABLE "\"event data for \\\"t\\\" is too large.\",\"errors\":[{\"pointer\":"
							 "\"/data\",\"detail\":\"It takes 9 bytes.\"}]}\n");
	is_refusal(&key, false, 422, false,
			   UNPROCESSABLE "\"idempotency key was used for other events.\"}\n");
	is_refusal(&kind, false, 404, false,
			   "{\"type\":\"about:blank\",\"title\":\"Not Found\",\"status\":404,\"detail\":"
			   "\"stream kind \\\"k\\\" is not declared. No row.\"}\n");
	is_refusal(&job_kind, false, 404, false,
			   "{\"type\":\"about:blank\",\"title\":\"Not Found\",\"status\":404,\"detail\":"
			   "\"job kind \\\"k\\\" is not declared.\"}\n");
	is_refusal(&channel, false, 400, false,
			   "{\"type\":\"about:blank\",\"title\":\"Bad Request\",\"status\":400,\"detail\":"
			   "\"stream \\\"7\\\" cannot be the channel of a job. A channel is.\"}\n");
	is_refusal(
		&payload, false, 413, false,
		"{\"type\":\"about:blank\",\"title\":\"Content Too Large\",\"status\":413,\"detail\":"
		"\"payload of a job is too large. It takes 9 bytes.\"}\n");
	is_refusal(&closed, false, 409, false,
			   "{\"type\":\"about:blank\",\"title\":\"Conflict\",\"status\":409,\"detail\":"
			   "\"stream 7 is closed. Its event 3 (\\\"t\\\") ended it.\"}\n");
	is_refusal(&decided, false, 409, false,
			   "{\"type\":\"about:blank\",\"title\":\"Conflict\",\"status\":409,\"detail\":"
			   "\"action \\\"a\\\" has been decided. It was denied.\"}\n");
	is_refusal(&again, false, 409, false,
			   "{\"type\":\"about:blank\",\"title\":\"Conflict\",\"status\":409,\"detail\":"
			   "\"action \\\"a\\\" has been asked for already.\"}\n");
	is_refusal(&unknown, false, 422, false,
			   UNPROCESSABLE "\"action \\\"a\\\" is not known. Nobody asked.\"}\n");
	is_refusal(&check, false, 422, false,
			   UNPROCESSABLE "\"new row violates check constraint \\\"c\\\".\"}\n");
}

int
main(void)
{
	test_faults();
	test_others();
	is_secret("42501", "permission denied for table secret", 403, false);
	is_secret("40P01", "deadlock in secret", 503, false);
	is_secret("53100", "disk of secret full", 503, false);
	is_secret("57014", "canceling secret", 503, false);
	is_secret("25006", "cannot execute secret", 503, true);
	is_secret("42883", "function secret does not exist", 503, true);
	is_secret("42704", "type secret does not exist", 503, true);
	is_secret("0A000", "cached plan of secret", 503, true);
	is_secret("XX000", "cache lookup of secret failed", 500, true);
	return done();
}
