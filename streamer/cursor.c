/*
 * cursor.c
 *		What a request for a stream asks for: which stream, from where, which types.
 *
 * Works on the raw request target, before any decoding, so that an encoded
 * slash is not a separator and an encoded NUL is an error rather than the end
 * of the string.  A malformed Last-Event-ID header is ignored, since an error
 * status would stop an EventSource for good while replaying everything is
 * merely redundant; a malformed query was typed by somebody who is there to
 * read the error.
 *
 * Pure: no libpq, no libmicrohttpd, no state.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "cursor.h"
#include "mem.h"
#include "utf8.h"

#define QUERY_NAME_MAX  32
#define QUERY_VALUE_MAX 4096
#define UUID_LEN        36

static const char bad_escape[] = "The URL holds a malformed percent escape.";
static const char bad_key[] =
	"A stream key has 1 to 200 bytes of UTF-8, begins with a letter, a digit or \"_\", and goes on "
	"with these or with - . : @ + ~ =; what follows a prefix and its colon is not empty.";
static const char bad_range[] = "A stream number must fit a bigint.";
static const char bad_after[] = "\"after\" must be an event number or \"now\".";
static const char bad_last_id[] = "\"lastEventId\" must be an event number.";
static const char bad_types[] =
	"\"types\" must be a comma-separated list of at most 128 event type names.";
static const char bad_length[] = "A part of the URL is too long.";

/* The value of a hexadecimal digit, or -1. */
static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/*
 * Decode %XX (and + as a space in a form) into out, which is terminated.  An
 * escaped NUL is malformed: no key, number or name contains one.
 */
const char *
percent_decode(const char *raw, size_t len, bool form, char *out, size_t size, size_t *out_len)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++)
	{
		char c = raw[i];

		if (c == '%')
		{
			int high = i + 2 < len ? hex_value(raw[i + 1]) : -1;
			int low = i + 2 < len ? hex_value(raw[i + 2]) : -1;

			if (high < 0 || low < 0 || (high == 0 && low == 0))
				return bad_escape;
			c = (char) (high << 4 | low);
			i += 2;
		}
		else if (c == '+' && form)
			c = ' ';
		if (n + 1 >= size)
			return bad_length;
		out[n++] = c;
	}
	out[n] = '\0';
	*out_len = n;
	return NULL;
}

/* May this byte stand in a key, though perhaps not at its beginning? */
bool
stream_key_byte(unsigned char c)
{
	return c >= 0x80 || isalnum(c) || (c != '\0' && strchr("_-.:@+~=", c) != NULL);
}

/* Does the text keep the rules that bad_key states? */
static bool
key_is_valid(const char *text, size_t len)
{
	const char *colon = memchr(text, ':', len);
	size_t i = 0;

	if (len == 0 || len > STREAM_KEY_MAX || (colon != NULL && colon == text + len - 1))
		return false;
	while (i < len)
	{
		unsigned char c = (unsigned char) text[i];
		size_t width = utf8_char(text + i, len - i);

		if (width == 0)
			return false;
		if (!stream_key_byte(c) || (i == 0 && width == 1 && !isalnum(c) && c != '_'))
			return false;
		i += width;
	}
	return true;
}

/* Is it a UUID in its usual spelling? */
bool
stream_key_is_uuid(const StreamKey *key)
{
	if (strlen(key->text) != UUID_LEN)
		return false;
	for (size_t i = 0; i < UUID_LEN; i++)
	{
		bool dash = i == 8 || i == 13 || i == 18 || i == 23;

		if (dash ? key->text[i] != '-' : hex_value(key->text[i]) < 0)
			return false;
	}
	return true;
}

/*
 * Bring a key into its canonical spelling.  Digits alone are the stream's
 * number, without leading zeros; a UUID is folded to lower case.
 */
const char *
stream_key_canonical(const char *text, size_t len, StreamKey *key)
{
	if (!key_is_valid(text, len))
		return bad_key;
	key->numeric = strspn(text, "0123456789") == len;
	if (key->numeric)
	{
		const char *start = text + strspn(text, "0");

		if (*start == '\0')
			start--;
		if (!cursor_number(start, &key->id))
			return bad_range;
		len -= (size_t) (start - text);
		text = start;
	}
	memcpy(key->text, text, len);
	key->text[len] = '\0';
	if (stream_key_is_uuid(key))
		for (size_t i = 0; i < len; i++)
			key->text[i] = (char) tolower((unsigned char) text[i]);
	return NULL;
}

/* Parse the path segment that names a stream. */
const char *
stream_key_parse(const char *raw, size_t len, StreamKey *key)
{
	char text[STREAM_KEY_MAX + 1];
	size_t n;
	const char *error = percent_decode(raw, len, false, text, sizeof(text), &n);

	if (error != NULL)
		return error == bad_length ? bad_key : error;
	return stream_key_canonical(text, n, key);
}

/* Parse a decimal number of a bigint's range, digits alone. */
bool
cursor_number(const char *text, int64_t *seq)
{
	int64_t value = 0;

	if (*text == '\0')
		return false;
	for (; *text != '\0'; text++)
	{
		if (*text < '0' || *text > '9' || __builtin_mul_overflow(value, 10, &value) ||
			__builtin_add_overflow(value, *text - '0', &value))
			return false;
	}
	*seq = value;
	return true;
}

