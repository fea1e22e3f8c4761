/*
 * emit_refusal.c
 *		Fuzz target: what a client is told when the database refuses its events.
 *
 * The lines of the input are an error's SQLSTATE, message, detail and context, in
 * which stand names that the client chose.
 */
#include <jansson.h>

#include "emit_refusal.h"
#include "fuzz.h"

/* The answer must be a problem, whatever the error says. */
static void
check_problem(const Buf *body, unsigned int status)
{
	json_t *problem = json_loadb(body->data, body->len, JSON_REJECT_DUPLICATES, NULL);
	const char *pointer;
	json_t *fault;
	size_t i;

	must(json_is_object(problem), "a problem is JSON");
	must(json_integer_value(json_object_get(problem, "status")) == status, "its status");
	must(json_is_string(json_object_get(problem, "detail")), "its detail");
	json_array_foreach(json_object_get(problem, "errors"), i, fault)
	{
		pointer = json_string_value(json_object_get(fault, "pointer"));
		must(pointer != NULL && *pointer == '/', "a pointer");
		must(json_is_string(json_object_get(fault, "detail")), "what is wrong there");
	}
	json_decref(problem);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	char *part[4];
	EmitError error;
	json_t *text = json_stringn((const char *) bytes, len);

	if (text == NULL)
		return 0; /* the database sends UTF-8 */
	json_decref(text);
	for (int i = 0; i < 4; i++)
		part[i] = take_line(&bytes, &len);
	error = (EmitError){part[0], part[1], part[2], part[3]};
	for (int batch = 0; batch <= 1; batch++)
	{
		Buf body;
		EmitRefusal refusal;

		buf_init(&body);
		refusal = emit_refusal(&error, batch == 1, &body);
		must(refusal.status >= 400 && refusal.status < 600, "a status");
		check_problem(&body, refusal.status);
		buf_free(&body);
	}
	for (int i = 0; i < 4; i++)
		free(part[i]);
	return 0;
}
