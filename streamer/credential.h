/*
 * credential.h
 *		The token that a request brings, wherever it stands in it.
 */
#ifndef PEV_CREDENTIAL_H
#define PEV_CREDENTIAL_H

#include <stdbool.h>
#include <stddef.h>

#include "token.h"

/* Zeroed, then offered every place in which a token may stand. */
typedef struct Credential
{
	bool given;
	bool ambiguous; /* two that differ */
	bool too_long;
	char text[TOKEN_MAX + 1];
} Credential;

extern void credential_from_authorization(Credential *credential, const char *value);
extern void credential_from_cookies(Credential *credential, const char *value, const char *name);
extern const char *credential_from_query(Credential *credential, const char *query);

#endif
