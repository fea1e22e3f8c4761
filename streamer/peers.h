/*
 * peers.h
 *		How many clients each address has.
 */
#ifndef PEV_PEERS_H
#define PEV_PEERS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/* An address with clients; it is freed when the last one leaves. */
typedef struct Peer
{
	uint64_t network[2];
	size_t clients;
	struct Peer *next; /* in the same bucket */
} Peer;

extern void peers_start(size_t most);
extern void peers_stop(void);
extern void peer_network(const struct sockaddr *addr, uint64_t network[2]);
extern Peer *peer_enter(const struct sockaddr *addr, size_t most);
extern void peer_leave(Peer *peer);

#endif
