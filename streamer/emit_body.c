/*
 * emit_body.c
 *		The body of a request that emits, one event or an array of them, or that queues a job.
 *
 * PostgreSQL reads the events, so that a number keeps its digits and an event
 * that is posted is one that is emitted in SQL.  But what is no JSON at all need
 * not go there, and its author is helped most by being told where it breaks.
 * So the text is checked, in one pass without a copy: that it is JSON (RFC 8259)
 * which jsonb can hold, and made of objects with a type and data.  What is in
 * data is the catalogue's business.  A job's payload is any JSON.
 *
 * jsonb can hold neither U+0000 nor half of a surrogate pair.
 *
 * Pure: no libpq, no libmicrohttpd.
 */
#include <stdint.h>
#include <string.h>

#include "emit_body.h"
#include "utf8.h"

#define DIGITS "0123456789"

typedef struct Scanner
{
	const char *start;
	const char *at; /* where the fault is, once there is one */
	const char *end;
	const char *what; /* NULL: nothing is wrong so far */
	int depth;
} Scanner;

static bool scan_value(Scanner *scan);

/* This is wrong, here. */
static bool
scan_fail(Scanner *scan, const char *what)
{
	scan->what = what;
	return false;
}

/* The next byte, or NUL, which no JSON holds, at the end. */
static char
scan_peek(const Scanner *scan)
{
	return scan->at < scan->end ? *scan->at : '\0';
}

static void
scan_space(Scanner *scan)
{
	while (scan->at < scan->end && memchr(" \t\r\n", *scan->at, 4) != NULL)
		scan->at++;
}

/* Pass this byte, if it is the next. */
static bool
scan_pass(Scanner *scan, char c)
{
	if (scan_peek(scan) != c)
		return false;
	scan->at++;
	return true;
}

/* Pass one or more digits. */
static bool
scan_digits(Scanner *scan)
{
	const char *first = scan->at;

	while (scan_peek(scan) >= '0' && scan_peek(scan) <= '9')
		scan->at++;
	return scan->at > first || scan_fail(scan, "a digit must follow.");
}

static bool
scan_number(Scanner *scan)
{
	(void) scan_pass(scan, '-');
	if (!scan_pass(scan, '0') && !scan_digits(scan))
		return false;
	if (scan_pass(scan, '.') && !scan_digits(scan))
		return false;
	if (scan_pass(scan, 'e') || scan_pass(scan, 'E'))
	{
		(void) (scan_pass(scan, '+') || scan_pass(scan, '-'));
		return scan_digits(scan);
	}
	return true;
}

/* Pass four hexadecimal digits, and set their value. */
static bool
scan_hex(Scanner *scan, unsigned int *value)
{
	static const char digits[] = "0123456789abcdef";

	*value = 0;
	for (int i = 0; i < 4; i++, scan->at++)
	{
		char c = scan_peek(scan);
		const char *digit;

		if (c >= 'A' && c <= 'F')
			c = (char) (c - 'A' + 'a');
		digit = c == '\0' ? NULL : strchr(digits, c);
		if (digit == NULL)
			return scan_fail(scan, "\\u must be followed by four hexadecimal digits.");
		*value = *value << 4 | (unsigned int) (digit - digits);
	}
	return true;
}

/* Pass what follows the backslash and the u. */
static bool
scan_unicode(Scanner *scan)
{
	static const char half[] = "half of a surrogate pair is no character.";
	unsigned int value;

	if (!scan_hex(scan, &value))
		return false;
	if (value == 0)
		return scan_fail(scan, "the character U+0000 cannot be stored.");
	if (value >= 0xDC00 && value <= 0xDFFF)
		return scan_fail(scan, half);
	if (value < 0xD800 || value > 0xDFFF)
		return true;
	if (!scan_pass(scan, '\\') || !scan_pass(scan, 'u') || !scan_hex(scan, &value))
		return scan_fail(scan, half);
	return (value >= 0xDC00 && value <= 0xDFFF) || scan_fail(scan, half);
}

/* Pass what follows a backslash. */
static bool
scan_escape(Scanner *scan)
{
	char c = scan_peek(scan);

	if (c == '\0' || strchr("\"\\/bfnrtu", c) == NULL)
		return scan_fail(scan, "this cannot follow a backslash.");
	scan->at++;
	return c != 'u' || scan_unicode(scan);
}

