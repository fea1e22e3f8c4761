/*
 * request.h
 *		A connection and the request on it, as the handlers of routes see it.
 */
#ifndef PEV_REQUEST_H
#define PEV_REQUEST_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <microhttpd.h>

#include "access_log.h"
#include "body.h"
#include "emission.h"
#include "export_read.h"
#include "grant.h"
#include "handshake.h"
#include "loop.h"
#include "peers.h"
#include "subscriber.h"

/* http.c makes one for each connection; the next request takes the structure over. */
typedef struct Request
{
	uint64_t client;
	char *target;         /* raw; NULL once it has been taken apart */
	uintptr_t target_end; /* where it ends in libmicrohttpd's memory */
	bool nul;             /* it holds a NUL, escaped or not */
	bool misdirected;     /* it is for a host that is not this one */
	bool begun;           /* its header has been read */
	bool head;
	bool chunked; /* it is HTTP/1.1 or later */
	struct MHD_Connection *conn;
	Handshake handshake; /* of a connection of TLS */
	Subscriber *sub;     /* of a stream's request, once it has been found valid */
	Peer *peer;          /* whose client it is; NULL: not counted */
	Grant *grant;        /* what lets it listen; NULL: nothing is needed, or nothing is known yet */
	char *ticket_stream; /* while the database is to redeem a ticket for it */
	TAILQ_ENTRY(Request) ticket_link; /* in the queue for that */
	Watch hang_up;
	Body body;
	Emission *emission;         /* of a request that emits or queues a job */
	Export *export;             /* of a request for one, once it has been found valid */
	struct MHD_Response *early; /* the answer, while the body is still coming; NULL: none yet */
	unsigned int early_status;
	AccessEntry access;
} Request;

/* Is the connection to be closed when nothing happens on it for --send-timeout? */
extern void request_limit_time(Request *req, bool limited);

/* Who asks: the peer, or whom a trusted proxy says that it asks for. */
extern void request_address(const Request *req, struct sockaddr_in6 *address);
extern bool request_wants_events(const Request *req);
extern int request_socket(const Request *req);

/* What answers the requests of a route. */
typedef enum MHD_Result (*Handler)(Request *req);

#endif
