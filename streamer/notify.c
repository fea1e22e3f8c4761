/*
 * notify.c
 *		What systemd is told of the daemon, where it runs under systemd.
 *
 * The protocol of sd_notify(3): datagrams of NAME=VALUE lines to the socket that
 * NOTIFY_SOCKET names, "@" being the NUL of an abstract one.  It is stable, and
 * so small that systemd itself advises to write it rather than to load its
 * library, with all that this loads, for it.
 *
 * The watchdog is fed by the loop, at half the time it allows: a daemon that no
 * longer turns is started again.
 *
 * Pure: neither libpq nor libmicrohttpd.
 */
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "log.h"
#include "loop.h"
#include "notify.h"

#define NOTIFY_MAX 256

static struct
{
	int fd; /* -1: nobody wants to know */
	Timer watchdog;
	int64_t interval;        /* of the watchdog, in milliseconds */
	char status[NOTIFY_MAX]; /* as it was told last */
} notify = {.fd = -1};

/* Send a datagram.  If nobody takes it, so be it. */
static void
notify_send(const char *text)
{
	if (notify.fd >= 0 && send(notify.fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		log_debug("cannot notify systemd: %s", strerror(errno));
}

static void
notify_feed_watchdog(void *arg)
{
	(void) arg;
	notify_send("WATCHDOG=1");
	timer_set(&notify.watchdog, notify.interval, notify_feed_watchdog, NULL);
}

/* How often the watchdog wants to hear from this process, in milliseconds; 0: never. */
static int64_t
notify_watchdog_interval(void)
{
	const char *usec = getenv("WATCHDOG_USEC");
	const char *pid = getenv("WATCHDOG_PID");

	if (usec == NULL || (pid != NULL && strtoll(pid, NULL, 10) != getpid()))
		return 0;
	return strtoll(usec, NULL, 10) / 1000 / 2;
}

/* Connect to whoever started the daemon and wants to know. */
void
notify_start(void)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	size_t len;

	if (path == NULL || *path == '\0')
		return;
	len = strlen(path);
	notify.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (len < sizeof(addr.sun_path))
		memcpy(addr.sun_path, path, len);
	else
		errno = ENAMETOOLONG;
	if (addr.sun_path[0] == '@')
		addr.sun_path[0] = '\0';
	if (notify.fd < 0 || len >= sizeof(addr.sun_path) ||
		connect(notify.fd, (const struct sockaddr *) &addr,
				(socklen_t) (offsetof(struct sockaddr_un, sun_path) + len)) != 0)
	{
		log_warning("NOTIFY_SOCKET: cannot connect: %s", strerror(errno));
		notify_stop();
		return;
	}
	notify.interval = notify_watchdog_interval();
	if (notify.interval > 0)
		notify_feed_watchdog(NULL);
}

/* Say no more. */
void
notify_stop(void)
{
	timer_clear(&notify.watchdog);
	if (notify.fd >= 0)
		close(notify.fd);
	notify.fd = -1;
}

/* It serves, or does again. */
void
notify_ready(void)
{
	notify_send("READY=1");
}

/* It reads its files again; notify_ready follows. */
void
notify_reloading(void)
{
	char text[NOTIFY_MAX];

	snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%" PRId64, loop_clock());
	notify_send(text);
}

/* It stops, which takes so many milliseconds at most. */
void
notify_stopping(int64_t most)
{
	char text[NOTIFY_MAX];

	snprintf(text, sizeof(text),
			 "STOPPING=1\nSTATUS=telling clients when to come back\n"
			 "EXTEND_TIMEOUT_USEC=%" PRId64,
			 (most + 10000) * 1000);
	notify_send(text);
}

/* What ails the database, NULL being nothing: tell it, if that is new. */
void
notify_status(const char *trouble)
{
	char text[NOTIFY_MAX];

	if (notify.fd < 0)
		return;
	snprintf(text, sizeof(text), "STATUS=%s%s",
			 trouble == NULL ? "serving" : "serving without the database: ",
			 trouble == NULL ? "" : trouble);
	if (strcmp(text, notify.status) == 0)
		return;
	memcpy(notify.status, text, sizeof(text));
	notify_send(text);
}