/* Pass a string, whose first quotation mark is next. */
static bool
scan_string(Scanner *scan)
{
	scan->at++;
	while (scan->at < scan->end)
	{
		unsigned char c = (unsigned char) *scan->at;
		size_t width = utf8_char(scan->at, (size_t) (scan->end - scan->at));

		if (width == 0)
			return scan_fail(scan, "this is not UTF-8.");
		if (c < 0x20)
			return scan_fail(scan, "a control character in a string must be escaped.");
		scan->at += width;
		if (c == '"')
			return true;
		if (c == '\\' && !scan_escape(scan))
			return false;
	}
	return scan_fail(scan, "the text ends within a string.");
}

static bool
scan_word(Scanner *scan, const char *word)
{
	size_t len = strlen(word);

	if ((size_t) (scan->end - scan->at) < len || memcmp(scan->at, word, len) != 0)
		return scan_fail(scan, "a value must follow.");
	scan->at += len;
	return true;
}

/* Go one deeper. */
static bool
scan_enter(Scanner *scan)
{
	if (scan->depth == EMIT_DEPTH_MAX)
		return scan_fail(scan, "arrays and objects are nested more than 128 deep.");
	scan->depth++;
	scan->at++;
	return true;
}

/* After an item: does another follow (true), or does the list end, or is it broken? */
static bool
scan_next(Scanner *scan, char close, const char *what)
{
	scan_space(scan);
	if (scan_pass(scan, ','))
	{
		scan_space(scan);
		return true;
	}
	if (scan_pass(scan, close))
		scan->depth--;
	else
		scan_fail(scan, what);
	return false;
}

static bool
scan_array_next(Scanner *scan)
{
	return scan_next(scan, ']', "a comma or ] must follow.");
}

static bool
scan_object_next(Scanner *scan)
{
	return scan_next(scan, '}', "a comma or } must follow.");
}

/* Pass an array, whose bracket is next. */
static bool
scan_array(Scanner *scan)
{
	if (!scan_enter(scan))
		return false;
	scan_space(scan);
	if (scan_pass(scan, ']'))
	{
		scan->depth--;
		return true;
	}
	do
	{
		if (!scan_value(scan))
			return false;
	} while (scan_array_next(scan));
	return scan->what == NULL;
}

/* Pass a member's name and what follows, up to its value. */
static bool
scan_name(Scanner *scan)
{
	if (scan_peek(scan) != '"')
		return scan_fail(scan, "a member's name in quotation marks must follow.");
	if (!scan_string(scan))
		return false;
	scan_space(scan);
	if (!scan_pass(scan, ':'))
		return scan_fail(scan, "a colon must follow.");
	scan_space(scan);
	return true;
}

/* Pass an object, whose brace is next. */
static bool
scan_object(Scanner *scan)
{
	if (!scan_enter(scan))
		return false;
	scan_space(scan);
	if (scan_pass(scan, '}'))
	{
		scan->depth--;
		return true;
	}
	do
	{
		if (!scan_name(scan) || !scan_value(scan))
			return false;
	} while (scan_object_next(scan));
	return scan->what == NULL;
}

/* Pass any value. */
static bool
scan_value(Scanner *scan)
{
	switch (scan_peek(scan))
	{
		case '{':
			return scan_object(scan);
		case '[':
			return scan_array(scan);
		case '"':
			return scan_string(scan);
		case 't':
			return scan_word(scan, "true");
		case 'f':
			return scan_word(scan, "false");
		case 'n':
			return scan_word(scan, "null");
		default:
			if (scan_peek(scan) == '\0' || strchr("-" DIGITS, scan_peek(scan)) == NULL)
				return scan_fail(scan, "a value must follow.");
			return scan_number(scan);
	}
}

/* Is a string that has been passed this word of letters, however it is escaped? */
static bool
string_is(const char *first, const char *end, const char *word)
{
	Scanner scan = {.at = first + 1, .end = end - 1};

	for (; *word != '\0'; word++)
	{
		unsigned int c = (unsigned char) scan_peek(&scan);

		scan.at++;
		if (c == '\\' && scan_pass(&scan, 'u'))
			(void) scan_hex(&scan, &c);
		if (c != (unsigned char) *word)
			return false;
	}
	return scan.at == scan.end;
}

