/*
 * db.c
 *		The connection to PostgreSQL, asynchronous and self-healing.
 *
 * One connection both listens and reads.  It runs one query at a time; whoever
 * has work waits until the connection is idle and then sends everything that
 * has gathered, so batches grow by themselves when the server is slow.  Rows
 * come in single-row mode: a history of any length never sits in memory.
 *
 * Whatever goes wrong (the server is gone, the extension is missing or was
 * dropped and created again, a statement fails) has one remedy: drop the
 * connection, wait, begin anew.  Delays grow and are jittered, so that many
 * streamers do not return at the same instant.
 *
 * LISTEN comes before the ready hook, hence before the first read: an event
 * that commits after that read rings, one that committed before is in it.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "db.h"
#include "log.h"
#include "loop.h"
#include "mem.h"
#include "metrics.h"
#include "statement.h"

#define DB_DELAY_FIRST  100
#define DB_DELAY_MOST   5000
#define DB_DELAY_JITTER 25
#define DB_PATIENCE     30000 /* without a byte from the server while it owes us one */

typedef enum DbState
{
	DB_DOWN,       /* waiting to connect */
	DB_CONNECTING, /* PQconnectPoll */
	DB_SETUP,      /* finding the extension, listening, preparing */
	DB_IDLE,
	DB_BUSY, /* a query is under way */
	DB_STOPPED
} DbState;

/* Which way leads from which state to which. */
static const bool db_allowed[DB_STOPPED + 1][DB_STOPPED + 1] = {
	[DB_DOWN] = {[DB_CONNECTING] = true, [DB_DOWN] = true, [DB_STOPPED] = true},
	[DB_CONNECTING] = {[DB_SETUP] = true, [DB_DOWN] = true, [DB_STOPPED] = true},
	[DB_SETUP] = {[DB_IDLE] = true, [DB_DOWN] = true, [DB_STOPPED] = true},
	[DB_IDLE] = {[DB_BUSY] = true, [DB_DOWN] = true, [DB_STOPPED] = true},
	[DB_BUSY] = {[DB_IDLE] = true, [DB_DOWN] = true, [DB_STOPPED] = true},
	[DB_STOPPED] = {[DB_CONNECTING] = true},
};

/* @schema@ is the extension's schema, quoted. */
static const char *const db_statement_text[DB_STATEMENTS] = {
	[DB_LOOK] = "SELECT w.ord, s.id, e.seq, e.terminal"
				" FROM unnest($1::bigint[], $2::text[]) WITH ORDINALITY AS w(id, key, ord)"
				" LEFT JOIN LATERAL (SELECT coalesce(w.id,"
				"  (SELECT p.id FROM @schema@.pev_stream p WHERE p.key = w.key)) AS id) s ON true"
				" LEFT JOIN LATERAL (SELECT a.seq,"
				"  @schema@.pev_is_terminal(a.event_type, a.event_data) AS terminal"
				"  FROM @schema@.assistant_architect_events a WHERE a.execution_id = s.id"
				"  ORDER BY a.seq DESC LIMIT 1) e ON true",
	/* LATERAL with a LIMIT can only be a nested loop: rows come in order without a sort */
	[DB_READ] = "SELECT w.ord, e.seq, e.event_type, e.event_data,"
				" @schema@.pev_is_terminal(e.event_type, e.event_data),"
				" e.created_at, clock_timestamp()"
				" FROM unnest($1::bigint[], $2::bigint[], $3::int[])"
				"  WITH ORDINALITY AS w(id, after, most, ord)"
				" CROSS JOIN LATERAL (SELECT a.seq, a.event_type, a.event_data, a.created_at"
				"  FROM @schema@.assistant_architect_events a"
				"  WHERE a.execution_id = w.id AND a.seq > w.after"
				"  ORDER BY a.seq LIMIT w.most) e",
	[DB_KEYS] = "SELECT p.id, p.key FROM @schema@.pev_stream p WHERE p.id = ANY ($1::bigint[])",
	[DB_REST] = "SELECT EXISTS (SELECT FROM @schema@.assistant_architect_events a"
				" WHERE a.execution_id = $1::bigint AND a.seq > $2::bigint"
				" AND a.event_type::text = ANY ($3::text[]))",
	[DB_TYPES] = "SELECT t.name FROM @schema@.pev_event_type t",
	[DB_REVOKED] = "SELECT pg_snapshot_xmin(pg_current_snapshot()), r.jti,"
				   " date_part('epoch', least(r.expires, timestamptz '9999-01-01'))::bigint"
				   " FROM (VALUES (1)) AS v LEFT JOIN @schema@.pev_revoked_token r"
				   " ON r.xact >= $1::xid8 AND r.expires > now()",
	[DB_TICKETS] = "SELECT w.ord, ceil(date_part('epoch',"
				   "  @schema@.pev_redeem_ticket(decode(w.hash, 'hex'), w.key)))::bigint"
				   " FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS w(hash, key, ord)",
};

