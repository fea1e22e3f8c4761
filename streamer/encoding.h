/*
 * encoding.h
 *		Whether a client would rather have a response compressed.
 */
#ifndef PEV_ENCODING_H
#define PEV_ENCODING_H

#include <stdbool.h>

/* accept: the header Accept-Encoding, or NULL. */
extern bool encoding_is_gzip(const char *accept);

#endif
