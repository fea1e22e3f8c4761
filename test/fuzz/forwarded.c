/*
 * forwarded.c
 *		Fuzz target: the header X-Forwarded-For, from a trusted proxy.
 *
 * Whoever the client is, the header must have an address to the right of which all
 * are trusted: so what is added at its left changes nothing about one who is not.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>

#include "forwarded.h"

extern int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

/* Trust a network and an address of either kind. */
static void
trust(void)
{
	static char *networks[] = {(char *) "10.0.0.0/8", (char *) "::1"};
	StringList list = {.count = 2, .items = {networks[0], networks[1]}};

	forwarded_start(&list);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	static const char forged[] = "192.0.2.66, ";
	struct sockaddr_in6 peer = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	struct sockaddr_in6 client;
	struct sockaddr_in6 again;
	/* a copy of its own, so that a read beyond the end is found out */
	char *header = malloc(len + 1);
	char *longer = malloc(sizeof(forged) + len);

	memcpy(header, bytes, len);
	header[len] = '\0';
	(void) network_is_valid(header);
	trust();
	forwarded_client((struct sockaddr *) &peer, header, &client);
	strcpy(longer, forged);
	strcat(longer, header);
	forwarded_client((struct sockaddr *) &peer, longer, &again);
	if (!forwarded_trusts((struct sockaddr *) &client) &&
		memcmp(&client.sin6_addr, &again.sin6_addr, sizeof(client.sin6_addr)) != 0)
	{
		fprintf(stderr, "what is added at the left changes the client\n");
		abort();
	}
	free(header);
	free(longer);
	return 0;
}
