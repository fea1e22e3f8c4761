/*
 * token.c
 *		Fuzz target: tokens, whatever they hold.
 *
 * The lines of the input are a header, claims and a stream's key.  They are made
 * into a token whose signature is right, so that the fuzzer gets behind it; what
 * is taken then must be what another reading of the same JSON finds.  The first
 * line is tried as a whole token, too.
 */
#include <jansson.h>
#include <math.h>

#include "cursor.h"
#include "fuzz.h"
#include "streamer_sign.h"

#define NOW       1900000000
#define PART_MAX  4000 /* bytes that sign() has room for */
#define SECRET    "0123456789abcdef0123456789abcdef"
#define NO_SECRET "another secret of thirty-two byte"

static const char public_key[] =
	"-----BEGIN PUBLIC KEY-----\n"
	"MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE7ejsSbDoUqjrt1qi0akYpxNw3HPO\n"
	"UhgXafX+fRoYnvhkjuMoB8r0HLw62cf+hE49wKl8IAh353F4pvIt8FDeHA==\n"
	"-----END PUBLIC KEY-----\n";

static TokenKeys keys;

/* Verify as of NOW, for anybody. */
static bool
verify(const char *text, Token *token)
{
	static const TokenPolicy policy;

	return token_verify(&keys, &policy, text, NOW, token) == NULL;
}

/* Is the claim absent, or a number up to the bound? */
static bool
is_time(const json_t *claims, const char *name, double bound)
{
	const json_t *claim = json_object_get(claims, name);

	return claim == NULL || (json_is_number(claim) && json_number_value(claim) <= bound);
}

/* Is the claim absent, or a list of as many strings as may be? */
static bool
is_list(const json_t *claim)
{
	bool good = claim == NULL || (json_is_array(claim) && json_array_size(claim) <= 64);

	for (size_t i = 0; good && i < json_array_size(claim); i++)
		good = json_is_string(json_array_get(claim, i)) &&
			   json_string_length(json_array_get(claim, i)) <= 256;
	return good;
}

/* A header that was taken names the algorithm of a key, and asks for nothing else. */
static void
check_header(const char *text, const char *alg)
{
	json_t *header = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
	const char *named = json_string_value(json_object_get(header, "alg"));

	must(named != NULL && strcmp(named, alg) == 0, "the key's algorithm");
	must(json_object_get(header, "crit") == NULL, "nothing critical");
	json_decref(header);
}

/* Claims that were taken are those of a token that is valid now. */
static void
check_claims(const char *text, const Token *token)
{
	json_t *claims = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
	const json_t *id = json_object_get(claims, "jti");

	must(json_is_object(claims) && json_equal(claims, token->claims), "the same claims");
	must(json_number_value(json_object_get(claims, "exp")) > NOW, "it has not expired");
	must(token->expires > NOW && token->expires <= INT64_C(253402300799), "nor will it never");
	must(is_time(claims, "nbf", NOW + 60) && is_time(claims, "iat", NOW + 60), "it has begun");
	must(id == NULL ? token->id[0] == '\0' : strcmp(json_string_value(id), token->id) == 0, "id");
	must(is_list(json_object_get(claims, "pev.read")), "what may be read");
	must(is_list(json_object_get(claims, "pev.emit")), "what may be emitted to");
	json_decref(claims);
}

/* Can a pattern, seen from afar, name the stream? */
static bool
may_match(const char *pattern, const char *stream)
{
	const char *mark = strstr(pattern, "{{sub}}");
	size_t len = strlen(pattern);
	StreamKey key;

	if (mark != NULL)
		return strncmp(pattern, stream, (size_t) (mark - pattern)) == 0;
	if (strcmp(pattern, "*") == 0)
		return true;
	if (len > 2 && strcmp(pattern + len - 2, ":*") == 0)
		return strncmp(pattern, stream, len - 1) == 0;
	return len <= STREAM_KEY_MAX && stream_key_canonical(pattern, len, &key) == NULL &&
		   strcmp(key.text, stream) == 0;
}

/* A right follows from a pattern that the token has. */
static void
check_right(const Token *token, TokenRight right, const char *claim, const char *stream)
{
	const json_t *patterns = json_object_get(token->claims, claim);
	bool possible = false;

	for (size_t i = 0; i < json_array_size(patterns); i++)
		possible |= may_match(json_string_value(json_array_get(patterns, i)), stream);
	must(possible || !token_allows(token, right, stream), "no right without a pattern");
}

/* The rights to the stream that the input names. */
static void
check_rights(const Token *token, const char *raw)
{
	StreamKey key;

	if (stream_key_parse(raw, strlen(raw), &key) != NULL)
		key.text[0] = '\0';
	check_right(token, TOKEN_READ, "pev.read", key.text);
	check_right(token, TOKEN_EMIT, "pev.emit", key.text);
}

/* The same signature with a bit set, or not, that no byte of it holds. */
static const char *
respell(const char *token)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	static char other[2 * TOKEN_MAX];
	char *last = stpcpy(other, token) - 1;

	*last = digits[(strchr(digits, *last) - digits) ^ 1];
	return other;
}

/* A token whose signature is right; and the same signed with what is no secret here. */
static void
check_signed(const char *header, const char *claims, const char *stream)
{
	Token token;

	if (verify(sign(header, claims, strlen(claims), SECRET), &token))
	{
		check_header(header, "HS256");
		check_claims(claims, &token);
		check_rights(&token, stream);
		token_free(&token);
		must(!verify(respell(sign(header, claims, strlen(claims), SECRET)), &token), "respelled");
	}
	must(!verify(sign(header, claims, strlen(claims), NO_SECRET), &token), "another secret");
	must(!verify(sign(header, claims, strlen(claims), public_key), &token), "a public key");
}

/* A token as it comes: none is taken whose signature is not the one it should have. */
static void
check_raw(const char *text)
{
	static char again[2 * TOKEN_MAX];
	const char *last = strrchr(text, '.');
	Token token;

	if (!verify(text, &token))
		return;
	token_free(&token);
	must(last != NULL && strlen(text) <= TOKEN_MAX, "a token");
	memcpy(again, text, (size_t) (last - text));
	again[last - text] = '\0';
	put_signature(again, strlen(again), SECRET);
	must(strcmp(again, text) == 0, "the right signature, in its one spelling");
}

/* Keys of two kinds. */
static void
load_keys(void)
{
	must(token_keys_add_secret(&keys, NULL, (const unsigned char *) SECRET, strlen(SECRET)) == NULL,
		 "the secret");
	must(token_keys_add_public(&keys, "public", (const unsigned char *) public_key,
							   strlen(public_key)) == NULL,
		 "the public key");
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	char *header = take_line(&bytes, &len);
	char *claims = take_line(&bytes, &len);
	char *stream = take_line(&bytes, &len);

	if (keys.count == 0)
		load_keys();
	check_raw(header);
	if (strlen(header) <= PART_MAX && strlen(claims) <= PART_MAX)
		check_signed(header, claims, stream);
	free(header);
	free(claims);
	free(stream);
	return 0;
}
