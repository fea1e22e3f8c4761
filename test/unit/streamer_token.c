/*
 * streamer_token.c
 *		Which tokens are valid, and what they allow.
 *
 * Tokens signed with the secret are made here; those for the public keys were
 * signed once with keys that exist no more.
 */
#include <stdlib.h>

#include "streamer_sign.h"
#include "streamer_tap.h"
#include "token.h"

#define NOW 1900000000

static const char secret[] = "0123456789abcdef0123456789abcdef";
static const char other_secret[] = "another secret of thirty-two byte";

static const char token_rs256[] =
	"eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJleHAiOjIwMDAwMDAwMDAsInBldi5yZWFkIjpbIjQyIl1"
	"9.FfqpMrbUc7IPBFeP0zKkqnQb7d4cws40Bye6khruHjx5praiGipYTEol7b1aMRJQBtMQ40cIYxKPfnMjKt"
	"okXDW6VIpKih_Frw7KZi7fQQGirfzjYaJcAVfzvVQd-CfRHEn_OiPFUjZH8c7JokAcjGGXQfqAHUiUzmIr7I"
	"favTl6hUBJQGoFZn5kgzOvCfmpwwU4a5BsWAfJwVCq4bQLDaUmz6Lh80DRkj6QPHJkYidycarYK2siZihwFV"
	"0ikHnObgZg_gIsWaDbzfxkiekjPPaHKBXX9dmgzYZePXe5HxhT7x5paAtVXUZBrOSyT3Eh8UHN71mDbJcinc"
	"rLmIVGpw";
static const char token_es256[] =
	"eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCJ9.eyJleHAiOjIwMDAwMDAwMDAsInBldi5yZWFkIjpbIjQyIl1"
	"9.CEznEHPlrGoE3im_JeuiRjWZMI2Ey03Z0Q1XYIazjj9-vLaUgJJLWpj6hjXivaFjAvvEy0-QpS9epJJ2gP"
	"qdqg";
static const char rsa_pub[] = "-----BEGIN PUBLIC KEY-----\n"
							  "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAl4Tinaa7WzhH5o3QS6dQ\n"
							  "19k7YL3mFGGiIhBmdyJQPgkxzcLXaII9dcGAY46qj9HHWDS7I0MjRM8A6q+DpQLU\n"
							  "p5F9QGQBEl9FCx5SuEbeU2qOa59iSN4u39t7FJx1Qu4A39pBScOsLkQ/MPF/yu8R\n"
							  "/yA/J/xwuecVQ3kJOYkKITLvixu2GepH193N2bi2ol8q/7XIPblz/i+kaP3oYNaX\n"
							  "wW3iE3OugsHVJqtYb33J+4umVMxDRwcHjOlFOZQ0kuk9x4mb9Y8hdMhrv1veYyFs\n"
							  "CEVRaVH54tVmJVihR7CBxrm4huJBOII+lwoON2x+qSHv+YrZyz11lExw+C1KT/Ia\n"
							  "EwIDAQAB\n"
							  "-----END PUBLIC KEY-----\n";
static const char ec_pub[] = "-----BEGIN PUBLIC KEY-----\n"
							 "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE7ejsSbDoUqjrt1qi0akYpxNw3HPO\n"
							 "UhgXafX+fRoYnvhkjuMoB8r0HLw62cf+hE49wKl8IAh353F4pvIt8FDeHA==\n"
							 "-----END PUBLIC KEY-----\n";
static const char ec384_pub[] = "-----BEGIN PUBLIC KEY-----\n"
								"MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEezeoKvUOhVj5FGCZLnWB3piKrTTBOYSS\n"
								"Gm7s9pOoaWV+ZheoyMD9gmIe/OquwJa16vJP5Qt7S4cHFdQUF+ZGSuEYfMYb/91E\n"
								"/cy5Cu1s50FnEJBkHRoSdufONlC3oaB9\n"
								"-----END PUBLIC KEY-----\n";
