/*
 * header.c
 *		Whether a request's header is one that everybody reads alike.
 *
 * libmicrohttpd makes the best of what it gets: of two lengths it takes the first,
 * of a length and chunks the chunks, and "Content-Length :" it takes for a field
 * of another name.  A proxy in front may choose otherwise, and then the two of
 * them disagree where the next request begins, which lets one client speak in
 * the name of another (RFC 9112, section 11.2).  So what can be read in two ways
 * is refused, and the connection ends.
 *
 * Two things cannot be seen from here: a value ends at a NUL, which proxies do
 * not let through, and a line that begins with a colon ends the header.
 *
 * Pure: no libmicrohttpd.
 */
#include <ctype.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

#include "header.h"

#define BIT(field) (1u << (field))

/* The fields that may be there once. */
enum
{
	HEADER_LENGTH,
	HEADER_CODING,
	HEADER_HOST,
	HEADER_TYPE,
	HEADER_KEY,
	HEADER_FIELDS
};

static const char *const fields[HEADER_FIELDS] = {
	[HEADER_LENGTH] = "Content-Length",
	[HEADER_CODING] = "Transfer-Encoding",
	[HEADER_HOST] = "Host",
	[HEADER_TYPE] = "Content-Type",
	[HEADER_KEY] = "Idempotency-Key",
};

/* Is it a name?  A token, as RFC 9110, section 5.6.2, has it. */
static bool
name_is_valid(const char *name)
{
	if (*name == '\0')
		return false;
	for (; *name != '\0'; name++)
		if (!isalnum((unsigned char) *name) && strchr("!#$%&'*+-.^_`|~", *name) == NULL)
			return false;
	return true;
}

/* Is it a value?  It holds no control characters, tabs apart. */
static bool
value_is_valid(const char *value)
{
	for (; *value != '\0'; value++)
		if (((unsigned char) *value < ' ' && *value != '\t') || *value == '\x7f')
			return false;
	return true;
}

/* Take note of a field. */
void
header_check(HeaderCheck *check, const char *name, const char *value)
{
	if (!name_is_valid(name))
		check->fault = "The name of a header field holds a character that none may.";
	else if (!value_is_valid(value))
		check->fault = "The value of a header field holds a control character.";
	for (int i = 0; i < HEADER_FIELDS; i++)
	{
		if (strcasecmp(name, fields[i]) != 0)
			continue;
		if (check->seen & BIT(i))
			check->fault = "A header field is there twice that may be there once.";
		check->seen |= BIT(i);
		if (i == HEADER_CODING && strcasecmp(value, "chunked") != 0)
			check->fault = "The only Transfer-Encoding is chunked.";
	}
}

/* What is wrong with the fields seen, in a request of this version; NULL: nothing. */
const char *
header_fault(const HeaderCheck *check, bool http_1_0)
{
	if (check->fault != NULL || !(check->seen & BIT(HEADER_CODING)))
		return check->fault;
	if (http_1_0)
		return "HTTP/1.0 knows no Transfer-Encoding.";
	return check->seen & BIT(HEADER_LENGTH)
			   ? "A request has either a Content-Length or a Transfer-Encoding."
			   : NULL;
}