static const char *const db_statement_name[DB_STATEMENTS] = {
	[DB_LOOK] = "pev_look",       [DB_READ] = "pev_read",   [DB_KEYS] = "pev_keys",
	[DB_REST] = "pev_rest",       [DB_TYPES] = "pev_types", [DB_REVOKED] = "pev_revoked",
	[DB_TICKETS] = "pev_tickets",
};

/*
 * The session reads few rows by index and nothing else; what would make the
 * planner think otherwise (a limit it cannot see, statistics not yet there) is
 * turned off rather than hoped against.
 */
static const char db_settings[] =
	"SET search_path = pg_catalog; SET enable_seqscan = off; SET enable_bitmapscan = off;"
	"SET jit = off; SET plan_cache_mode = force_generic_plan;"
	"SET statement_timeout = 0; SET idle_session_timeout = 0;"
	"LISTEN pev; LISTEN pev_live; LISTEN pev_revoked";

/*
 * Fails at once if the role may not read what the statements read, or call what
 * they call.  Otherwise only those that need a missing right would fail, each
 * time one is sent.  The call is of columns, for one of constants is not looked
 * at if the planner sees that its result is null.
 */
static const char db_check_access[] =
	"SELECT @schema@.pev_redeem_ticket(decode(r.jti, 'hex'), s.key)"
	" FROM @schema@.assistant_architect_events, @schema@.pev_stream s,"
	" @schema@.pev_event_type, @schema@.pev_revoked_token r LIMIT 0";

typedef enum DbStep
{
	STEP_FIND,
	STEP_SETTINGS,
	STEP_ACCESS,
	STEP_PREPARE, /* and on, one step a statement */
	STEP_END = STEP_PREPARE + DB_STATEMENTS
} DbStep;

static struct
{
	const char *dsn;
	const DbHooks *hooks;
	DbState state;
	PGconn *conn;
	Watch watch;
	bool flushing;  /* waiting for the socket to take more of a query */
	Timer retry;    /* DB_DOWN: when to connect */
	Timer patience; /* otherwise: when to give up on the server */
	int64_t delay;
	bool connected;      /* it has been, if only once */
	const char *trouble; /* why it is not up; NULL if it is */
	time_t since;
	char last_error[200]; /* the one logged last, so that retries do not repeat it */
	DbStep step;
	char *schema; /* quoted */
	bool failed;  /* the query under way raised an error */
	DbRow row;
	DbDone done;
} db = {.state = DB_STOPPED, .watch = {.fd = -1}};

static void db_connect(void *arg);
static void db_on_socket(void *arg, uint32_t events);

/* The only place where the state changes. */
static void
db_set_state(DbState state)
{
	if (!db_allowed[db.state][state])
		log_fatal("database connection cannot go from state %d to %d", db.state, state);
	db.state = state;
}

/* Log an error of the database, once for as long as it stays the same. */
static void
db_log(const char *text)
{
	if (strncmp(text, db.last_error, sizeof(db.last_error) - 1) == 0)
		return;
	strncpy(db.last_error, text, sizeof(db.last_error) - 1);
	log_warning("database: %s", text);
}

/* Release the connection and all that belongs to it. */
static void
db_disconnect(void)
{
	loop_unwatch(&db.watch);
	timer_clear(&db.patience);
	PQfinish(db.conn);
	db.conn = NULL;
	free(db.schema);
	db.schema = NULL;
}

/* Drop the connection and come back later.  trouble is for /readyz, text for the log. */
static void
db_fail(const char *trouble, const char *text)
{
	bool was_up = db_is_up();
	bool was_busy = db.state == DB_BUSY;

	db_log(text);
	if (db.trouble == NULL || strcmp(db.trouble, trouble) != 0)
		db.since = time(NULL);
	db.trouble = trouble;
	db_set_state(DB_DOWN);
	db_disconnect();
	timer_set(&db.retry, loop_jitter(db.delay, DB_DELAY_JITTER), db_connect, NULL);
	db.delay = db.delay * 2 > DB_DELAY_MOST ? DB_DELAY_MOST : db.delay * 2;
	if (was_busy)
		db.done(false);
	if (was_up)
		db.hooks->lost();
}

/* The usual trouble, in libpq's words. */
static void
db_fail_connection(void)
{
	db_fail("database down", PQerrorMessage(db.conn));
}

/* The server owes an answer and has been silent for too long. */
static void
db_on_patience(void *arg)
{
	(void) arg;
	db_fail("database down", "the server does not answer");
}