static const char ed_pub[] = "-----BEGIN PUBLIC KEY-----\n"
							 "MCowBQYDK2VwAyEAgCgC0zi/8w08PdAHdymcl9I6+hA3VGnqDzcFb/aEo/c=\n"
							 "-----END PUBLIC KEY-----\n";
static const char rsa1024_pub[] =
	"-----BEGIN PUBLIC KEY-----\n"
	"MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDSypHHnI0/YxYvjOrKn3LZwQYE\n"
	"YflhPhCkt9Vdrf7GBGbEloFAzNcLmIEXSvbxfux+RATKkhzDV7xJUQshqZgP2hsA\n"
	"xn56xIMsn9/GxLhpPGfFgIkHJvr5G5Tv30BHMf9rygDIiOJDT4XBf/w15MN9L2Ev\n"
	"r8+nExhfdP2XW1FEtwIDAQAB\n"
	"-----END PUBLIC KEY-----\n";

static const char malformed[] = "The token is malformed.";
static const char unknown[] = "The token is not signed with a key that is known here.";
static const char expired[] = "The token has expired.";
static const char early[] = "The token is not valid yet.";
static const char bad_rights[] = "The token's pev.read, pev.emit and pev.enqueue must be arrays of "
								 "at most 64 strings of at most 256 bytes.";

static TokenKeys keys;
static TokenPolicy policy;

/* A token with the usual header and secret. */
static const char *
make(const char *claims)
{
	return sign("{\"alg\":\"HS256\",\"typ\":\"JWT\"}", claims, strlen(claims), secret);
}

/* Verifying must end so; NULL: the token is valid. */
static void
verdict(const char *text, const char *want, const char *name)
{
	Token token;
	const char *error = token_verify(&keys, &policy, text, NOW, &token);

	is(error, want, name);
	if (error == NULL)
		token_free(&token);
}

/* The same for a token of these claims. */
static void
claims(const char *json, const char *want)
{
	verdict(make(json), want, json);
}

/* The same for a token with this header, whose signature is right. */
static void
header(const char *json, const char *want)
{
	static const char body[] = "{\"exp\":2000000000}";

	verdict(sign(json, body, strlen(body), secret), want, json);
}

/* Start with these keys. */
static void
use_keys(const char *with, const char *kid, const char *public_key)
{
	token_keys_free(&keys);
	if (with != NULL)
		token_keys_add_secret(&keys, kid, (const unsigned char *) with, strlen(with));
	if (public_key != NULL)
		token_keys_add_public(&keys, kid, (const unsigned char *) public_key, strlen(public_key));
}

static void
test_keys(void)
{
	static const struct
	{
		const char *pem;
		const char *want;
		const char *name;
	} publics[] = {
		{rsa_pub, NULL, "RSA"},
		{ec_pub, NULL, "P-256"},
		{ec384_pub, "an elliptic curve is P-256; others are not supported", "P-384"},
		{ed_pub, "neither RSA nor P-256; other kinds of key are not supported", "Ed25519"},
		{rsa1024_pub, "an RSA key has at least 2048 bits", "RSA of 1024 bits"},
		{secret, "not a public key in PEM", "a secret"},
		{"", "not a public key in PEM", "nothing"},
		{"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "not a public key in PEM",
		 "rubbish in PEM"},
	};
	const char *error = NULL;

	for (size_t i = 0; i < sizeof(publics) / sizeof(publics[0]); i++)
		is(token_keys_add_public(&keys, NULL, (const unsigned char *) publics[i].pem,
								 strlen(publics[i].pem)),
		   publics[i].want, publics[i].name);
	is_number(keys.count, 2, "two of these are kept");
	is(token_keys_add_secret(&keys, NULL, (const unsigned char *) secret, 31),
	   "a secret takes at least 32 bytes", "31 bytes are no secret");
	is(token_keys_add_secret(&keys, NULL, (const unsigned char *) rsa_pub, strlen(rsa_pub)),
	   "a key in PEM is not a secret", "a public key is no secret");
	for (int i = 0; i < TOKEN_KEYS_MAX && error == NULL; i++)
		error = token_keys_add_secret(&keys, "k", (const unsigned char *) secret, 32);
	is(error, "there are too many keys", "there is a bound");
	is_number(keys.count, TOKEN_KEYS_MAX, "up to which they are kept");
	token_keys_free(&keys);
	is_number(keys.count, 0, "and freed");
}

