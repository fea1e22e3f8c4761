/*
 * db.h
 *		The connection to PostgreSQL, asynchronous and self-healing.
 */
#ifndef PEV_DB_H
#define PEV_DB_H

#include <stdbool.h>
#include <stdint.h>
#include <libpq-fe.h>

/* What the owner of the connection is told.  All are required. */
typedef struct DbHooks
{
	void (*ready)(void); /* connected, listening, prepared */
	void (*lost)(void);  /* no longer so */
	void (*notify)(const char *channel, const char *payload);
} DbHooks;

/* The statements; db.c holds their text. */
typedef enum DbStatement
{
	DB_LOOK,    /* $1 bigint[] ids or NULL, $2 text[] keys: ord, id, last seq, is it terminal */
	DB_READ,    /* $1 bigint[] ids, $2 bigint[] after, $3 int[] limits: as enum DbReadColumn */
	DB_KEYS,    /* $1 bigint[] ids: id, key */
	DB_REST,    /* $1 bigint id, $2 bigint after, $3 text[] types: are there such rows */
	DB_TYPES,   /* all type names */
	DB_REVOKED, /* $1 xid8: transactions seen; then id, expiry of those revoked by others, if any */
	DB_TICKETS, /* $1 text[] hashes in hexadecimal, $2 text[] keys: ord, expiry or NULL */
	DB_WATCH,   /* nothing: denials by time-out are seen to */
	DB_STATEMENTS
} DbStatement;

/* The columns of DB_READ, which come in binary format. */
enum DbReadColumn
{
	READ_ORD,   /* bigint, from 1 */
	READ_SEQ,   /* bigint */
	READ_TYPE,  /* the name */
	READ_DATA,  /* a byte for the version of the format, 1, and JSON */
	READ_LAST,  /* boolean: does the event close its stream? */
	READ_BORN,  /* timestamptz: when the event was numbered */
	READ_CLOCK, /* timestamptz: now */
};

/* One row at a time; the result is the callee's only during the call. */
typedef void (*DbRow)(const PGresult *row);
/* After the last row.  ok: they were all there. */
typedef void (*DbDone)(bool ok);

extern bool db_dsn_is_valid(const char *dsn);
extern void db_start(const char *dsn, const DbHooks *hooks);
extern void db_stop(void);
extern bool db_is_up(void);
extern bool db_is_idle(void);
extern const char *db_trouble(int64_t *since);
extern void db_send(DbStatement statement, int count, const char *const *params, DbRow row,
					DbDone done);

#endif
