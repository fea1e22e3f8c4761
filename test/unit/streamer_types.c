/*
 * streamer_types.c
 *		Which names of a filter are known.
 */
#include <stdlib.h>

#include "streamer_tap.h"
#include "types.h"

/* The first unknown name of a filter must be this; NULL for none. */
static void
is_unknown(const char *query, const char *want)
{
	Cursor cursor;
	TypeFilter filter;

	query_parse(query, &cursor, &filter);
	is(types_unknown(&filter), want, query);
	filter_free(&filter);
}

int
main(void)
{
	is_unknown("", NULL);
	is_unknown("types=a", "a");
	types_begin();
	types_add("b");
	types_add("a");
	is_unknown("types=a", "a");
	types_end(true);
	is_unknown("types=a,b", NULL);
	is_unknown("types=a,c,d", "c");
	types_begin();
	types_add("c");
	types_end(false);
	is_unknown("types=a,b", NULL);
	is_unknown("types=c", "c");
	types_begin();
	types_add("c");
	types_end(true);
	is_unknown("types=c", NULL);
	is_unknown("types=a", "a");
	types_free();
	is_unknown("types=c", "c");
	return done();
}