/* Send what libpq still holds and watch the socket for what comes next. */
static bool
db_flush(void)
{
	int left = PQflush(db.conn);

	if (left < 0)
		return false;
	if (db.flushing != (left > 0))
	{
		db.flushing = left > 0;
		loop_change(&db.watch, EPOLLIN | (db.flushing ? EPOLLOUT : 0));
	}
	timer_set(&db.patience, DB_PATIENCE, db_on_patience, NULL);
	return true;
}

/* Send the query of the current step. */
static bool
db_setup_send(void)
{
	DbStatement statement = (DbStatement) (db.step - STEP_PREPARE);
	int sent;

	if (db.step == STEP_FIND)
		sent = PQsendQuery(db.conn, statement_find_schema);
	else if (db.step == STEP_SETTINGS)
		sent = PQsendQuery(db.conn, db_settings);
	else if (db.step == STEP_ACCESS)
		sent = statement_send_query(db.conn, db_check_access, db.schema);
	else
		sent = statement_send_prepare(db.conn, db_statement_name[statement],
									  db_statement_text[statement], db.schema);
	return sent == 1 && db_flush();
}

/* Everything is set up: serve. */
static void
db_become_ready(void)
{
	db_set_state(DB_IDLE);
	timer_clear(&db.patience);
	db.trouble = NULL;
	metric_add(METRIC_DATABASE_RECONNECTS, db.connected);
	db.connected = true;
	log_info("database: connected, extension in schema %s", db.schema);
	db.hooks->ready();
}

/*
 * Has the database's encoding every key?  Else one may come that it has not, and
 * the query that looks for it would fail, with all that it asks for others.
 */
static bool
db_has_every_key(void)
{
	const char *encoding = PQparameterStatus(db.conn, "server_encoding");

	return encoding == NULL || strcmp(encoding, "UTF8") == 0 || strcmp(encoding, "SQL_ASCII") == 0;
}

/* The current step is answered: do the next. */
static void
db_setup_next(void)
{
	if (!db_has_every_key())
	{
		db_fail("encoding not UTF8", "the database's encoding is not UTF8");
		return;
	}
	if (db.step == STEP_FIND && db.schema == NULL)
	{
		db_fail("extension missing", "the database has no extension pev");
		return;
	}
	db.step++;
	if (db.step == STEP_END)
		db_become_ready();
	else if (!db_setup_send())
		db_fail_connection();
}

/* Drop the connection because of what a query answered. */
static void
db_fail_query(const PGresult *result)
{
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
	Buf text;

	if (state == NULL || message == NULL)
	{
		db_fail_connection();
		return;
	}
	buf_init(&text);
	buf_format(&text, "%s (SQLSTATE %s)", message, state);
	db_fail(db.state == DB_SETUP ? "database refuses" : "database query failed", text.data);
	buf_free(&text);
}

/* Take one result.  False: the connection was dropped. */
static bool
db_take_result(const PGresult *result)
{
	switch (PQresultStatus(result))
	{
		case PGRES_SINGLE_TUPLE:
			db.row(result);
			return true;
		case PGRES_TUPLES_OK:
			if (db.state == DB_SETUP && db.step == STEP_FIND && PQntuples(result) == 1)
				db.schema = mem_string(PQgetvalue(result, 0, 0));
			return true;
		case PGRES_COMMAND_OK:
			return true;
		default:
			db_fail_query(result);
			return false;
	}
}

/* The query under way is answered in full. */
static void
db_end_query(void)
{
	if (db.state == DB_SETUP)
		db_setup_next();
	else if (db.state == DB_BUSY)
	{
		/* Only now is it sure to work: a query may fail whenever it is sent. */
		db.delay = DB_DELAY_FIRST;
		db.last_error[0] = '\0';
		db_set_state(DB_IDLE);
		timer_clear(&db.patience);
		db.done(true);
	}
}

/* Take all results that are here.  False: the connection was dropped. */
static bool
db_take_results(void)
{
	while ((db.state == DB_SETUP || db.state == DB_BUSY) && !PQisBusy(db.conn))
	{
		PGresult *result = PQgetResult(db.conn);
		bool alive = true;

		if (result == NULL)
			db_end_query();
		else
			alive = db_take_result(result);
		PQclear(result);
		if (!alive)
			return false;
	}
	return db.conn != NULL;
}

/* Hand on the notifications that are here. */
static void
db_take_notifies(void)
{
	PGnotify *notify;

	while (db_is_up() && (notify = PQnotifies(db.conn)) != NULL)
	{
		db.hooks->notify(notify->relname, notify->extra);
		PQfreemem(notify);
	}
}

/* The socket of an established connection has something. */
static void
db_serve(uint32_t events)
{
	if (events & (EPOLLIN | EPOLLERR | EPOLLHUP))
	{
		if (!PQconsumeInput(db.conn))
		{
			db_fail_connection();
			return;
		}
		if (db.patience.set)
			timer_set(&db.patience, DB_PATIENCE, db_on_patience, NULL);
	}
	if (db.flushing && !db_flush())
	{
		db_fail_connection();
		return;
	}
	if (db_take_results())
		db_take_notifies();
}

