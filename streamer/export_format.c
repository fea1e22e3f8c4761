/*
 * export_format.c
 *		Events as the lines of a file.
 *
 * Numbers and times are written by hand: printf would take as long as everything
 * else that is done for an event.
 *
 * Pure: no libpq, no libmicrohttpd, no state.
 */
#include <string.h>
#include <time.h>

#include "export_format.h"
#include "problem.h"

#define EPOCH_2000 INT64_C(946684800) /* in seconds of Unix time */
#define SECOND     INT64_C(1000000)

static const struct
{
	const char *name; /* of the parameter and of files */
	const char *media_type;
} formats[] = {
	[EXPORT_NDJSON] = {"ndjson", "application/x-ndjson"},
	[EXPORT_JSON] = {"json", "application/json"},
	[EXPORT_CSV] = {"csv", "text/csv; charset=utf-8; header=present"},
};

/* The format of that name; false: there is none. */
bool
export_format_parse(const char *name, ExportFormat *format)
{
	for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++)
		if (strcmp(formats[i].name, name) == 0)
		{
			*format = (ExportFormat) i;
			return true;
		}
	return false;
}

const char *
export_media_type(ExportFormat format)
{
	return formats[format].media_type;
}

/*
 * Add the key as a part of a file's name.  It is canonical, so it has neither
 * quotes nor slashes nor controls; a colon cannot be in a name on Windows.
 */
static void
name_add_ascii(Buf *out, const char *key)
{
	for (const unsigned char *c = (const unsigned char *) key; *c != '\0'; c++)
	{
		bool continues = (*c & 0xC0) == 0x80; /* a character of several bytes */

		if (!continues)
			buf_add(out, *c >= 0x80 || *c == ':' ? "_" : (const char *) c, 1);
	}
}

/* The same, with all of its characters, as RFC 8187 writes them. */
static void
name_add_encoded(Buf *out, const char *key)
{
	for (const unsigned char *c = (const unsigned char *) key; *c != '\0'; c++)
	{
		if (*c >= 0x80 || *c == '@' || *c == '=')
			buf_format(out, "%%%02X", *c);
		else
			buf_add(out, *c == ':' ? "_" : (const char *) c, 1);
	}
}

/* Say how a file with a stream's events should be called (RFC 6266). */
void
export_disposition(ExportFormat format, const char *key, Buf *out)
{
	bool ascii = true;

	for (const char *c = key; *c != '\0'; c++)
		ascii = ascii && (unsigned char) *c < 0x80;
	buf_text(out, "attachment; filename=\"events-");
	name_add_ascii(out, key);
	buf_format(out, ".%s\"", formats[format].name);
	if (ascii)
		return;
	buf_text(out, "; filename*=UTF-8''events-");
	name_add_encoded(out, key);
	buf_format(out, ".%s", formats[format].name);
}

/* Write a number with so many digits at least; returns where it ends. */
static char *
digits_write(char *out, uint64_t value, int width)
{
	char text[20];
	int len = 0;

	do
		text[len++] = (char) ('0' + value % 10);
	while ((value /= 10) > 0);
	for (; width > len; width--)
		*out++ = '0';
	while (len > 0)
		*out++ = text[--len];
	return out;
}

/* Write a number. */
static char *
number_write(char *out, int64_t value)
{
	if (value < 0)
		*out++ = '-';
	return digits_write(out, value < 0 ? -(uint64_t) value : (uint64_t) value, 1);
}

/* Add a number. */
static void
number_add(Buf *out, int64_t value)
{
	char text[24];

	buf_add(out, text, (size_t) (number_write(text, value) - text));
}

/* Add a time as ISO 8601 writes it, in UTC and with microseconds. */
static void
time_add(Buf *out, int64_t created)
{
	int64_t us = created % SECOND;
	time_t seconds = (time_t) (created / SECOND + EPOCH_2000);
	struct tm parts;
	char text[64];
	char *c;

	if (us < 0)
	{
		us += SECOND;
		seconds--;
	}
	gmtime_r(&seconds, &parts);
	c = digits_write(text, (uint64_t) (parts.tm_year + 1900), 4);
	*c++ = '-';
	c = digits_write(c, (uint64_t) parts.tm_mon + 1, 2);
	*c++ = '-';
	c = digits_write(c, (uint64_t) parts.tm_mday, 2);
	*c++ = 'T';
	c = digits_write(c, (uint64_t) parts.tm_hour, 2);
	*c++ = ':';
	c = digits_write(c, (uint64_t) parts.tm_min, 2);
	*c++ = ':';
	c = digits_write(c, (uint64_t) parts.tm_sec, 2);
	*c++ = '.';
	c = digits_write(c, (uint64_t) us, 6);
	*c++ = 'Z';
	buf_add(out, text, (size_t) (c - text));
}

/* Add an event as an object of JSON. */
static void
row_add_json(const ExportRow *row, Buf *out)
{
	buf_text(out, "{\"seq\":");
	number_add(out, row->seq);
	buf_text(out, ",\"id\":");
	number_add(out, row->id);
	buf_text(out, ",\"type\":");
	json_add_string(out, row->type);
	buf_text(out, ",\"created_at\":\"");
	time_add(out, row->created);
	buf_text(out, "\",\"data\":");
	buf_add(out, row->data, row->data_len);
	buf_text(out, "}");
}

/* Add a field of CSV in quotes. */
static void
field_add(Buf *out, const char *text, size_t len)
{
	const char *quote;

	buf_text(out, "\"");
	while ((quote = memchr(text, '"', len)) != NULL)
	{
		size_t n = (size_t) (quote - text) + 1;

		buf_add(out, text, n);
		buf_text(out, "\"");
		text += n;
		len -= n;
	}
	buf_add(out, text, len);
	buf_text(out, "\"");
}

/* Add an event as a line of CSV.  Types are words, but their names are the user's. */
static void
row_add_csv(const ExportRow *row, Buf *out)
{
	number_add(out, row->seq);
	buf_text(out, ",");
	number_add(out, row->id);
	buf_text(out, ",");
	if (strpbrk(row->type, "\",\r\n") != NULL)
		field_add(out, row->type, strlen(row->type));
	else
		buf_text(out, row->type);
	buf_text(out, ",");
	time_add(out, row->created);
	buf_text(out, ",");
	field_add(out, row->data, row->data_len);
	buf_text(out, "\r\n");
}

void
export_format_begin(ExportFormat format, Buf *out)
{
	if (format == EXPORT_JSON)
		buf_text(out, "[");
	else if (format == EXPORT_CSV)
		buf_text(out, "seq,id,type,created_at,data\r\n");
}

void
export_format_row(ExportFormat format, const ExportRow *row, bool first, Buf *out)
{
	if (format == EXPORT_CSV)
	{
		row_add_csv(row, out);
		return;
	}
	if (format == EXPORT_JSON)
		buf_text(out, first ? "\n" : ",\n");
	row_add_json(row, out);
	if (format == EXPORT_NDJSON)
		buf_text(out, "\n");
}

void
export_format_end(ExportFormat format, bool empty, Buf *out)
{
	if (format == EXPORT_JSON)
		buf_text(out, empty ? "]\n" : "\n]\n");
}
