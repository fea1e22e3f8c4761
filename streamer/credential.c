/*
 * credential.c
 *		The token that a request brings, wherever it stands in it.
 *
 * It may stand in the header Authorization, in a cookie, or in the query, for
 * EventSource can send no header; also in several of these.  But then it must
 * be the same: whoever sends two is either confused about who they are, or has
 * been made to send one of them by somebody else's page, and choosing would
 * answer the question for them (RFC 6750, section 2, forbids it, too).
 *
 * Pure: no libmicrohttpd.
 */
#include <string.h>
#include <strings.h>

#include "credential.h"
#include "cursor.h"

#define SCHEME    "Bearer"
#define PARAMETER "token"

/* A token stands here. */
static void
credential_offer(Credential *credential, const char *text, size_t len)
{
	if (len > TOKEN_MAX)
		credential->too_long = true;
	else if (!credential->given)
	{
		memcpy(credential->text, text, len);
		credential->text[len] = '\0';
	}
	else if (strlen(credential->text) != len || memcmp(credential->text, text, len) != 0)
		credential->ambiguous = true;
	credential->given = true;
}

/* Look at the value of an Authorization header; other schemes are none of our business. */
void
credential_from_authorization(Credential *credential, const char *value)
{
	size_t len = strlen(SCHEME);

	if (strncasecmp(value, SCHEME, len) != 0 || (value[len] != ' ' && value[len] != '\0'))
		return;
	value += len + strspn(value + len, " ");
	len = strlen(value);
	while (len > 0 && (value[len - 1] == ' ' || value[len - 1] == '\t'))
		len--;
	credential_offer(credential, value, len);
}

/* Look at the value of a Cookie header for the cookie of this name. */
void
credential_from_cookies(Credential *credential, const char *value, const char *name)
{
	size_t name_len = strlen(name);

	while (*(value += strspn(value, "; \t")) != '\0')
	{
		size_t len = strcspn(value, ";");
		size_t used = len;

		while (used > 0 && (value[used - 1] == ' ' || value[used - 1] == '\t'))
			used--;
		if (used > name_len && strncmp(value, name, name_len) == 0 && value[name_len] == '=')
			credential_offer(credential, value + name_len + 1, used - name_len - 1);
		value += len;
	}
}

/* Look at a query, raw, NULL for none; or say what is wrong with it. */
const char *
credential_from_query(Credential *credential, const char *query)
{
	const size_t prefix = strlen(PARAMETER "=");
	char text[TOKEN_MAX + 1];

	while (query != NULL && *query != '\0')
	{
		size_t len = strcspn(query, "&");

		if (len >= prefix && strncmp(query, PARAMETER "=", prefix) == 0)
		{
			size_t n;
			const char *error =
				percent_decode(query + prefix, len - prefix, true, text, sizeof(text), &n);

			if (error == NULL)
				credential_offer(credential, text, n);
			else if (len - prefix <= TOKEN_MAX)
				return error;
			else
				credential_offer(credential, query, len);
		}
		query += len + (query[len] == '&');
	}
	return NULL;
}
