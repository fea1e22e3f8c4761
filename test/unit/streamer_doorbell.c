/*
 * streamer_doorbell.c
 *		What the payloads of notifications mean, however mangled they come.
 */
#include <inttypes.h>
#include <stdint.h>

#include "doorbell.h"
#include "streamer_tap.h"

/* The payload must mean these tokens, written "stream=seq", "all" or "new". */
static void
is_doorbell(const char *payload, const char *want)
{
	char got[500] = "";
	const char *rest = payload;
	DoorbellToken token;
	int64_t stream;
	int64_t seq;

	while ((token = doorbell_next(&rest, &stream, &seq)) != DOORBELL_END)
	{
		size_t len = strlen(got);

		if (token == DOORBELL_EVERYWHERE)
			snprintf(got + len, sizeof(got) - len, "all ");
		else if (token == DOORBELL_NEW)
			snprintf(got + len, sizeof(got) - len, "new ");
		else
			snprintf(got + len, sizeof(got) - len, "%" PRId64 "=%" PRId64 " ", stream, seq);
	}
	is(got, want, payload);
}

/* The payload must be malformed. */
static void
is_no_live(const char *payload)
{
	LiveEvent event;

	ok(!live_parse(payload, &event), payload);
}

int
main(void)
{
	LiveEvent event;

	is_doorbell("", "");
	is_doorbell(" ", "");
	is_doorbell("42:7", "42=7 ");
	is_doorbell("42:7 -3:1", "42=7 -3=1 ");
	is_doorbell(" 42:7  -3:1 ", "42=7 -3=1 ");
	is_doorbell("*", "all ");
	is_doorbell("new", "new ");
	is_doorbell("newer", "all ");
	is_doorbell("1:1 * 2:2", "1=1 all 2=2 ");
	is_doorbell("9223372036854775807:9223372036854775807",
				"9223372036854775807=9223372036854775807 ");
	is_doorbell("-9223372036854775808:1", "-9223372036854775808=1 ");
	is_doorbell("9223372036854775808:1", "all ");
	is_doorbell("42", "all ");
	is_doorbell("42:", "all ");
	is_doorbell(":7", "all ");
	is_doorbell("42:7x", "all ");
	is_doorbell("42:7:8", "all ");
	is_doorbell("x", "all ");
	is_doorbell("- :", "all all ");

	ok(live_parse("0 -5 typing {\"a\": 1, \"b\": 2}", &event) && !event.global &&
		   event.stream == -5,
	   "an event for one stream");
	ok(event.type_len == 6 && strncmp(event.type, "typing", 6) == 0, "its type");
	is(event.data, "{\"a\": 1, \"b\": 2}", "its data runs to the end");
	ok(live_parse("17 * log_entry {}", &event) && event.global, "an event for everybody");
	is(event.data, "{}", "its data");
	is_no_live("");
	is_no_live("* log_entry {}");
	is_no_live("5 typing {}");
	is_no_live("1 *");
	is_no_live("1 * ");
	is_no_live("1 * log_entry");
	is_no_live("1 * log_entry ");
	is_no_live("1 *  {}");
	is_no_live("1 x typing {}");
	is_no_live("1 5");
	is_no_live("1 5 ");
	is_no_live("5typing {}");
	is_no_live(" 5 typing {}");
	return done();
}
