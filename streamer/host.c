/*
 * host.c
 *		The names that the streamer goes by.
 *
 * Who serves everybody on a loopback address serves every page that a browser of
 * this machine opens, if that page's name is made to lead to the loopback address
 * once the page has come: to the browser they are then one origin.  But the
 * request still says by which name it came.  Names that lead here by nature are
 * taken: localhost and what is below it, and addresses, which are not looked up.
 * With keys it does not matter, for no page has a token of another origin.
 *
 * Pure: neither libpq nor libmicrohttpd.
 */
#include <arpa/inet.h>
#include <string.h>

#include "host.h"

#define HOST_MAX 253 /* bytes of a name (RFC 1035) */

static const StringList *hosts_allowed; /* NULL: any host is ours */

/* Is it a name as browsers send it, without a port? */
bool
host_name_is_valid(const char *text)
{
	size_t len = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-._");

	return len > 0 && len <= HOST_MAX && text[len] == '\0';
}

/* Begin to look at hosts, if the options say so.  The configuration stays the caller's. */
void
hosts_start(const Config *config)
{
	hosts_allowed =
		config_has_keys(config) || config->insecure_no_auth ? NULL : &config->allowed_hosts;
}

/* Is it an address, in brackets if it is IPv6? */
static bool
host_is_address(char *host, size_t len)
{
	struct in6_addr address;

	if (host[0] != '[')
		return inet_pton(AF_INET, host, &address) == 1;
	if (host[len - 1] != ']')
		return false;
	host[len - 1] = '\0';
	return inet_pton(AF_INET6, host + 1, &address) == 1;
}

/* Is it localhost, or a name below it (RFC 6761, section 6.3)? */
static bool
host_is_local(const char *host, size_t len)
{
	static const char local[] = ".localhost";
	size_t below = sizeof(local) - 1;

	return strcasecmp(host, local + 1) == 0 ||
		   (len > below && strcasecmp(host + len - below, local) == 0);
}

/* Is a request for this host, of the header of that name, one for us? */
bool
host_is_ours(const char *header)
{
	char host[HOST_MAX + 1];
	size_t len = header[0] == '[' ? strcspn(header, "]") + 1 : strcspn(header, ":");

	if (hosts_allowed == NULL)
		return true;
	if (len == 0 || len > HOST_MAX || len > strlen(header) ||
		(header[len] != '\0' &&
		 (header[len] != ':' || header[len + 1 + strspn(header + len + 1, "0123456789")] != '\0')))
		return false;
	memcpy(host, header, len);
	host[len] = '\0';
	for (int i = 0; i < hosts_allowed->count; i++)
		if (strcasecmp(host, hosts_allowed->items[i]) == 0)
			return true;
	return host_is_local(host, len) || host_is_address(host, len);
}
