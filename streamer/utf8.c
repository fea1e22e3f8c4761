/*
 * utf8.c
 *		UTF-8, as RFC 3629 has it.
 *
 * Pure: no libpq, no libmicrohttpd.
 */
#include "utf8.h"

/* The length of the character at text, of which so many bytes are there; 0 if it is malformed. */
size_t
utf8_char(const char *text, size_t left)
{
	const unsigned char *bytes = (const unsigned char *) text;
	unsigned char c = bytes[0];
	size_t len = c < 0x80 ? 1 : c >= 0xC2 && c <= 0xDF ? 2 : (c & 0xF0) == 0xE0 ? 3 : 4;

	if (len == 1)
		return 1;
	if (c < 0xC2 || c > 0xF4 || len > left)
		return 0;
	for (size_t i = 1; i < len; i++)
		if ((bytes[i] & 0xC0) != 0x80)
			return 0;
	if ((c == 0xE0 && bytes[1] < 0xA0) || (c == 0xED && bytes[1] > 0x9F) ||
		(c == 0xF0 && bytes[1] < 0x90) || (c == 0xF4 && bytes[1] > 0x8F))
		return 0;
	return len;
}
