/*
 * types.c
 *		The names of the event types that the database knows.
 *
 * A filter that names a type which does not exist would wait for ever without
 * a word, so it is refused.  The names are read anew whenever a filter has one
 * that is not among them, since types can be registered at any time.
 *
 * Pure: no libpq, no libmicrohttpd.
 */
#include <stdlib.h>
#include <string.h>

#include "mem.h"
#include "types.h"

/* A list of names, sorted once it is complete. */
typedef struct NameList
{
	char **names;
	size_t count;
} NameList;

static NameList known;
static NameList incoming;

static void
list_free(NameList *list)
{
	for (size_t i = 0; i < list->count; i++)
		free(list->names[i]);
	free(list->names);
	*list = (NameList){0};
}

static int
compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

/* A new list of names is about to come. */
void
types_begin(void)
{
	list_free(&incoming);
}

/* One name. */
void
types_add(const char *name)
{
	incoming.names = mem_array(incoming.names, incoming.count + 1, sizeof(char *));
	incoming.names[incoming.count++] = mem_string(name);
}

/* That was all, or (not complete) the list could not be read and the old one stays. */
void
types_end(bool complete)
{
	if (complete)
	{
		list_free(&known);
		known = incoming;
		incoming = (NameList){0};
		if (known.count > 0)
			qsort(known.names, known.count, sizeof(char *), compare_names);
	}
	list_free(&incoming);
}

void
types_free(void)
{
	list_free(&known);
	list_free(&incoming);
}

/* The first name of the filter that is not known, or NULL. */
const char *
types_unknown(const TypeFilter *filter)
{
	for (int i = 0; i < filter->count; i++)
		if (known.count == 0 || bsearch(&filter->names[i], known.names, known.count, sizeof(char *),
										compare_names) == NULL)
			return filter->names[i];
	return NULL;
}
