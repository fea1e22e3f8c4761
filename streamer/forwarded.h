/*
 * forwarded.h
 *		Whose request it is that a proxy passes on.
 */
#ifndef PEV_FORWARDED_H
#define PEV_FORWARDED_H

#include <stdbool.h>
#include <netinet/in.h>

#include "config.h"

extern bool network_is_valid(const char *text);
extern void forwarded_start(const StringList *proxies);
extern bool forwarded_trusts(const struct sockaddr *peer);
extern void forwarded_client(const struct sockaddr *peer, const char *header,
							 struct sockaddr_in6 *client);

#endif
