/*
 * export_query.c
 *		Which events of a stream an export is to hold, and how it is written.
 *
 * Pure: no libpq, no libmicrohttpd, no state.
 */
#include <string.h>

#include "export_query.h"

static const char bad_format[] = "\"format\" must be ndjson, json or csv.";
static const char bad_after[] = "\"after\" must be an event number.";
static const char bad_before[] = "\"before\" must be an event number.";

/* Take one parameter. */
static const char *
export_query_take(void *arg, const char *name, const char *value)
{
	ExportQuery *query = arg;

	if (strcmp(name, "format") == 0)
		return export_format_parse(value, &query->format) ? NULL : bad_format;
	if (strcmp(name, "after") == 0)
		return cursor_number(value, &query->after) ? NULL : bad_after;
	if (strcmp(name, "before") == 0)
		return cursor_number(value, &query->before) ? NULL : bad_before;
	return filter_add_list(&query->types, value);
}

/* See the header.  On an error there is nothing to be freed. */
const char *
export_query_parse(const char *text, ExportQuery *query)
{
	static const char *const names[] = {"format", "after", "before", "types", NULL};
	const char *error;

	*query = (ExportQuery){.format = EXPORT_NDJSON, .before = INT64_MAX};
	error = query_each(text, names, export_query_take, query);
	if (error != NULL)
		export_query_free(query);
	return error;
}

void
export_query_free(ExportQuery *query)
{
	filter_free(&query->types);
}
