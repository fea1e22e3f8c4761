/*
 * types.h
 *		The names of the event types that the database knows.
 */
#ifndef PEV_TYPES_H
#define PEV_TYPES_H

#include <stdbool.h>

#include "cursor.h"

extern void types_begin(void);
extern void types_add(const char *name);
extern void types_end(bool complete);
extern void types_free(void);
extern const char *types_unknown(const TypeFilter *filter);

#endif
