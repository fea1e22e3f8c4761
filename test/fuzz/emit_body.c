/*
 * emit_body.c
 *		Fuzz target: the body of a request that emits, or that queues a job.
 *
 * Whatever is taken must be JSON to another parser too, and be what it is said to
 * be; whatever is refused must have a place within the text.  Events are also a
 * payload, whatever else is.
 */
#include <jansson.h>

#include "emit_body.h"
#include "fuzz.h"

/* Is it an event? */
static bool
is_event(const json_t *value)
{
	return json_is_object(value) && json_object_size(value) == 2 &&
		   json_is_string(json_object_get(value, "type")) && json_object_get(value, "data") != NULL;
}

/* Is its type this? */
static bool
is_of_type(const json_t *event, const char *type)
{
	return strcmp(json_string_value(json_object_get(event, "type")), type) == 0;
}

/* What the other parser makes of a text that is taken; NULL: it does not know such numbers. */
static json_t *
load(const char *text, size_t len)
{
	json_error_t error;
	json_t *root = json_loadb(text, len, JSON_DECODE_ANY, &error);

	/* a number may be beyond what a double or a long holds, which jsonb takes */
	must(root != NULL || json_error_code(&error) == json_error_numeric_overflow,
		 "taken, but no JSON");
	return root;
}

/* The other parser must see the same events. */
static void
check_accepted(const char *text, size_t len, const EmitBody *body)
{
	json_t *root = load(text, len);
	size_t typing = 0;
	size_t i;
	json_t *event;

	if (root == NULL)
		return;
	must(json_is_array(root) == body->is_batch, "one event or several");
	must(body->count == (body->is_batch ? json_array_size(root) : 1), "the number of events");
	must(body->is_batch || is_event(root), "an event");
	json_array_foreach(root, i, event)
	{
		must(is_event(event), "an event in an array");
		typing += is_of_type(event, "typing");
	}
	must(body->typing == (body->is_batch ? typing : is_of_type(root, "typing")),
		 "the number of events of type typing");
	json_decref(root);
}

/* A fault must lie within the text. */
static void
check_fault(const EmitFault *fault, size_t len)
{
	must(fault->what != NULL && fault->line >= 1 && fault->line <= len + 1 && fault->column >= 1 &&
			 fault->column <= len + 1,
		 "a place within the text");
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	/* a copy of its own, so that a read beyond the end is found out */
	char *text = malloc(len == 0 ? 1 : len);
	EmitBody body;
	EmitFault fault = {0};
	bool is_payload;

	memcpy(text, bytes, len);
	is_payload = emit_payload_check(text, len, &fault);
	if (is_payload)
		json_decref(load(text, len));
	else
		check_fault(&fault, len);
	if (emit_body_check(text, len, &body, &fault))
	{
		must(is_payload, "events are JSON");
		check_accepted(text, len, &body);
	}
	else
		check_fault(&fault, len);
	free(text);
	return 0;
}