/* Pass an event's type. */
static bool
scan_type(Scanner *scan, EmitBody *body)
{
	const char *first = scan->at;

	if (scan_peek(scan) != '"')
		return scan_fail(scan, "the type must be a string.");
	if (!scan_string(scan))
		return false;
	if (string_is(first, scan->at, "typing"))
		body->typing++;
	return true;
}

/* Pass one member of an event, if it is one that an event has and that has not come before. */
static bool
scan_event_member(Scanner *scan, EmitBody *body, bool *has_type, bool *has_data)
{
	static const char type[] = "\"type\"";
	static const char data[] = "\"data\"";
	const char *name = scan->at;
	size_t left = (size_t) (scan->end - name);
	bool is_type = left > strlen(type) && memcmp(name, type, strlen(type)) == 0;
	bool is_data = left > strlen(data) && memcmp(name, data, strlen(data)) == 0;

	if (!scan_name(scan))
		return false;
	if ((!is_type && !is_data) || (is_type && *has_type) || (is_data && *has_data))
	{
		scan->at = name;
		return scan_fail(scan, "an event has the members \"type\" and \"data\", each once.");
	}
	*has_type = *has_type || is_type;
	*has_data = *has_data || is_data;
	return is_type ? scan_type(scan, body) : scan_value(scan);
}

/* Pass one event. */
static bool
scan_event(Scanner *scan, EmitBody *body)
{
	const char *first = scan->at;
	bool has_type = false;
	bool has_data = false;

	if (scan_peek(scan) != '{')
		return scan_fail(scan, "an event must be an object.");
	if (!scan_enter(scan))
		return false;
	scan_space(scan);
	if (scan_peek(scan) != '}')
	{
		do
		{
			if (!scan_event_member(scan, body, &has_type, &has_data))
				return false;
		} while (scan_object_next(scan));
		if (scan->what != NULL)
			return false;
	}
	else
		scan->at++;
	if (has_type && has_data)
		return true;
	scan->at = first;
	return scan_fail(scan, has_type ? "the event's \"data\" is missing."
									: "the event's \"type\" is missing.");
}

/* Pass an array of events. */
static bool
scan_batch(Scanner *scan, EmitBody *body)
{
	if (!scan_enter(scan))
		return false;
	scan_space(scan);
	if (scan_peek(scan) == ']')
		return scan_fail(scan, "an event must follow.");
	do
	{
		if (!scan_event(scan, body))
			return false;
		body->count++;
	} while (scan_array_next(scan));
	return scan->what == NULL;
}

/* Nothing but space may be left. */
static bool
scan_end(Scanner *scan)
{
	scan_space(scan);
	return scan->at == scan->end || scan_fail(scan, "nothing must follow.");
}

/* Pass all of it, which is events. */
static bool
scan_events(Scanner *scan, EmitBody *body)
{
	scan_space(scan);
	if (scan->at == scan->end)
		return scan_fail(scan, "there is no event.");
	body->is_batch = scan_peek(scan) == '[';
	body->count = body->is_batch ? 0 : 1;
	return (body->is_batch ? scan_batch(scan, body) : scan_event(scan, body)) && scan_end(scan);
}

/* Pass all of it, which is one value. */
static bool
scan_payload(Scanner *scan)
{
	scan_space(scan);
	if (scan->at == scan->end)
		return scan_fail(scan, "there is no payload.");
	return scan_value(scan) && scan_end(scan);
}

/* Count lines and characters up to the fault. */
static void
scan_locate(const Scanner *scan, EmitFault *fault)
{
	*fault = (EmitFault){scan->what, 1, 1};
	for (const char *p = scan->start; p < scan->at; p++)
	{
		if (*p == '\n')
		{
			fault->line++;
			fault->column = 1;
		}
		else if (((unsigned char) *p & 0xC0) != 0x80)
			fault->column++;
	}
}

/* Is it one event, or an array of them?  If not, fault says why. */
bool
emit_body_check(const char *text, size_t len, EmitBody *body, EmitFault *fault)
{
	Scanner scan = {.start = text, .at = text, .end = text + len};

	*body = (EmitBody){0};
	if (scan_events(&scan, body))
		return true;
	scan_locate(&scan, fault);
	return false;
}

/* Is it JSON?  If not, fault says why. */
bool
emit_payload_check(const char *text, size_t len, EmitFault *fault)
{
	Scanner scan = {.start = text, .at = text, .end = text + len};

	if (scan_payload(&scan))
		return true;
	scan_locate(&scan, fault);
	return false;
}
