/*
 * selection.c
 *		What a request for events asks for: which streams, from where, which types.
 *
 * A path names one stream, and its ids are numbers; the path of a generation, by
 * a UUID.  Parameters name several, whose ids are composite, even if it is only one.
 *
 * A composite id that does not fit the streams is an error, in the header too: to
 * begin anew would send everything twice, and the id's positions in other streams
 * mean nothing.  No EventSource comes into that, for it returns to the same URL.
 *
 * Pure: no libpq, no libmicrohttpd, no state.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "composite.h"
#include "hash.h"
#include "mem.h"
#include "selection.h"

static const char path_events[] = "/events/";
static const char path_generations[] = "/generations/";

static const char bad_uuid[] = "A generation is named by a UUID.";
static const char bad_none[] = "\"stream\" must name a stream; it may be repeated.";
static const char bad_id[] =
	"The event id was not given for these streams in this order, each by its parameter \"stream\".";
static const char bad_start[] =
	"\"after\" must be \"now\", an event id, or the numbers of events, one for each stream in "
	"their order with commas between, which then are named once each.";

/* What the parameters say until all have been seen. */
typedef struct Many
{
	Selection *selection;
	int most;
	int named;   /* parameters, repeats included */
	char *after; /* NULL: not given, as the next */
	char *last_id;
} Many;

/* The choice of this stream, if it has been made already. */
static bool
selection_has(const Selection *selection, const StreamKey *key)
{
	for (int i = 0; i < selection->count; i++)
		if (strcmp(selection->choices[i].key.text, key->text) == 0)
			return true;
	return false;
}

/* Add a stream.  One that is named again is the same. */
static const char *
selection_add(Many *many, const char *text)
{
	Selection *selection = many->selection;
	Choice choice = {.index = many->named++};
	const char *error = stream_key_canonical(text, strlen(text), &choice.key);

	if (error != NULL)
		snprintf(selection->error, SELECTION_ERROR_MAX, "Parameter \"stream\" number %d: %s",
				 many->named, error);
	else if (selection->count == many->most && !selection_has(selection, &choice.key))
		snprintf(selection->error, SELECTION_ERROR_MAX,
				 "A request may name %d streams, and this one names more.", many->most);
	if (selection->error[0] != '\0')
		return selection->error;
	selection->check = composite_check(selection->check, &choice.key);
	if (selection_has(selection, &choice.key))
		return NULL;
	selection->choices =
		mem_array(selection->choices, (size_t) selection->count + 1, sizeof(Choice));
	selection->choices[selection->count++] = choice;
	return NULL;
}

/* Take one parameter; of those that are repeated in vain the last counts. */
static const char *
selection_take(void *arg, const char *name, const char *value)
{
	Many *many = arg;
	char **text = strcmp(name, "after") == 0 ? &many->after : &many->last_id;

	if (strcmp(name, "stream") == 0)
		return selection_add(many, value);
	if (strcmp(name, "types") == 0)
		return filter_add_list(&many->selection->filter, value);
	free(*text);
	*text = mem_string(value);
	return NULL;
}

/* Begin where an id says. */
static bool
selection_resume(Selection *selection, const char *id)
{
	int indexes[COMPOSITE_STREAMS_MAX];
	int64_t positions[COMPOSITE_STREAMS_MAX];

	for (int i = 0; i < selection->count; i++)
		indexes[i] = selection->choices[i].index;
	if (!composite_parse(id, selection->check, selection->count, indexes, positions))
		return false;
	for (int i = 0; i < selection->count; i++)
		selection->choices[i].cursor = (Cursor){.given = true, .seq = positions[i]};
	return true;
}

/* Begin after these numbers. */
static bool
selection_start(Selection *selection, const char *list)
{
	for (int i = 0; i < selection->count; i++)
	{
		size_t len = strcspn(list, ",");
		char number[24];
		Cursor *cursor = &selection->choices[i].cursor;

		if (len >= sizeof(number) || (list[len] == ',') != (i + 1 < selection->count))
			return false;
		memcpy(number, list, len);
		number[len] = '\0';
		cursor->given = true;
		if (!cursor_number(number, &cursor->seq))
			return false;
		list += len + 1;
	}
	return true;
}

