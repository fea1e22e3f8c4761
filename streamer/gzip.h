/*
 * gzip.h
 *		Compressing what is written, as it is written.
 */
#ifndef PEV_GZIP_H
#define PEV_GZIP_H

#include "mem.h"

typedef struct Gzip Gzip;

extern Gzip *gzip_new(void);
extern void gzip_add(Gzip *gzip, const char *bytes, size_t len, Buf *out);
extern void gzip_end(Gzip *gzip, Buf *out);
extern void gzip_free(Gzip *gzip);

#endif
