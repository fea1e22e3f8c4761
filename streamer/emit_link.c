/*
 * emit_link.c
 *		One connection to PostgreSQL by which events are emitted.
 *
 * Each request is one statement, hence one transaction.  It is committed when the
 * server is ready for the next query, not when the statement's row is there: a
 * commit can fail after that.
 *
 * A connection that breaks before then leaves open whether the events are
 * stored.  The client is told so, and to try again, which with an
 * Idempotency-Key is safe.
 */
#include <stdlib.h>
#include <string.h>

#include "emit_link.h"
#include "emit_refusal.h"
#include "log.h"
#include "metrics.h"
#include "problem.h"
#include "statement.h"

#define LINK_LOG_INTERVAL 10000
#define LINK_PATIENCE     5000 /* beyond the statement's time-out: for commit, network, connecting */

/* Which way leads from which state to which. */
static const bool link_allowed[LINK_STATES][LINK_STATES] = {
	[LINK_DOWN] = {[LINK_CONNECTING] = true},
	[LINK_CONNECTING] = {[LINK_SETUP] = true, [LINK_DOWN] = true},
	[LINK_SETUP] = {[LINK_IDLE] = true, [LINK_DOWN] = true},
	[LINK_IDLE] = {[LINK_BUSY] = true, [LINK_DOWN] = true},
	[LINK_BUSY] = {[LINK_IDLE] = true, [LINK_DOWN] = true},
};

/*
 * $1 stream, $2 events, $3: are global events, which go to all subscribers of all
 * streams, allowed?  $4 idempotency key.  The first column says whether that
 * forbids it.
 */
#define LINK_STATEMENT(call)                                                                       \
	"SELECT f.forbidden, CASE WHEN NOT f.forbidden THEN " call " END"                              \
	" FROM (SELECT NOT $3::boolean AND EXISTS ("                                                   \
	"  SELECT FROM pg_catalog.jsonb_array_elements($2::jsonb) e"                                   \
	"  JOIN @schema@.pev_event_type t ON t.name = e->>'type' WHERE t.global) AS forbidden) f"

static const char link_settings[] =
	"SET search_path = pg_catalog; SET jit = off; SET plan_cache_mode = force_generic_plan;"
	"SET idle_session_timeout = 0; SET idle_in_transaction_session_timeout = 0";

typedef enum LinkStep
{
	LINK_STEP_FIND,
	LINK_STEP_SETTINGS,
	LINK_STEP_TIMEOUT,
	LINK_STEP_EMIT,
	LINK_STEP_EMIT_ONCE,
	LINK_STEP_END
} LinkStep;

static const EmitLinkHooks *link_hooks;

static void link_on_socket(void *arg, uint32_t events);

/* The only place where the state changes. */
static void
link_set_state(EmitLink *link, EmitLinkState state)
{
	if (!link_allowed[link->state][state])
		log_fatal("a connection to emit by cannot go from state %d to %d", link->state, state);
	link->state = state;
}

/* Give an emission its answer. */
static void
link_answer(EmitLink *link)
{
	Emission *emission = link->emission;

	link->emission = NULL;
	emission->done(emission);
}

/* It is not known what has become of an emission. */
static void
link_answer_unknown(EmitLink *link)
{
	Emission *emission = link->emission;

	emission->status = 503;
	problem_begin(&emission->answer, 503,
				  "The database went away before it answered, so whether this is stored is not "
				  "known. With an Idempotency-Key it can be sent again and is stored once.");
	problem_end(&emission->answer);
	link_answer(link);
}

/* Close the connection; an emission that was under way is answered. */
void
emit_link_close(EmitLink *link)
{
	if (link->state == LINK_DOWN)
		return;
	loop_unwatch(&link->watch);
	timer_clear(&link->patience);
	PQclear(link->result);
	link->result = NULL;
	PQfinish(link->conn);
	link->conn = NULL;
	free(link->schema);
	link->schema = NULL;
	link_set_state(link, LINK_DOWN);
	if (link->emission != NULL)
		link_answer_unknown(link);
}

/* It is of no use any more. */
static void
link_fail(EmitLink *link, const char *why)
{
	bool was_up = link->state == LINK_IDLE || link->state == LINK_BUSY;
	char text[200];

	strncpy(text, why, sizeof(text) - 1); /* why may be libpq's */
	text[sizeof(text) - 1] = '\0';
	emit_link_close(link);
	link_hooks->down(was_up, text);
}

static void
link_on_patience(void *arg)
{
	link_fail(arg, "the server does not answer");
}

