/*
 * link.c
 *		A connection to PostgreSQL, asynchronous: what all of them have in common.
 *
 * Each kind of work has connections of its own, so that none waits for another:
 * reading what is live (db.c), emitting (emit_link.c), exporting (export_read.c)
 * and telling others who is present (gossip_link.c).  Here is what they share:
 * libpq is let take its steps whenever the loop finds its socket ready, the
 * extension's schema is found and the session set up, queries are sent one at a
 * time, and a server that falls silent is given up.  What an error means and when
 * to connect again, each kind knows for itself.
 *
 * Rows come in single-row mode: what a query brings never sits in memory as a
 * whole.  Nothing is called back before the function returns that was called,
 * link_connect and link_fail apart, which may find out that a link is down.
 */
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "link.h"
#include "log.h"
#include "mem.h"
#include "metrics.h"
#include "statement.h"

#define RETRY_DELAY_FIRST  100
#define RETRY_DELAY_MOST   5000
#define RETRY_DELAY_JITTER 25

typedef enum LinkStep
{
	STEP_FIND,
	STEP_SETTINGS,
	STEP_CHECK,
	STEP_PREPARE /* and on, one step a statement */
} LinkStep;

static const char trouble_down[] = "database down";

/* Which way leads from which state to which. */
static const bool link_allowed[LINK_STATES][LINK_STATES] = {
	[LINK_DOWN] = {[LINK_CONNECTING] = true},
	[LINK_CONNECTING] = {[LINK_SETUP] = true, [LINK_DOWN] = true},
	[LINK_SETUP] = {[LINK_IDLE] = true, [LINK_DOWN] = true},
	[LINK_IDLE] = {[LINK_BUSY] = true, [LINK_DOWN] = true},
	[LINK_BUSY] = {[LINK_IDLE] = true, [LINK_DOWN] = true},
};

static void link_on_socket(void *arg, uint32_t events);

/* The only place where the state changes. */
static void
link_set_state(Link *link, LinkState state)
{
	if (!link_allowed[link->state][state])
		log_fatal("a connection to the database cannot go from state %d to %d", link->state, state);
	link->state = state;
}

/* Can it take queries, now or when the one under way is answered? */
bool
link_is_up(const Link *link)
{
	return link->state == LINK_IDLE || link->state == LINK_BUSY;
}

/* Close the connection, if there is one, without telling anybody. */
void
link_close(Link *link)
{
	if (link->state == LINK_DOWN)
		return;
	loop_unwatch(&link->watch);
	timer_clear(&link->patience);
	PQfinish(link->conn);
	link->conn = NULL;
	free(link->schema);
	link->schema = NULL;
	link_set_state(link, LINK_DOWN);
}

/* It is of no use any more: close it, and say why. */
void
link_fail(Link *link, const char *trouble, const char *why)
{
	LinkState was = link->state;
	char *text = mem_string(why); /* it may be libpq's */

	link_close(link);
	link->kind->down(link, was, trouble, text);
	free(text);
}

/* The usual trouble, in libpq's words. */
static void
link_fail_connection(Link *link)
{
	link_fail(link, trouble_down, PQerrorMessage(link->conn));
}

/* It is of no use any more because of what a query has answered. */
void
link_fail_query(Link *link, const PGresult *result)
{
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
	Buf text;

	if (state == NULL || message == NULL)
	{
		link_fail_connection(link);
		return;
	}
	buf_init(&text);
	buf_format(&text, "%s (SQLSTATE %s)", message, state);
	link_fail(link, link->state == LINK_SETUP ? "database refuses" : "database query failed",
			  text.data);
	buf_free(&text);
}

/* The server owes something and has been silent for too long. */
static void
link_on_patience(void *arg)
{
	link_fail(arg, trouble_down, "the server does not answer");
}

/* From now on the server owes something. */
static void
link_await(Link *link)
{
	timer_set(&link->patience, link->kind->patience, link_on_patience, link);
}

