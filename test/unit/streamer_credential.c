/*
 * streamer_credential.c
 *		Where a token is found in a request.
 */
#include "credential.h"
#include "streamer_tap.h"

static Credential credential;

/* What is found must be this token; NULL: none. */
static void
found(const char *want, const char *name)
{
	is(credential.given && !credential.too_long ? credential.text : NULL, want, name);
	ok(!credential.ambiguous, name);
	credential = (Credential){0};
}

static void
authorization(const char *value, const char *want)
{
	credential_from_authorization(&credential, value);
	found(want, value);
}

static void
cookies(const char *value, const char *want)
{
	credential_from_cookies(&credential, value, "pev");
	found(want, value);
}

static void
query(const char *value, const char *want)
{
	is(credential_from_query(&credential, value), NULL, "well-formed");
	found(want, value);
}

int
main(void)
{
	static char large[TOKEN_MAX + 100];

	authorization("Bearer abc", "abc");
	authorization("bearer   abc  ", "abc");
	authorization("Bearer", "");
	authorization("Basic abc", NULL);
	authorization("Bearerabc", NULL);
	authorization("", NULL);
	cookies("pev=abc", "abc");
	cookies("a=b; pev=abc; c=d", "abc");
	cookies("a=b;pev=a=b ;", "a=b");
	cookies("xpev=abc; pevx=abc; pev", NULL);
	cookies("pex=abc; PEV=abc", NULL);
	cookies("pev=", "");
	cookies("", NULL);
	query("token=abc", "abc");
	query("after=1&token=a%2Eb&types=x", "a.b");
	query("tokens=abc&xtoken=abc&token", NULL);
	query("token=", "");
	query("&&token=abc&", "abc");
	query(NULL, NULL);
	ok(credential_from_query(&credential, "token=%0") != NULL, "a broken escape is an error");
	ok(credential_from_query(&credential, "token=a%00b") != NULL, "as is an escaped NUL");

	credential = (Credential){0};
	credential_from_authorization(&credential, "Bearer abc");
	credential_from_cookies(&credential, "pev=abc", "pev");
	credential_from_query(&credential, "token=abc&token=abc");
	found("abc", "the same token everywhere");
	credential_from_authorization(&credential, "Bearer abc");
	credential_from_cookies(&credential, "pev=abd", "pev");
	ok(credential.ambiguous, "header and cookie differ");
	credential = (Credential){0};
	credential_from_query(&credential, "token=abc&token=ab");
	ok(credential.ambiguous, "parameters differ");
	credential = (Credential){0};
	credential_from_cookies(&credential, "pev=; pev=abc", "pev");
	ok(credential.ambiguous, "cookies differ, one being empty");

	memset(large, 'x', TOKEN_MAX + 1);
	memcpy(large, "Bearer ", 7);
	credential = (Credential){0};
	large[TOKEN_MAX + 7] = '\0';
	memset(large + 7, 'x', TOKEN_MAX);
	credential_from_authorization(&credential, large);
	ok(credential.given && !credential.too_long, "the longest");
	credential = (Credential){0};
	strcat(large, "x");
	credential_from_authorization(&credential, large);
	ok(credential.too_long, "one byte more");
	credential = (Credential){0};
	memcpy(large + 1, "token=", 6);
	credential_from_query(&credential, large + 1);
	ok(credential.too_long, "also in the query");
	return done();
}
