/*
 * export_read.c
 *		Exports, and the connection to PostgreSQL by which their events are read.
 *
 * The connection is not the one that serves what is live, which must never wait
 * for history.  One is enough for all exports: they take turns at it, page by
 * page.  It is made when it is first needed.
 *
 * An export is read in pages by number, not through a cursor: a cursor would hold
 * a snapshot, and with it all that VACUUM could clear away, for as long as the
 * slowest client takes.  The pages agree with each other all the same.  Events
 * never change, and their numbers have no gaps and follow the order of commits, so
 * everything up to the last number that is seen at the beginning is there to be
 * read, and is the same whenever it is.  What is deleted meanwhile may be in the
 * export or not; what commits after its beginning is not.
 *
 * A page is asked for when the one before has been sent, so a client that is slow
 * has one in memory and costs the database nothing.  A page ends after so many
 * rows, or so many bytes: rows beyond these are dropped and read again, fewer at
 * a time.  Rows that the filter refuses are counted but come without their data,
 * so that no query takes long, however rare the types are that it looks for.
 *
 * When the connection is lost, the export whose query was under way fails, and
 * is not begun anew: its client has a part of it, can tell that it is not the
 * whole, and knows from what number to go on.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "export_read.h"
#include "link.h"
#include "log.h"
#include "loop.h"
#include "metrics.h"

#define EXPORT_ROWS_FIRST 64
#define EXPORT_ROWS_MOST  1024
#define EXPORT_PAGE_BYTES                                                                          \
	(256 * 1024)                      /* before compression; the row that goes beyond is the last */
#define EXPORT_GZIP_BYTES (16 * 1024) /* compressed at once */
#define EXPORT_PATIENCE   35000       /* beyond the statement_timeout below */

/* Which way leads from which state to which. */
static const bool export_allowed[EXPORT_STATES][EXPORT_STATES] = {
	[EXPORT_OPENING] = {[EXPORT_OPEN] = true, [EXPORT_FAILED] = true},
	[EXPORT_OPEN] = {[EXPORT_READING] = true, [EXPORT_WHOLE] = true, [EXPORT_FAILED] = true},
	[EXPORT_READING] = {[EXPORT_OPEN] = true, [EXPORT_FAILED] = true},
	[EXPORT_WHOLE] = {[EXPORT_FAILED] = true},
	[EXPORT_FAILED] = {[EXPORT_FAILED] = true},
};

enum ExportStatement
{
	EXPORT_LOOK, /* $1 id or NULL, $2 key, $3 types: id, last seq, a type that does not exist */
	EXPORT_PAGE, /* $1 id, $2 after, $3 last, $4 limit, $5 types or NULL: as enum PageColumn */
	EXPORT_STATEMENTS
};

/* In binary format; all but the first are NULL for an event that the filter refuses. */
enum PageColumn
{
	PAGE_SEQ,
	PAGE_ID,
	PAGE_TYPE,
	PAGE_CREATED,
	PAGE_DATA, /* a byte for the version of the format, 1, and JSON */
};

static const LinkStatement export_statements[EXPORT_STATEMENTS] = {
	[EXPORT_LOOK] = {"pev_export_look",
					 "SELECT s.id, (SELECT a.seq FROM @schema@.assistant_architect_events a"
					 "  WHERE a.execution_id = s.id ORDER BY a.seq DESC LIMIT 1),"
					 " (SELECT w.name FROM unnest($3::text[]) AS w(name) WHERE NOT EXISTS"
					 "  (SELECT FROM @schema@.pev_event_type t WHERE t.name = w.name) LIMIT 1)"
					 " FROM (SELECT coalesce($1::bigint,"
					 "  (SELECT p.id FROM @schema@.pev_stream p WHERE p.key = $2::text)) AS id) s"},
	[EXPORT_PAGE] = {"pev_export_page",
					 "SELECT e.seq, CASE WHEN e.wanted THEN e.id END,"
					 " CASE WHEN e.wanted THEN e.event_type END,"
					 " CASE WHEN e.wanted THEN e.created_at END,"
					 " CASE WHEN e.wanted THEN e.event_data END"
					 " FROM (SELECT a.*, $5::@schema@.assistant_event_type[] IS NULL OR"
					 "  a.event_type = ANY ($5::@schema@.assistant_event_type[]) AS wanted"
					 "  FROM @schema@.assistant_architect_events a"
					 "  WHERE a.execution_id = $1::bigint AND a.seq > $2::bigint"
					 "  AND a.seq <= $3::bigint ORDER BY a.seq LIMIT $4::int) e"},
};

static const char export_settings[] = LINK_SETTINGS_BY_INDEX "SET statement_timeout = 30000";

static struct
{
	LinkKind kind;
	Link link;
	LinkRetry retries;
	int64_t down_until; /* by loop_now */
	struct ExportList all;
	size_t count;
	struct ExportList queue;
	Export *current; /* whose query is under way; NULL: none, or it has left */
	int64_t rows;    /* of the page under way that have come */
	size_t bytes;    /* of those that were kept */
	bool cut;        /* rows came that were not kept */
} reading = {.link = {.watch = {.fd = -1}}};

