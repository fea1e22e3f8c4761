/*
 * db.c
 *		The connection to PostgreSQL, asynchronous and self-healing.
 *
 * One connection both listens and reads.  It runs one query at a time; whoever
 * has work waits until the connection is idle and then sends everything that
 * has gathered, so batches grow by themselves when the server is slow.
 *
 * Whatever goes wrong (the server is gone, the extension is missing or was
 * dropped and created again, a statement fails) has one remedy: drop the
 * connection, wait, begin anew.  Delays grow and are jittered, so that many
 * streamers do not return at the same instant.
 *
 * LISTEN comes before the ready hook, hence before the first read: an event
 * that commits after that read rings, one that committed before is in it.
 */
#include <string.h>
#include <time.h>

#include "db.h"
#include "link.h"
#include "log.h"
#include "loop.h"
#include "metrics.h"

#define DB_PATIENCE 30000

/* When a key got its id, in microseconds of Unix time. */
#define STREAM_MADE "(date_part('epoch', p.created_at) * 1000000)::bigint"

/* @schema@ is the extension's schema, quoted. */
static const LinkStatement db_statements[DB_STATEMENTS] = {
	[DB_LOOK] = {"pev_look",
				 "SELECT w.ord, coalesce(w.id, s.id), e.seq, e.terminal, s.made"
				 " FROM unnest($1::bigint[], $2::text[]) WITH ORDINALITY AS w(id, key, ord)"
				 " LEFT JOIN LATERAL (SELECT p.id, " STREAM_MADE " AS made"
				 "  FROM @schema@.pev_stream p WHERE w.id IS NULL AND p.key = w.key) s ON true"
				 " LEFT JOIN LATERAL (SELECT a.seq,"
				 "  @schema@.pev_is_terminal(a.event_type, a.event_data) AS terminal"
				 "  FROM @schema@.assistant_architect_events a"
				 "  WHERE a.execution_id = coalesce(w.id, s.id)"
				 "  ORDER BY a.seq DESC LIMIT 1) e ON true"},
	/* LATERAL with a LIMIT can only be a nested loop: rows come in order without a sort */
	[DB_READ] = {"pev_read",
				 "SELECT w.ord, e.seq, e.event_type, e.event_data,"
				 " @schema@.pev_is_terminal(e.event_type, e.event_data),"
				 " e.created_at, clock_timestamp()"
				 " FROM unnest($1::bigint[], $2::bigint[], $3::int[])"
				 "  WITH ORDINALITY AS w(id, after, most, ord)"
				 " CROSS JOIN LATERAL (SELECT a.seq, a.event_type, a.event_data, a.created_at"
				 "  FROM @schema@.assistant_architect_events a"
				 "  WHERE a.execution_id = w.id AND a.seq > w.after"
				 "  ORDER BY a.seq LIMIT w.most) e"},
	[DB_KEYS] = {"pev_keys", "SELECT p.id, p.key, " STREAM_MADE
							 " FROM @schema@.pev_stream p WHERE p.id = ANY ($1::bigint[])"},
	[DB_REST] = {"pev_rest", "SELECT EXISTS (SELECT FROM @schema@.assistant_architect_events a"
							 " WHERE a.execution_id = $1::bigint AND a.seq > $2::bigint"
							 " AND a.event_type::text = ANY ($3::text[]))"},
	[DB_TYPES] = {"pev_types", "SELECT t.name FROM @schema@.pev_event_type t"},
	[DB_REVOKED] = {"pev_revoked",
					"SELECT pg_snapshot_xmin(pg_current_snapshot()), r.jti,"
					" date_part('epoch', least(r.expires, timestamptz '9999-01-01'))::bigint"
					" FROM (VALUES (1)) AS v LEFT JOIN @schema@.pev_revoked_token r"
					" ON r.xact >= $1::xid8 AND r.expires > now()"},
	[DB_TICKETS] = {"pev_tickets",
					"SELECT w.ord, ceil(date_part('epoch',"
					"  @schema@.pev_redeem_ticket(decode(w.hash, 'hex'), w.key)))::bigint"
					" FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS w(hash, key, ord)"},
	[DB_WATCH] = {"pev_watch", "SELECT @schema@.pev_watch_approvals()"},
};

static const char db_settings[] = LINK_SETTINGS_BY_INDEX
	"SET statement_timeout = 0; LISTEN pev; LISTEN pev_live; LISTEN pev_revoked";

