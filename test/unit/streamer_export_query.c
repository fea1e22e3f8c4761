/*
 * streamer_export_query.c
 *		Which events an export is to hold, and in which format.
 */
#include "export_query.h"
#include "streamer_tap.h"

/* A query must be understood so; NULL for types: none are named. */
static void
is_query(const char *text, ExportFormat format, int64_t after, int64_t before, const char *type)
{
	ExportQuery query;
	const char *error = export_query_parse(text, &query);
	const char *name = text != NULL ? text : "(no query)";

	if (!is(error, NULL, name))
		return;
	ok(query.format == format, "its format");
	is_number(query.after, after, "its after");
	is_number(query.before, before, "its before");
	is(query.types.count > 0 ? query.types.names[query.types.count - 1] : NULL, type, "its types");
	export_query_free(&query);
}

/* A query must be refused, with a sentence that begins so, and leave nothing behind. */
static void
is_wrong(const char *text, const char *why)
{
	ExportQuery query;
	const char *error = export_query_parse(text, &query);

	ok(error != NULL && strncmp(error, why, strlen(why)) == 0, text);
	ok(query.types.count == 0 && query.types.names == NULL, "nothing is left to be freed");
}

int
main(void)
{
	is_query(NULL, EXPORT_NDJSON, 0, INT64_MAX, NULL);
	is_query("", EXPORT_NDJSON, 0, INT64_MAX, NULL);
	is_query("&&token=a.b.c&x", EXPORT_NDJSON, 0, INT64_MAX, NULL);
	is_query("format=ndjson", EXPORT_NDJSON, 0, INT64_MAX, NULL);
	is_query("format=json", EXPORT_JSON, 0, INT64_MAX, NULL);
	is_query("after=7&format=csv&before=9", EXPORT_CSV, 7, 9, NULL);
	is_query("%61fter=%37", EXPORT_NDJSON, 7, INT64_MAX, NULL);
	is_query("after=0&before=0", EXPORT_NDJSON, 0, 0, NULL);
	is_query("after=9223372036854775807", EXPORT_NDJSON, INT64_MAX, INT64_MAX, NULL);
	is_query("types=a", EXPORT_NDJSON, 0, INT64_MAX, "a");
	is_query("types=a,b%2Cc&types=d", EXPORT_NDJSON, 0, INT64_MAX, "d");
	is_query("format=csv&format=json", EXPORT_JSON, 0, INT64_MAX, NULL);
	is_query("lastEventId=x", EXPORT_NDJSON, 0, INT64_MAX, NULL);

	is_wrong("format=", "\"format\"");
	is_wrong("format", "\"format\"");
	is_wrong("format=CSV", "\"format\"");
	is_wrong("format=jsonl", "\"format\"");
	is_wrong("format=json%20", "\"format\"");
	is_wrong("after=", "\"after\"");
	is_wrong("after=now", "\"after\"");
	is_wrong("after=-1", "\"after\"");
	is_wrong("after=+1", "\"after\"");
	is_wrong("after=1.0", "\"after\"");
	is_wrong("after=9223372036854775808", "\"after\"");
	is_wrong("before=x", "\"before\"");
	is_wrong("types=", "\"types\"");
	is_wrong("types=a,,b", "\"types\"");
	is_wrong("types=a&types='", "\"types\"");
	is_wrong("types=a&after=%0", "The URL");
	is_wrong("types=a&after=%00", "The URL");
	return done();
}
