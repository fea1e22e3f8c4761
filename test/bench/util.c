/*
 * util.c
 *		What the load programs share: errors, the clock, descriptors, sockets, numbers.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "util.h"

/* Say what is wrong and end. */
void
die(const char *format, ...)
{
	va_list args;

	fprintf(stderr, "%s: ", program_invocation_short_name);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

void *
xrealloc(void *old, size_t size)
{
	void *new = realloc(old, size);

	if (new == NULL)
		die("out of memory");
	return new;
}

/* Microseconds since some fixed point, the same for every process of this machine. */
int64_t
now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* Be allowed this many descriptors, or end. */
void
need_descriptors(long count)
{
	struct rlimit limit;
	rlim_t need = (rlim_t) count + 64;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		die("getrlimit: %s", strerror(errno));
	if (limit.rlim_cur >= need)
		return;
	limit.rlim_cur = need;
	if (limit.rlim_max < need)
		limit.rlim_max = need;
	if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
		die("%lu descriptors are needed; raise \"ulimit -Hn\"", (unsigned long) need);
}

/* An option's value as a number within bounds, or end. */
int64_t
number_arg(const char *name, const char *text, int64_t min, int64_t max)
{
	char *end;
	long long value;

	errno = 0;
	value = strtoll(text, &end, 10);
	if (end == text || *end != '\0' || errno != 0 || value < min || value > max)
		die("--%s: not a number from %lld to %lld: %s", name, (long long) min, (long long) max,
			text);
	return value;
}

/* xorshift64*: good enough to choose streams, and the same in every run. */
uint64_t
random_next(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * UINT64_C(2685821657736338717);
}

/* Connect to a port of this machine.  Not blocking: the connection may not be there yet. */
int
loopback_connect(int port, bool blocking)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t) port)};
	int one = 1;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | (blocking ? 0 : SOCK_NONBLOCK), 0);

	if (fd < 0)
		die("socket: %s", strerror(errno));
	(void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (connect(fd, (struct sockaddr *) &address, sizeof(address)) != 0 && errno != EINPROGRESS)
		die("connect to port %d: %s", port, strerror(errno));
	return fd;
}

/* Send everything on a socket that blocks, or whose buffer is known to be empty. */
void
send_all(int fd, const char *bytes, size_t length)
{
	while (length > 0)
	{
		ssize_t n = send(fd, bytes, length, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			die("send: %s", strerror(errno));
		bytes += n;
		length -= (size_t) n;
	}
}
