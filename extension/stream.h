/*
 * stream.h
 *		Streams: their keys, numbers and kinds.
 */
#ifndef PEV_STREAM_H
#define PEV_STREAM_H

#include "catalog.h"

#define STREAM_KEY_MAX 200 /* bytes of a key */

extern char *stream_key_canonical(const char *key, int len);
extern bool stream_key_is_number(const char *key, int64 *id);
extern int64 stream_create(const PevCatalog *catalog, const char *key);
extern void stream_check(const PevCatalog *catalog, int64 id, const char *family);
extern const char *stream_display(const PevCatalog *catalog, int64 id);
extern const char *stream_name(const PevCatalog *catalog, int64 id);

#endif /* PEV_STREAM_H */
