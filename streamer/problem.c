/*
 * problem.c
 *		The bodies of answers that tell what is wrong (RFC 9457).
 *
 * What a problem is about is told by its status and, in words, by its detail, so
 * its type is about:blank and its title that of the status.
 *
 * Pure: no libpq, no libmicrohttpd.
 */
#include <stddef.h>

#include "problem.h"

static const struct
{
	unsigned int status;
	const char *title;
} titles[] = {
	{400, "Bad Request"},         {401, "Unauthorized"},
	{403, "Forbidden"},           {404, "Not Found"},
	{405, "Method Not Allowed"},  {409, "Conflict"},
	{413, "Content Too Large"},   {415, "Unsupported Media Type"},
	{421, "Misdirected Request"}, {422, "Unprocessable Content"},
	{429, "Too Many Requests"},   {500, "Internal Server Error"},
	{503, "Service Unavailable"},
};

/* The title of a status. */
static const char *
problem_title(unsigned int status)
{
	for (size_t i = 0; i < sizeof(titles) / sizeof(titles[0]); i++)
		if (titles[i].status == status)
			return titles[i].title;
	return "Error";
}

/* Add text, which is UTF-8, as a string of JSON. */
void
json_add_string(Buf *out, const char *text)
{
	buf_text(out, "\"");
	for (; *text != '\0'; text++)
	{
		if ((unsigned char) *text < 0x20)
		{
			buf_format(out, "\\u%04x", (unsigned int) *text);
			continue;
		}
		if (*text == '"' || *text == '\\')
			buf_text(out, "\\");
		buf_add(out, text, 1);
	}
	buf_text(out, "\"");
}

/* Add the members that every problem has; more may follow, each after a comma. */
void
problem_begin(Buf *out, unsigned int status, const char *detail)
{
	buf_format(out, "{\"type\":\"about:blank\",\"title\":\"%s\",\"status\":%u,\"detail\":",
			   problem_title(status), status);
	json_add_string(out, detail);
}

void
problem_end(Buf *out)
{
	buf_text(out, "}\n");
}
