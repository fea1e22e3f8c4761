/*
 * revoked.h
 *		Tokens that have been revoked before they expire.
 */
#ifndef PEV_REVOKED_H
#define PEV_REVOKED_H

#include <stdbool.h>

extern void revoked_start(void);
extern void revoked_stop(void);
extern bool revoked_has(const char *id);
extern void revoked_want(void);

/* Send the query if there is need for it; only while the connection is idle. */
extern bool revoked_send(void);

#endif
