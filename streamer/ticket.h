/*
 * ticket.h
 *		One-time tickets, which the database redeems.
 */
#ifndef PEV_TICKET_H
#define PEV_TICKET_H

#include <stdbool.h>

#include "request.h"

extern void ticket_init(void);
extern bool ticket_is_one(const char *text);
extern void ticket_digest(const char *text, unsigned char digest[TOKEN_DIGEST_LEN]);
extern void ticket_redeem(Request *req, const char *stream);
extern void ticket_give_up(void);

/* Send the query if there is need for it; only while the connection is idle. */
extern bool ticket_send(void);

#endif