/* Send what libpq still holds and watch the socket for what comes next. */
static void
link_flush(EmitLink *link, bool sent)
{
	int left = sent ? PQflush(link->conn) : -1;

	if (left < 0)
	{
		link_fail(link, PQerrorMessage(link->conn));
		return;
	}
	if (link->flushing != (left > 0))
	{
		link->flushing = left > 0;
		loop_change(&link->watch, EPOLLIN | (link->flushing ? EPOLLOUT : 0));
	}
}

/* Do the current step of setting up. */
static void
link_setup_send(EmitLink *link)
{
	char text[64];
	int sent = 0;

	switch ((LinkStep) link->step)
	{
		case LINK_STEP_FIND:
			sent = PQsendQuery(link->conn, statement_find_schema);
			break;
		case LINK_STEP_SETTINGS:
			sent = PQsendQuery(link->conn, link_settings);
			break;
		case LINK_STEP_TIMEOUT:
			snprintf(text, sizeof(text), "SET statement_timeout = %lld",
					 (long long) link_hooks->timeout);
			sent = PQsendQuery(link->conn, text);
			break;
		case LINK_STEP_EMIT:
			sent = statement_send_prepare(link->conn, "pev_emit",
										  LINK_STATEMENT(
											  "@schema@.pev_emit_batch($1::text, $2::jsonb)"),
										  link->schema);
			break;
		case LINK_STEP_EMIT_ONCE:
			sent =
				statement_send_prepare(link->conn, "pev_emit_once",
									   LINK_STATEMENT(
										   "@schema@.pev_emit_once($1::text, $4::text, $2::jsonb)"),
									   link->schema);
			break;
		case LINK_STEP_END:
			break;
	}
	link_flush(link, sent == 1);
}

/* The current step is done: do the next. */
static void
link_setup_next(EmitLink *link)
{
	if (PQresultStatus(link->result) == PGRES_FATAL_ERROR)
	{
		link_fail(link, PQresultErrorMessage(link->result));
		return;
	}
	if (link->step == LINK_STEP_FIND && PQntuples(link->result) == 1)
		link->schema = mem_string(PQgetvalue(link->result, 0, 0));
	PQclear(link->result);
	link->result = NULL;
	if (link->schema == NULL)
	{
		link_fail(link, "the database has no extension pev");
		return;
	}
	link->step++;
	if (link->step < LINK_STEP_END)
	{
		link_setup_send(link);
		return;
	}
	timer_clear(&link->patience);
	link_set_state(link, LINK_IDLE);
	link_hooks->idle(link);
}

/* The transaction is committed. */
static void
link_succeed(EmitLink *link)
{
	Emission *emission = link->emission;

	if (*PQgetvalue(link->result, 0, 0) == 't')
	{
		emission->status = 403;
		problem_begin(&emission->answer, 403,
					  "An event of a global type goes to all subscribers of all streams: the token "
					  "must allow to emit to \"*\".");
		problem_end(&emission->answer);
	}
	else if (PQgetisnull(link->result, 0, 1))
	{
		emission->status = 202;
		buf_text(&emission->answer, "{\"seq\":null}\n");
	}
	else
	{
		emission->status = 201;
		buf_format(&emission->answer, "{\"seq\":%s}\n", PQgetvalue(link->result, 0, 1));
	}
}

/* Log an error of the database, but not for each client. */
static void
link_log(const EmitError *error)
{
	static int64_t last;

	if (last != 0 && loop_now() - last < LINK_LOG_INTERVAL)
		return;
	last = loop_now();
	log_warning("database: events were not stored: %s (SQLSTATE %s)", error->message,
				error->sqlstate);
}

