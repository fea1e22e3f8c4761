/*
 * hang_up.c
 *		Finding out that the client of a long response has gone.
 *
 * A suspended connection does not notice hang-ups, so the loop watches its socket.
 *
 * Whether a client is dead, the kernel judges (TCP_USER_TIMEOUT): nothing has
 * been taken of what waits in its socket for --send-timeout.  libmicrohttpd would
 * judge by when it last wrote itself, and so, after a halt of this process, close
 * those whom it was about to write to.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "hang_up.h"
#include "log.h"
#include "metrics.h"

#define HTTP_UNSENT (64 * 1024) /* bytes that may wait in a client's socket */

/* Watch for the peer's hang-up, and let TCP give up on one that takes nothing. */
void
hang_up_watch(Request *req, int64_t patience, WatchCallback callback)
{
	int fd = request_socket(req);
	unsigned int timeout = (unsigned int) patience;
	int unsent = HTTP_UNSENT;

	(void) setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof(timeout));
	/*
	 * A socket counts as writable again only when a third of its buffer is free,
	 * and the kernel lets that buffer grow to megabytes: a slow reader would seem
	 * to make no progress for longer than the time-out.  This bounds what waits
	 * there, and with it the kernel's memory for slow readers.
	 */
	(void) setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof(unsent));
	loop_watch(&req->hang_up, fd, EPOLLRDHUP | EPOLLET, callback, req);
}

/* Has TCP given the peer up?  It says so once, and whoever sees it first asks. */
static void
hang_up_check_timeout(const Request *req)
{
	int error = 0;
	socklen_t len = sizeof(error);

	if (getsockopt(req->hang_up.fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0 || error != ETIMEDOUT)
		return;
	metric_add(METRIC_EVICTED_SEND_TIMEOUT, 1);
	log_write(LOG_INFO, req->client, "closed: it took nothing for the send time-out");
}

/* The peer has closed its side, or TCP has given it up: these events came. */
void
hang_up_end(Request *req, uint32_t events)
{
	if (events & EPOLLERR)
		hang_up_check_timeout(req);
	loop_unwatch(&req->hang_up);
}

/* The request is over. */
void
hang_up_unwatch(Request *req, enum MHD_RequestTerminationCode code)
{
	if (code != MHD_REQUEST_TERMINATED_COMPLETED_OK && req->hang_up.fd >= 0)
		hang_up_check_timeout(req);
	loop_unwatch(&req->hang_up);
}
