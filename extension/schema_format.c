/*
 * schema_format.c
 *		The formats of JSON Schema that pev checks: date-time and uuid.
 *
 * date-time is that of RFC 3339, section 5.6: the calendar is checked (days of
 * the month, leap years), a leap second is accepted where one can be, at
 * 23:59:60 UTC.  uuid is the 8-4-4-4-12 form of RFC 4122 in either case.
 */
#include "postgres.h"

#include "schema_program.h"

/* Names as the schema spells them, indexed by SchemaFormat. */
static const char *const format_names[] = {"date-time", "uuid"};

/* Read exactly n digits; -1 if there are fewer. */
static int
read_digits(const char *text, int n)
{
	int value = 0;

	for (int i = 0; i < n; i++)
	{
		if (text[i] < '0' || text[i] > '9')
			return -1;
		value = value * 10 + (text[i] - '0');
	}
	return value;
}

/* Is this a day of the calendar? */
static bool
is_calendar_date(int year, int month, int day)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

	if (year < 0 || month < 1 || month > 12 || day < 1)
		return false;
	return day <= days[month - 1] + (month == 2 && leap ? 1 : 0);
}

/* Read "Z" or "+hh:mm" to the end of the text into minutes; false if it is neither. */
static bool
read_offset(const char *text, int len, int *minutes)
{
	int hour;
	int minute;

	if (len == 1 && (text[0] == 'Z' || text[0] == 'z'))
	{
		*minutes = 0;
		return true;
	}
	if (len != 6 || (text[0] != '+' && text[0] != '-') || text[3] != ':')
		return false;
	hour = read_digits(text + 1, 2);
	minute = read_digits(text + 4, 2);
	if (hour < 0 || hour > 23 || minute < 0 || minute > 59)
		return false;
	*minutes = (hour * 60 + minute) * (text[0] == '-' ? -1 : 1);
	return true;
}

/* RFC 3339: 2025-06-27T08:00:01[.123](Z|+hh:mm) */
static bool
is_date_time(const char *text, int len)
{
	int hour;
	int minute;
	int second;
	int pos = 19;
	int offset;

	if (len < 20 || text[4] != '-' || text[7] != '-' || (text[10] != 'T' && text[10] != 't') ||
		text[13] != ':' || text[16] != ':')
		return false;
	if (!is_calendar_date(read_digits(text, 4), read_digits(text + 5, 2), read_digits(text + 8, 2)))
		return false;
	hour = read_digits(text + 11, 2);
	minute = read_digits(text + 14, 2);
	second = read_digits(text + 17, 2);
	if (hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 60)
		return false;
	if (text[pos] == '.')
	{
		int first = ++pos;

		while (pos < len && text[pos] >= '0' && text[pos] <= '9')
			pos++;
		if (pos == first)
			return false;
	}
	if (!read_offset(text + pos, len - pos, &offset))
		return false;
	/* a leap second is the last of a day in UTC, whatever the local time says */
	return second < 60 || ((hour * 60 + minute - offset + 2 * 1440) % 1440) == 1439;
}

/* RFC 4122: 8-4-4-4-12 hexadecimal digits */
static bool
is_uuid(const char *text, int len)
{
	if (len != 36)
		return false;
	for (int i = 0; i < len; i++)
	{
		bool hyphen = i == 8 || i == 13 || i == 18 || i == 23;

		if (hyphen ? text[i] != '-' : !isxdigit((unsigned char) text[i]))
			return false;
	}
	return true;
}

/* Does the text have this format? */
bool
schema_format_holds(SchemaFormat format, const char *text, int len)
{
	switch (format)
	{
		case SCHEMA_FORMAT_DATE_TIME:
			return is_date_time(text, len);
		case SCHEMA_FORMAT_UUID:
			return is_uuid(text, len);
	}
	return false;
}

/* What the schema calls this format. */
const char *
schema_format_name(SchemaFormat format)
{
	return format_names[format];
}

/* Find a format by the schema's name for it; false if pev does not know it. */
bool
schema_format_by_name(const char *name, int len, SchemaFormat *format)
{
	for (int i = 0; i < (int) lengthof(format_names); i++)
		if ((int) strlen(format_names[i]) == len && memcmp(format_names[i], name, len) == 0)
		{
			*format = (SchemaFormat) i;
			return true;
		}
	return false;
}