static void
test_signatures(void)
{
	static const char none[] = "eyJhbGciOiJub25lIn0.eyJleHAiOjIwMDAwMDAwMDB9.";
	static const char body[] = "{\"exp\":2000000000}";
	char changed[sizeof(token_rs256)];

	verdict(make(body), unknown, "no key verifies nothing");
	use_keys(secret, NULL, NULL);
	verdict(make(body), NULL, "HS256");
	verdict(sign("{\"alg\":\"HS256\"}", body, strlen(body), other_secret), unknown,
			"another secret");
	verdict(none, unknown, "alg none");
	header("{\"alg\":\"none\"}", unknown);
	header("{\"alg\":\"HS384\"}", unknown);
	header("{\"alg\":\"hs256\"}", unknown);
	header("{\"alg\":\"RS256\"}", unknown);
	verdict(token_rs256, unknown, "RS256 without its key");
	use_keys(NULL, NULL, rsa_pub);
	verdict(token_rs256, NULL, "RS256");
	verdict(token_es256, unknown, "ES256 with an RSA key");
	verdict(sign("{\"alg\":\"HS256\",\"typ\":\"JWT\"}", body, strlen(body), rsa_pub), unknown,
			"nor does its key serve as a secret");
	strcpy(changed, token_rs256);
	changed[strlen("eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.") + 12]++; /* 2004000000 */
	verdict(changed, unknown, "changed claims");
	strcpy(changed, token_rs256);
	changed[strlen(changed) - 1]++; /* of its six bits four are to spare */
	verdict(changed, malformed, "the same signature in another spelling");
	use_keys(NULL, NULL, ec_pub);
	verdict(token_es256, NULL, "ES256");
	verdict(token_rs256, unknown, "RS256 with a P-256 key");
	use_keys(secret, NULL, ec_pub);
	token_keys_add_public(&keys, NULL, (const unsigned char *) rsa_pub, strlen(rsa_pub));
	verdict(token_es256, NULL, "ES256, among keys of every kind");
	verdict(token_rs256, NULL, "RS256, too");
	verdict(make(body), NULL, "HS256, too");
}

static void
test_names(void)
{
	use_keys(secret, "a", NULL);
	token_keys_add_secret(&keys, "b", (const unsigned char *) other_secret, strlen(other_secret));
	header("{\"alg\":\"HS256\",\"kid\":\"a\"}", NULL);
	header("{\"alg\":\"HS256\",\"kid\":\"b\"}", unknown);
	header("{\"alg\":\"HS256\",\"kid\":\"c\"}", unknown);
	header("{\"alg\":\"HS256\"}", NULL);
	header("{\"alg\":\"HS256\",\"kid\":\"../../etc/passwd\"}", unknown);
	header("{\"alg\":\"HS256\",\"kid\":\"\"}", unknown);
	header("{\"alg\":\"HS256\",\"kid\":1}", malformed);
	header("{\"alg\":\"HS256\",\"kid\":null}", malformed);
	use_keys(secret, NULL, NULL);
	header("{\"alg\":\"HS256\",\"kid\":\"whatever\"}", NULL);
}

