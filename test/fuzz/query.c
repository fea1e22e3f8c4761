/*
 * query.c
 *		Fuzz target: the query of a request for a stream, and its Last-Event-ID.
 *
 * The first line of the input is the query, the second the header.
 */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>

#include "cursor.h"
#include "fuzz.h"

/* Are two cursors the same? */
static bool
same_cursor(const Cursor *a, const Cursor *b)
{
	return a->given == b->given && a->now == b->now && (!a->given || a->now || a->seq == b->seq);
}

/* Are two filters? */
static bool
same_filter(const TypeFilter *a, const TypeFilter *b)
{
	bool same = a->count == b->count;

	for (int i = 0; same && i < a->count; i++)
		same = strcmp(a->names[i], b->names[i]) == 0;
	return same;
}

/* Another query must mean the same. */
static void
check_same(const char *query, const Cursor *cursor, const TypeFilter *filter)
{
	Cursor other;
	TypeFilter types;

	must(query_parse(query, &other, &types) == NULL, "what is written anew is taken");
	must(same_cursor(cursor, &other), "from the same place");
	must(same_filter(filter, &types), "the same types");
	filter_free(&types);
}

/* Write what was understood as a query of one's own. */
static void
check_rewritten(const Cursor *cursor, const TypeFilter *filter)
{
	static char query[TYPE_FILTER_MAX * (TYPE_NAME_MAX + 8) + 64];
	char *end = query;

	*end = '\0';
	if (cursor->now)
		end += sprintf(end, "after=now&");
	else if (cursor->given)
		end += sprintf(end, "after=%" PRId64 "&", cursor->seq);
	for (int i = 0; i < filter->count; i++)
		end += sprintf(end, "types=%s&", filter->names[i]);
	check_same(query, cursor, filter);
}

/* Write the query with everything escaped that is not yet, and is no separator. */
static void
check_escaped(const char *query, const Cursor *cursor, const TypeFilter *filter)
{
	char *escaped = calloc(3, strlen(query) + 1);
	char *end = escaped;

	while (*query != '\0')
	{
		char one[2] = {*query, '\0'};
		bool escaped_yet = *query == '%' && isxdigit((unsigned char) query[1]) &&
						   isxdigit((unsigned char) query[2]);
		size_t width = escaped_yet ? 3 : 1;

		if (strchr("&=+%", *query) != NULL)
			strncat(end, query, width);
		else
			escape(end, one);
		query += width;
		end += strlen(end);
	}
	check_same(escaped, cursor, filter);
	free(escaped);
}

/* What comes last of one name counts, and lastEventId more than after. */
static void
check_last_id(const char *query, const TypeFilter *filter)
{
	const Cursor seven = {.given = true, .seq = 7};
	char *text = malloc(strlen(query) + 64);

	sprintf(text, "%s&lastEventId=3&lastEventId=7&after=5", query);
	check_same(text, &seven, filter);
	free(text);
}

/* What was understood must be within bounds. */
static void
check_query(const char *query, const Cursor *cursor, const TypeFilter *filter)
{
	must(!cursor->given || cursor->now || cursor->seq >= 0, "an event's number");
	must(cursor->given || !cursor->now, "now is given");
	must(filter->count >= 0 && filter->count <= TYPE_FILTER_MAX, "the number of types");
	for (int i = 0; i < filter->count; i++)
	{
		const char *name = filter->names[i];

		must(*name != '\0' && strlen(name) <= TYPE_NAME_MAX, "the length of a type's name");
		for (; *name != '\0'; name++)
			must(isalnum((unsigned char) *name) || strchr("_-.:", *name) != NULL, "a type's name");
	}
	check_rewritten(cursor, filter);
	check_escaped(query, cursor, filter);
	check_last_id(query, filter);
}

/* A header counts if it is a number, and then alone. */
static void
check_header(const char *header, const Cursor *asked)
{
	Cursor cursor = *asked;
	bool digits = *header != '\0' && header[strspn(header, "0123456789")] == '\0';
	int64_t number;

	errno = 0;
	number = strtoll(header, NULL, 10);
	cursor_header(header, &cursor);
	if (digits && errno == 0)
		must(cursor.given && !cursor.now && cursor.seq == number, "the header wins");
	else
		must(same_cursor(&cursor, asked), "what is no number is passed over");
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	char *query = take_line(&bytes, &len);
	char *header = take_line(&bytes, &len);
	Cursor cursor;
	TypeFilter filter;

	if (query_parse(query, &cursor, &filter) != NULL)
		must(filter.count == 0 && filter.names == NULL, "nothing is left of what is refused");
	else
	{
		check_query(query, &cursor, &filter);
		check_header(header, &cursor);
	}
	filter_free(&filter);
	free(header);
	free(query);
	return 0;
}
