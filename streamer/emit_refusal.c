/*
 * emit_refusal.c
 *		What a client is told when the database refuses its events.
 *
 * Faults of the events are the client's to know, in the extension's words and
 * with pointers into what it sent (RFC 6901).  What is wrong with the database is
 * not: it is told no more than whether to try again, and the log has the rest.
 *
 * An owner's own constraints and triggers may refuse, too.  Their message is
 * passed on, but never the detail, in which PostgreSQL quotes rows.
 *
 * Pure: no libpq, no libmicrohttpd.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emit_refusal.h"
#include "problem.h"

#define BATCH_CONTEXT "event %d of the batch" /* by pev_emit_batch() */

/* How much of an error is passed on. */
typedef enum Telling
{
	TELL_MESSAGE,
	TELL_DETAIL, /* and the detail */
	TELL_FAULTS, /* the detail is a list of faults within data */
	TELL_TYPE,   /* it is the type that is wrong */
	TELL_DATA,   /* it is the data, and the detail says how */
	TELL_RIGHT,
	TELL_BUSY,
	TELL_NOTHING
} Telling;

/* The first that an error's SQLSTATE and message begin with counts. */
typedef struct Rule
{
	const char *sqlstate;
	const char *message;
	unsigned int status;
	Telling telling;
	bool stale;
} Rule;

static const Rule rules[] = {
	{"23514", "invalid event data for ", 422, TELL_FAULTS, false},
	{"54000", "event data for ", 422, TELL_DATA, false},
	{"22023", "unknown event type ", 422, TELL_TYPE, false},
	{"22023", "stream kind ", 422, TELL_TYPE, false},
	{"42704", "stream kind ", 404, TELL_DETAIL, false},
	{"42704", "job kind ", 404, TELL_MESSAGE, false},
	{"22023", "stream \"", 400, TELL_DETAIL, false}, /* that cannot be a job's channel */
	{"54000", "payload of a job ", 413, TELL_DETAIL, false},
	{"55000", "stream ", 409, TELL_DETAIL, false},
	{"55000", "action ", 409, TELL_DETAIL, false},
	{"23505", "action ", 409, TELL_DETAIL, false},
	{"42704", "action ", 422, TELL_DETAIL, false},
	{"22", "", 422, TELL_MESSAGE, false},
	{"23", "", 422, TELL_MESSAGE, false},
	{"27000", "", 422, TELL_MESSAGE, false},
	{"54", "", 422, TELL_MESSAGE, false},
	{"P0001", "", 422, TELL_MESSAGE, false}, /* RAISE EXCEPTION */
	{"42501", "", 403, TELL_RIGHT, false},
	{"40", "", 503, TELL_BUSY, false},    /* deadlock, serialization failure */
	{"53", "", 503, TELL_BUSY, false},    /* disk full, out of memory */
	{"55P03", "", 503, TELL_BUSY, false}, /* lock_timeout */
	{"57014", "", 503, TELL_BUSY, false}, /* statement_timeout, or cancelled */
	{"25006", "", 503, TELL_BUSY, true},  /* it has become a standby */
	{"42", "", 503, TELL_BUSY, true},     /* the extension has been dropped, or created again */
	{"3F000", "", 503, TELL_BUSY, true},
	{"0A000", "cached plan ", 503, TELL_BUSY, true},
	{"", "", 500, TELL_NOTHING, true},
};