static void
test_form(void)
{
	static const char body[] = "{\"exp\":2000000000}";
	static const char nul[] = "{\"exp\":2000000000}\0{\"exp\":1}";
	static const char nul_inside[] = "{\"exp\":2000000000,\"sub\":\"a\\u0000b\"}";
	static char huge[TOKEN_MAX + 200];
	char padded[1024];

	header("{\"typ\":\"JWT\"}", malformed);
	header("{\"alg\":256}", malformed);
	header("{\"alg\":\"HS256\",\"typ\":\"jwt\"}", NULL);
	header("{\"alg\":\"HS256\",\"typ\":\"at+jwt\"}", "The token's typ is not JWT.");
	header("{\"alg\":\"HS256\",\"typ\":1}", "The token's typ is not JWT.");
	header("{\"alg\":\"HS256\",\"crit\":[\"exp\"]}",
		   "The token has critical extensions, of which none is supported.");
	header("{\"alg\":\"none\",\"alg\":\"HS256\"}", malformed);
	header("[\"HS256\"]", malformed);
	header("{\"alg\":\"HS256\"} ", NULL);
	header("{\"alg\":\"HS256\"}x", malformed);
	verdict("", malformed, "nothing");
	verdict("x", malformed, "no dot");
	verdict("..", malformed, "dots alone");
	verdict("a.b", malformed, "two parts");
	verdict("eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjIwMDAwMDAwMDB9", malformed, "no signature");
	verdict("eyJhbGciOiJIUzI1NiJ9..AAAA", malformed, "no claims");
	snprintf(padded, sizeof(padded), "%s=", make(body));
	verdict(padded, malformed, "padding");
	snprintf(padded, sizeof(padded), "%s.AAAA", make(body));
	verdict(padded, malformed, "four parts");
	snprintf(padded, sizeof(padded), "%s\n", make(body));
	verdict(padded, malformed, "a newline");
	snprintf(padded, sizeof(padded), " %s", make(body));
	verdict(padded, malformed, "a blank");
	verdict(sign("{\"alg\":\"HS256\"}", nul, sizeof(nul) - 1, secret), malformed,
			"a NUL after the claims");
	claims(nul_inside, malformed);
	claims("{\"exp\":2000000000", malformed);
	claims("[]", malformed);
	claims("null", malformed);
	claims("{\"exp\":2000000000,\"exp\":2000000000}", malformed);
	claims("{\"exp\":2000000000,\"a\":{\"b\":1,\"b\":2}}", malformed);
	claims("{\"exp\":2000000000,\"sub\":\"\xff\"}", malformed);
	strcpy(huge, "{\"exp\":2000000000,\"x\":\"");
	memset(huge + strlen(huge), 'x', TOKEN_MAX);
	strcat(huge, "\"}");
	verdict(make(huge), "The token is longer than 8192 bytes.", "a huge one");
	memset(huge, '[', TOKEN_MAX - 2500);
	huge[TOKEN_MAX - 2500] = '\0';
	verdict(make(huge), malformed, "a deep one");
}

static void
test_times(void)
{
	claims("{}", "The token has no exp: it would never expire.");
	claims("{\"exp\":1900000001}", NULL);
	claims("{\"exp\":1900000000}", expired);
	claims("{\"exp\":1900000000.9}", expired);
	claims("{\"exp\":1900000001.5}", NULL);
	claims("{\"exp\":0}", expired);
	claims("{\"exp\":-1}", expired);
	claims("{\"exp\":1e300}", NULL);
	claims("{\"exp\":\"2000000000\"}", malformed);
	claims("{\"exp\":null}", malformed);
	claims("{\"exp\":2000000000,\"nbf\":1900000060}", NULL);
	claims("{\"exp\":2000000000,\"nbf\":1900000061}", early);
	claims("{\"exp\":2000000000,\"iat\":1900000060}", NULL);
	claims("{\"exp\":2000000000,\"iat\":1900000061}", early);
	claims("{\"exp\":2000000000,\"iat\":1e300}", early);
	claims("{\"exp\":2000000000,\"nbf\":true}", malformed);
	claims("{\"exp\":2000000000,\"iat\":[]}", malformed);
}

