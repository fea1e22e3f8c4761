/*
 * encoding.c
 *		Whether a client would rather have a response compressed.
 *
 * RFC 9110, section 12.5.3: a list of codings, each with a weight between 0 and 1
 * (not at all), "*" for those that are not listed.  A client that likes both alike
 * gets gzip; one that forbids both is sent the response as it is, which most
 * would rather have than an error.
 *
 * Pure: no libmicrohttpd.
 */
#include <string.h>
#include <strings.h>

#include "encoding.h"

#define WEIGHT_MOST     1000
#define WEIGHT_UNLISTED (-1)

static const char blanks[] = " \t";

/* Parse a weight, "0.8", in thousandths; what is none counts as not at all. */
static int
weight_parse(const char *text, size_t len)
{
	int weight = 0;
	int unit = WEIGHT_MOST;

	if (len == 0 || len > 5 || (text[0] != '0' && text[0] != '1') || (len > 1 && text[1] != '.'))
		return 0;
	for (size_t i = 0; i < len; i++)
	{
		if (i == 1)
			continue;
		if (text[i] < '0' || text[i] > '9')
			return 0;
		weight += (text[i] - '0') * unit;
		unit /= 10;
	}
	return weight > WEIGHT_MOST ? 0 : weight;
}

/* The length of text without the blanks at its end. */
static size_t
trim(const char *text, size_t len)
{
	while (len > 0 && strchr(blanks, text[len - 1]) != NULL)
		len--;
	return len;
}

/* The weight of one item of the list; the coding's name has this length. */
static int
item_weight(const char *item, size_t len, size_t name_len)
{
	const char *end = item + len;
	const char *c = item + name_len;

	if (c == end)
		return WEIGHT_MOST;
	c++; /* the semicolon */
	c += strspn(c, blanks);
	if (end - c < 2 || (*c != 'q' && *c != 'Q') || c[1] != '=')
		return 0;
	return weight_parse(c + 2, trim(c + 2, (size_t) (end - c) - 2));
}

/* Is this the item's name? */
static bool
name_is(const char *item, size_t len, const char *name)
{
	return len == strlen(name) && strncasecmp(item, name, len) == 0;
}

bool
encoding_is_gzip(const char *accept)
{
	int gzip = WEIGHT_UNLISTED;
	int identity = WEIGHT_UNLISTED;
	int others = WEIGHT_UNLISTED;

	for (const char *item = accept; item != NULL && *item != '\0';)
	{
		size_t len;
		size_t name_len;
		int weight;

		item += strspn(item, " \t,");
		len = strcspn(item, ",");
		name_len = strcspn(item, ";,");
		weight = item_weight(item, len, name_len);
		name_len = trim(item, name_len);
		if (name_is(item, name_len, "gzip") || name_is(item, name_len, "x-gzip"))
			gzip = weight;
		else if (name_is(item, name_len, "identity"))
			identity = weight;
		else if (name_is(item, name_len, "*"))
			others = weight;
		item += len;
	}
	if (gzip == WEIGHT_UNLISTED)
		gzip = others;
	if (identity == WEIGHT_UNLISTED)
		identity = others;
	return gzip > 0 && gzip >= identity;
}
