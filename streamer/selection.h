/*
 * selection.h
 *		What a request for events asks for: which streams, from where, which types.
 */
#ifndef PEV_SELECTION_H
#define PEV_SELECTION_H

#include <stdbool.h>
#include <stdint.h>

#include "cursor.h"

#define SELECTION_ERROR_MAX 384

/* One of the streams, and where to begin in it. */
typedef struct Choice
{
	StreamKey key;
	Cursor cursor;
	int index; /* of the first parameter that names it */
} Choice;

/* selection_free ends it. */
typedef struct Selection
{
	bool composite;  /* by parameters, of which there may be many; else by the path */
	bool generation; /* by the path that generations have; see generation.c */
	int count;       /* streams, each once; of the path, 0 if that names none */
	Choice *choices;
	uint64_t check; /* of the parameters, see composite.h */
	TypeFilter filter;
	char error[SELECTION_ERROR_MAX]; /* what is wrong, in a sentence; or empty */
} Selection;

extern const char *selection_take_path(Selection *selection, const char *target);
extern void selection_parse(Selection *selection, const char *target, const char *last_id,
							int most);
extern void selection_free(Selection *selection);

#endif
