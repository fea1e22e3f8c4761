/*
 * streamer_selection.c
 *		Which streams, from where and which types a request for events asks for.
 */
#include <inttypes.h>
#include <stdint.h>
#include <stdlib.h>

#include "composite.h"
#include "mem.h"
#include "selection.h"
#include "streamer_tap.h"

#define MOST 4

/* What a selection says: "index=key@position" of each stream, joined by spaces. */
static void
describe(const Selection *selection, Buf *out)
{
	if (selection->error[0] != '\0')
	{
		buf_text(out, selection->error);
		return;
	}
	for (int i = 0; i < selection->count; i++)
	{
		const Choice *choice = &selection->choices[i];

		buf_format(out, "%s%d=%s", i > 0 ? " " : "", choice->index, choice->key.text);
		if (choice->cursor.now)
			buf_text(out, "@now");
		else if (choice->cursor.given)
			buf_format(out, "@%" PRId64, choice->cursor.seq);
	}
	for (int i = 0; i < selection->filter.count; i++)
		buf_format(out, " %s", selection->filter.names[i]);
}

/* A request must mean this. */
static void
is_selection(const char *target, const char *header, const char *want)
{
	Selection selection;
	Buf got;

	buf_init(&got);
	selection_parse(&selection, target, header, MOST);
	describe(&selection, &got);
	is(got.data, want, target);
	buf_free(&got);
	selection_free(&selection);
}

/* A request must be refused with words that begin so. */
static void
is_refused(const char *target, const char *header, const char *want)
{
	Selection selection;

	selection_parse(&selection, target, header, MOST);
	ok(want[0] != '\0' && strncmp(selection.error, want, strlen(want)) == 0, target);
	if (strncmp(selection.error, want, strlen(want)) != 0)
		printf("# %s\n", selection.error);
	selection_free(&selection);
}

static void
test_one(void)
{
	is_selection("/events/42", NULL, "0=42");
	is_selection("/events/user%3Au_1?after=7&types=a,b&stream=x", NULL, "0=user:u_1@7 a b");
	is_selection("/events/42?after=7", "9", "0=42@9");
	is_selection("/events/42", "0:9:abc", "0=42");
	is_refused("/events/", NULL, "A stream key has");
	is_refused("/events/-", NULL, "A stream key has");
	is_refused("/events/42?after=x", NULL, "\"after\" must be an event number");
}

/* The path of a generation is that of a UUID, and of nothing else. */
static void
test_generation(void)
{
	static const char bad[] = "A generation is named by a UUID.";
	Selection selection;

	is_selection("/generations/e96b74bc-aba8-4837-bb43-237fd687d18b/stream", NULL,
				 "0=e96b74bc-aba8-4837-bb43-237fd687d18b");
	is_selection("/generations/E96B74BC%2DABA8-4837-BB43-237FD687D18B/stream?after=7&types=a", "9",
				 "0=e96b74bc-aba8-4837-bb43-237fd687d18b@9 a");
	is_refused("/generations/42/stream", NULL, bad);
	is_refused("/generations/user:u_1/stream", NULL, bad);
	is_refused("/generations/-/stream", NULL, bad);
	is_refused("/generations/%2/stream", NULL, bad);
	is_refused("/generations/e96b74bc-aba8-4837-bb43-237fd687d18/stream", NULL, bad);
	is_refused("/generations/e96b74bc-aba8-4837-bb43-237fd687d18bb/stream", NULL, bad);
	is_refused("/generations/e96b74bc-aba8-4837-bb43-237fd687d18g/stream", NULL, bad);
	is_refused("/generations/e96b74bcaba84837bb43237fd687d18b/stream", NULL, bad);
	is_refused("/generations/e96b74bc-aba8-4837-bb43-237fd687d18b/stream?after=x", NULL,
			   "\"after\" must be an event number");
	selection_parse(&selection, "/generations/42/stream", NULL, MOST);
	is_number(selection.count, 0, "what is no UUID is no stream either");
	selection_free(&selection);
}