/*
 * Fails at once if the role may not read what the statements read, or call what
 * they call.  Otherwise only those that need a missing right would fail, each
 * time one is sent.  The call is of columns, for one of constants is not looked
 * at if the planner sees that its result is null.
 */
static const char db_check_access[] =
	"SELECT @schema@.pev_redeem_ticket(decode(r.jti, 'hex'), s.key),"
	" @schema@.pev_watch_approvals()"
	" FROM @schema@.assistant_architect_events, @schema@.pev_stream s,"
	" @schema@.pev_event_type, @schema@.pev_revoked_token r LIMIT 0";

static struct
{
	LinkKind kind;
	const DbHooks *hooks;
	Link link;
	Timer retry; /* while it is down: when to connect */
	LinkRetry retries;
	bool connected;      /* it has been, if only once */
	const char *trouble; /* why it is not up; NULL if it is */
	time_t since;
	DbRow row; /* of the query under way */
	DbDone done;
} db = {.link = {.watch = {.fd = -1}}};

static void
db_connect(void *arg)
{
	(void) arg;
	link_connect(&db.link, &db.kind);
}

/* Everything is set up: serve. */
static void
db_on_ready(Link *link)
{
	db.trouble = NULL;
	metric_add(METRIC_DATABASE_RECONNECTS, db.connected);
	db.connected = true;
	log_info("database: connected, extension in schema %s", link->schema);
	db.hooks->ready();
}

static void
db_on_result(Link *link, const PGresult *result)
{
	switch (PQresultStatus(result))
	{
		case PGRES_SINGLE_TUPLE:
			db.row(result);
			break;
		case PGRES_TUPLES_OK:
			break;
		default:
			link_fail_query(link, result);
	}
}

static void
db_on_done(Link *link)
{
	(void) link;
	/* Only now is it sure to work: a query may fail whenever it is sent. */
	db.retries = (LinkRetry){0};
	db.done(true);
}

/* The connection is lost, or could not be made: come back later.  trouble is for /readyz. */
static void
db_on_down(Link *link, LinkState was, const char *trouble, const char *why)
{
	(void) link;
	link_retry_log(&db.retries, "", why);
	if (db.trouble == NULL || strcmp(db.trouble, trouble) != 0)
		db.since = time(NULL);
	db.trouble = trouble;
	timer_set(&db.retry, link_retry_delay(&db.retries), db_connect, NULL);
	if (was == LINK_BUSY)
		db.done(false);
	if (was == LINK_IDLE || was == LINK_BUSY)
		db.hooks->lost();
}

static void
db_on_notify(const PGnotify *notify)
{
	db.hooks->notify(notify->relname, notify->extra);
}

/* Is it a connection string or URI that libpq understands? */
bool
db_dsn_is_valid(const char *dsn)
{
	PQconninfoOption *parts = PQconninfoParse(dsn, NULL);

	PQconninfoFree(parts);
	return parts != NULL;
}

/* Start connecting; dsn may be NULL.  Both pointers stay the caller's. */
void
db_start(const char *dsn, const DbHooks *hooks)
{
	db.kind = (LinkKind){
		.dsn = dsn,
		.patience = DB_PATIENCE,
		.settings = db_settings,
		.check = db_check_access,
		.statements = db_statements,
		.statement_count = DB_STATEMENTS,
		.ready = db_on_ready,
		.result = db_on_result,
		.done = db_on_done,
		.down = db_on_down,
		.notify = db_on_notify,
	};
	db.hooks = hooks;
	db.trouble = "starting";
	db.since = time(NULL);
	db_connect(NULL);
}

/* Close the connection for good, without telling anybody. */
void
db_stop(void)
{
	timer_clear(&db.retry);
	link_close(&db.link);
}

/* Is the connection usable? */
bool
db_is_up(void)
{
	return link_is_up(&db.link);
}

/* Would db_send be right now? */
bool
db_is_idle(void)
{
	return db.link.state == LINK_IDLE;
}

/* Why the connection is not up, and since when (seconds of Unix time); NULL if it is. */
const char *
db_trouble(int64_t *since)
{
	*since = (int64_t) db.since;
	return db.trouble;
}

/*
 * Send a statement; only while idle.  row is called for each row and done at
 * the end, also when the connection is lost meanwhile, but never before
 * db_send returns.
 */
void
db_send(DbStatement statement, int count, const char *const *params, DbRow row, DbDone done)
{
	db.row = row;
	db.done = done;
	/* numbers and times of many rows cost both sides more to write and read as text */
	link_send(&db.link, statement, count, params, statement == DB_READ);
}
