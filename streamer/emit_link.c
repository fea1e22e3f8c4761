/*
 * emit_link.c
 *		One connection to PostgreSQL by which events are emitted, and jobs queued.
 *
 * Each request is one statement, hence one transaction.  It is committed when the
 * server is ready for the next query, not when the statement's row is there: a
 * commit can fail after that.
 *
 * A connection that breaks before then leaves open whether they are stored.  The
 * client is told so, and to try again, which with an Idempotency-Key is safe.
 */
#include <stdio.h>
#include <string.h>

#include "emit_link.h"
#include "emit_refusal.h"
#include "log.h"
#include "problem.h"

#define EMIT_LOG_INTERVAL 10000
#define EMIT_PATIENCE     5000 /* beyond the statement's time-out: for commit, network, connecting */

/*
 * $1 stream, $2 events, $3: are global events, which go to all subscribers of all
 * streams, allowed?  $4 idempotency key.  The first column says whether that
 * forbids it.
 */
#define EMIT_STATEMENT(call)                                                                       \
	"SELECT f.forbidden, CASE WHEN NOT f.forbidden THEN " call " END"                              \
	" FROM (SELECT NOT $3::boolean AND EXISTS ("                                                   \
	"  SELECT FROM pg_catalog.jsonb_array_elements($2::jsonb) e"                                   \
	"  JOIN @schema@.pev_event_type t ON t.name = e->>'type' WHERE t.global) AS forbidden) f"

/* $1 kind, $2 payload, $3 channel, $4 idempotency key.  Nothing forbids it. */
#define ENQUEUE_STATEMENT                                                                          \
	"SELECT false, @schema@.pev_enqueue($1::text, $2::jsonb, $3::text,"                            \
	" idempotency_key => $4::text)"

enum EmitStatement
{
	EMIT_PLAIN,
	EMIT_ONCE,
	EMIT_JOB,
	EMIT_STATEMENTS
};

static const LinkStatement emit_statements[EMIT_STATEMENTS] = {
	[EMIT_PLAIN] = {"pev_emit", EMIT_STATEMENT("@schema@.pev_emit_batch($1::text, $2::jsonb)")},
	[EMIT_ONCE] = {"pev_emit_once",
				   EMIT_STATEMENT("@schema@.pev_emit_once($1::text, $4::text, $2::jsonb)")},
	[EMIT_JOB] = {"pev_enqueue", ENQUEUE_STATEMENT},
};

static struct
{
	LinkKind kind;
	const EmitLinkHooks *hooks;
	char settings[320];
} emit_links;

/* Give an emission its answer. */
static void
emit_link_answer(EmitLink *link)
{
	Emission *emission = link->emission;

	link->emission = NULL;
	emission->done(emission);
}

/* It is not known what has become of an emission. */
static void
emit_link_answer_unknown(EmitLink *link)
{
	Emission *emission = link->emission;

	emission->status = 503;
	buf_clear(&emission->answer);
	problem_begin(&emission->answer, 503,
				  "The database went away before it answered, so whether this is stored is not "
				  "known. With an Idempotency-Key it can be sent again and is stored once.");
	problem_end(&emission->answer);
	emit_link_answer(link);
}

/* Close the connection; an emission that was under way is answered. */
void
emit_link_close(EmitLink *link)
{
	link_close(&link->base);
	if (link->emission != NULL)
		emit_link_answer_unknown(link);
}

static void
emit_link_on_down(Link *base, LinkState was, const char *trouble, const char *why)
{
	EmitLink *link = (EmitLink *) base;

	(void) trouble;
	if (link->emission != NULL)
		emit_link_answer_unknown(link);
	emit_links.hooks->down(was == LINK_IDLE || was == LINK_BUSY, why);
}

static void
emit_link_on_ready(Link *base)
{
	emit_links.hooks->idle((EmitLink *) base);
}

/* The statement's row is there; but the transaction is yet to be committed. */
static void
emit_link_take_row(Emission *emission, const PGresult *row)
{
	if (*PQgetvalue(row, 0, 0) == 't')
	{
		emission->status = 403;
		problem_begin(&emission->answer, 403,
					  "An event of a global type goes to all subscribers of all streams: the token "
					  "must allow to emit to \"*\".");
		problem_end(&emission->answer);
	}
	else if (emission->kind == EMISSION_JOB)
	{
		emission->status = 202;
		buf_format(&emission->answer, "{\"jobId\":\"%s\"}\n", PQgetvalue(row, 0, 1));
	}
	else if (PQgetisnull(row, 0, 1))
	{
		emission->status = 202;
		buf_text(&emission->answer, "{\"seq\":null}\n");
	}
	else
	{
		emission->status = 201;
		buf_format(&emission->answer, "{\"seq\":%s}\n", PQgetvalue(row, 0, 1));
	}
}

