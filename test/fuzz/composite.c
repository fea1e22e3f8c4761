/*
 * composite.c
 *		Fuzz target: ids that tell the position in each of several streams.
 *
 * Whatever is read must be what is written of the same positions; whatever is
 * written must be plain, and be read as it was.  The first byte says how many
 * streams there are; the others are an id, and then positions.
 */
#include "composite.h"
#include "fuzz.h"
#include "hash.h"

#define STREAMS_MOST 40

/* The bytes as an id. */
static void
check_read(const char *text, int count, const int *indexes)
{
	int64_t positions[STREAMS_MOST];
	char again[COMPOSITE_ID_MAX + 1];
	int which = 0;

	if (!composite_parse(text, HASH_START, count, indexes, positions))
		return;
	while (indexes[which] != atoi(text))
		which++;
	for (int i = 0; i < count; i++)
		must(positions[i] >= 0, "a negative position");
	composite_format(HASH_START, indexes[which], which, count, positions, again);
	must(strcmp(again, text) == 0, "read, but written in another way");
}

/* The bytes as positions. */
static void
check_written(const uint8_t *bytes, size_t len, int count, const int *indexes)
{
	static const char plain[] = "0123456789:-_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
	int64_t positions[STREAMS_MOST] = {0};
	int64_t again[STREAMS_MOST];
	char id[COMPOSITE_ID_MAX + 1];
	int which = len > 0 ? bytes[0] % count : 0;

	memcpy(positions, bytes, len < sizeof(positions) ? len : sizeof(positions));
	for (int i = 0; i < count; i++)
		positions[i] &= INT64_MAX;
	composite_format(HASH_START, indexes[which], which, count, positions, id);
	must(id[strspn(id, plain)] == '\0', "an id with other characters");
	must(composite_parse(id, HASH_START, count, indexes, again), "written, but not read");
	must(memcmp(positions, again, (size_t) count * sizeof(int64_t)) == 0, "read as something else");
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	int indexes[STREAMS_MOST];
	int count = len > 0 ? 1 + bytes[0] % STREAMS_MOST : 1;
	char *text = malloc(len + 1);

	for (int i = 0; i < count; i++)
		indexes[i] = i + i / 3;
	bytes += len > 0;
	len -= len > 0;
	memcpy(text, bytes, len);
	text[len] = '\0';
	check_read(text, count, indexes);
	check_written(bytes, len, count, indexes);
	free(text);
	return 0;
}
