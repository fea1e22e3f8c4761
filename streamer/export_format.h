/*
 * export_format.h
 *		Events as the lines of a file.
 */
#ifndef PEV_EXPORT_FORMAT_H
#define PEV_EXPORT_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mem.h"

typedef enum ExportFormat
{
	EXPORT_NDJSON, /* an object a line */
	EXPORT_JSON,   /* one array */
	EXPORT_CSV     /* RFC 4180, with a header */
} ExportFormat;

typedef struct ExportRow
{
	int64_t seq;
	int64_t id;
	const char *type;
	int64_t created;  /* microseconds since 2000-01-01 00:00 UTC */
	const char *data; /* JSON on one line */
	size_t data_len;
} ExportRow;

extern bool export_format_parse(const char *name, ExportFormat *format);
extern const char *export_media_type(ExportFormat format);
extern void export_disposition(ExportFormat format, const char *key, Buf *out);

/* A file begins, has rows, and ends. */
extern void export_format_begin(ExportFormat format, Buf *out);
extern void export_format_row(ExportFormat format, const ExportRow *row, bool first, Buf *out);
extern void export_format_end(ExportFormat format, bool empty, Buf *out);

#endif
