/*
 * config_value.c
 *		How the values of options are written.
 *
 * Pure: text in, values out.  What a value must lie between, and how it is called
 * in an error, config.c knows.
 */
#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config_value.h"
#include "mem.h"

#define STREAM_KIND_MAX 63

/* A value prints in the largest unit that divides it, so larger ones come first. */
const Unit duration_units[] = {{"h", HOUR}, {"min", MIN}, {"s", SEC}, {"ms", 1}, {NULL, 0}};
const Unit size_units[] = {{"GiB", GIB}, {"MiB", MIB}, {"KiB", KIB}, {"GB", GIB},
						   {"MB", MIB},  {"kB", KIB},  {"B", 1},     {NULL, 0}};
const Unit count_units[] = {{"", 1}, {NULL, 0}};

/* Write a value with its unit, and return the buffer. */
const char *
quantity_format(char *out, size_t size, const Unit *units, int64_t value)
{
	while (value == 0 ? units[1].name != NULL : value % units->factor != 0)
		units++;
	snprintf(out, size, "%" PRId64 "%s", value / units->factor, units->name);
	return out;
}

/* Parse digits and a unit.  A bare number has a meaning only if the unit may be empty, or if it
 * is zero. */
bool
quantity_parse(const char *text, const Unit *units, int64_t *value)
{
	char *end;
	int64_t number;

	if (*text < '0' || *text > '9')
		return false;
	number = strtoll(text, &end, 10);
	if (*end == '\0' && number == 0)
	{
		*value = 0;
		return true;
	}
	for (; units->name != NULL; units++)
		if (strcmp(end, units->name) == 0)
			return !__builtin_mul_overflow(number, units->factor, value);
	return false;
}

/* Split "host:port" or "[host]:port" into its parts. */
static bool
listen_split(const char *text, char *host, size_t size, uint16_t *port, bool *brackets)
{
	const char *colon = strrchr(text, ':');
	size_t len;
	char *end;
	unsigned long number;

	if (colon == NULL || colon[1] < '0' || colon[1] > '9')
		return false;
	number = strtoul(colon + 1, &end, 10);
	if (*end != '\0' || number > 65535)
		return false;
	*port = (uint16_t) number;
	len = (size_t) (colon - text);
	*brackets = len >= 2 && text[0] == '[' && text[len - 1] == ']';
	if (*brackets)
	{
		text++;
		len -= 2;
	}
	if (len == 0 || len >= size)
		return false;
	memcpy(host, text, len);
	host[len] = '\0';
	return true;
}

/* Parse an address to listen on; names other than localhost are not looked up. */
bool
listen_parse(const char *text, ListenAddress *listen)
{
	char host[INET6_ADDRSTRLEN];
	uint16_t port;
	bool brackets;
	struct sockaddr_in *v4 = (struct sockaddr_in *) &listen->addr;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *) &listen->addr;

	memset(listen, 0, sizeof(*listen));
	snprintf(listen->text, sizeof(listen->text), "%s", text);
	if (!listen_split(text, host, sizeof(host), &port, &brackets))
		return false;
	if (brackets)
	{
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(port);
		listen->len = sizeof(*v6);
		if (inet_pton(AF_INET6, host, &v6->sin6_addr) != 1)
			return false;
		listen->loopback = IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
		return true;
	}
	v4->sin_family = AF_INET;
	v4->sin_port = htons(port);
	listen->len = sizeof(*v4);
	if (inet_pton(AF_INET, strcmp(host, "localhost") == 0 ? "127.0.0.1" : host, &v4->sin_addr) != 1)
		return false;
	listen->loopback = ntohl(v4->sin_addr.s_addr) >> 24 == 127;
	return true;
}

/* Parse the name of a log level. */
bool
level_parse(const char *text, LogLevel *level)
{
	static const struct
	{
		const char *name;
		LogLevel level;
	} levels[] = {{"debug", LOG_DEBUG},
				  {"info", LOG_INFO},
				  {"warning", LOG_WARNING},
				  {"error", LOG_ERROR}};

	for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++)
		if (strcmp(text, levels[i].name) == 0)
		{
			*level = levels[i].level;
			return true;
		}
	return false;
}

/* Parse what an environment variable says about a flag. */
bool
flag_parse(const char *text, bool *value)
{
	*value = strcmp(text, "1") == 0 || strcmp(text, "on") == 0 || strcmp(text, "true") == 0;
	return *value || *text == '\0' || strcmp(text, "0") == 0 || strcmp(text, "off") == 0 ||
		   strcmp(text, "false") == 0;
}

/* Is it a name that a cookie may have?  Fewer than RFC 6265 allows, but all that are in use. */
bool
cookie_name_is_valid(const char *text)
{
	static const char allowed[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";

	return *text != '\0' && text[strspn(text, allowed)] == '\0';
}

/* Can it be the prefix of stream keys?  As pev_stream_kind has it. */
bool
kind_is_valid(const char *text)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
	static const char others[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";

	return strspn(text, letters) > 0 && text[strspn(text, others)] == '\0' &&
		   strlen(text) <= STREAM_KIND_MAX;
}

/* Add to a list; false if it is full. */
bool
list_add(StringList *list, const char *value, size_t len)
{
	if (list->count == CONFIG_LIST_MAX)
		return false;
	list->items[list->count] = mem_zero(len + 1);
	memcpy(list->items[list->count++], value, len);
	return true;
}

/* Empty a list. */
void
list_free(StringList *list)
{
	while (list->count > 0)
		free(list->items[--list->count]);
	list->preset = false;
}
