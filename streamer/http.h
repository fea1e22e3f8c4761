/*
 * http.h
 *		The HTTP server: connections, requests and routes.
 */
#ifndef PEV_HTTP_H
#define PEV_HTTP_H

#include <stdbool.h>
#include <stdint.h>

#include "config.h"

extern bool http_start(const Config *config);
extern void http_run(void);
extern int64_t http_patience(void);
extern void http_drain(void);
extern void http_stop(void);

#endif
