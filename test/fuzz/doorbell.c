/*
 * doorbell.c
 *		Fuzz target: the payloads of notifications, which anybody may send.
 */
#include <inttypes.h>

#include "doorbell.h"
#include "fuzz.h"

/* All of it is read, in as many steps as it has words. */
static void
check_doorbell(const char *payload)
{
	const char *at = payload;
	const char *end = payload + strlen(payload);
	int64_t stream;
	int64_t seq;
	DoorbellToken token;

	do
	{
		const char *before = at;

		token = doorbell_next(&at, &stream, &seq);
		must(at >= before && at <= end, "within the payload");
		must(token == DOORBELL_END ? at == end : at > before, "one step on");
		if (token == DOORBELL_STREAM)
		{
			char text[64];
			const char *again = text;
			int64_t other[2];

			before += strspn(before, " ");
			must(strspn(before, "-:0123456789") == (size_t) (at - before), "nothing else");

			snprintf(text, sizeof(text), "%" PRId64 ":%" PRId64, stream, seq);
			must(doorbell_next(&again, &other[0], &other[1]) == DOORBELL_STREAM &&
					 other[0] == stream && other[1] == seq,
				 "the same numbers");
		}
	} while (token != DOORBELL_END);
}

/* What is taken for an event has a name and data, in the payload. */
static void
check_live(const char *payload)
{
	const char *end = payload + strlen(payload);
	LiveEvent event;

	if (!live_parse(payload, &event))
		return;
	must(event.type_len > 0 && memchr(event.type, ' ', event.type_len) == NULL, "a name");
	must(event.type > payload && event.type + event.type_len + 1 == event.data, "then data");
	must(event.data < end, "within the payload");
	must(!event.global || event.stream == 0, "all streams or one");
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	char *payload = take_line(&bytes, &len);

	check_doorbell(payload);
	check_live(payload);
	free(payload);
	return 0;
}
