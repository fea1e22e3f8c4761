/*
 * export_query.c
 *		Fuzz target: the query of a request for an export, and its Accept-Encoding.
 *
 * The first line is the query, the second the header.  Whatever is taken must keep
 * the bounds that the database relies on; whatever is refused must say why, without
 * repeating it, and leave nothing behind.
 */
#include <ctype.h>

#include "encoding.h"
#include "export_query.h"
#include "fuzz.h"

/* A type's name goes into an array literal as it is. */
static void
check_type(const char *name)
{
	size_t len = strlen(name);

	must(len > 0 && len <= TYPE_NAME_MAX, "the length of a type's name");
	for (size_t i = 0; i < len; i++)
		must(isalnum((unsigned char) name[i]) || strchr("_-.:", name[i]) != NULL,
			 "the characters of a type's name");
}

static void
check_query(const char *text)
{
	ExportQuery query;
	const char *error = export_query_parse(text, &query);

	if (error != NULL)
	{
		must(error[strlen(error) - 1] == '.', "a sentence");
		must(query.types.count == 0 && query.types.names == NULL, "nothing is left");
		return;
	}
	must(query.format <= EXPORT_CSV, "a format");
	must(query.after >= 0 && query.before >= 0, "numbers of events");
	must(query.types.count <= TYPE_FILTER_MAX, "the number of types");
	for (int i = 0; i < query.types.count; i++)
		check_type(query.types.names[i]);
	export_query_free(&query);
}

/* Without a word of gzip, and of everything, nothing is compressed. */
static void
check_encoding(const char *text)
{
	if (encoding_is_gzip(text))
		must(strcasestr(text, "gzip") != NULL || strchr(text, '*') != NULL, "gzip was asked for");
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	char *query = take_line(&bytes, &len);
	char *header = take_line(&bytes, &len);

	check_query(query);
	check_encoding(header);
	free(query);
	free(header);
	return 0;
}