/* Log an error of the database, but not for each client. */
static void
emit_link_log(const EmitError *error)
{
	static int64_t last;

	if (last != 0 && loop_now() - last < EMIT_LOG_INTERVAL)
		return;
	last = loop_now();
	log_warning("database: what a client sent was not stored: %s (SQLSTATE %s)", error->message,
				error->sqlstate);
}

/* The transaction is rolled back, perhaps after the row was there. */
static void
emit_link_refuse(EmitLink *link, const PGresult *result)
{
	Emission *emission = link->emission;
	const EmitError error = {PQresultErrorField(result, PG_DIAG_SQLSTATE),
							 PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY),
							 PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL),
							 PQresultErrorField(result, PG_DIAG_CONTEXT)};
	EmitRefusal refusal;

	buf_clear(&emission->answer);
	refusal = emit_refusal(&error, emission->is_batch, &emission->answer);
	emission->status = refusal.status;
	link->stale = refusal.stale;
	if (refusal.alarming)
		emit_link_log(&error);
}

/* Is it an error of the statement, rather than the end of the connection? */
static bool
result_is_refusal(const PGresult *result)
{
	const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);

	return severity != NULL && strcmp(severity, "ERROR") == 0 &&
		   PQresultErrorField(result, PG_DIAG_SQLSTATE) != NULL &&
		   PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY) != NULL;
}

static void
emit_link_on_result(Link *base, const PGresult *result)
{
	EmitLink *link = (EmitLink *) base;
	ExecStatusType status = PQresultStatus(result);

	if (status == PGRES_SINGLE_TUPLE)
		emit_link_take_row(link->emission, result);
	else if (status != PGRES_TUPLES_OK && result_is_refusal(result))
		emit_link_refuse(link, result);
	else if (status != PGRES_TUPLES_OK)
		link_fail_query(base, result);
}

/* The transaction is at its end. */
static void
emit_link_on_done(Link *base)
{
	EmitLink *link = (EmitLink *) base;

	emit_link_answer(link);
	if (link->stale)
		link_fail(base, "stale", "the session is stale");
	else
		emit_links.hooks->idle(link);
}

/* See the header. */
void
emit_link_init(const char *dsn, int64_t timeout, const EmitLinkHooks *hooks)
{
	snprintf(emit_links.settings, sizeof(emit_links.settings),
			 LINK_SETTINGS
			 "SET idle_in_transaction_session_timeout = 0; SET statement_timeout = %lld",
			 (long long) timeout);
	emit_links.hooks = hooks;
	emit_links.kind = (LinkKind){
		.dsn = dsn,
		.patience = timeout + EMIT_PATIENCE,
		.settings = emit_links.settings,
		.statements = emit_statements,
		.statement_count = EMIT_STATEMENTS,
		.ready = emit_link_on_ready,
		.result = emit_link_on_result,
		.done = emit_link_on_done,
		.down = emit_link_on_down,
	};
}

/* Begin to connect. */
void
emit_link_connect(EmitLink *link)
{
	link_connect(&link->base, &emit_links.kind);
}

/* Send events. */
static void
emit_link_send_events(EmitLink *link, const Emission *emission)
{
	const char *const params[] = {emission->stream, emission->body,
								  emission->everything ? "t" : "f", emission->key};
	bool once = emission->key != NULL;

	link_send(&link->base, once ? EMIT_ONCE : EMIT_PLAIN, once ? 4 : 3, params, false);
}

/* Send a job. */
static void
emit_link_send_job(EmitLink *link, const Emission *emission)
{
	const char *const params[] = {emission->job_kind, emission->body, emission->stream,
								  emission->key};

	link_send(&link->base, EMIT_JOB, 4, params, false);
}

/* Send an emission; only while idle. */
void
emit_link_send(EmitLink *link, Emission *emission)
{
	link->emission = emission;
	link->stale = false;
	if (emission->kind == EMISSION_JOB)
		emit_link_send_job(link, emission);
	else
		emit_link_send_events(link, emission);
	emission->sent(emission);
}
