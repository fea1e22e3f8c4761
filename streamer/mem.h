/*
 * mem.h
 *		Allocation that cannot fail, and a growing byte buffer.
 */
#ifndef PEV_MEM_H
#define PEV_MEM_H

#include <stddef.h>

extern void *mem_alloc(size_t size);
extern void *mem_zero(size_t size);
extern void *mem_array(void *old, size_t count, size_t size);
extern char *mem_string(const char *text);
extern void mem_trim(void);

/* A NUL-terminated buffer that grows.  Whoever calls buf_init calls buf_free. */
typedef struct Buf
{
	char *data;
	size_t len;
	size_t size;
} Buf;

extern void buf_init(Buf *buf);
extern void buf_free(Buf *buf);
extern void buf_clear(Buf *buf);
extern void buf_add(Buf *buf, const char *bytes, size_t len);
extern void buf_text(Buf *buf, const char *text);
extern void buf_format(Buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
