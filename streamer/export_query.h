/*
 * export_query.h
 *		Which events of a stream an export is to hold, and how it is written.
 */
#ifndef PEV_EXPORT_QUERY_H
#define PEV_EXPORT_QUERY_H

#include "cursor.h"
#include "export_format.h"

/* export_query_free ends it. */
typedef struct ExportQuery
{
	ExportFormat format;
	int64_t after;  /* only events with a greater number */
	int64_t before; /* only events with a smaller number */
	TypeFilter types;
} ExportQuery;

/* NULL, or a sentence that tells the client what is wrong with the query (NULL: there is none). */
extern const char *export_query_parse(const char *text, ExportQuery *query);
extern void export_query_free(ExportQuery *query);

#endif
