/*
 * stream_key.c
 *		Fuzz target: the segment of a path that names a stream.
 *
 * Whatever is taken must be a key to the database, too: the rules of
 * extension/stream.c are here once more, written another way.
 */
#include <ctype.h>
#include <inttypes.h>

#include "cursor.h"
#include "fuzz.h"

#define MARKS     "-.:@+~="
#define UUID_FORM "hhhhhhhh-hhhh-hhhh-hhhh-hhhhhhhhhhhh"

/* Is it UTF-8?  By the table 3-7 of the Unicode standard. */
static bool
is_utf8(const unsigned char *text)
{
	static const struct
	{
		unsigned char first, last; /* of the first byte */
		unsigned char low, high;   /* of the second */
		int more;                  /* bytes after these */
	} forms[] = {
		{0xC2, 0xDF, 0x80, 0xBF, 0}, {0xE0, 0xE0, 0xA0, 0xBF, 1}, {0xE1, 0xEC, 0x80, 0xBF, 1},
		{0xED, 0xED, 0x80, 0x9F, 1}, {0xEE, 0xEF, 0x80, 0xBF, 1}, {0xF0, 0xF0, 0x90, 0xBF, 2},
		{0xF1, 0xF3, 0x80, 0xBF, 2}, {0xF4, 0xF4, 0x80, 0x8F, 2},
	};
	const size_t count = sizeof(forms) / sizeof(forms[0]);

	while (*text != '\0')
	{
		unsigned char c = *text++;
		size_t i = 0;

		if (c < 0x80)
			continue;
		while (i < count && (c < forms[i].first || c > forms[i].last))
			i++;
		if (i == count || *text < forms[i].low || *text > forms[i].high)
			return false;
		text++;
		for (int more = forms[i].more; more > 0; more--)
			if ((*text++ & 0xC0) != 0x80)
				return false;
	}
	return true;
}

/* Does it keep the rules for keys? */
static bool
is_key(const char *text)
{
	size_t len = strlen(text);

	if (len < 1 || len > STREAM_KEY_MAX || strchr(MARKS, text[0]) != NULL ||
		(len > 1 && strchr(text, ':') == text + len - 1))
		return false;
	for (size_t i = 0; i < len; i++)
		if ((unsigned char) text[i] < 0x80 && !isalnum((unsigned char) text[i]) && text[i] != '_' &&
			strchr(MARKS, text[i]) == NULL)
			return false;
	return is_utf8((const unsigned char *) text);
}

/* Is it a UUID? */
static bool
is_uuid(const char *text)
{
	size_t i = 0;

	while (text[i] != '\0' && UUID_FORM[i] != '\0' &&
		   (UUID_FORM[i] == '-' ? text[i] == '-' : isxdigit((unsigned char) text[i]) != 0))
		i++;
	return text[i] == '\0' && UUID_FORM[i] == '\0';
}

/* What was taken must be in its one spelling. */
static void
check_key(const char *raw, const StreamKey *key)
{
	char escaped[3 * STREAM_KEY_MAX + 1] = "";
	char number[24];
	StreamKey again;

	must(is_key(key->text), "a key to the database");
	must(key->numeric == (strspn(key->text, "0123456789") == strlen(key->text)), "a number");
	snprintf(number, sizeof(number), "%" PRId64, key->id);
	must(!key->numeric || strcmp(number, key->text) == 0, "the number's usual spelling");
	for (const char *c = key->text; *c != '\0' && is_uuid(key->text); c++)
		must(!isupper((unsigned char) *c), "a UUID in lower case");
	if (strchr(raw, '%') == NULL && !key->numeric)
		must(strcasecmp(raw, key->text) == 0, "what was sent");
	escape(escaped, key->text);
	must(stream_key_parse(escaped, strlen(escaped), &again) == NULL, "the same, escaped, is a key");
	must(strcmp(again.text, key->text) == 0 && again.numeric == key->numeric, "the same key");
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	/* not terminated: in a path a query may follow */
	char *raw = malloc(len == 0 ? 1 : len);
	char *text = strndup((const char *) bytes, len);
	StreamKey key = {0};
	const char *error;

	memcpy(raw, bytes, len);
	error = stream_key_parse(raw, len, &key);
	if (error == NULL)
	{
		must(strlen(text) == len, "no NUL");
		check_key(text, &key);
	}
	else if (strlen(text) == len && strchr(text, '%') == NULL)
		must(!is_key(text) || strspn(text, "0123456789") == len, "every key is taken");
	free(text);
	free(raw);
	return 0;
}