static void
test_policy(void)
{
	static const char audience[] = "The token is for another audience.";
	static const char issuer[] = "The token is from another issuer.";

	claims("{\"exp\":2000000000,\"aud\":\"x\",\"iss\":\"y\"}", NULL);
	policy.audience = "pev";
	claims("{\"exp\":2000000000,\"aud\":\"pev\"}", NULL);
	claims("{\"exp\":2000000000,\"aud\":[\"x\",\"pev\"]}", NULL);
	claims("{\"exp\":2000000000}", audience);
	claims("{\"exp\":2000000000,\"aud\":\"pevx\"}", audience);
	claims("{\"exp\":2000000000,\"aud\":[]}", audience);
	claims("{\"exp\":2000000000,\"aud\":[1,null,{}]}", audience);
	claims("{\"exp\":2000000000,\"aud\":{\"pev\":1}}", audience);
	policy = (TokenPolicy){NULL, "https://issuer.example"};
	claims("{\"exp\":2000000000,\"iss\":\"https://issuer.example\"}", NULL);
	claims("{\"exp\":2000000000}", issuer);
	claims("{\"exp\":2000000000,\"iss\":[\"https://issuer.example\"]}", issuer);
	claims("{\"exp\":2000000000,\"iss\":\"https://issuer.example/\"}", issuer);
	policy = (TokenPolicy){NULL, NULL};
}

static void
test_bounds(void)
{
	char json[2048];

	claims("{\"exp\":2000000000,\"jti\":\"\"}",
		   "The token's jti must be a string of 1 to 128 bytes.");
	claims("{\"exp\":2000000000,\"jti\":7}", "The token's jti must be a string of 1 to 128 bytes.");
	snprintf(json, sizeof(json), "{\"exp\":2000000000,\"jti\":\"%0128d\"}", 1);
	verdict(make(json), NULL, "a jti of 128 bytes");
	snprintf(json, sizeof(json), "{\"exp\":2000000000,\"jti\":\"%0129d\"}", 1);
	verdict(make(json), "The token's jti must be a string of 1 to 128 bytes.",
			"a jti of 129 bytes");
	claims("{\"exp\":2000000000,\"sub\":7}", malformed);
	claims("{\"exp\":2000000000,\"pev.read\":\"42\"}", bad_rights);
	claims("{\"exp\":2000000000,\"pev.read\":[42]}", bad_rights);
	claims("{\"exp\":2000000000,\"pev.emit\":{}}", bad_rights);
	claims("{\"exp\":2000000000,\"pev.read\":null}", bad_rights);
	claims("{\"exp\":2000000000,\"pev.read\":[],\"pev.emit\":[]}", NULL);
	snprintf(json, sizeof(json), "{\"exp\":2000000000,\"pev.read\":[\"%0256d\"]}", 1);
	verdict(make(json), NULL, "a pattern of 256 bytes");
	snprintf(json, sizeof(json), "{\"exp\":2000000000,\"pev.read\":[\"%0257d\"]}", 1);
	verdict(make(json), bad_rights, "a pattern of 257 bytes");
	strcpy(json, "{\"exp\":2000000000,\"pev.read\":[\"1\"");
	for (int i = 1; i < TOKEN_PATTERNS_MAX; i++)
		strcat(json, ",\"1\"");
	strcat(json, "]}");
	verdict(make(json), NULL, "64 patterns");
	strcpy(json + strlen(json) - 2, ",\"1\"]}");
	verdict(make(json), bad_rights, "65 patterns");
}

