/*
 * streamer_forwarded.c
 *		Who a request is from, and that nobody can pass for another.
 */
#include <arpa/inet.h>

#include "forwarded.h"
#include "streamer_tap.h"

/* The client of a request from this peer, in text. */
static const char *
client(const char *peer, const char *header)
{
	static char text[INET6_ADDRSTRLEN];
	struct sockaddr_in v4 = {.sin_family = AF_INET};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
	struct sockaddr_in6 found;
	bool is_v4 = inet_pton(AF_INET, peer, &v4.sin_addr) == 1;

	if (!is_v4)
		inet_pton(AF_INET6, peer, &v6.sin6_addr);
	forwarded_client(is_v4 ? (struct sockaddr *) &v4 : (struct sockaddr *) &v6, header, &found);
	inet_ntop(AF_INET6, &found.sin6_addr, text, sizeof(text));
	return strncmp(text, "::ffff:", 7) == 0 ? text + 7 : text;
}

static void
test_networks(void)
{
	static const char *const valid[] = {"127.0.0.1",          "10.0.0.0/8",
										"192.0.2.128/25",     "0.0.0.0/0",
										"10.1.2.3/32",        "::1",
										"2001:db8::/32",      "::/0",
										"2001:db8::1/128",    "fd00::8000/113",
										"::ffff:10.0.0.0/104"};
	static const char *const invalid[] = {
		"",
		"localhost",
		"10.0.0.1/8",
		"10.0.0.0/33",
		"10.0.0.0/",
		"10.0.0.0/-1",
		"10.0.0.0/8x",
		"10.0.0.0/08",
		"10.0.0.0/ 8",
		"10.0.0",
		"10.0.0.0/8/8",
		"[::1]",
		"::1/129",
		"2001:db8::1/64",
		"fe80::1%eth0",
		"*",
		"10.0.0.0/4294967304",
		"1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc"};

	for (size_t i = 0; i < sizeof(valid) / sizeof(valid[0]); i++)
		ok(network_is_valid(valid[i]), valid[i]);
	for (size_t i = 0; i < sizeof(invalid) / sizeof(invalid[0]); i++)
		ok(!network_is_valid(invalid[i]), invalid[i]);
}

/* Trust these, up to a NULL. */
static void
trust(const char *const *networks)
{
	StringList list = {0};

	while (networks[list.count] != NULL)
	{
		list.items[list.count] = (char *) networks[list.count];
		list.count++;
	}
	forwarded_start(&list);
}

static void
test_trust(void)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET};

	inet_pton(AF_INET, "10.9.8.7", &v4.sin_addr);
	trust((const char *const[]){NULL});
	ok(!forwarded_trusts((struct sockaddr *) &v4), "nobody is trusted");
	is(client("10.9.8.7", "192.0.2.1"), "10.9.8.7", "nobody is believed");
	trust((const char *const[]){"10.0.0.0/8", "2001:db8:2::/47", "127.0.0.1", NULL});
	ok(forwarded_trusts((struct sockaddr *) &v4), "a network is trusted");
	is(client("10.9.8.7", "192.0.2.1"), "192.0.2.1", "and believed");
	is(client("::ffff:10.9.8.7", "192.0.2.1"), "192.0.2.1", "in IPv6's clothes too");
	is(client("11.0.0.1", "192.0.2.1"), "11.0.0.1", "one beside the network is not");
	is(client("127.0.0.2", "192.0.2.1"), "127.0.0.2", "nor beside the address");
	is(client("2001:db8:1:ffff::1", "192.0.2.1"), "2001:db8:1:ffff::1", "nor before the prefix");
	is(client("2001:db8:3:ffff::1", "192.0.2.1"), "192.0.2.1", "bits within a byte");
	is(client("2001:db8:4::1", "192.0.2.1"), "2001:db8:4::1", "nor after it");
}

static void
test_chain(void)
{
	is(client("10.0.0.1", NULL), "10.0.0.1", "no header");
	is(client("10.0.0.1", "198.51.100.66, 192.0.2.1"), "192.0.2.1", "what a client makes up");
	is(client("10.0.0.1", "10.0.0.9, 192.0.2.1"), "192.0.2.1", "even a proxy's address");
	is(client("10.0.0.1", "192.0.2.1,10.0.0.3 ,\t10.0.0.2 "), "192.0.2.1", "several proxies");
	is(client("10.0.0.1", "10.0.0.3, 10.0.0.2"), "10.0.0.3", "nobody but proxies");
	is(client("10.0.0.1", "2001:db8:ffff::1"), "2001:db8:ffff::1", "an IPv6 client");
	is(client("10.0.0.1", "[2001:db8:ffff::1]"), "2001:db8:ffff::1", "in brackets");
	is(client("10.0.0.1", "[2001:db8:ffff::1]:443"), "2001:db8:ffff::1", "with its port");
	is(client("10.0.0.1", "192.0.2.1:65000"), "192.0.2.1", "an IPv4 client with its port");
	is(client("10.0.0.1", "::ffff:192.0.2.1"), "192.0.2.1", "an IPv4 client in IPv6's clothes");
}

static void
test_malformed(void)
{
	static const char *const malformed[] = {
		"",
		",",
		" ",
		"x",
		"unknown",
		"192.0.2.1,",
		"192.0.2.1, x",
		"192.0.2",
		"192.0.2.256",
		"192.0.2.1:",
		"192.0.2.1:x",
		"192.0.2.1 192.0.2.2",
		"[2001:db8:ffff::1",
		"[]",
		"[2001:db8:ffff::1]x",
		"[2001:db8:ffff::1]:x",
		"2001:db8:ffff::1]",
		"192.0.2.1;",
		"for=192.0.2.1",
		"\"192.0.2.1\"",
		"192.0.2.1,,",
		"1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc"};
	char many[4096];

	for (size_t i = 0; i < sizeof(malformed) / sizeof(malformed[0]); i++)
		is(client("10.0.0.1", malformed[i]), "10.0.0.1", malformed[i]);
	is(client("10.0.0.1", "192.0.2.1, x, 10.0.0.2"), "10.0.0.2", "what nobody vouches for");
	memset(many, ',', sizeof(many) - 1);
	many[sizeof(many) - 1] = '\0';
	is(client("10.0.0.1", many), "10.0.0.1", "commas");
}

int
main(void)
{
	test_networks();
	test_trust();
	test_chain();
	test_malformed();
	return done();
}
