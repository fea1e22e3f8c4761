/*
 * link.h
 *		A connection to PostgreSQL, asynchronous: what all of them have in common.
 */
#ifndef PEV_LINK_H
#define PEV_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <libpq-fe.h>

#include "loop.h"

typedef enum LinkState
{
	LINK_DOWN,
	LINK_CONNECTING, /* PQconnectPoll */
	LINK_SETUP,      /* finding the extension, settings, preparing statements */
	LINK_IDLE,
	LINK_BUSY, /* a query is under way */
	LINK_STATES
} LinkState;

/* Zeroed, but for watch.fd, which is -1.  Its memory outlives the turn in which it is closed. */
typedef struct Link
{
	const struct LinkKind *kind;
	LinkState state;
	PGconn *conn;
	Watch watch;
	bool flushing;  /* waiting for the socket to take more of a query */
	Timer patience; /* when to give up on the server */
	size_t step;
	char *schema; /* quoted */
} Link;

/* A statement that is prepared.  Here and below @schema@ is the extension's schema, quoted. */
typedef struct LinkStatement
{
	const char *name;
	const char *text;
} LinkStatement;

/*
 * Settings of every session: names are qualified, plans are made once, and the
 * server does not hang up on who is quiet.
 */
#define LINK_SETTINGS                                                                              \
	"SET search_path = pg_catalog; SET jit = off; SET plan_cache_mode = force_generic_plan;"       \
	"SET idle_session_timeout = 0;"

/*
 * Also those of sessions that read few rows by index and nothing else: what would
 * make the planner think otherwise (a limit it cannot see, statistics not yet
 * there) is turned off rather than hoped against.
 */
#define LINK_SETTINGS_BY_INDEX                                                                     \
	LINK_SETTINGS "SET enable_seqscan = off; SET enable_bitmapscan = off;"

/* What links of a kind have in common. */
typedef struct LinkKind
{
	const char *dsn;      /* NULL: libpq's environment */
	int64_t patience;     /* milliseconds without a byte from the server while it owes one */
	const char *settings; /* run first */
	const char *check;    /* then this, to find out whether all rights are there; or NULL */
	const LinkStatement *statements;
	size_t statement_count;
	void (*ready)(Link *link); /* it is set up, and idle */
	/* A row, an error, or the end of a query's rows.  The result is link.c's. */
	void (*result)(Link *link, const PGresult *result);
	void (*done)(Link *link); /* the query is answered in full, and the link idle again */
	/* It was in this state and is closed; trouble is in two or three words, why in all. */
	void (*down)(Link *link, LinkState was, const char *trouble, const char *why);
	void (*notify)(const PGnotify *notify); /* NULL: the session does not listen */
} LinkKind;

/* How attempts to connect go on after those that failed.  Zeroed at first, and after success. */
typedef struct LinkRetry
{
	int64_t delay;
	char last_error[200]; /* the one logged last, so that retries do not repeat it */
} LinkRetry;

extern void link_connect(Link *link, const LinkKind *kind);
extern void link_close(Link *link);
extern bool link_is_up(const Link *link);
extern void link_send(Link *link, size_t statement, int count, const char *const *params,
					  bool binary);
extern void link_fail(Link *link, const char *trouble, const char *why);
extern void link_fail_query(Link *link, const PGresult *result);
extern int64_t link_retry_delay(LinkRetry *retry);
extern void link_retry_log(LinkRetry *retry, const char *whose, const char *why);
extern int64_t row_bigint(const PGresult *row, int column);

#endif