/* The transaction is rolled back.  Is the session good for another? */
static bool
link_refuse(EmitLink *link)
{
	Emission *emission = link->emission;
	const EmitError error = {PQresultErrorField(link->result, PG_DIAG_SQLSTATE),
							 PQresultErrorField(link->result, PG_DIAG_MESSAGE_PRIMARY),
							 PQresultErrorField(link->result, PG_DIAG_MESSAGE_DETAIL),
							 PQresultErrorField(link->result, PG_DIAG_CONTEXT)};
	EmitRefusal refusal = emit_refusal(&error, emission->is_batch, &emission->answer);

	emission->status = refusal.status;
	if (refusal.alarming)
		link_log(&error);
	return !refusal.stale;
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

/* The server is ready for the next query. */
static void
link_end_query(EmitLink *link)
{
	bool fresh = true;

	if (link->state == LINK_SETUP)
	{
		link_setup_next(link);
		return;
	}
	if (PQresultStatus(link->result) == PGRES_TUPLES_OK && PQntuples(link->result) == 1)
		link_succeed(link);
	else if (result_is_refusal(link->result))
		fresh = link_refuse(link);
	else
	{
		link_fail(link, PQerrorMessage(link->conn));
		return;
	}
	PQclear(link->result);
	link->result = NULL;
	timer_clear(&link->patience);
	link_set_state(link, LINK_IDLE);
	link_answer(link);
	if (fresh)
		link_hooks->idle(link);
	else
		link_fail(link, "the session is stale");
}

/* Keep the first result, unless a later one is an error. */
static void
link_take_result(EmitLink *link, PGresult *result)
{
	bool is_error = PQresultStatus(result) == PGRES_FATAL_ERROR;

	if (link->result != NULL && (!is_error || PQresultStatus(link->result) == PGRES_FATAL_ERROR))
	{
		PQclear(result);
		return;
	}
	PQclear(link->result);
	link->result = result;
}

/* The socket of an established connection has something. */
static void
link_serve(EmitLink *link, uint32_t events)
{
	if ((events & (EPOLLIN | EPOLLERR | EPOLLHUP)) && !PQconsumeInput(link->conn))
	{
		link_fail(link, PQerrorMessage(link->conn));
		return;
	}
	if (link->flushing)
		link_flush(link, true);
	while ((link->state == LINK_SETUP || link->state == LINK_BUSY) && !link->flushing &&
		   !PQisBusy(link->conn))
	{
		PGresult *result = PQgetResult(link->conn);

		if (result != NULL)
			link_take_result(link, result);
		else
			link_end_query(link);
	}
}

/* Let libpq take the next step of connecting.  It may change the socket. */
static void
link_connect_poll(EmitLink *link)
{
	PostgresPollingStatusType poll = PQconnectPoll(link->conn);

	if (poll == PGRES_POLLING_FAILED)
	{
		link_fail(link, PQerrorMessage(link->conn));
		return;
	}
	loop_unwatch(&link->watch);
	loop_watch(&link->watch, PQsocket(link->conn),
			   poll == PGRES_POLLING_WRITING ? EPOLLOUT : EPOLLIN, link_on_socket, link);
	if (poll != PGRES_POLLING_OK)
		return;
	PQsetnonblocking(link->conn, 1);
	link->flushing = false;
	link->step = LINK_STEP_FIND;
	link_set_state(link, LINK_SETUP);
	link_setup_send(link);
}

static void
link_on_socket(void *arg, uint32_t events)
{
	EmitLink *link = arg;

	if (link->state == LINK_CONNECTING)
		link_connect_poll(link);
	else
		link_serve(link, events);
}

static void
link_on_notice(void *arg, const char *message)
{
	(void) arg;
	log_debug("database: %s", message);
}

/* Begin to connect; hooks are the same for all. */
void
emit_link_connect(EmitLink *link, const EmitLinkHooks *hooks)
{
	static const char *const names[] = {"fallback_application_name", "dbname", "client_encoding",
										NULL};
	const char *const values[] = {"pev-streamer", hooks->dsn, "UTF8", NULL};

	link_hooks = hooks;
	link_set_state(link, LINK_CONNECTING);
	link->conn = PQconnectStartParams(names, values, 1);
	if (link->conn == NULL)
		log_fatal("out of memory");
	if (PQstatus(link->conn) == CONNECTION_BAD)
	{
		link_fail(link, PQerrorMessage(link->conn));
		return;
	}
	PQsetNoticeProcessor(link->conn, link_on_notice, NULL);
	timer_set(&link->patience, link_hooks->timeout + LINK_PATIENCE, link_on_patience, link);
	loop_watch(&link->watch, PQsocket(link->conn), EPOLLOUT, link_on_socket, link);
}

/* Send an emission; only while idle. */
void
emit_link_send(EmitLink *link, Emission *emission)
{
	const char *const params[] = {emission->stream, emission->events,
								  emission->everything ? "t" : "f", emission->key};
	bool once = emission->key != NULL;
	int sent;

	link_set_state(link, LINK_BUSY);
	link->emission = emission;
	metric_add(METRIC_DATABASE_QUERIES, 1);
	sent = PQsendQueryPrepared(link->conn, once ? "pev_emit_once" : "pev_emit", once ? 4 : 3,
							   params, NULL, NULL, 0);
	emission->sent(emission);
	timer_set(&link->patience, link_hooks->timeout + LINK_PATIENCE, link_on_patience, link);
	link_flush(link, sent == 1);
}
