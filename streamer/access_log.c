/*
 * access_log.c
 *		A line in the log for each request that ends, if --access-log asks for it.
 *
 * Address, method, path, status, bytes written to the connection and seconds.
 * Who asks decides what most of these say, so only visible ASCII is written as
 * it is.  Tokens come in the query, which is left out; and as a client may have
 * escaped its question mark, or forgotten it, the path ends at whatever begins or
 * parts a query and can be in no key.  Nobody's name is written either.
 *
 * Pure: neither libpq nor libmicrohttpd.
 */
#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/tcp.h> /* netinet/tcp.h lacks the newer members of tcp_info */

#include "access_log.h"
#include "log.h"
#include "loop.h"
#include "mem.h"

static bool access_log_on;

/* Begin to log, or not. */
void
access_log_start(bool on)
{
	access_log_on = on;
}

/* A request begins; what was known of the one before it on the connection has been logged. */
void
access_log_begin(AccessEntry *entry)
{
	entry->begun = access_log_on ? loop_clock() : 0;
}

/* Does the path end here?  It does at ? # & and ;, escaped or not, and at what may be one escaped twice. */
static bool
path_ends(const char *p)
{
	if (*p == '%')
		return strncasecmp(p, "%3F", 3) == 0 || strncmp(p, "%23", 3) == 0 ||
			   strncmp(p, "%26", 3) == 0 || strncasecmp(p, "%3B", 3) == 0 ||
			   strncmp(p, "%25", 3) == 0;
	return *p == '\0' || strchr("?#&;", *p) != NULL;
}

/* Write a byte as it is if it is visible ASCII, and else as \xHH; how many bytes that takes. */
static size_t
escape(char *out, size_t room, char byte)
{
	unsigned char c = (unsigned char) byte;

	if (c > ' ' && c < 0x7f && c != '\\')
		return (size_t) snprintf(out, room, "%c", c);
	return (size_t) snprintf(out, room, "\\x%02x", c);
}

/* Write text escaped, up to where it ends; what does not fit is an ellipsis. */
static void
escape_until(char *out, size_t size, const char *text, bool (*ends)(const char *p))
{
	static const char cut[] = "...";
	size_t len = 0;

	for (const char *p = text; !ends(p); p++)
	{
		if (len + 4 + sizeof(cut) > size)
		{
			memcpy(out + len, cut, sizeof(cut));
			return;
		}
		len += escape(out + len, size - len, *p);
	}
	out[len] = '\0';
}

static bool
text_ends(const char *p)
{
	return *p == '\0';
}

/* The path of a target as it is logged; one that is no path, as "*", is a dash. */
void
access_path(char *out, size_t size, const char *target)
{
	if (*target == '/')
		escape_until(out, size, target, path_ends);
	else
		snprintf(out, size, "-");
}

/* The request's header has been read. */
void
access_log_header(AccessEntry *entry, const char *method, const char *target)
{
	char name[ACCESS_METHOD_MAX];
	char path[ACCESS_PATH_MAX];
	Buf line;

	if (entry->begun == 0)
		return;
	escape_until(name, sizeof(name), method, text_ends);
	access_path(path, sizeof(path), target);
	buf_init(&line);
	buf_format(&line, "%s %s", name, path);
	entry->line = line.data;
}

/* How many bytes have been written to a connection: sent, or waiting in the kernel. */
static uint64_t
connection_written(int fd)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);

	memset(&info, 0, sizeof(info));
	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) != 0)
		return 0;
	return info.tcpi_bytes_sent - info.tcpi_bytes_retrans + info.tcpi_notsent_bytes;
}

/* The request is over: log it.  Status 0: there was no answer. */
void
access_log_end(AccessEntry *entry, uint64_t client, const struct sockaddr_in6 *address,
			   unsigned int status, int fd)
{
	bool mapped = IN6_IS_ADDR_V4MAPPED(&address->sin6_addr);
	char host[INET6_ADDRSTRLEN];
	char code[16] = "-";
	uint64_t written;

	if (entry->begun == 0)
		return;
	(void) inet_ntop(mapped ? AF_INET : AF_INET6, &address->sin6_addr.s6_addr[mapped ? 12 : 0],
					 host, sizeof(host));
	if (status != 0)
		snprintf(code, sizeof(code), "%u", status);
	written = connection_written(fd);
	log_write(LOG_ACCESS, client, "%s %s %s %" PRIu64 " %.3f", host,
			  entry->line != NULL ? entry->line : "- -", code, written - entry->written,
			  (double) (loop_clock() - entry->begun) / 1e6);
	entry->written = written;
	entry->begun = 0;
	free(entry->line);
	entry->line = NULL;
}
