/*
 * listen.c
 *		The socket that clients connect to.
 *
 * Made here rather than by libmicrohttpd, which cannot say why it failed.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "listen.h"
#include "log.h"

#define LISTEN_BACKLOG 1024

/* Bind and listen: the socket, or -1 after an error has been logged. */
int
listen_open(const ListenAddress *address)
{
	int on = 1;
	int fd = socket(address->addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
		bind(fd, (const struct sockaddr *) &address->addr, address->len) != 0 ||
		listen(fd, LISTEN_BACKLOG) != 0)
	{
		log_error("--listen: cannot listen on %s: %s", address->text, strerror(errno));
		if (fd >= 0)
			close(fd);
		return -1;
	}
	return fd;
}

/* Log the address in use, the port as it turned out. */
void
listen_log(int fd, const char *scheme)
{
	struct sockaddr_storage addr;
	socklen_t len = sizeof(addr);
	char host[INET6_ADDRSTRLEN] = "";
	const struct sockaddr_in *v4 = (const struct sockaddr_in *) &addr;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *) &addr;

	if (getsockname(fd, (struct sockaddr *) &addr, &len) != 0)
		log_fatal("getsockname: %s", strerror(errno));
	if (addr.ss_family == AF_INET6)
		log_info("listening on %s://[%s]:%u", scheme,
				 inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof(host)), ntohs(v6->sin6_port));
	else
		log_info("listening on %s://%s:%u", scheme,
				 inet_ntop(AF_INET, &v4->sin_addr, host, sizeof(host)), ntohs(v4->sin_port));
}