/* Does the text begin so? */
static bool
begins(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

/* The rule for an error; the last fits all. */
static const Rule *
rule_find(const EmitError *error)
{
	const Rule *rule = rules;

	while (!begins(error->sqlstate, rule->sqlstate) || !begins(error->message, rule->message))
		rule++;
	return rule;
}

/* Where the event that an error is about stands in what the client sent. */
static void
event_pointer(const EmitError *error, bool is_batch, char *out, size_t size)
{
	const char *context = error->context != NULL ? strstr(error->context, "event ") : NULL;
	int number;

	if (is_batch && context != NULL && sscanf(context, BATCH_CONTEXT, &number) == 1 && number > 0)
		snprintf(out, size, "/%d", number - 1);
	else
		*out = '\0';
}

/* Add one fault. */
static void
fault_add(Buf *body, const char *pointer, const char *detail)
{
	buf_text(body, "{\"pointer\":");
	json_add_string(body, pointer);
	buf_text(body, ",\"detail\":");
	json_add_string(body, detail);
	buf_text(body, "}");
}

/* Where the next of "/a: what; (root): what; and 2 more" begins; the end if there is none. */
static char *
fault_end(char *text)
{
	static const char *const next[] = {"; /", "; (root): ", "; and "};
	char *end = text + strlen(text);

	for (size_t i = 0; i < sizeof(next) / sizeof(next[0]); i++)
	{
		char *at = strstr(text, next[i]);

		if (at != NULL && at < end)
			end = at;
	}
	return end;
}

/* Add the faults that a detail lists, a pointer before each. */
static void
faults_add(Buf *body, const char *event, const char *detail)
{
	char *text = mem_string(detail);
	char *at = text;
	Buf pointer;

	buf_init(&pointer);
	for (bool last = false; !last; buf_clear(&pointer))
	{
		char *end = fault_end(at);
		char *what;

		last = *end == '\0';
		*end = '\0';
		what = strstr(at, ": ");
		buf_format(&pointer, "%s/data", event);
		if (at != text)
			buf_text(body, ",");
		if (what != NULL && *at == '/')
			buf_add(&pointer, at, (size_t) (what - at));
		fault_add(body, pointer.data, what != NULL ? what + 2 : at);
		at = end + 2;
	}
	buf_free(&pointer);
	free(text);
}

/* Add the faults that are known, if any are. */
static void
errors_add(Buf *body, const EmitError *error, Telling telling, bool is_batch)
{
	char event[16];
	char pointer[32];

	if (telling != TELL_FAULTS && telling != TELL_TYPE && telling != TELL_DATA)
		return;
	event_pointer(error, is_batch, event, sizeof(event));
	snprintf(pointer, sizeof(pointer), "%s/%s", event, telling == TELL_TYPE ? "type" : "data");
	buf_text(body, ",\"errors\":[");
	if (telling == TELL_FAULTS && error->detail != NULL)
		faults_add(body, event, error->detail);
	else
		fault_add(body, pointer,
				  telling == TELL_DATA && error->detail != NULL ? error->detail : error->message);
	buf_text(body, "]");
}

/* What is said in words. */
static void
detail_render(Buf *out, const EmitError *error, Telling telling)
{
	switch (telling)
	{
		case TELL_RIGHT:
			buf_text(out, "The database does not let the streamer's role do this.");
			break;
		case TELL_BUSY:
			buf_text(out, "The database could not store this now, and has not.");
			break;
		case TELL_NOTHING:
			buf_text(out, "The database failed to store this, and has not.");
			break;
		default:
			buf_format(out, "%s.", error->message);
			if (telling == TELL_DETAIL && error->detail != NULL)
				buf_format(out, " %s", error->detail);
	}
}

/* Add the answer's body, a problem, and say what else follows from the error. */
EmitRefusal
emit_refusal(const EmitError *error, bool is_batch, Buf *body)
{
	const Rule *rule = rule_find(error);
	Buf detail;

	buf_init(&detail);
	detail_render(&detail, error, rule->telling);
	problem_begin(body, rule->status, detail.data);
	errors_add(body, error, rule->telling, is_batch);
	problem_end(body);
	buf_free(&detail);
	return (EmitRefusal){rule->status, rule->stale,
						 rule->telling == TELL_RIGHT || rule->telling == TELL_BUSY ||
							 rule->telling == TELL_NOTHING};
}