/* Let a Last-Event-ID header, if it is one, override what the query said. */
void
cursor_header(const char *value, Cursor *cursor)
{
	int64_t seq;

	if (value == NULL || !cursor_number(value, &seq))
		return;
	cursor->given = true;
	cursor->now = false;
	cursor->seq = seq;
}

/* Add one name to the filter. */
static const char *
filter_add(TypeFilter *filter, const char *name, size_t len)
{
	char *copy;

	if (len == 0 || len > TYPE_NAME_MAX || filter->count == TYPE_FILTER_MAX)
		return bad_types;
	for (size_t i = 0; i < len; i++)
		if (!isalnum((unsigned char) name[i]) && strchr("_-.:", name[i]) == NULL)
			return bad_types;
	copy = mem_alloc(len + 1);
	memcpy(copy, name, len);
	copy[len] = '\0';
	filter->names = mem_array(filter->names, (size_t) filter->count + 1, sizeof(char *));
	filter->names[filter->count++] = copy;
	return NULL;
}

/* Add a comma-separated list of names. */
const char *
filter_add_list(TypeFilter *filter, const char *list)
{
	for (;;)
	{
		size_t len = strcspn(list, ",");
		const char *error = filter_add(filter, list, len);

		if (error != NULL)
			return error;
		list += len;
		if (*list++ == '\0')
			return NULL;
	}
}

/* What the parameters say until they are weighed against each other. */
typedef struct Query
{
	Cursor after;
	Cursor last_id;
	TypeFilter *filter;
} Query;

/* Take one parameter. */
static const char *
query_take(void *arg, const char *name, const char *value)
{
	Query *query = arg;

	if (strcmp(name, "types") == 0)
		return filter_add_list(query->filter, value);
	if (strcmp(name, "after") == 0)
	{
		query->after.given = true;
		query->after.now = strcmp(value, "now") == 0;
		if (!query->after.now && !cursor_number(value, &query->after.seq))
			return bad_after;
	}
	/* EventSource polyfills send an empty one before they have seen an event. */
	else if (*value != '\0')
	{
		query->last_id.given = true;
		if (!cursor_number(value, &query->last_id.seq))
			return bad_last_id;
	}
	return NULL;
}

/* Decode one "name=value", and take it if its name is one of these. */
static const char *
query_take_raw(const char *raw, size_t len, const char *const *names, QueryTake take, void *arg)
{
	char name[QUERY_NAME_MAX];
	char value[QUERY_VALUE_MAX];
	size_t n;
	const char *equals = memchr(raw, '=', len);
	size_t name_len = equals != NULL ? (size_t) (equals - raw) : len;
	size_t value_len = equals != NULL ? len - name_len - 1 : 0;
	const char *error = percent_decode(raw, name_len, true, name, sizeof(name), &n);

	if (error == bad_length)
		return NULL; /* longer than any name known here */
	if (error != NULL)
		return error;
	while (*names != NULL && strcmp(name, *names) != 0)
		names++;
	if (*names == NULL)
		return NULL;
	error = percent_decode(raw + len - value_len, value_len, true, value, sizeof(value), &n);
	return error != NULL ? error : take(arg, name, value);
}

/*
 * Take the parameters of a query (NULL for none) whose names are in the list,
 * which ends with NULL; others are none of our business.
 */
const char *
query_each(const char *query, const char *const *names, QueryTake take, void *arg)
{
	const char *error = NULL;

	while (query != NULL && *query != '\0' && error == NULL)
	{
		size_t len = strcspn(query, "&");

		error = query_take_raw(query, len, names, take, arg);
		query += len;
		if (*query == '&')
			query++;
	}
	return error;
}

/*
 * Parse a query string (NULL for none).  lastEventId wins over after: a client
 * that sends it on reconnecting keeps the URL it began with.  On an error the
 * filter is left empty.
 */
const char *
query_parse(const char *text, Cursor *cursor, TypeFilter *filter)
{
	static const char *const names[] = {"types", "after", "lastEventId", NULL};
	Query query = {.filter = filter};
	const char *error;

	*cursor = (Cursor){0};
	*filter = (TypeFilter){0};
	error = query_each(text, names, query_take, &query);
	if (error != NULL)
		filter_free(filter);
	else
		*cursor = query.last_id.given ? query.last_id : query.after;
	return error;
}

/* Add the names as an array of PostgreSQL's; they hold neither quotes nor backslashes. */
void
filter_render(const TypeFilter *filter, Buf *out)
{
	for (int i = 0; i < filter->count; i++)
		buf_format(out, "%s\"%s\"", i > 0 ? "," : "{", filter->names[i]);
	buf_text(out, "}");
}

/* Does it let events of this type pass? */
bool
filter_has(const TypeFilter *filter, const char *type)
{
	for (int i = 0; i < filter->count; i++)
		if (strcmp(filter->names[i], type) == 0)
			return true;
	return filter->count == 0;
}

/* Release a filter's names. */
void
filter_free(TypeFilter *filter)
{
	for (int i = 0; i < filter->count; i++)
		free(filter->names[i]);
	free(filter->names);
	*filter = (TypeFilter){0};
}
