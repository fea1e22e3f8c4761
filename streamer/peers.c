/*
 * peers.c
 *		How many clients each address has.
 *
 * Whoever has one IPv6 address usually has 2^64 of them, so those are counted
 * by their /64 network.  An IPv4 address is the same whether it comes as such
 * or in IPv6's clothes.
 *
 * Pure: no libpq, no libmicrohttpd.
 */
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "mem.h"
#include "peers.h"

static struct
{
	size_t size; /* a power of two */
	Peer **buckets;
} peers;

/* Start with room for so many addresses, more or less. */
void
peers_start(size_t most)
{
	peers.size = 64;
	while (peers.size < most)
		peers.size *= 2;
	peers.buckets = mem_zero(peers.size * sizeof(Peer *));
}

/* All clients have left. */
void
peers_stop(void)
{
	free(peers.buckets);
	peers.buckets = NULL;
}

/* What an address is counted by: [0] tells the kinds apart. */
void
peer_network(const struct sockaddr *addr, uint64_t network[2])
{
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *) addr;

	network[0] = addr->sa_family;
	network[1] = 0;
	if (addr->sa_family == AF_INET)
		memcpy(&network[1], &((const struct sockaddr_in *) addr)->sin_addr, 4);
	else if (addr->sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr))
	{
		network[0] = AF_INET;
		memcpy(&network[1], &v6->sin6_addr.s6_addr[12], 4);
	}
	else if (addr->sa_family == AF_INET6)
		memcpy(&network[1], &v6->sin6_addr, 8);
}

/* The place where a network's peer is, or would be linked. */
static Peer **
peer_find(const uint64_t network[2])
{
	uint64_t h = (network[0] ^ network[1]) * UINT64_C(0xff51afd7ed558ccd);
	Peer **link = &peers.buckets[(h ^ h >> 33) & (peers.size - 1)];

	while (*link != NULL && memcmp((*link)->network, network, sizeof((*link)->network)) != 0)
		link = &(*link)->next;
	return link;
}

/* One more client of an address: the peer to leave, or NULL if it has so many already. */
Peer *
peer_enter(const struct sockaddr *addr, size_t most)
{
	uint64_t network[2];
	Peer **link;

	peer_network(addr, network);
	link = peer_find(network);
	if (*link == NULL)
	{
		*link = mem_zero(sizeof(Peer));
		memcpy((*link)->network, network, sizeof(network));
	}
	else if ((*link)->clients >= most)
		return NULL;
	(*link)->clients++;
	return *link;
}

/* One client less. */
void
peer_leave(Peer *peer)
{
	Peer **link;

	if (--peer->clients > 0)
		return;
	link = peer_find(peer->network);
	*link = peer->next;
	free(peer);
}
