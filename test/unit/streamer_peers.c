/*
 * streamer_peers.c
 *		Clients are counted by address, or by network where one host has many.
 */
#include <arpa/inet.h>
#include <netinet/in.h>

#include "peers.h"
#include "streamer_tap.h"

/* Enter with an address in text; two at most. */
static Peer *
enter(const char *text)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};

	if (inet_pton(AF_INET, text, &v4.sin_addr) == 1)
		return peer_enter((struct sockaddr *) &v4, 2);
	inet_pton(AF_INET6, text, &v6.sin6_addr);
	return peer_enter((struct sockaddr *) &v6, 2);
}

int
main(void)
{
	Peer *a;
	Peer *b;
	Peer *c;
	Peer *many[1000];

	peers_start(1);
	a = enter("192.0.2.1");
	b = enter("::ffff:192.0.2.1");
	ok(a != NULL && a == b, "an IPv4 address in either form is one");
	ok(enter("192.0.2.1") == NULL, "the third is refused");
	c = enter("192.0.2.2");
	ok(c != NULL && c != a, "another address is another");
	peer_leave(b);
	b = enter("192.0.2.1");
	ok(b == a, "whoever leaves makes room");
	peer_leave(a);
	peer_leave(b);
	peer_leave(c);

	a = enter("2001:db8:1:2::1");
	b = enter("2001:db8:1:2:ffff:ffff:ffff:ffff");
	c = enter("2001:db8:1:3::1");
	ok(a == b && enter("2001:db8:1:2::3") == NULL, "a /64 network counts as one");
	ok(c != NULL && c != a, "another does not");
	peer_leave(a);
	peer_leave(b);
	peer_leave(c);

	for (uint32_t i = 0; i < 1000; i++)
	{
		struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(i)};

		many[i] = peer_enter((struct sockaddr *) &v4, 1);
	}
	a = many[0];
	for (int i = 0; i < 1000; i++)
	{
		if (many[i] == NULL || many[i]->clients != 1)
			a = NULL;
		else
			peer_leave(many[i]);
	}
	ok(a != NULL, "more addresses than buckets");
	peers_stop();
	return done();
}
