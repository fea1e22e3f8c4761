/*
 * composite.c
 *		Ids that tell the position in each of several streams.
 *
 * An id is "INDEX:POSITION:REST".  The index says which parameter of the request
 * names the event's stream, and the position is the event's number there, both in
 * decimal, for clients to read.  REST is three characters of checksum, by which
 * an id that belongs to other streams or to another order is found out, and the
 * positions in all other streams, in the order of the request.
 *
 * Browsers send an id back as a header, and to other origins without asking first
 * only if it has at most 128 bytes of the plainest kind.  So positions are written
 * in digits to the base of 32, least first, without anything between them: the
 * characters of the second half of the alphabet say that more digits follow.  With
 * 32 streams that suffices for 32,767 events in each, or for a million in most.
 *
 * There is one way to write an id, and no other is read.
 *
 * Pure: no libpq, no libmicrohttpd, no state.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "composite.h"
#include "hash.h"

#define DIGIT_BITS  5
#define DIGIT_MORE  (1 << DIGIT_BITS)
#define CHECK_CHARS 3
#define CHECK_BITS  6 /* of a character */
#define BIGINT_BITS 63

/* That of base64url (RFC 4648), so that none needs an escape anywhere. */
static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/*
 * Take one more stream into the checksum, which begins with HASH_START.  The NUL
 * parts it from the next.
 */
uint64_t
composite_check(uint64_t check, const StreamKey *key)
{
	return hash_bytes(check, key->text, strlen(key->text) + 1);
}

/*
 * Append three characters of the checksum, and return the place after them.
 * Clients hold ids while daemons change, so how they are made had better not.
 */
static char *
check_put(char *out, uint64_t check)
{
	check = hash_finish(check);
	for (int i = 0; i < CHECK_CHARS; i++, check >>= CHECK_BITS)
		*out++ = alphabet[check & ((1 << CHECK_BITS) - 1)];
	return out;
}

/* Append a position and return the place after it. */
static char *
position_put(char *out, uint64_t position)
{
	for (; position >= DIGIT_MORE; position >>= DIGIT_BITS)
		*out++ = alphabet[(position & (DIGIT_MORE - 1)) | DIGIT_MORE];
	*out++ = alphabet[position];
	return out;
}

/*
 * Write the id of an event of the stream in that place, which the parameter of
 * that index names.  out has room for COMPOSITE_ID_MAX + 1.
 */
void
composite_format(uint64_t check, int index, int which, int count, const int64_t *positions,
				 char *out)
{
	out += sprintf(out, "%d:%" PRId64 ":", index, positions[which]);
	out = check_put(out, check);
	for (int i = 0; i < count; i++)
		if (i != which)
			out = position_put(out, (uint64_t) positions[i]);
	*out = '\0';
}

/* Read a position and move on; false if there is none in its only spelling. */
static bool
position_take(const char **text, int64_t *position)
{
	uint64_t value = 0;

	for (int shift = 0; shift < BIGINT_BITS; shift += DIGIT_BITS)
	{
		const char *found = **text != '\0' ? strchr(alphabet, **text) : NULL;
		uint64_t digit;

		if (found == NULL)
			return false;
		(*text)++;
		digit = (uint64_t) (found - alphabet) & (DIGIT_MORE - 1);
		value |= digit << shift;
		if (value >> shift != digit || value > INT64_MAX)
			return false;
		if (found - alphabet >= DIGIT_MORE)
			continue;
		*position = (int64_t) value;
		return digit != 0 || shift == 0;
	}
	return false;
}

/* Read a decimal number up to a colon and move on behind it; false as above. */
static bool
decimal_take(const char **text, int64_t *number)
{
	char digits[20];
	size_t len = strcspn(*text, ":");

	if (len >= sizeof(digits) || (*text)[len] == '\0' || (**text == '0' && len > 1))
		return false;
	memcpy(digits, *text, len);
	digits[len] = '\0';
	*text += len + 1;
	return cursor_number(digits, number);
}

/*
 * Read an id that composite_format has written for the same streams; indexes has
 * those of the parameters that name them.  False if it is none.
 */
bool
composite_parse(const char *text, uint64_t check, int count, const int *indexes, int64_t *positions)
{
	char sum[CHECK_CHARS];
	int64_t index;
	int64_t position;
	int which = 0;

	if (!decimal_take(&text, &index) || !decimal_take(&text, &position))
		return false;
	while (which < count && indexes[which] != index)
		which++;
	check_put(sum, check);
	if (which == count || strncmp(text, sum, CHECK_CHARS) != 0)
		return false;
	text += CHECK_CHARS;
	positions[which] = position;
	for (int i = 0; i < count; i++)
		if (i != which && !position_take(&text, &positions[i]))
			return false;
	return *text == '\0';
}
