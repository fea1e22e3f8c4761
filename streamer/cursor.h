/*
 * cursor.h
 *		What a request for a stream asks for: which stream, from where, which types.
 */
#ifndef PEV_CURSOR_H
#define PEV_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mem.h"

#define STREAM_KEY_MAX  200 /* bytes in a stream's key */
#define TYPE_NAME_MAX   63  /* bytes in a type's name: an enum label */
#define TYPE_FILTER_MAX 128 /* names in one filter */

/* A stream's key in its canonical spelling. */
typedef struct StreamKey
{
	bool numeric;                  /* digits alone: the number itself is the id */
	int64_t id;                    /* if numeric */
	char text[STREAM_KEY_MAX + 1]; /* canonical, NUL-terminated */
} StreamKey;

/* The event types a subscriber wants; none means all.  filter_free ends it. */
typedef struct TypeFilter
{
	int count;
	char **names;
} TypeFilter;

/* Where to begin. */
typedef struct Cursor
{
	bool given;  /* false: from the beginning */
	bool now;    /* only what happens from now on */
	int64_t seq; /* the last event already seen, if given and not now */
} Cursor;

/*
 * Parsers return NULL, or a sentence that tells the client what is wrong; it
 * never repeats what the client sent.
 */
extern const char *percent_decode(const char *raw, size_t len, bool form, char *out, size_t size,
								  size_t *out_len);
extern bool stream_key_byte(unsigned char c);
extern bool stream_key_is_uuid(const StreamKey *key);
extern const char *stream_key_canonical(const char *text, size_t len, StreamKey *key);
extern const char *stream_key_parse(const char *raw, size_t len, StreamKey *key);
extern bool cursor_number(const char *text, int64_t *seq);
extern void cursor_header(const char *value, Cursor *cursor);
extern const char *filter_add_list(TypeFilter *filter, const char *list);

/* Takes a parameter of a query, decoded. */
typedef const char *(*QueryTake)(void *arg, const char *name, const char *value);
extern const char *query_each(const char *query, const char *const *names, QueryTake take,
							  void *arg);
extern const char *query_parse(const char *query, Cursor *cursor, TypeFilter *filter);
extern void filter_render(const TypeFilter *filter, Buf *out);
extern bool filter_has(const TypeFilter *filter, const char *type);
extern void filter_free(TypeFilter *filter);

#endif