/* The only place where the state changes. */
static void
export_set_state(Export *export, ExportState state)
{
	if (!export_allowed[export->state][state])
		log_fatal("an export cannot go from state %d to %d", export->state, state);
	export->state = state;
}

/* See the header. */
Export *
export_new(const StreamKey *key, ExportQuery *query, bool gzip, void (*changed)(Export *export),
		   void *owner)
{
	Export *export = mem_zero(sizeof(Export));

	export->key = *key;
	export->query = *query;
	*query = (ExportQuery){0};
	export->read = export->query.after;
	export->rows = EXPORT_ROWS_FIRST;
	export->empty = true;
	export->gzip = gzip ? gzip_new() : NULL;
	buf_init(&export->plain);
	buf_init(&export->page);
	export->changed = changed;
	export->owner = owner;
	TAILQ_INSERT_TAIL(&reading.all, export, link);
	reading.count++;
	return export;
}

/* Take it out of the queue, if it waits there, and from the query under way. */
static void
export_forget(Export *export)
{
	bool reads = export->state == EXPORT_OPENING || export->state == EXPORT_READING;

	if (reading.current == export)
		reading.current = NULL;
	else if (reads)
		TAILQ_REMOVE(&reading.queue, export, queue_link);
}

void
export_free(Export *export)
{
	export_forget(export);
	TAILQ_REMOVE(&reading.all, export, link);
	reading.count--;
	export_query_free(&export->query);
	free(export->bad_type);
	gzip_free(export->gzip);
	buf_free(&export->plain);
	buf_free(&export->page);
	free(export);
}

/* Nothing more can be read for it. */
void
export_fail(Export *export)
{
	export_forget(export);
	export_set_state(export, EXPORT_FAILED);
	export->changed(export);
}

/* ---- what is written ---- */

/* Compress what has gathered, if that is wanted and enough, or all there is. */
static void
export_compress(Export *export, bool all)
{
	if (export->gzip == NULL || (!all && export->plain.len < EXPORT_GZIP_BYTES))
		return;
	gzip_add(export->gzip, export->plain.data, export->plain.len, &export->page);
	buf_clear(&export->plain);
}

/* Where it is written. */
static Buf *
export_out(Export *export)
{
	return export->gzip != NULL ? &export->plain : &export->page;
}

/* Write one event. */
static void
export_write_row(Export *export, const PGresult *row)
{
	const ExportRow event = {
		.seq = row_bigint(row, PAGE_SEQ),
		.id = row_bigint(row, PAGE_ID),
		.type = PQgetvalue(row, 0, PAGE_TYPE),
		.created = row_bigint(row, PAGE_CREATED),
		.data = PQgetvalue(row, 0, PAGE_DATA) + 1,
		.data_len = (size_t) PQgetlength(row, 0, PAGE_DATA) - 1,
	};

	export_format_row(export->query.format, &event, export->empty, export_out(export));
	export->empty = false;
	export_compress(export, false);
	metric_add(METRIC_EXPORT_EVENTS, 1);
}

/* Everything has been read. */
static void
export_finish(Export *export)
{
	export_format_end(export->query.format, export->empty, export_out(export));
	export_compress(export, true);
	if (export->gzip != NULL)
		gzip_end(export->gzip, &export->page);
	export_set_state(export, EXPORT_WHOLE);
}

/* ---- what is read ---- */

/* Write the query's types as an array; NULL if it names none. */
static const char *
types_render(const Export *export, Buf *out)
{
	if (export->query.types.count == 0)
		return NULL;
	filter_render(&export->query.types, out);
	return out->data;
}

/* Look its stream up. */
static void
export_send_look(const Export *export)
{
	const char *params[3] = {NULL, export->key.text};
	Buf types;

	buf_init(&types);
	if (export->key.numeric)
		params[0] = export->key.text;
	params[2] = types_render(export, &types);
	link_send(&reading.link, EXPORT_LOOK, 3, params, false);
	buf_free(&types);
}

/* Read its next page. */
static void
export_send_page(const Export *export)
{
	char numbers[4][24];
	const char *params[5];
	const int64_t values[4] = {export->id, export->read, export->last, export->rows};
	Buf types;

	for (int i = 0; i < 4; i++)
	{
		snprintf(numbers[i], sizeof(numbers[i]), "%" PRId64, values[i]);
		params[i] = numbers[i];
	}
	buf_init(&types);
	params[4] = types_render(export, &types);
	link_send(&reading.link, EXPORT_PAGE, 5, params, true);
	buf_free(&types);
}

/* All that wait fail. */
static void
reading_give_up(void)
{
	Export *export;

	while ((export = TAILQ_FIRST(&reading.queue)) != NULL)
		export_fail(export);
}

