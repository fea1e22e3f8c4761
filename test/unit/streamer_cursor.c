/*
 * streamer_cursor.c
 *		Which stream, from where and which types a request asks for.
 */
#include <stdint.h>
#include <stdlib.h>

#include "cursor.h"
#include "streamer_tap.h"

/* A raw path segment must mean this key. */
static void
is_key(const char *raw, const char *want)
{
	StreamKey key;
	const char *error = stream_key_parse(raw, strlen(raw), &key);

	is(error != NULL ? error : key.text, want, raw);
}

/* A raw path segment must mean this number. */
static void
is_id(const char *raw, int64_t want)
{
	StreamKey key = {0};
	const char *error = stream_key_parse(raw, strlen(raw), &key);

	ok(error == NULL && key.numeric && key.id == want, raw);
}

/* A raw path segment must be refused. */
static void
is_no_key(const char *raw, const char *name)
{
	StreamKey key;

	ok(stream_key_parse(raw, strlen(raw), &key) != NULL, name);
}

/* A query must mean this cursor; -1 stands for none, -2 for now, -3 for an error. */
static void
is_cursor(const char *query, const char *header, long long want)
{
	Cursor cursor;
	TypeFilter filter;
	const char *error = query_parse(query, &cursor, &filter);
	char name[200];

	if (error == NULL)
		cursor_header(header, &cursor);
	snprintf(name, sizeof(name), "cursor of \"%s\", header %s", query ? query : "(null)",
			 header ? header : "(none)");
	is_number(error != NULL ? -3 : !cursor.given ? -1 : cursor.now ? -2 : cursor.seq, want, name);
	filter_free(&filter);
}

/* A query must mean these types, joined by spaces; NULL for an error. */
static void
is_types(const char *query, const char *want)
{
	Cursor cursor;
	TypeFilter filter;
	const char *error = query_parse(query, &cursor, &filter);
	char joined[1000] = "";

	for (int i = 0; i < filter.count; i++)
	{
		strcat(joined, i > 0 ? " " : "");
		strcat(joined, filter.names[i]);
	}
	is(error != NULL ? NULL : joined, want, query);
	filter_free(&filter);
}

static void
test_keys(void)
{
	char longest[STREAM_KEY_MAX + 2];
	StreamKey key;

	is_id("42", 42);
	is_id("0", 0);
	is_id("000", 0);
	is_id("007", 7);
	is_key("007", "7");
	is_id("9223372036854775807", INT64_MAX);
	is_no_key("9223372036854775808", "a number beyond bigint");
	is_no_key("99999999999999999999999", "a number far beyond bigint");
	is_key("user:u_1", "user:u_1");
	is_key("user%3Au_1", "user:u_1");
	is_key("a-b.c:d@e+f~g=h", "a-b.c:d@e+f~g=h");
	is_key("%C3%A9t%C3%A9", "\xC3\xA9t\xC3\xA9");
	is_key("3F2504E0-4F89-11D3-9A0C-0305E82C3301", "3f2504e0-4f89-11d3-9a0c-0305e82c3301");
	is_key("Session-A", "Session-A");
	is_key("42a", "42a");
	is_key("3F2504E0-4F89-11D3-9A0C-0305E82C330X", "3F2504E0-4F89-11D3-9A0C-0305E82C330X");
	is_no_key("", "an empty key");
	is_no_key("-5", "a key that begins with a dash");
	is_no_key(":x", "a key that begins with a colon");
	is_no_key("user:", "a prefix with nothing after it");
	is_no_key("a%2Fb", "an encoded slash");
	is_no_key("a%00", "an encoded NUL");
	is_no_key("a%0A", "an encoded newline");
	is_no_key("a%20b", "an encoded space");
	is_no_key("a%4", "half an escape");
	is_no_key("a%", "an escape without digits");
	is_no_key("a%zz", "an escape that is not hexadecimal");
	is_no_key("%C3", "a cut UTF-8 character");
	is_no_key("%C0%AF", "an overlong UTF-8 character");
	is_no_key("%C1%81%81%81", "a character of four bytes that begins as one of two");
	is_no_key("%ED%A0%80", "a surrogate");
	is_no_key("%F4%90%80%80", "a character beyond Unicode");
	is_no_key("%80", "a stray continuation byte");
	is_no_key("..", "two dots");
	memset(longest, 'a', sizeof(longest));
	ok(stream_key_parse(longest, STREAM_KEY_MAX, &key) == NULL && strlen(key.text) == 200,
	   "a key of 200 bytes");
	ok(stream_key_parse(longest, STREAM_KEY_MAX + 1, &key) != NULL, "a key of 201 bytes");
	ok(stream_key_parse("42/x", 2, &key) == NULL && key.id == 42, "only the segment is read");
}

