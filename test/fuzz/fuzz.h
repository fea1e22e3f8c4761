/*
 * fuzz.h
 *		What the fuzz targets share.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

/* This must hold. */
static inline void
must(bool holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "%s\n", what);
	abort();
}

/*
 * The next line of the input, or what is left of it, up to a NUL at most: a copy
 * of its own, terminated, so that a read beyond either end is found out.
 */
static inline char *
take_line(const uint8_t **bytes, size_t *len)
{
	const uint8_t *end = memchr(*bytes, '\n', *len);
	size_t width = end != NULL ? (size_t) (end - *bytes) : *len;
	char *line = strndup((const char *) *bytes, width);

	must(line != NULL, "memory");
	*bytes += width + (end != NULL);
	*len -= width + (end != NULL);
	return line;
}

/* Append every byte as a percent escape, as whoever writes a URL may. */
static inline void
escape(char *out, const char *text)
{
	for (out += strlen(out); *text != '\0'; text++, out += 3)
		sprintf(out, "%%%02X", (unsigned char) *text);
	*out = '\0';
}

#endif
