/*
 * statement.h
 *		Statements whose text is known but for the extension's schema.
 */
#ifndef PEV_STATEMENT_H
#define PEV_STATEMENT_H

#include <libpq-fe.h>

extern const char statement_find_schema[];
extern int statement_send_query(PGconn *conn, const char *text, const char *schema);
extern int statement_send_prepare(PGconn *conn, const char *name, const char *text,
								  const char *schema);

#endif
