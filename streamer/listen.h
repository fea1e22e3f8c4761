/*
 * listen.h
 *		The socket that clients connect to.
 */
#ifndef PEV_LISTEN_H
#define PEV_LISTEN_H

#include "config.h"

extern int listen_open(const ListenAddress *address);
extern void listen_log(int fd, const char *scheme);

#endif