/* Send what libpq still holds and watch the socket for what comes next. */
static bool
link_flush(Link *link)
{
	int left = PQflush(link->conn);

	if (left < 0)
		return false;
	if (link->flushing != (left > 0))
	{
		link->flushing = left > 0;
		loop_change(&link->watch, EPOLLIN | (link->flushing ? EPOLLOUT : 0));
	}
	link_await(link);
	return true;
}

/* Send the query of the current step. */
static bool
link_setup_send(Link *link)
{
	const LinkStatement *statement;

	switch (link->step)
	{
		case STEP_FIND:
			return PQsendQuery(link->conn, statement_find_schema) && link_flush(link);
		case STEP_SETTINGS:
			return PQsendQuery(link->conn, link->kind->settings) && link_flush(link);
		case STEP_CHECK:
			return statement_send_query(link->conn, link->kind->check, link->schema) &&
				   link_flush(link);
		default:
			statement = &link->kind->statements[link->step - STEP_PREPARE];
			return statement_send_prepare(link->conn, statement->name, statement->text,
										  link->schema) &&
				   link_flush(link);
	}
}

/*
 * Has the database's encoding every key?  Else one may come that it has not, and
 * the query that looks for it would fail, with all that it asks for others.
 */
static bool
link_has_every_key(const Link *link)
{
	const char *encoding = PQparameterStatus(link->conn, "server_encoding");

	return encoding == NULL || strcmp(encoding, "UTF8") == 0 || strcmp(encoding, "SQL_ASCII") == 0;
}

/* Everything is set up. */
static void
link_become_ready(Link *link)
{
	timer_clear(&link->patience);
	link_set_state(link, LINK_IDLE);
	link->kind->ready(link);
}

/* The current step is answered: do the next. */
static void
link_setup_next(Link *link)
{
	if (!link_has_every_key(link))
	{
		link_fail(link, "encoding not UTF8", "the database's encoding is not UTF8");
		return;
	}
	if (link->schema == NULL)
	{
		link_fail(link, "extension missing", "the database has no extension pev");
		return;
	}
	link->step++;
	if (link->step == STEP_CHECK && link->kind->check == NULL)
		link->step++;
	if (link->step == STEP_PREPARE + link->kind->statement_count)
		link_become_ready(link);
	else if (!link_setup_send(link))
		link_fail_connection(link);
}

/* Take one result of a step. */
static void
link_setup_take(Link *link, const PGresult *result)
{
	switch (PQresultStatus(result))
	{
		case PGRES_TUPLES_OK:
			if (link->step == STEP_FIND && PQntuples(result) == 1)
				link->schema = mem_string(PQgetvalue(result, 0, 0));
			break;
		case PGRES_COMMAND_OK:
			break;
		default:
			link_fail_query(link, result);
	}
}

/* The query under way is answered in full. */
static void
link_end_query(Link *link)
{
	if (link->state == LINK_SETUP)
	{
		link_setup_next(link);
		return;
	}
	timer_clear(&link->patience);
	link_set_state(link, LINK_IDLE);
	link->kind->done(link);
}

/* Take all results that are here. */
static void
link_take_results(Link *link)
{
	while ((link->state == LINK_SETUP || link->state == LINK_BUSY) && !PQisBusy(link->conn))
	{
		PGresult *result = PQgetResult(link->conn);

		if (result == NULL)
			link_end_query(link);
		else if (link->state == LINK_SETUP)
			link_setup_take(link, result);
		else
			link->kind->result(link, result);
		PQclear(result);
	}
}

/* Hand on the notifications that are here. */
static void
link_take_notifies(Link *link)
{
	PGnotify *notify;

	while (link->kind->notify != NULL && link_is_up(link) &&
		   (notify = PQnotifies(link->conn)) != NULL)
	{
		link->kind->notify(notify);
		PQfreemem(notify);
	}
}

/* The socket of an established connection has something. */
static void
link_serve(Link *link, uint32_t events)
{
	if (events & (EPOLLIN | EPOLLERR | EPOLLHUP))
	{
		if (!PQconsumeInput(link->conn))
		{
			link_fail_connection(link);
			return;
		}
		if (link->patience.set)
			link_await(link);
	}
	if (link->flushing && !link_flush(link))
	{
		link_fail_connection(link);
		return;
	}
	link_take_results(link);
	link_take_notifies(link);
}

