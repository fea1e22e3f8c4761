/*
 * composite.h
 *		Ids that tell the position in each of several streams.
 */
#ifndef PEV_COMPOSITE_H
#define PEV_COMPOSITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cursor.h"

#define COMPOSITE_STREAMS_MAX 256
#define COMPOSITE_ID_MAX      (32 + 13 * COMPOSITE_STREAMS_MAX) /* bytes */

extern uint64_t composite_check(uint64_t check, const StreamKey *key);
extern void composite_format(uint64_t check, int index, int which, int count,
							 const int64_t *positions, char *out);
extern bool composite_parse(const char *text, uint64_t check, int count, const int *indexes,
							int64_t *positions);

#endif