/* Send the query of the export that has waited for longest, or connect. */
static void
reading_dispatch(void)
{
	Export *export = TAILQ_FIRST(&reading.queue);

	if (export == NULL)
		return;
	if (reading.link.state == LINK_DOWN && loop_now() < reading.down_until)
		reading_give_up();
	else if (reading.link.state == LINK_DOWN)
		link_connect(&reading.link, &reading.kind);
	else if (reading.link.state == LINK_IDLE)
	{
		TAILQ_REMOVE(&reading.queue, export, queue_link);
		reading.current = export;
		reading.rows = 0;
		reading.bytes = 0;
		reading.cut = false;
		if (export->state == EXPORT_OPENING)
			export_send_look(export);
		else
			export_send_page(export);
	}
}

/* Look the stream of a new export up. */
void
export_read_open(Export *export)
{
	TAILQ_INSERT_TAIL(&reading.queue, export, queue_link);
	reading_dispatch();
}

/* Read more; only while it is open and everything has been sent. */
void
export_read_page(Export *export)
{
	buf_clear(&export->page);
	export->sent = 0;
	export_set_state(export, EXPORT_READING);
	TAILQ_INSERT_TAIL(&reading.queue, export, queue_link);
	reading_dispatch();
}

/* Its stream is looked up. */
static void
export_take_look(Export *export, const PGresult *row)
{
	int64_t before = export->query.before;

	if (!PQgetisnull(row, 0, 2))
		export->bad_type = mem_string(PQgetvalue(row, 0, 2));
	if (PQgetisnull(row, 0, 1))
		return;
	export->id = strtoll(PQgetvalue(row, 0, 0), NULL, 10);
	export->last = strtoll(PQgetvalue(row, 0, 1), NULL, 10);
	if (before <= export->last)
		export->last = before - 1;
	export->found = true;
}

/* A row of a page is there. */
static void
export_take_row(Export *export, const PGresult *row)
{
	reading.rows++;
	reading.cut = reading.cut || reading.bytes >= EXPORT_PAGE_BYTES;
	if (reading.cut)
		return;
	export->read = row_bigint(row, PAGE_SEQ);
	if (PQgetisnull(row, 0, PAGE_DATA))
		return;
	reading.bytes += (size_t) PQgetlength(row, 0, PAGE_DATA);
	export_write_row(export, row);
}

static void
reading_on_result(Link *link, const PGresult *result)
{
	Export *export = reading.current;
	ExecStatusType status = PQresultStatus(result);

	if (status != PGRES_SINGLE_TUPLE && status != PGRES_TUPLES_OK)
		link_fail_query(link, result);
	else if (status == PGRES_TUPLES_OK || export == NULL)
		return;
	else if (export->state == EXPORT_OPENING)
		export_take_look(export, result);
	else
		export_take_row(export, result);
}

/* How many rows to ask for after a page. */
static int64_t
rows_next(int64_t rows)
{
	if (reading.cut)
		return rows > 1 ? rows / 2 : 1;
	if (reading.bytes > EXPORT_PAGE_BYTES / 2 || rows == EXPORT_ROWS_MOST)
		return rows;
	return rows * 2;
}

/* A page is there. */
static void
export_end_page(Export *export)
{
	bool whole = !reading.cut && (reading.rows < export->rows || export->read == export->last);

	export->rows = rows_next(export->rows);
	if (whole)
		export_finish(export);
	else if (export->page.len == 0)
		export_read_page(export);
}

static void
reading_on_done(Link *link)
{
	Export *export = reading.current;

	(void) link;
	reading.retries = (LinkRetry){0};
	reading.current = NULL;
	if (export != NULL)
	{
		bool opened = export->state == EXPORT_OPENING;

		export_set_state(export, EXPORT_OPEN);
		if (opened)
			export_format_begin(export->query.format, export_out(export));
		else
			export_end_page(export);
		export->changed(export);
	}
	if (reading.link.state == LINK_IDLE)
		reading_dispatch();
}

static void
reading_on_ready(Link *link)
{
	(void) link;
	reading.down_until = 0;
	reading_dispatch();
}

static void
reading_on_down(Link *link, LinkState was, const char *trouble, const char *why)
{
	(void) link, (void) trouble;
	link_retry_log(&reading.retries, ", to export", why);
	if (reading.current != NULL)
		export_fail(reading.current);
	if (was != LINK_IDLE && was != LINK_BUSY)
		reading.down_until = loop_now() + link_retry_delay(&reading.retries);
	reading_dispatch();
}

/* ---- the whole ---- */

/* All exports. */
struct ExportList *
export_all(void)
{
	return &reading.all;
}

/* How many exports are under way? */
size_t
export_count(void)
{
	return reading.count;
}

/* Start; dsn may be NULL, and stays the caller's. */
void
export_read_start(const char *dsn)
{
	TAILQ_INIT(&reading.all);
	TAILQ_INIT(&reading.queue);
	reading.kind = (LinkKind){
		.dsn = dsn,
		.patience = EXPORT_PATIENCE,
		.settings = export_settings,
		.statements = export_statements,
		.statement_count = EXPORT_STATEMENTS,
		.ready = reading_on_ready,
		.result = reading_on_result,
		.done = reading_on_done,
		.down = reading_on_down,
	};
}

/* Disconnect; all exports are gone. */
void
export_read_stop(void)
{
	link_close(&reading.link);
}
