/*
 * streamer_emit_body.c
 *		Which bodies are events or payloads, and what is said of those that are not.
 */
#include <stdio.h>
#include <stdlib.h>

#include "emit_body.h"
#include "streamer_tap.h"

#define EVENT "{\"type\":\"t\",\"data\":{}}"

/* A body must hold so many events. */
static void
is_body(const char *text, bool is_batch, size_t count, const char *name)
{
	EmitBody body;
	EmitFault fault;

	ok(emit_body_check(text, strlen(text), &body, &fault) && body.is_batch == is_batch &&
		   body.count == count,
	   name);
}

/* A body of so many bytes must be refused there, for that. */
static void
is_fault_of(const char *text, size_t len, const char *want)
{
	EmitBody body;
	EmitFault fault;
	char got[200];

	if (emit_body_check(text, len, &body, &fault))
		snprintf(got, sizeof(got), "no fault");
	else
		snprintf(got, sizeof(got), "%zu:%zu %s", fault.line, fault.column, fault.what);
	is(got, want, text);
}

static void
is_fault(const char *text, const char *want)
{
	is_fault_of(text, strlen(text), want);
}

/* A value must be taken, or not, as an event's data. */
static void
is_value(const char *value, const char *want)
{
	char text[400];

	snprintf(text, sizeof(text), "{\"type\":\"t\",\"data\":%s}", value);
	if (want == NULL)
		is_body(text, false, 1, value);
	else
		is_fault(text, want);
}

static void
test_events(void)
{
	is_body(EVENT, false, 1, "an event");
	is_body(" \t\r\n" EVENT "\n", false, 1, "with space around");
	is_body("{ \"data\" : null , \"type\" : \"\" }", false, 1, "in another order");
	is_body("[" EVENT "]", true, 1, "an array of one");
	is_body("[" EVENT " , " EVENT "]", true, 2, "of two");

	is_fault("", "1:1 there is no event.");
	is_fault(" \n ", "2:2 there is no event.");
	is_fault("[]", "1:2 an event must follow.");
	is_fault("7", "1:1 an event must be an object.");
	is_fault("[" EVENT ",7]", "1:25 an event must be an object.");
	is_fault("[" EVENT ",]", "1:25 an event must be an object.");
	is_fault("[" EVENT, "1:24 a comma or ] must follow.");
	is_fault("[[" EVENT "]]", "1:2 an event must be an object.");
	is_fault(EVENT EVENT, "1:23 nothing must follow.");
	is_fault(EVENT ",", "1:23 nothing must follow.");
	is_fault("{}", "1:1 the event's \"type\" is missing.");
	is_fault("{\"data\":{}}", "1:1 the event's \"type\" is missing.");
	is_fault("\n {\"type\":\"t\"}", "2:2 the event's \"data\" is missing.");
	is_fault("{\"type\":7,\"data\":{}}", "1:9 the type must be a string.");
	is_fault("{\"type\":\"t\",\"type\":\"u\",\"data\":{}}",
			 "1:13 an event has the members \"type\" and \"data\", each once.");
	is_fault("{\"type\":\"t\",\"data\":1,\"data\":2}",
			 "1:22 an event has the members \"type\" and \"data\", each once.");
	is_fault("{\"type\":\"t\",\"seq\":1,\"data\":{}}",
			 "1:13 an event has the members \"type\" and \"data\", each once.");
	is_fault("{\"t\\u0079pe\":\"t\",\"data\":{}}",
			 "1:2 an event has the members \"type\" and \"data\", each once.");
	is_fault("{type:\"t\"}", "1:2 a member's name in quotation marks must follow.");
	is_fault("{\"type\" \"t\"}", "1:9 a colon must follow.");
	is_fault("{\"type\":\"t\"", "1:12 a comma or } must follow.");
	is_fault("{", "1:2 a member's name in quotation marks must follow.");
	is_fault_of("{\"type\0", 7, "1:7 a control character in a string must be escaped.");
	is_fault_of(EVENT "\0", sizeof(EVENT), "1:23 nothing must follow.");
}

static void
test_values(void)
{
	is_value("null", NULL);
	is_value("[true,false,{\"a\":[]},{}]", NULL);
	is_value("{\"a\":1,\"a\":2}", NULL);
	is_value("tru", "1:20 a value must follow.");
	is_value("nul", "1:20 a value must follow.");
	is_value("", "1:20 a value must follow.");
	is_value("[1,]", "1:23 a value must follow.");
	is_value("{\"a\":1,}", "1:27 a member's name in quotation marks must follow.");
	is_value("[1 2]", "1:23 a comma or ] must follow.");
	is_value("'a'", "1:20 a value must follow.");
	is_value("// a\n1", "1:20 a value must follow.");
	is_value("NaN", "1:20 a value must follow.");

	is_value("[0,-0,10,1.5,-1.5e10,1E+2,1e-2,0.0]", NULL);
	is_value("123456789012345678901234567890.123456789", NULL);
	is_value("-", "1:21 a digit must follow.");
	is_value("01", "1:21 a comma or } must follow.");
	is_value("1.", "1:22 a digit must follow.");
	is_value(".5", "1:20 a value must follow.");
	is_value("1e", "1:22 a digit must follow.");
	is_value("1e+", "1:23 a digit must follow.");
	is_value("+1", "1:20 a value must follow.");
}

