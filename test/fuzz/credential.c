/*
 * credential.c
 *		Fuzz target: where a request may hold a token.
 *
 * The lines of the input are the value of Authorization, that of Cookie, and the
 * query.
 */
#include "credential.h"
#include "fuzz.h"

#define COOKIE "pev"

/* Look for it in all three. */
static const char *
offer_all(Credential *credential, char *const part[3])
{
	credential_from_authorization(credential, part[0]);
	credential_from_cookies(credential, part[1], COOKIE);
	return credential_from_query(credential, part[2]);
}

/* The same token must be found where somebody else writes it. */
static void
check_rewritten(const char *token)
{
	static char text[3 * TOKEN_MAX + 16];
	static Credential other;

	other = (Credential){0};
	strcpy(text, "x=1&token=");
	escape(text, token);
	must(credential_from_query(&other, text) == NULL, "a query");
	must(other.given && !other.too_long && strcmp(other.text, token) == 0, "the same in a query");
	if (strpbrk(token, " \t;") != NULL)
		return;
	sprintf(text, "a=b; " COOKIE "=%s; c=d", token);
	credential_from_cookies(&other, text, COOKIE);
	sprintf(text, "bearer  %s ", token);
	credential_from_authorization(&other, text);
	must(!other.ambiguous && !other.too_long, "the same in a cookie and in the header");
	text[strlen(text) - 2] ^= 1;
	credential_from_authorization(&other, text);
	must(*token == '\0' || other.ambiguous, "another");
}

/* Does it stand in one of the places as it is, or in the query escaped? */
static bool
stands_in(const char *token, char *const part[3])
{
	return strstr(part[0], token) != NULL || strstr(part[1], token) != NULL ||
		   strstr(part[2], token) != NULL || strpbrk(part[2], "%+") != NULL;
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	static Credential credential;
	static Credential again;
	char *part[3];
	const char *error;

	for (int i = 0; i < 3; i++)
		part[i] = take_line(&bytes, &len);
	credential = (Credential){0};
	error = offer_all(&credential, part);
	must(strlen(credential.text) <= TOKEN_MAX, "no longer than the longest");
	must(credential.given || (!credential.ambiguous && !credential.too_long), "nothing was given");
	if (error == NULL && credential.given && !credential.too_long && !credential.ambiguous)
	{
		must(stands_in(credential.text, part), "it was sent");
		check_rewritten(credential.text);
		again = credential;
		must(offer_all(&again, part) == NULL && !again.ambiguous && !again.too_long &&
				 strcmp(again.text, credential.text) == 0,
			 "the same twice is the same");
	}
	for (int i = 0; i < 3; i++)
		free(part[i]);
	return 0;
}