/* Whether a token with this one pattern, for this user, allows to read the stream. */
static void
allows(bool want, const char *pattern, const char *sub, const char *stream)
{
	char json[1024];
	char name[512];
	Token token;

	snprintf(json, sizeof(json), "{\"exp\":2000000000,\"pev.read\":[\"%s\"]%s%s%s}", pattern,
			 sub != NULL ? ",\"sub\":\"" : "", sub != NULL ? sub : "", sub != NULL ? "\"" : "");
	snprintf(name, sizeof(name), "%s of %s and %s", pattern, sub != NULL ? sub : "nobody", stream);
	if (token_verify(&keys, &policy, make(json), NOW, &token) != NULL)
	{
		ok(false, name);
		return;
	}
	ok(token_allows(&token, TOKEN_READ, stream) == want &&
		   !token_allows(&token, TOKEN_EMIT, stream),
	   name);
	token_free(&token);
}

static void
test_rights(void)
{
	allows(true, "42", NULL, "42");
	allows(true, "0042", NULL, "42");
	allows(false, "42", NULL, "421");
	allows(false, "42", NULL, "4");
	allows(true, "E96B74BC-aba8-4837-bb43-237fd687d18b", NULL,
		   "e96b74bc-aba8-4837-bb43-237fd687d18b");
	allows(true, "*", NULL, "user:u_1");
	allows(true, "*", NULL, "42");
	allows(true, "user:*", NULL, "user:u_1");
	allows(true, "user:*", NULL, "user:a:b");
	allows(false, "user:*", NULL, "users:u_1");
	allows(false, "user:*", NULL, "user");
	allows(false, "user:*", NULL, "42");
	allows(false, "user:a:*", NULL, "user:a:b");
	allows(false, ":*", NULL, ":x");
	allows(false, "user*", NULL, "user1");
	allows(false, "*:u_1", NULL, "user:u_1");
	allows(false, "**", NULL, "42");
	allows(false, "", NULL, "42");
	allows(false, "us%65r", NULL, "user");
	allows(true, "user:{{sub}}", "u_1", "user:u_1");
	allows(false, "user:{{sub}}", "u_1", "user:u_2");
	allows(false, "user:{{sub}}", NULL, "user:{{sub}}");
	allows(false, "user:{{sub}}", "", "user:");
	allows(false, "word{{sub}}", "", "word");
	allows(false, "user:{{sub}}", "*", "user:u_1");
	allows(false, "{{sub}}", "*", "user:u_1");
	allows(false, "{{sub}}", "user:u_1", "user:u_1");
	allows(false, "{{sub}}:*", "user:*", "user:u_1");
	allows(false, "user:{{sub}}", "{{sub}}", "user:u_1");
	allows(false, "user:{{sub}}", "a b", "user:a b");
	allows(false, "user:{{sub}}", "a/b", "user:a/b");
	allows(true, "{{sub}}", "word", "word");
	allows(true, "user:{{sub}}-{{sub}}", "a", "user:a-a");
	allows(true, "user:{{sub}}", "\xc3\xbc", "user:\xc3\xbc");
	allows(false, "{{user}}", "u", "u");
}

/* Whether a token with these claims allows to queue jobs of a kind. */
static void
allows_job(bool want, const char *enqueue, const char *kind)
{
	char json[256];
	Token token;

	snprintf(json, sizeof(json),
			 "{\"exp\":2000000000,\"pev.read\":[\"*\"],\"pev.emit\":[\"*\"]%s%s}",
			 *enqueue != '\0' ? ",\"pev.enqueue\":" : "", enqueue);
	if (token_verify(&keys, &policy, make(json), NOW, &token) != NULL)
	{
		ok(false, enqueue);
		return;
	}
	ok(token_allows_job(&token, kind) == want, enqueue);
	token_free(&token);
}

/* The channel of a token's subject must be this; NULL: it has none. */
static void
is_own_stream(const char *sub, const char *want)
{
	char json[512];
	Token token;
	StreamKey key;
	bool found;

	snprintf(json, sizeof(json), "{\"exp\":2000000000%s%s}", sub != NULL ? ",\"sub\":" : "",
			 sub != NULL ? sub : "");
	is(token_verify(&keys, &policy, make(json), NOW, &token), NULL, "a token");
	found = token_own_stream(&token, "user:{{sub}}", &key);
	is(found ? key.text : NULL, want, sub != NULL ? sub : "no sub");
	token_free(&token);
}

