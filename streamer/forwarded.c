/*
 * forwarded.c
 *		Whose request it is that a proxy passes on.
 *
 * Each proxy adds to X-Forwarded-For, at its right end, the address that its own
 * connection came from; what stands further left, the client may have made up.  So
 * the header is believed only if it comes from a trusted proxy, and read from the
 * right: an address that is a trusted proxy's vouches for the next one, and the
 * first that is not is the client's.  Where that chain breaks, by an entry that is
 * no address or by the end of the header, the client is the last of it: an entry
 * that nobody vouched for is never looked at.
 *
 * Addresses are compared as IPv6, IPv4 ones in its clothes.
 *
 * Pure: no libmicrohttpd.
 */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "forwarded.h"

#define BITS_V4 32
#define BITS_V6 128

/* All addresses whose first bits are these. */
typedef struct Network
{
	struct in6_addr address;
	int bits;
} Network;

static struct
{
	int count;
	Network proxies[CONFIG_LIST_MAX];
} trusted;

/* Parse an address of so many characters; *width is how many bits its family has. */
static bool
address_parse(const char *text, size_t len, struct in6_addr *address, int *width)
{
	char copy[INET6_ADDRSTRLEN];
	struct in_addr v4;

	if (len >= sizeof(copy))
		return false;
	memcpy(copy, text, len);
	copy[len] = '\0';
	*width = BITS_V6;
	if (inet_pton(AF_INET6, copy, address) == 1)
		return true;
	*width = BITS_V4;
	if (inet_pton(AF_INET, copy, &v4) != 1)
		return false;
	*address = (struct in6_addr){.s6_addr = {[10] = 0xff, [11] = 0xff}};
	memcpy(&address->s6_addr[12], &v4, sizeof(v4));
	return true;
}

/* Are these the same, as far as the first bits go? */
static bool
address_matches(const struct in6_addr *a, const struct in6_addr *b, int bits)
{
	size_t bytes = (size_t) bits / 8;
	int rest = bits % 8;

	return memcmp(a, b, bytes) == 0 &&
		   (rest == 0 || (a->s6_addr[bytes] ^ b->s6_addr[bytes]) >> (8 - rest) == 0);
}

/* Parse ADDRESS or ADDRESS/BITS, where an address with bits beyond those is a slip. */
static bool
network_parse(const char *text, Network *network)
{
	size_t len = strcspn(text, "/");
	const char *bits = text + len;
	struct in6_addr rest;
	int width;
	char *end;

	if (!address_parse(text, len, &network->address, &width))
		return false;
	network->bits = BITS_V6;
	if (*bits == '\0')
		return true;
	if (*++bits < '0' || *bits > '9' || (*bits == '0' && bits[1] != '\0') || strlen(bits) > 3)
		return false;
	network->bits = (int) strtol(bits, &end, 10);
	if (*end != '\0' || network->bits > width)
		return false;
	network->bits += BITS_V6 - width;
	rest = network->address;
	for (int i = 0; i < network->bits; i++)
		rest.s6_addr[i / 8] &= (uint8_t) ~(0x80 >> i % 8);
	return IN6_IS_ADDR_UNSPECIFIED(&rest);
}

/* Is it an address or a network? */
bool
network_is_valid(const char *text)
{
	Network network;

	return network_parse(text, &network);
}

/* Start, with networks that are valid. */
void
forwarded_start(const StringList *proxies)
{
	trusted.count = proxies->count;
	for (int i = 0; i < proxies->count; i++)
		(void) network_parse(proxies->items[i], &trusted.proxies[i]);
}

/* Is it a trusted proxy's? */
static bool
address_is_trusted(const struct in6_addr *address)
{
	for (int i = 0; i < trusted.count; i++)
		if (address_matches(address, &trusted.proxies[i].address, trusted.proxies[i].bits))
			return true;
	return false;
}

/* The address of a socket, in IPv6's clothes. */
static struct in6_addr
address_of(const struct sockaddr *peer)
{
	struct in6_addr address = {.s6_addr = {[10] = 0xff, [11] = 0xff}};

	if (peer->sa_family == AF_INET6)
		return ((const struct sockaddr_in6 *) peer)->sin6_addr;
	memcpy(&address.s6_addr[12], &((const struct sockaddr_in *) peer)->sin_addr, 4);
	return address;
}

/* Is it worth while to look at what a peer says? */
bool
forwarded_trusts(const struct sockaddr *peer)
{
	struct in6_addr address = address_of(peer);

	return trusted.count > 0 && address_is_trusted(&address);
}

/* Is it what may follow an address: nothing, or a colon and a port? */
static bool
port_is_valid(const char *text, size_t len)
{
	if (len == 0)
		return true;
	return *text == ':' && len >= 2 && len <= 6 && strspn(text + 1, "0123456789") >= len - 1;
}

/*
 * Parse one entry of the header.  Some proxies add the port to an IPv4 address, or
 * write [address] or [address]:port.
 */
static bool
entry_parse(const char *text, size_t len, struct in6_addr *address)
{
	const char *colon = memchr(text, ':', len);
	const char *end = text + len;
	const char *stop = end; /* of the address */
	int width;

	if (len > 0 && *text == '[')
	{
		stop = memchr(text, ']', len);
		return stop != NULL && port_is_valid(stop + 1, (size_t) (end - stop - 1)) &&
			   address_parse(text + 1, (size_t) (stop - text - 1), address, &width);
	}
	if (colon != NULL && memchr(colon + 1, ':', (size_t) (end - colon - 1)) == NULL)
		stop = colon;
	return port_is_valid(stop, (size_t) (end - stop)) &&
		   address_parse(text, (size_t) (stop - text), address, &width);
}

/* The last entry before *end, without the spaces around it; *end moves before it, or is NULL. */
static size_t
entry_last(const char *header, const char **end, const char **text)
{
	const char *stop = *end;
	const char *start;

	while (stop > header && (stop[-1] == ' ' || stop[-1] == '\t'))
		stop--;
	for (start = stop; start > header && start[-1] != ',';)
		start--;
	*end = start > header ? start - 1 : NULL;
	start += strspn(start, " \t");
	*text = start;
	return start < stop ? (size_t) (stop - start) : 0;
}

/* The client of a request from this peer, whose header X-Forwarded-For may be NULL. */
void
forwarded_client(const struct sockaddr *peer, const char *header, struct sockaddr_in6 *client)
{
	const char *end = header != NULL ? header + strlen(header) : NULL;

	*client = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_addr = address_of(peer)};
	while (end != NULL && address_is_trusted(&client->sin6_addr))
	{
		struct in6_addr address;
		const char *text;
		size_t len = entry_last(header, &end, &text);

		if (!entry_parse(text, len, &address))
			return;
		client->sin6_addr = address;
	}
}
