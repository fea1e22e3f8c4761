/*
 * doorbell.c
 *		The payloads of the notifications that the extension sends.
 *
 * Anybody who may connect to the database may NOTIFY, so a payload is untrusted.
 * A doorbell only says where to look; one that cannot be read therefore counts
 * as "look everywhere", which is always right.  An event that is not stored has
 * nothing to be looked up, so one that cannot be read is dropped.
 *
 * Pure: no libpq, no libmicrohttpd, no state.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "doorbell.h"

/* Parse a decimal bigint that ends in the given byte, and step over both. */
static bool
number_until(const char **text, char end, int64_t *value)
{
	char *stop;
	const char *digits = **text == '-' ? *text + 1 : *text;

	if (*digits < '0' || *digits > '9')
		return false;
	errno = 0;
	*value = strtoll(*text, &stop, 10);
	if (errno != 0 || *stop != end)
		return false;
	*text = end == '\0' ? stop : stop + 1;
	return true;
}

/* Take the next token from a payload of "id:seq id:seq ...", "*" or "new". */
DoorbellToken
doorbell_next(const char **payload, int64_t *stream, int64_t *seq)
{
	const char *text = *payload + strspn(*payload, " ");
	const char *end = text + strcspn(text, " ");

	*payload = end;
	if (text == end)
		return DOORBELL_END;
	if (number_until(&text, ':', stream) && number_until(&text, *end, seq))
		return DOORBELL_STREAM;
	if (end - text == 3 && strncmp(text, "new", 3) == 0)
		return DOORBELL_NEW;
	return DOORBELL_EVERYWHERE;
}

/* Take "n id type json" or "n * type json" apart; n only keeps payloads distinct. */
bool
live_parse(const char *payload, LiveEvent *event)
{
	const char *text = payload;
	const char *space;
	int64_t number;

	event->stream = 0;
	if (!number_until(&text, ' ', &number))
		return false;
	event->global = strncmp(text, "* ", 2) == 0;
	if (event->global)
		text += 2;
	else if (!number_until(&text, ' ', &event->stream))
		return false;
	space = strchr(text, ' ');
	if (space == NULL || space == text || space[1] == '\0')
		return false;
	event->type = text;
	event->type_len = (size_t) (space - text);
	event->data = space + 1;
	return true;
}