static void
test_strings(void)
{
	is_value("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\"", NULL);
	is_value("\"\xc3\xa9\xe2\x80\xa6\xf0\x9f\x98\x80\x7f\"", NULL);
	is_value("\"\\ud83d\\uDE00\"", NULL);
	is_value("\"\xc3\"", "1:21 this is not UTF-8.");
	is_value("\"\xc3\xa9\xc0\x80\"", "1:22 this is not UTF-8.");
	is_value("\"\xed\xa0\x80\"", "1:21 this is not UTF-8.");
	is_value("\"\n\"", "1:21 a control character in a string must be escaped.");
	is_value("\"\\x\"", "1:22 this cannot follow a backslash.");
	is_value("\"\\u12g4\"", "1:25 \\u must be followed by four hexadecimal digits.");
	is_value("\"\\u0000\"", "1:27 the character U+0000 cannot be stored.");
	is_value("\"\\ud83d\"", "1:27 half of a surrogate pair is no character.");
	is_value("\"\\ud83d\\u0041\"", "1:33 half of a surrogate pair is no character.");
	is_value("\"\\ude00\"", "1:27 half of a surrogate pair is no character.");
	is_fault("{\"type\":\"t", "1:11 the text ends within a string.");
	is_fault("{\"type\":\"t\\", "1:12 this cannot follow a backslash.");
}

/* Data this deep must be taken, or not; the event is the first level. */
static void
is_depth(int depth, bool batch, const char *want)
{
	char text[600];
	int at = snprintf(text, sizeof(text), "%s{\"type\":\"t\",\"data\":", batch ? "[" : "");

	for (int i = 0; i < depth; i++)
		text[at++] = '[';
	for (int i = 0; i < depth; i++)
		text[at++] = ']';
	snprintf(text + at, sizeof(text) - (size_t) at, "}%s", batch ? "]" : "");
	if (want == NULL)
		is_body(text, batch, 1, "as deep as allowed");
	else
		is_fault(text, want);
}

/* A body must hold so many events of type typing. */
static void
is_typing(const char *text, size_t typing)
{
	EmitBody body;
	EmitFault fault;

	ok(emit_body_check(text, strlen(text), &body, &fault) && body.typing == typing, text);
}

#define OF_TYPE(type) "{\"data\":\"typing\",\"type\":\"" type "\"}"

static void
test_typing(void)
{
	is_typing(EVENT, 0);
	is_typing(OF_TYPE("typing"), 1);
	is_typing("[" OF_TYPE("typing") "," EVENT "," OF_TYPE("typing") "]", 2);
	is_typing(OF_TYPE("\\u0074yp\\u0069n\\u0067"), 1);
	is_typing(OF_TYPE("\\u0054yping"), 0);
	is_typing(OF_TYPE("typin"), 0);
	is_typing(OF_TYPE("typing\\u0067"), 0);
	is_typing(OF_TYPE("typings"), 0);
	is_typing(OF_TYPE("typin\\n"), 0);
	is_typing(OF_TYPE(""), 0);
	is_typing("{\"type\":\"t\",\"data\":{\"type\":\"typing\"}}", 0);
}

/* A payload must be taken, or refused so. */
static void
is_payload(const char *text, const char *want)
{
	EmitFault fault;
	char got[200];

	if (emit_payload_check(text, strlen(text), &fault))
		snprintf(got, sizeof(got), "taken");
	else
		snprintf(got, sizeof(got), "%zu:%zu %s", fault.line, fault.column, fault.what);
	is(got, want, text);
}

static void
test_payloads(void)
{
	is_payload("{}", "taken");
	is_payload(" [1, {\"a\": null}]\n", "taken");
	is_payload("\"a\"", "taken");
	is_payload("-1.5e3", "taken");
	is_payload("null", "taken");
	is_payload("", "1:1 there is no payload.");
	is_payload(" \n", "2:1 there is no payload.");
	is_payload("{\"a\":}", "1:6 a value must follow.");
	is_payload("{}{}", "1:3 nothing must follow.");
	is_payload("'a'", "1:1 a value must follow.");
	is_payload("{\"a\":\"\\u0000\"}", "1:13 the character U+0000 cannot be stored.");
}

int
main(void)
{
	test_events();
	test_typing();
	test_payloads();
	test_values();
	test_strings();
	is_depth(EMIT_DEPTH_MAX - 1, false, NULL);
	is_depth(EMIT_DEPTH_MAX - 2, true, NULL);
	is_depth(EMIT_DEPTH_MAX, false, "1:147 arrays and objects are nested more than 128 deep.");
	return done();
}
