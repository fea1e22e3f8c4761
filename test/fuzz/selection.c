/*
 * selection.c
 *		Fuzz target: the query of a request that names its streams there.
 *
 * What is taken must be few streams, each once, in their canonical spelling; what
 * is refused must say why.  A line break parts the query from the header
 * Last-Event-ID.
 */
#include "fuzz.h"
#include "selection.h"

#define MOST 5

/* A stream that has been taken. */
static void
check_choice(const Selection *selection, int i)
{
	const Choice *choice = &selection->choices[i];
	StreamKey again;

	must(stream_key_canonical(choice->key.text, strlen(choice->key.text), &again) == NULL &&
			 strcmp(again.text, choice->key.text) == 0,
		 "a key that is not canonical");
	must(choice->cursor.seq >= 0 && choice->index >= i, "a position, or an index");
	for (int k = 0; k < i; k++)
		must(strcmp(selection->choices[k].key.text, choice->key.text) != 0 &&
				 selection->choices[k].index < choice->index,
			 "a stream twice");
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	static const char path[] = "/events?";
	char *query = take_line(&bytes, &len);
	char *header = take_line(&bytes, &len);
	char *target = malloc(sizeof(path) + strlen(query));
	Selection selection;

	strcpy(target, path);
	strcat(target, query);
	selection_parse(&selection, target, header, MOST);
	must(selection.count <= MOST, "too many streams");
	must(selection.count > 0 || selection.error[0] != '\0', "none, and no word about it");
	for (int i = 0; i < selection.count; i++)
		check_choice(&selection, i);
	selection_free(&selection);
	free(target);
	free(header);
	free(query);
	return 0;
}
