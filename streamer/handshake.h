/*
 * handshake.h
 *		Connections of TLS from which no request has come yet.
 */
#ifndef PEV_HANDSHAKE_H
#define PEV_HANDSHAKE_H

#include <sys/queue.h>
#include <microhttpd.h>

#include "alarm.h"
#include "loop.h"
#include "tls.h"

/* It is embedded in what the connection owns; both functions may be called for what is not begun. */
typedef struct Handshake
{
	TAILQ_ENTRY(Handshake) link; /* of those that are suspended, or of those that are not */
	struct MHD_Connection *conn; /* NULL: not begun, or over */
	gnutls_session_t session;
	Watch watch; /* of the socket, while the connection is suspended */
	int fd;
	Alarm alarm;
	bool suspended;
	TlsPair *pair; /* what the client is shown */
} Handshake;

extern void handshakes_start(int64_t patience);
extern void handshake_begin(Handshake *handshake, struct MHD_Connection *conn);
extern void handshake_end(Handshake *handshake);
extern void handshakes_rest(void);
extern void handshakes_stop(void);

#endif