static void
test_cursors(void)
{
	is_cursor(NULL, NULL, -1);
	is_cursor("", NULL, -1);
	is_cursor("after=5", NULL, 5);
	is_cursor("after=0", NULL, 0);
	is_cursor("after=now", NULL, -2);
	is_cursor("lastEventId=6", NULL, 6);
	is_cursor("lastEventId=6&after=now", NULL, 6);
	is_cursor("after=now&lastEventId=6", NULL, 6);
	is_cursor("lastEventId=&after=3", NULL, 3);
	is_cursor("token=a.b.c&after=3&x", NULL, 3);
	is_cursor("&&after=3&", NULL, 3);
	is_cursor("%61fter=%33", NULL, 3);
	is_cursor("after=5", "7", 7);
	is_cursor("after=now", "7", 7);
	is_cursor("lastEventId=9", "7", 7);
	is_cursor(NULL, "0", 0);
	is_cursor(NULL, "9223372036854775807", INT64_MAX);
	is_cursor(NULL, "9223372036854775808", -1);
	is_cursor(NULL, "abc", -1);
	is_cursor(NULL, "-1", -1);
	is_cursor(NULL, "", -1);
	is_cursor("after=4", "1 2", 4);
	is_cursor("after=", NULL, -3);
	is_cursor("after", NULL, -3);
	is_cursor("after=-1", NULL, -3);
	is_cursor("after=1x", NULL, -3);
	is_cursor("after=9223372036854775808", NULL, -3);
	is_cursor("after=Now", NULL, -3);
	is_cursor("lastEventId=x", NULL, -3);
	is_cursor("after=%zz", NULL, -3);
	is_cursor("after=1%00", NULL, -3);
}

static void
test_types(void)
{
	char many[2 * TYPE_FILTER_MAX + 20] = "types=a";
	Cursor cursor;
	TypeFilter filter;

	is_types("", "");
	is_types("types=a,b", "a b");
	is_types("types=a&types=b", "a b");
	is_types("types=prompt-start%2Cexecution-complete", "prompt-start execution-complete");
	is_types("types=PhaseStatus&after=1", "PhaseStatus");
	is_types("types=", NULL);
	is_types("types", NULL);
	is_types("types=a,,b", NULL);
	is_types("types=a,", NULL);
	is_types("types=,a", NULL);
	is_types("types=a b", NULL);
	is_types("types=a+b", NULL);
	is_types("types=a%0Ab", NULL);
	is_types("types=%22", NULL);
	is_types("types=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", NULL);
	for (int i = 1; i < TYPE_FILTER_MAX; i++)
		strcat(many, ",a");
	ok(query_parse(many, &cursor, &filter) == NULL && filter.count == TYPE_FILTER_MAX,
	   "as many types as a filter holds");
	filter_free(&filter);
	strcat(many, ",a");
	ok(query_parse(many, &cursor, &filter) != NULL && filter.count == 0, "and one more");
}

int
main(void)
{
	test_keys();
	test_cursors();
	test_types();
	return done();
}
