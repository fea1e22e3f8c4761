/*
 * statement.c
 *		Statements whose text is known but for the extension's schema.
 *
 * The schema is asked for by each connection, as the extension may be dropped and
 * created in another.  Names are qualified with it, not looked for along
 * search_path: there somebody else's function of that name could be found.
 */
#include <string.h>

#include "mem.h"
#include "statement.h"

#define SCHEMA_MARK "@schema@"

/* One row with the extension's schema, quoted; none: the extension is not there. */
const char statement_find_schema[] =
	"SELECT pg_catalog.quote_ident(n.nspname) FROM pg_catalog.pg_extension e"
	" JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pev'";

/* Add the statement's text, the extension's schema put in for each @schema@. */
static void
statement_render(Buf *out, const char *text, const char *schema)
{
	const char *mark;

	for (; (mark = strstr(text, SCHEMA_MARK)) != NULL; text = mark + strlen(SCHEMA_MARK))
	{
		buf_add(out, text, (size_t) (mark - text));
		buf_text(out, schema);
	}
	buf_text(out, text);
}

/* As PQsendQuery. */
int
statement_send_query(PGconn *conn, const char *text, const char *schema)
{
	Buf rendered;
	int sent;

	buf_init(&rendered);
	statement_render(&rendered, text, schema);
	sent = PQsendQuery(conn, rendered.data);
	buf_free(&rendered);
	return sent;
}

/* As PQsendPrepare, the types of parameters left to the server. */
int
statement_send_prepare(PGconn *conn, const char *name, const char *text, const char *schema)
{
	Buf rendered;
	int sent;

	buf_init(&rendered);
	statement_render(&rendered, text, schema);
	sent = PQsendPrepare(conn, name, rendered.data, 0, NULL);
	buf_free(&rendered);
	return sent;
}