static void
test_jobs(void)
{
	allows_job(true, "[\"a\",\"generate_image\"]", "generate_image");
	allows_job(true, "[\"*\"]", "generate_image");
	allows_job(false, "", "generate_image");
	allows_job(false, "[]", "generate_image");
	allows_job(false, "[\"generate\",\"generate_*\",\"generate_image:*\"]", "generate_image");
	allows_job(false, "[\"Generate_image\"]", "generate_image");
	verdict(make("{\"exp\":2000000000,\"pev.enqueue\":\"*\"}"), bad_rights, "no list of kinds");
	verdict(make("{\"exp\":2000000000,\"pev.enqueue\":[7]}"), bad_rights,
			"a kind that is a number");

	is_own_stream("\"u_1\"", "user:u_1");
	is_own_stream("\"a:b\"", NULL);
	is_own_stream("\"a b\"", NULL);
	is_own_stream("\"\"", NULL);
	is_own_stream(NULL, NULL);
}

/* A token is told apart by its id, its expiry and its key. */
static void
test_result(void)
{
	Token token;

	is(token_verify(&keys, &policy,
					make("{\"exp\":1e300,\"jti\":\"j\",\"pev.emit\":[\"7\"],\"pev.read\":[\"8\"]}"),
					NOW, &token),
	   NULL, "valid");
	is(token.id, "j", "id");
	is_number(token.expires, 253402300799, "an expiry beyond all calendars ends with them");
	ok(memcmp(token.key_digest, keys.keys[0].digest, TOKEN_DIGEST_LEN) == 0, "key");
	ok(token_allows(&token, TOKEN_EMIT, "7") && !token_allows(&token, TOKEN_EMIT, "8"), "emit");
	ok(token_allows(&token, TOKEN_READ, "8") && !token_allows(&token, TOKEN_READ, "7"), "read");
	token_free(&token);
}

/* Who the bearer of a token is, with ids and names of at most 4 bytes; NULL for nobody. */
static void
is_user(const char *json, const char *want_id, const char *want_name)
{
	Token token;
	const char *id = NULL;
	const char *name = NULL;
	bool somebody = token_verify(&keys, &policy, make(json), NOW, &token) == NULL &&
					token_user(&token, 4, 4, &id, &name);

	is(somebody ? id : NULL, want_id, json);
	is(somebody ? name : NULL, want_name, "by name");
	token_free(&token);
}

static void
test_users(void)
{
	is_user("{\"exp\":2000000000}", NULL, NULL);
	is_user("{\"exp\":2000000000,\"name\":\"n\"}", NULL, NULL);
	is_user("{\"exp\":2000000000,\"sub\":\"\",\"name\":\"n\"}", NULL, NULL);
	is_user("{\"exp\":2000000000,\"sub\":\"12345\",\"name\":\"n\"}", NULL, NULL);
	is_user("{\"exp\":2000000000,\"sub\":\"1234\",\"name\":\"n\"}", "1234", "n");
	is_user("{\"exp\":2000000000,\"sub\":\"u\"}", "u", "u");
	is_user("{\"exp\":2000000000,\"sub\":\"u\",\"name\":7}", "u", "u");
	is_user("{\"exp\":2000000000,\"sub\":\"u\",\"name\":\"\"}", "u", "u");
	is_user("{\"exp\":2000000000,\"sub\":\"u\",\"name\":\"12345\"}", "u", "u");
	is_user("{\"exp\":2000000000,\"sub\":\"u\",\"name\":\"1234\"}", "u", "1234");
}

int
main(void)
{
	test_keys();
	test_signatures();
	test_names();
	test_form();
	test_times();
	test_policy();
	test_bounds();
	test_rights();
	test_jobs();
	test_result();
	test_users();
	token_keys_free(&keys);
	return done();
}
