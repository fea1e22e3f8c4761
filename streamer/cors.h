/*
 * cors.h
 *		Which pages of other origins may read responses (CORS).
 */
#ifndef PEV_CORS_H
#define PEV_CORS_H

#include <microhttpd.h>

#include "config.h"

extern void cors_start(const StringList *origins);
extern void cors_mark(struct MHD_Connection *conn, struct MHD_Response *response);
extern void cors_preflight(struct MHD_Connection *conn, struct MHD_Response *response,
						   const char *methods);

#endif
