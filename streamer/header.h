/*
 * header.h
 *		Whether a request's header is one that everybody reads alike.
 */
#ifndef PEV_HEADER_H
#define PEV_HEADER_H

#include <stdbool.h>

/* Zeroed, then shown every field. */
typedef struct HeaderCheck
{
	unsigned int seen; /* a bit for each field that may be there once */
	const char *fault; /* a sentence that tells the client; NULL: none yet */
} HeaderCheck;

extern void header_check(HeaderCheck *check, const char *name, const char *value);
extern const char *header_fault(const HeaderCheck *check, bool http_1_0);

#endif
