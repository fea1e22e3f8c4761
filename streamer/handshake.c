/*
 * handshake.c
 *		Connections of TLS from which no request has come yet.
 *
 * libmicrohttpd 0.9.75 is not good at waiting for these.  It takes one that waits
 * for the client's half of the handshake for one that can be read, and tries again
 * at once, for ever; and when its time is up, it forgets to close it.  So between
 * its runs they are suspended, and the loop watches their sockets; and they get a
 * deadline for all until their first request line, after which they are shut down,
 * which fails the handshake.  From then on they are as others.
 *
 * libmicrohttpd promises that it is safe to suspend a connection from within its
 * callbacks only, for it may have threads; here it has none.
 */
#include <sys/socket.h>

#include "handshake.h"

TAILQ_HEAD(HandshakeList, Handshake);

static struct
{
	int64_t patience;           /* in milliseconds */
	struct HandshakeList fresh; /* not suspended */
	struct HandshakeList suspended;
} handshakes = {.fresh = TAILQ_HEAD_INITIALIZER(handshakes.fresh),
				.suspended = TAILQ_HEAD_INITIALIZER(handshakes.suspended)};

/* Start; patience is how long each may take. */
void
handshakes_start(int64_t patience)
{
	handshakes.patience = patience;
}

/* Its time is up.  The socket is now at its end, which wakes it. */
static void
handshake_on_alarm(void *arg)
{
	const Handshake *handshake = arg;

	(void) shutdown(handshake->fd, SHUT_RDWR);
}

/* A connection has come. */
void
handshake_begin(Handshake *handshake, struct MHD_Connection *conn)
{
	handshake->conn = conn;
	handshake->session =
		MHD_get_connection_info(conn, MHD_CONNECTION_INFO_GNUTLS_SESSION)->tls_session;
	handshake->fd = MHD_get_connection_info(conn, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
	handshake->pair = tls_hold(handshake->session);
	handshake->watch.fd = -1;
	TAILQ_INSERT_TAIL(&handshakes.fresh, handshake, link);
	alarm_set(&handshake->alarm, loop_now() + handshakes.patience, handshake_on_alarm, handshake);
}

/* Its first request line has come, or it is closed. */
void
handshake_end(Handshake *handshake)
{
	if (handshake->conn == NULL)
		return;
	handshake->conn = NULL;
	alarm_clear(&handshake->alarm);
	loop_unwatch(&handshake->watch);
	TAILQ_REMOVE(handshake->suspended ? &handshakes.suspended : &handshakes.fresh, handshake, link);
	tls_release(handshake->pair);
}

/* A suspended one can go on. */
static void
handshake_wake(Handshake *handshake)
{
	loop_unwatch(&handshake->watch);
	handshake->suspended = false;
	TAILQ_REMOVE(&handshakes.suspended, handshake, link);
	TAILQ_INSERT_TAIL(&handshakes.fresh, handshake, link);
	MHD_resume_connection(handshake->conn);
}

static void
handshake_on_ready(void *arg, uint32_t events)
{
	(void) events;
	handshake_wake(arg);
}

/* libmicrohttpd has run: those for whom it has not enough yet are suspended. */
void
handshakes_rest(void)
{
	Handshake *handshake;
	Handshake *next;

	for (handshake = TAILQ_FIRST(&handshakes.fresh); handshake != NULL; handshake = next)
	{
		next = TAILQ_NEXT(handshake, link);
		if (gnutls_record_check_pending(handshake->session) > 0)
			continue; /* its request has come in part, which no socket tells */
		TAILQ_REMOVE(&handshakes.fresh, handshake, link);
		TAILQ_INSERT_TAIL(&handshakes.suspended, handshake, link);
		handshake->suspended = true;
		MHD_suspend_connection(handshake->conn);
		loop_watch(&handshake->watch, handshake->fd,
				   gnutls_record_get_direction(handshake->session) == 1 ? EPOLLOUT : EPOLLIN,
				   handshake_on_ready, handshake);
	}
}

/* Let libmicrohttpd have them all, to be closed with its daemon. */
void
handshakes_stop(void)
{
	while (!TAILQ_EMPTY(&handshakes.suspended))
		handshake_wake(TAILQ_FIRST(&handshakes.suspended));
}
