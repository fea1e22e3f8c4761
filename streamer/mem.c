/*
 * mem.c
 *		Allocation that cannot fail, and a growing byte buffer.
 *
 * The daemon's memory is bounded by its options, so a failed allocation means
 * that the machine is out of memory altogether.  Clients resume from the table
 * by their last id, hence dying at once is safe and every caller is spared a
 * path that could never be tested.
 */
#include <malloc.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mem.h"

#define BUF_FIRST_SIZE 256

/* Say so and die: see the head of the file. */
static void
mem_exhausted(size_t size)
{
	fprintf(stderr, "pev-streamer: out of memory (%zu bytes wanted)\n", size);
	abort();
}

/* Allocate, uninitialised; the caller frees with free(). */
void *
mem_alloc(size_t size)
{
	void *new = malloc(size);

	if (new == NULL)
		mem_exhausted(size);
	return new;
}

/* Allocate, zeroed. */
void *
mem_zero(size_t size)
{
	void *new = calloc(1, size);

	if (new == NULL)
		mem_exhausted(size);
	return new;
}

/* Resize an array (NULL for a new one) to count elements, checking for overflow. */
void *
mem_array(void *old, size_t count, size_t size)
{
	void *new;

	if (size != 0 && count > SIZE_MAX / size)
		mem_exhausted(SIZE_MAX);
	new = realloc(old, count * size);
	if (new == NULL)
		mem_exhausted(count * size);
	return new;
}

/* Copy a string. */
char *
mem_string(const char *text)
{
	size_t size = strlen(text) + 1;

	return memcpy(mem_alloc(size), text, size);
}

/*
 * Give back to the machine what has been freed.  malloc does so by itself only
 * where nothing in use lies behind, which after a crowd has left is nowhere.
 */
void
mem_trim(void)
{
	(void) malloc_trim(0);
}

/* Start with an empty, already terminated buffer. */
void
buf_init(Buf *buf)
{
	buf->size = BUF_FIRST_SIZE;
	buf->data = mem_alloc(buf->size);
	buf_clear(buf);
}

void
buf_free(Buf *buf)
{
	free(buf->data);
	buf->data = NULL;
}

/* Forget the contents, keep the memory. */
void
buf_clear(Buf *buf)
{
	buf->len = 0;
	buf->data[0] = '\0';
}

/* Make room for so many more bytes and the terminator. */
static void
buf_reserve(Buf *buf, size_t more)
{
	size_t size = buf->size;

	if (more >= SIZE_MAX / 2 - buf->len)
		mem_exhausted(more);
	while (size <= buf->len + more)
		size *= 2;
	if (size != buf->size)
	{
		buf->data = mem_array(buf->data, size, 1);
		buf->size = size;
	}
}

void
buf_add(Buf *buf, const char *bytes, size_t len)
{
	buf_reserve(buf, len);
	memcpy(buf->data + buf->len, bytes, len);
	buf->len += len;
	buf->data[buf->len] = '\0';
}

void
buf_text(Buf *buf, const char *text)
{
	buf_add(buf, text, strlen(text));
}

void
buf_format(Buf *buf, const char *format, ...)
{
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(NULL, 0, format, args);
	va_end(args);
	if (len < 0)
		return;
	buf_reserve(buf, (size_t) len);
	va_start(args, format);
	vsnprintf(buf->data + buf->len, (size_t) len + 1, format, args);
	va_end(args);
	buf->len += (size_t) len;
}
