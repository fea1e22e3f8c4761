/*
 * header.c
 *		Fuzz target: whether a header can be read in more ways than one.
 *
 * Each line of the input is a field, name and value parted by the first colon.
 */
#include <strings.h>

#include "fuzz.h"
#include "header.h"

/* What the header's end depends on. */
typedef struct Framing
{
	int lengths;
	int codings;
	int hosts;
	bool chunked; /* the last coding */
} Framing;

/* Nothing in a field that was taken may look like a colon, a line's end or a blank before them. */
static void
check_field(const char *name, const char *value, Framing *framing)
{
	must(*name != '\0' && strpbrk(name, ": \t\r\n\"(),/;<=>?@[\\]{}\x7f") == NULL, "a name");
	for (const char *c = name; *c != '\0'; c++)
		must((unsigned char) *c > ' ' && (unsigned char) *c < 0x7F, "of visible ASCII");
	must(strpbrk(value, "\r\n\b\x1b\x7f") == NULL, "a value");
	framing->lengths += strcasecmp(name, "Content-Length") == 0;
	framing->hosts += strcasecmp(name, "Host") == 0;
	if (strcasecmp(name, "Transfer-Encoding") == 0)
	{
		framing->codings++;
		framing->chunked = strcasecmp(value, "chunked") == 0;
	}
}

/* Take a line apart. */
static char *
split(char *line)
{
	char *colon = strchr(line, ':');

	if (colon == NULL)
		return line + strlen(line);
	*colon = '\0';
	return colon + 1;
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	HeaderCheck check = {0};
	Framing framing = {0};

	while (len > 0)
	{
		char *line = take_line(&bytes, &len);
		const char *value = split(line);

		header_check(&check, line, value);
		if (check.fault == NULL)
			check_field(line, value, &framing);
		free(line);
	}
	if (header_fault(&check, false) == NULL)
	{
		must(framing.lengths + framing.codings <= 1 && framing.hosts <= 1, "each once");
		must(framing.codings == 0 || framing.chunked, "chunks");
	}
	if (header_fault(&check, true) == NULL)
		must(framing.codings == 0 && header_fault(&check, false) == NULL, "HTTP/1.0 allows less");
	return 0;
}