/* Begin with what happens from now on. */
static void
selection_start_now(Selection *selection)
{
	for (int i = 0; i < selection->count; i++)
		selection->choices[i].cursor = (Cursor){.given = true, .now = true};
}

/* Settle where to begin.  The header wins over lastEventId, and that over after. */
static const char *
selection_place(Many *many, const char *header)
{
	Selection *selection = many->selection;
	bool has_header = header != NULL && *header != '\0';

	if (has_header || (many->last_id != NULL && *many->last_id != '\0'))
		return selection_resume(selection, has_header ? header : many->last_id) ? NULL : bad_id;
	if (many->after == NULL)
		return NULL;
	if (strcmp(many->after, "now") == 0)
		selection_start_now(selection);
	else if (strchr(many->after, ':') != NULL)
		return selection_resume(selection, many->after) ? NULL : bad_id;
	else if (many->named != selection->count || !selection_start(selection, many->after))
		return bad_start;
	return NULL;
}

/* Parse the query of a request that names its streams there. */
static const char *
selection_parse_many(Selection *selection, const char *query, const char *header, int most)
{
	static const char *const names[] = {"stream", "types", "after", "lastEventId", NULL};
	Many many = {.selection = selection, .most = most};
	const char *error;

	*selection = (Selection){0};
	selection->composite = true;
	selection->check = HASH_START;
	error = query_each(query, names, selection_take, &many);
	if (error == NULL && selection->count == 0)
		error = bad_none;
	if (error == NULL)
		error = selection_place(&many, header);
	free(many.after);
	free(many.last_id);
	return error;
}

/* Does the target begin with this path? */
static bool
target_is_below(const char *target, const char *path)
{
	return strncmp(target, path, strlen(path)) == 0;
}

/* Begin a selection with the stream that the path of a raw target names; or say what is wrong. */
const char *
selection_take_path(Selection *selection, const char *target)
{
	bool generation = target_is_below(target, path_generations);
	const char *name = target + strlen(generation ? path_generations : path_events);
	Choice choice = {0};
	const char *error = stream_key_parse(name, strcspn(name, "/?"), &choice.key);

	*selection = (Selection){.generation = generation};
	if (generation && (error != NULL || !stream_key_is_uuid(&choice.key)))
		return bad_uuid;
	if (error != NULL)
		return error;
	selection->choices = mem_array(NULL, 1, sizeof(Choice));
	selection->choices[selection->count++] = choice;
	return NULL;
}

/* Parse a target whose path names a stream. */
static const char *
selection_parse_one(Selection *selection, const char *target, const char *query, const char *header)
{
	const char *error = selection_take_path(selection, target);

	if (error == NULL)
		error = query_parse(query, &selection->choices[0].cursor, &selection->filter);
	if (error == NULL)
		cursor_header(header, &selection->choices[0].cursor);
	return error;
}

/*
 * Parse the raw target of a request, whose path is "/events", goes on with a slash
 * and a key, or is that of a generation; last_id is its header Last-Event-ID, or
 * NULL.  It may name so many streams, COMPOSITE_STREAMS_MAX at most.
 */
void
selection_parse(Selection *selection, const char *target, const char *last_id, int most)
{
	const char *query = strchr(target, '?');
	const char *error;

	query = query != NULL ? query + 1 : NULL;
	if (target_is_below(target, path_events) || target_is_below(target, path_generations))
		error = selection_parse_one(selection, target, query, last_id);
	else
		error = selection_parse_many(selection, query, last_id, most);
	if (error != NULL && error != selection->error)
		snprintf(selection->error, SELECTION_ERROR_MAX, "%s", error);
}

/* Release it. */
void
selection_free(Selection *selection)
{
	free(selection->choices);
	filter_free(&selection->filter);
	*selection = (Selection){0};
}