static void
test_many(void)
{
	is_selection("/events?stream=42", NULL, "0=42");
	is_selection("/events?stream=b&stream=a&types=x,y&other=1", NULL, "0=b 1=a x y");
	is_selection("/events?stream=user%3Au%5f1&&types=x&stream=b", NULL, "0=user:u_1 1=b x");
	is_selection("/events?stream=1&stream=2&stream=3&stream=4", NULL, "0=1 1=2 2=3 3=4");
	is_selection("/events?stream=1&stream=01&stream=2&stream=1&stream=3&stream=4", NULL,
				 "0=1 2=2 4=3 5=4");
	is_selection("/events?stream=E96B74BC-aba8-4837-bb43-237fd687d18b&stream=a&"
				 "stream=e96b74bc-ABA8-4837-bb43-237fd687d18b",
				 NULL, "0=e96b74bc-aba8-4837-bb43-237fd687d18b 1=a");
	is_refused("/events?stream=1&stream=2&stream=3&stream=4&stream=5", NULL,
			   "A request may name 4 streams");
	is_refused("/events", NULL, "\"stream\" must name a stream");
	is_refused("/events?", NULL, "\"stream\" must name a stream");
	is_refused("/events?types=a", NULL, "\"stream\" must name a stream");
	is_refused("/events?stream=", NULL, "Parameter \"stream\" number 1: A stream key has");
	is_refused("/events?stream", NULL, "Parameter \"stream\" number 1: A stream key has");
	is_refused("/events?stream=a&stream=a&stream=-", NULL,
			   "Parameter \"stream\" number 3: A stream key has");
	is_refused("/events?stream=1&stream=99999999999999999999", NULL,
			   "Parameter \"stream\" number 2: A stream number must fit");
	is_refused("/events?stream=a%2", NULL, "The URL holds a malformed percent escape");
	is_refused("/events?stream=a%00", NULL, "The URL holds a malformed percent escape");
	is_refused("/events?stream=a&types=,", NULL, "\"types\" must be");
}

/* The id of an event of the last of the streams, each named once. */
static const char *
id_of_last(const char *target, const int64_t *positions)
{
	static char id[COMPOSITE_ID_MAX + 1];
	Selection selection;

	selection_parse(&selection, target, NULL, MOST);
	composite_format(selection.check, selection.count - 1, selection.count - 1, selection.count,
					 positions, id);
	selection_free(&selection);
	return id;
}

/* The same of the second of these two. */
static const char *
id_of_b(int64_t a, int64_t b)
{
	return id_of_last("/events?stream=a&stream=b", (int64_t[]){a, b});
}

/* A request with an id in its query. */
static const char *
with_id(const char *target, const char *name, const char *id)
{
	static char text[200];

	snprintf(text, sizeof(text), "%s&%s=%s", target, name, id);
	return text;
}

static void
test_place(void)
{
	static const char ab[] = "/events?stream=a&stream=b";
	static const char misfit[] = "The event id was not given for these streams in this order";

	is_selection(ab, id_of_b(3, 1000), "0=a@3 1=b@1000");
	is_selection(with_id(ab, "lastEventId", id_of_b(3, 1000)), NULL, "0=a@3 1=b@1000");
	is_selection(with_id(ab, "after", id_of_b(3, 1000)), NULL, "0=a@3 1=b@1000");
	is_selection(with_id("/events?after=now&stream=a&stream=b", "lastEventId", id_of_b(3, 4)), NULL,
				 "0=a@3 1=b@4");
	is_selection("/events?stream=a&stream=b&after=now", id_of_b(3, 4), "0=a@3 1=b@4");
	is_selection("/events?stream=a&stream=b&after=now&lastEventId=", NULL, "0=a@now 1=b@now");
	is_selection("/events?stream=a&stream=b&after=now", "", "0=a@now 1=b@now");
	is_selection("/events?stream=a&stream=b&after=7,0", NULL, "0=a@7 1=b@0");
	is_selection("/events?stream=a&after=7", NULL, "0=a@7");
	is_selection("/events?after=x&stream=a&after=7", NULL, "0=a@7");
	is_refused("/events?stream=b&stream=a", id_of_b(3, 4), misfit);
	is_refused("/events?stream=a&stream=b&stream=c", id_of_b(3, 4), misfit);
	is_refused("/events?stream=a", id_of_b(3, 4), misfit);
	is_refused("/events?stream=a&stream=a&stream=b", id_of_b(3, 4), misfit);
	is_refused("/events?stream=a&stream=a&stream=b&stream=c",
			   id_of_last("/events?stream=a&stream=b&stream=c", (int64_t[]){1, 2, 3}), misfit);
	is_refused(ab, "7", misfit);
	is_refused("/events?stream=a", "7", misfit);
	is_refused("/events?stream=a&lastEventId=7", NULL, misfit);
	is_refused("/events?stream=a&after=0:7:AAA", NULL, misfit);
	is_refused("/events?stream=a&after=", NULL, "\"after\" must be");
	is_refused("/events?stream=a&after=7,8", NULL, "\"after\" must be");
	is_refused("/events?stream=a&stream=b&after=7", NULL, "\"after\" must be");
	is_refused("/events?stream=a&stream=b&after=7,", NULL, "\"after\" must be");
	is_refused("/events?stream=a&stream=b&after=7,now", NULL, "\"after\" must be");
	is_refused("/events?stream=a&stream=a&after=7,8", NULL, "\"after\" must be");
	is_refused("/events?stream=a&stream=a&after=7", NULL, "\"after\" must be");
}

int
main(void)
{
	test_one();
	test_generation();
	test_many();
	test_place();
	return done();
}
