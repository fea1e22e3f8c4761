/*
 * origin.c
 *		Origins, as browsers name them.
 *
 * A browser sends an origin in one spelling (RFC 6454, section 6.2): scheme and
 * host in lower case, no default port, no path.  Origins are compared bytewise,
 * so one that is configured in any other spelling would never match; it is
 * refused instead.  "null", which every sandboxed page sends, is nobody's.
 *
 * Pure: no libmicrohttpd.
 */
#include <stddef.h>
#include <string.h>

#include "origin.h"

#define LOWER  "abcdefghijklmnopqrstuvwxyz"
#define DIGITS "0123456789"

/* Is it a port in its usual spelling, and not the one that the scheme has anyway? */
static bool
port_is_valid(const char *port, bool http, bool https)
{
	size_t len = strlen(port);

	if (len == 0 || len > 5 || port[0] == '0' || strspn(port, DIGITS) != len)
		return false;
	return !(http && strcmp(port, "80") == 0) && !(https && strcmp(port, "443") == 0);
}

/* Is it an origin as a browser would send it, or "*"? */
bool
origin_is_valid(const char *text)
{
	size_t scheme = strspn(text, LOWER DIGITS "+-.");
	const char *host = text + scheme + strlen("://");
	size_t len;

	if (strcmp(text, "*") == 0)
		return true;
	if (scheme == 0 || strspn(text, LOWER) == 0 || strncmp(text + scheme, "://", 3) != 0)
		return false;
	if (*host == '[')
	{
		len = 1 + strspn(host + 1, DIGITS "abcdef:.");
		if (len == 1 || host[len++] != ']')
			return false;
	}
	else
		len = strspn(host, LOWER DIGITS "-._");
	if (len == 0 || host[len] == '\0')
		return len > 0;
	return host[len] == ':' && port_is_valid(host + len + 1, strncmp(text, "http:", 5) == 0,
											 strncmp(text, "https:", 6) == 0);
}
