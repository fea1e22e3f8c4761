/*
 * emit_body.c
 *		Fuzz target: the body of a request that emits.
 *
 * Whatever is taken must be JSON to another parser too, and be what it is said to
 * be; whatever is refused must have a place within the text.
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

/* The other parser must see the same events. */
static void
check_accepted(const char *text, size_t len, const EmitBody *body)
{
	json_error_t error;
	json_t *root = json_loadb(text, len, 0, &error);
	size_t i;
	json_t *event;

	if (root == NULL)
	{
		/* a number may be beyond what a double or a long holds, which jsonb takes */
		must(json_error_code(&error) == json_error_numeric_overflow, "taken, but no JSON");
		return;
	}
	must(json_is_array(root) == body->is_batch, "one event or several");
	must(body->count == (body->is_batch ? json_array_size(root) : 1), "the number of events");
	must(body->is_batch || is_event(root), "an event");
	json_array_foreach(root, i, event) must(is_event(event), "an event in an array");
	json_decref(root);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	/* a copy of its own, so that a read beyond the end is found out */
	char *text = malloc(len == 0 ? 1 : len);
	EmitBody body;
	EmitFault fault = {0};

	memcpy(text, bytes, len);
	if (emit_body_check(text, len, &body, &fault))
		check_accepted(text, len, &body);
	else
		must(fault.what != NULL && fault.line >= 1 && fault.line <= len + 1 && fault.column >= 1 &&
				 fault.column <= len + 1,
			 "a place within the text");
	free(text);
	return 0;
}