/* Let libpq take the next step of connecting.  It may change the socket. */
static void
link_connect_poll(Link *link)
{
	PostgresPollingStatusType poll = PQconnectPoll(link->conn);

	if (poll == PGRES_POLLING_FAILED)
	{
		link_fail_connection(link);
		return;
	}
	loop_unwatch(&link->watch);
	loop_watch(&link->watch, PQsocket(link->conn),
			   poll == PGRES_POLLING_WRITING ? EPOLLOUT : EPOLLIN, link_on_socket, link);
	if (poll != PGRES_POLLING_OK)
		return;
	PQsetnonblocking(link->conn, 1);
	link->flushing = false;
	link->step = STEP_FIND;
	link_set_state(link, LINK_SETUP);
	if (!link_setup_send(link))
		link_fail_connection(link);
}

static void
link_on_socket(void *arg, uint32_t events)
{
	Link *link = arg;

	if (link->state == LINK_CONNECTING)
		link_connect_poll(link);
	else
		link_serve(link, events);
}

/* libpq's notices go to the log, not to standard error as they are. */
static void
link_on_notice(void *arg, const char *message)
{
	(void) arg;
	log_debug("database: %s", message);
}

/* Begin to connect; only while down. */
void
link_connect(Link *link, const LinkKind *kind)
{
	static const char *const names[] = {"fallback_application_name", "dbname", "client_encoding",
										NULL};
	const char *const values[] = {"pev-streamer", kind->dsn, "UTF8", NULL};

	link->kind = kind;
	link_set_state(link, LINK_CONNECTING);
	link->conn = PQconnectStartParams(names, values, 1);
	if (link->conn == NULL)
		log_fatal("out of memory");
	if (PQstatus(link->conn) == CONNECTION_BAD)
	{
		link_fail_connection(link);
		return;
	}
	PQsetNoticeProcessor(link->conn, link_on_notice, NULL);
	link_await(link);
	loop_watch(&link->watch, PQsocket(link->conn), EPOLLOUT, link_on_socket, link);
}

/*
 * Send a statement of its kind; only while idle.  result is called for each row and
 * for an error, done at the end; or down, if the connection is lost meanwhile.
 */
void
link_send(Link *link, size_t statement, int count, const char *const *params, bool binary)
{
	const char *name = link->kind->statements[statement].name;

	link_set_state(link, LINK_BUSY);
	metric_add(METRIC_DATABASE_QUERIES, 1);
	if (!PQsendQueryPrepared(link->conn, name, count, params, NULL, NULL, binary) ||
		!PQsetSingleRowMode(link->conn) || !link_flush(link))
	{
		/* Found out when the loop next looks at the socket, or by patience. */
		log_debug("database: cannot send: %s", PQerrorMessage(link->conn));
		timer_set(&link->patience, 0, link_on_patience, link);
	}
}

/* How long to wait before the next attempt, in milliseconds: ever longer, and jittered. */
int64_t
link_retry_delay(LinkRetry *retry)
{
	int64_t delay = retry->delay == 0 ? RETRY_DELAY_FIRST : retry->delay;

	retry->delay = delay * 2 > RETRY_DELAY_MOST ? RETRY_DELAY_MOST : delay * 2;
	return loop_jitter(delay, RETRY_DELAY_JITTER);
}

/* Log an error of the database, once for as long as it stays the same. */
void
link_retry_log(LinkRetry *retry, const char *whose, const char *why)
{
	if (strncmp(why, retry->last_error, sizeof(retry->last_error) - 1) == 0)
		return;
	strncpy(retry->last_error, why, sizeof(retry->last_error) - 1);
	log_warning("database%s: %s", whose, why);
}

/* A bigint or timestamptz (microseconds) in binary format. */
int64_t
row_bigint(const PGresult *row, int column)
{
	uint64_t number;

	memcpy(&number, PQgetvalue(row, 0, column), sizeof(number));
	return (int64_t) be64toh(number);
}