/* Let libpq take the next step of connecting.  It may change the socket. */
static void
db_connect_poll(void)
{
	switch (PQconnectPoll(db.conn))
	{
		case PGRES_POLLING_READING:
			loop_unwatch(&db.watch);
			loop_watch(&db.watch, PQsocket(db.conn), EPOLLIN, db_on_socket, NULL);
			break;
		case PGRES_POLLING_WRITING:
			loop_unwatch(&db.watch);
			loop_watch(&db.watch, PQsocket(db.conn), EPOLLOUT, db_on_socket, NULL);
			break;
		case PGRES_POLLING_OK:
			loop_unwatch(&db.watch);
			loop_watch(&db.watch, PQsocket(db.conn), EPOLLIN, db_on_socket, NULL);
			PQsetnonblocking(db.conn, 1);
			db.flushing = false;
			db.step = STEP_FIND;
			db_set_state(DB_SETUP);
			if (!db_setup_send())
				db_fail_connection();
			break;
		default:
			db_fail_connection();
	}
}

static void
db_on_socket(void *arg, uint32_t events)
{
	(void) arg;
	if (db.state == DB_CONNECTING)
		db_connect_poll();
	else
		db_serve(events);
}

/* libpq's notices go to the log, not to standard error as they are. */
static void
db_on_notice(void *arg, const char *message)
{
	(void) arg;
	log_debug("database: %s", message);
}

/* Begin to connect. */
static void
db_connect(void *arg)
{
	static const char *const names[] = {"fallback_application_name", "dbname", "client_encoding",
										NULL};
	const char *const values[] = {"pev-streamer", db.dsn, "UTF8", NULL};

	(void) arg;
	db_set_state(DB_CONNECTING);
	db.conn = PQconnectStartParams(names, values, 1);
	if (db.conn == NULL)
		log_fatal("out of memory");
	if (PQstatus(db.conn) == CONNECTION_BAD)
	{
		db_fail_connection();
		return;
	}
	PQsetNoticeProcessor(db.conn, db_on_notice, NULL);
	timer_set(&db.patience, DB_PATIENCE, db_on_patience, NULL);
	loop_watch(&db.watch, PQsocket(db.conn), EPOLLOUT, db_on_socket, NULL);
}

/* Is it a connection string or URI that libpq understands? */
bool
db_dsn_is_valid(const char *dsn)
{
	PQconninfoOption *parts = PQconninfoParse(dsn, NULL);

	PQconninfoFree(parts);
	return parts != NULL;
}

/* Start connecting; dsn may be NULL.  Both arguments stay the caller's. */
void
db_start(const char *dsn, const DbHooks *hooks)
{
	db.dsn = dsn;
	db.hooks = hooks;
	db.delay = DB_DELAY_FIRST;
	db.trouble = "starting";
	db.since = time(NULL);
	db_connect(NULL);
}

/* Close the connection for good, without telling anybody. */
void
db_stop(void)
{
	timer_clear(&db.retry);
	db_set_state(DB_STOPPED);
	db_disconnect();
}

/* Is the connection usable? */
bool
db_is_up(void)
{
	return db.state == DB_IDLE || db.state == DB_BUSY;
}

/* Would db_send be right now? */
bool
db_is_idle(void)
{
	return db.state == DB_IDLE;
}

/* Why the connection is not up, and since when (seconds of Unix time); NULL if it is. */
const char *
db_trouble(int64_t *since)
{
	*since = (int64_t) db.since;
	return db.trouble;
}

/* A bigint or timestamptz (microseconds) in binary format. */
int64_t
db_bigint(const PGresult *row, int column)
{
	uint64_t number;

	memcpy(&number, PQgetvalue(row, 0, column), sizeof(number));
	return (int64_t) be64toh(number);
}

/*
 * Send a statement; only while idle.  row is called for each row and done at
 * the end, also when the connection is lost meanwhile, but never before
 * db_send returns.
 */
void
db_send(DbStatement statement, int count, const char *const *params, DbRow row, DbDone done)
{
	/* numbers and times of many rows cost both sides more to write and read as text */
	int format = statement == DB_READ;

	db_set_state(DB_BUSY);
	metric_add(METRIC_DATABASE_QUERIES, 1);
	db.row = row;
	db.done = done;
	if (!PQsendQueryPrepared(db.conn, db_statement_name[statement], count, params, NULL, NULL,
							 format) ||
		!PQsetSingleRowMode(db.conn) || !db_flush())
	{
		/* Found out when the loop next looks at the socket, or by patience. */
		log_debug("database: cannot send: %s", PQerrorMessage(db.conn));
		timer_set(&db.patience, 0, db_on_patience, NULL);
	}
}
