/*
 * token.c
 *		Tokens: JSON Web Tokens that say which streams their bearer may use.
 *
 * libjwt verifies the signature; it compares HMACs in constant time (Debian's
 * 1.10.2-1+deb12u1 and 1.17.0 on, CVE-2024-25189) and leaves the rest of the
 * arithmetic to OpenSSL.  Everything around it is done here, strictly, as
 * libjwt's decoder takes whatever it can make sense of: three parts of
 * base64url and nothing else, JSON objects without duplicate names (RFC 7519,
 * section 4), no critical extensions (RFC 7515, section 4.1.11).
 *
 * What a token says never chooses how it is verified: each key has one
 * algorithm, decided when the key was loaded, and is tried for tokens of that
 * algorithm alone.  So "alg": "none" has no key, and a public key is never used
 * as the secret of an HMAC.  "kid" selects among the keys by name; a key that
 * was given no name serves any token.
 *
 * Pure: the clock is an argument; no libpq, no libmicrohttpd, no state.
 */
#include <jansson.h>
#include <jwt.h>
#include <math.h>
#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "mem.h"
#include "token.h"

#define TOKEN_LEEWAY   60                    /* seconds that other clocks may be ahead */
#define TOKEN_LAST     INT64_C(253402300799) /* 9999-12-31T23:59:59Z; nothing expires later */
#define TOKEN_RSA_BITS 2048                  /* the least that RFC 7518, section 3.3, allows */
#define SUB_MARK       "{{sub}}"
#define PEM_MARK       "-----BEGIN "

static const char malformed[] = "The token is malformed.";

static const struct
{
	const char *name;
	jwt_alg_t number;
} algorithms[] = {
	[TOKEN_HS256] = {"HS256", JWT_ALG_HS256},
	[TOKEN_RS256] = {"RS256", JWT_ALG_RS256},
	[TOKEN_ES256] = {"ES256", JWT_ALG_ES256},
};

/* ---- keys ---- */

/* Add a key, whose bytes are copied. */
static const char *
keys_add(TokenKeys *keys, TokenAlg alg, const char *kid, const unsigned char *bytes, size_t len)
{
	TokenKey *key = &keys->keys[keys->count];

	if (keys->count == TOKEN_KEYS_MAX)
		return "there are too many keys";
	key->alg = alg;
	key->kid = kid != NULL ? mem_string(kid) : NULL;
	key->bytes = mem_alloc(len + 1);
	memcpy(key->bytes, bytes, len);
	key->bytes[len] = '\0';
	key->len = len;
	SHA256(bytes, len, key->digest);
	keys->count++;
	return NULL;
}

/* Add a secret, for HS256.  A key in PEM is none: the public ones are known to everybody. */
const char *
token_keys_add_secret(TokenKeys *keys, const char *kid, const unsigned char *bytes, size_t len)
{
	if (len < TOKEN_SECRET_MIN)
		return "a secret takes at least 32 bytes";
	if (memmem(bytes, len, PEM_MARK, strlen(PEM_MARK)) != NULL)
		return "a key in PEM is not a secret";
	return keys_add(keys, TOKEN_HS256, kid, bytes, len);
}

/* Which algorithm is a public key for?  Or what is wrong with it. */
static const char *
public_key_alg(EVP_PKEY *key, TokenAlg *alg)
{
	char curve[32] = "";

	switch (EVP_PKEY_get_base_id(key))
	{
		case EVP_PKEY_RSA:
			*alg = TOKEN_RS256;
			return EVP_PKEY_get_bits(key) < TOKEN_RSA_BITS ? "an RSA key has at least 2048 bits"
														   : NULL;
		case EVP_PKEY_EC:
			*alg = TOKEN_ES256;
			if (EVP_PKEY_get_group_name(key, curve, sizeof(curve), NULL) == 1 &&
				strcmp(curve, SN_X9_62_prime256v1) == 0)
				return NULL;
			return "an elliptic curve is P-256; others are not supported";
		default:
			return "neither RSA nor P-256; other kinds of key are not supported";
	}
}

/* Add a public key in PEM, for RS256 or ES256. */
const char *
token_keys_add_public(TokenKeys *keys, const char *kid, const unsigned char *bytes, size_t len)
{
	BIO *bio = BIO_new_mem_buf(bytes, (int) len);
	EVP_PKEY *key = bio != NULL ? PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL) : NULL;
	const char *error = "not a public key in PEM";
	TokenAlg alg;

	BIO_free(bio);
	if (key != NULL)
		error = public_key_alg(key, &alg);
	EVP_PKEY_free(key);
	return error != NULL ? error : keys_add(keys, alg, kid, bytes, len);
}

/* Wipe and release all keys. */
void
token_keys_free(TokenKeys *keys)
{
	while (keys->count > 0)
	{
		TokenKey *key = &keys->keys[--keys->count];

		explicit_bzero(key->bytes, key->len);
		free(key->bytes);
		free(key->kid);
		*key = (TokenKey){0};
	}
}

/* ---- form ---- */

/* The value of a digit of base64url, or -1. */
static int
base64url_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '-' ? 62 : c == '_' ? 63 : -1;
}

/* Decode base64url without padding, in its one spelling; false for anything else. */
static bool
base64url_decode(const char *text, size_t len, unsigned char *out, size_t *out_len)
{
	uint32_t bits = 0;
	int count = 0;

	*out_len = 0;
	for (size_t i = 0; i < len; i++)
	{
		int value = base64url_value(text[i]);

		if (value < 0)
			return false;
		bits = bits << 6 | (uint32_t) value;
		count += 6;
		if (count >= 8)
		{
			count -= 8;
			out[(*out_len)++] = (unsigned char) (bits >> count);
		}
	}
	return len > 0 && count < 6 && (bits & ((1u << count) - 1)) == 0;
}

/* One part of a token as a JSON object, which the caller releases; NULL for anything else. */
static json_t *
part_parse(const char *text, size_t len)
{
	unsigned char bytes[TOKEN_MAX];
	size_t n;
	json_t *object;

	if (!base64url_decode(text, len, bytes, &n))
		return NULL;
	object = json_loadb((const char *) bytes, n, JSON_REJECT_DUPLICATES, NULL);
	if (json_is_object(object))
		return object;
	json_decref(object);
	return NULL;
}

/* Take a token apart into its header and claims, which the caller releases in either case. */
static const char *
token_split(const char *text, json_t **header, json_t **claims)
{
	unsigned char signature[TOKEN_MAX];
	size_t len = strlen(text);
	size_t first = strcspn(text, ".");
	size_t second;
	size_t n;

	*header = NULL;
	*claims = NULL;
	if (len > TOKEN_MAX)
		return "The token is longer than 8192 bytes.";
	if (first == len)
		return malformed;
	second = first + 1 + strcspn(text + first + 1, ".");
	/* Of an unsigned token the last part is empty; it is refused for its algorithm. */
	if (second == len ||
		(second + 1 < len && !base64url_decode(text + second + 1, len - second - 1, signature, &n)))
		return malformed;
	*header = part_parse(text, first);
	*claims = part_parse(text + first + 1, second - first - 1);
	return *header == NULL || *claims == NULL ? malformed : NULL;
}

/* ---- signature ---- */

/* Is the signature that of this key?  Algorithm and key belong together by now. */
static bool
key_verifies(const TokenKey *key, const char *text)
{
	jwt_t *jwt = NULL;
	bool good = jwt_decode(&jwt, text, key->bytes, (int) key->len) == 0 &&
				jwt_get_alg(jwt) == algorithms[key->alg].number;

	jwt_free(jwt);
	return good;
}

/* Find the key that verifies a token; or say why there is none. */
static const char *
token_find_key(const TokenKeys *keys, const json_t *header, const char *text,
			   const TokenKey **found)
{
	const char *alg = json_string_value(json_object_get(header, "alg"));
	const json_t *named = json_object_get(header, "kid");
	const char *kid = json_string_value(named);
	const json_t *type = json_object_get(header, "typ");

	if (alg == NULL || (named != NULL && kid == NULL))
		return malformed;
	if (json_object_get(header, "crit") != NULL)
		return "The token has critical extensions, of which none is supported.";
	if (type != NULL && (!json_is_string(type) || strcasecmp(json_string_value(type), "JWT") != 0))
		return "The token's typ is not JWT.";
	for (int i = 0; i < keys->count; i++)
	{
		const TokenKey *key = &keys->keys[i];

		if (strcmp(alg, algorithms[key->alg].name) != 0 ||
			(kid != NULL && key->kid != NULL && strcmp(kid, key->kid) != 0))
			continue;
		if (key_verifies(key, text))
		{
			*found = key;
			return NULL;
		}
	}
	return "The token is not signed with a key that is known here.";
}

/* ---- claims ---- */

/* A time in seconds of Unix time; false if the claim is no such.  Absent: fallback. */
static bool
claim_time(const json_t *claims, const char *name, double fallback, double *value)
{
	const json_t *claim = json_object_get(claims, name);

	*value = claim == NULL ? fallback : json_number_value(claim);
	return (claim == NULL || json_is_number(claim)) && isfinite(*value);
}

/* Is it the time for this token? */
static const char *
token_check_times(const json_t *claims, int64_t now, int64_t *expires)
{
	double exp;
	double nbf;
	double iat;

	if (!claim_time(claims, "exp", 0, &exp) || !claim_time(claims, "nbf", 0, &nbf) ||
		!claim_time(claims, "iat", 0, &iat))
		return malformed;
	if (json_object_get(claims, "exp") == NULL)
		return "The token has no exp: it would never expire.";
	if (exp < (double) now + 1)
		return "The token has expired.";
	if (nbf > (double) now + TOKEN_LEEWAY || iat > (double) now + TOKEN_LEEWAY)
		return "The token is not valid yet.";
	*expires = exp >= (double) TOKEN_LAST ? TOKEN_LAST : (int64_t) exp;
	return NULL;
}

/* Is the value this string, or an array that holds it? */
static bool
claim_holds(const json_t *claim, const char *wanted)
{
	size_t i;
	json_t *item;

	if (json_is_string(claim))
		return strcmp(json_string_value(claim), wanted) == 0;
	json_array_foreach((json_t *) (uintptr_t) claim, i, item)
	{
		if (json_is_string(item) && strcmp(json_string_value(item), wanted) == 0)
			return true;
	}
	return false;
}

/* Is the token meant for us, and from whom we trust? */
static const char *
token_check_policy(const json_t *claims, const TokenPolicy *policy)
{
	const json_t *issuer = json_object_get(claims, "iss");

	if (policy->audience != NULL && !claim_holds(json_object_get(claims, "aud"), policy->audience))
		return "The token is for another audience.";
	if (policy->issuer != NULL &&
		(!json_is_string(issuer) || strcmp(json_string_value(issuer), policy->issuer) != 0))
		return "The token is from another issuer.";
	return NULL;
}

/* Is the claim, if it is there, a list of patterns within the bounds? */
static bool
patterns_are_valid(const json_t *patterns)
{
	size_t i;
	json_t *pattern;

	if (patterns == NULL)
		return true;
	if (!json_is_array(patterns) || json_array_size(patterns) > TOKEN_PATTERNS_MAX)
		return false;
	json_array_foreach((json_t *) (uintptr_t) patterns, i, pattern)
	{
		if (!json_is_string(pattern) || json_string_length(pattern) > TOKEN_PATTERN_MAX)
			return false;
	}
	return true;
}

/* Take the token's id. */
static bool
token_take_id(const json_t *claims, char id[TOKEN_ID_MAX + 1])
{
	const json_t *claim = json_object_get(claims, "jti");

	id[0] = '\0';
	if (claim == NULL)
		return true;
	if (!json_is_string(claim) || json_string_length(claim) == 0 ||
		json_string_length(claim) > TOKEN_ID_MAX)
		return false;
	memcpy(id, json_string_value(claim), json_string_length(claim) + 1);
	return true;
}

/* Check everything but the signature, which has been. */
static const char *
token_check_claims(const json_t *claims, const TokenPolicy *policy, int64_t now, Token *token)
{
	const json_t *sub = json_object_get(claims, "sub");
	const char *error = token_check_times(claims, now, &token->expires);

	if (error == NULL)
		error = token_check_policy(claims, policy);
	if (error != NULL)
		return error;
	if (!token_take_id(claims, token->id))
		return "The token's jti must be a string of 1 to 128 bytes.";
	if (sub != NULL && !json_is_string(sub))
		return malformed;
	if (!patterns_are_valid(json_object_get(claims, "pev.read")) ||
		!patterns_are_valid(json_object_get(claims, "pev.emit")) ||
		!patterns_are_valid(json_object_get(claims, "pev.enqueue")))
		return "The token's pev.read, pev.emit and pev.enqueue must be arrays of at most 64 "
			   "strings of at most 256 bytes.";
	return NULL;
}

/*
 * Verify a token as of now, in seconds of Unix time.  What it is depends on
 * nothing the caller has not verified: a claim is looked at after the signature.
 */
const char *
token_verify(const TokenKeys *keys, const TokenPolicy *policy, const char *text, int64_t now,
			 Token *token)
{
	const TokenKey *key;
	json_t *header;
	json_t *claims;
	const char *error = token_split(text, &header, &claims);

	*token = (Token){0};
	if (error == NULL)
		error = token_find_key(keys, header, text, &key);
	if (error == NULL)
		error = token_check_claims(claims, policy, now, token);
	json_decref(header);
	if (error != NULL)
	{
		json_decref(claims);
		return error;
	}
	memcpy(token->key_digest, key->digest, sizeof(token->key_digest));
	token->claims = claims;
	return NULL;
}

/* Release what a token holds. */
void
token_free(Token *token)
{
	json_decref(token->claims);
	token->claims = NULL;
}

/* ---- rights ---- */

/* Can it stand in a key between colons?  Only then may it take the place of {{sub}}. */
static bool
sub_is_valid(const char *sub)
{
	if (sub == NULL || *sub == '\0')
		return false;
	for (; *sub != '\0'; sub++)
		if (*sub == ':' || !stream_key_byte((unsigned char) *sub))
			return false;
	return true;
}

/* Write the pattern with sub for each {{sub}}; false if that cannot be. */
static bool
pattern_expand(const char *pattern, const char *sub, char *out, size_t size)
{
	size_t n = 0;

	while (*pattern != '\0')
	{
		bool mark = strncmp(pattern, SUB_MARK, strlen(SUB_MARK)) == 0;
		const char *piece = mark ? sub : pattern;
		size_t len = mark ? 0 : 1;

		if (mark)
		{
			if (!sub_is_valid(sub))
				return false;
			len = strlen(sub);
		}
		if (len >= size - n)
			return false;
		memcpy(out + n, piece, len);
		n += len;
		pattern += mark ? strlen(SUB_MARK) : 1;
	}
	out[n] = '\0';
	return true;
}

/* Is the stream of the kind that "prefix:*" names?  len is the prefix's. */
static bool
prefix_matches(const char *prefix, size_t len, const char *stream)
{
	return len > 0 && memchr(prefix, ':', len) == NULL && strncmp(prefix, stream, len) == 0 &&
		   stream[len] == ':';
}

/* Does a pattern name the stream?  One that is no pattern names none. */
static bool
pattern_matches(const char *pattern, const char *sub, const char *stream)
{
	char text[STREAM_KEY_MAX + sizeof(":*")];
	StreamKey key;
	size_t len;

	if (strcmp(pattern, "*") == 0)
		return true;
	if (!pattern_expand(pattern, sub, text, sizeof(text)))
		return false;
	len = strlen(text);
	if (len > 2 && strcmp(text + len - 2, ":*") == 0)
		return prefix_matches(text, len - 2, stream);
	return stream_key_canonical(text, len, &key) == NULL && strcmp(key.text, stream) == 0;
}

/* The claim sub, or NULL. */
const char *
token_subject(const Token *token)
{
	return json_string_value(json_object_get(token->claims, "sub"));
}

/*
 * Who is the bearer?  false if the token has no sub, or one that is empty or longer
 * than so many bytes.  A name that is none of these takes its place.
 */
bool
token_user(const Token *token, size_t id_max, size_t name_max, const char **id, const char **name)
{
	*id = token_subject(token);
	*name = json_string_value(json_object_get(token->claims, "name"));
	if (*id == NULL || **id == '\0' || strlen(*id) > id_max)
		return false;
	if (*name == NULL || **name == '\0' || strlen(*name) > name_max)
		*name = *id;
	return true;
}

/* May the bearer do this with the stream, whose key is in its canonical spelling? */
bool
token_allows(const Token *token, TokenRight right, const char *stream)
{
	const json_t *patterns =
		json_object_get(token->claims, right == TOKEN_READ ? "pev.read" : "pev.emit");
	const char *sub = token_subject(token);
	size_t i;
	json_t *pattern;

	json_array_foreach((json_t *) (uintptr_t) patterns, i, pattern)
	{
		if (pattern_matches(json_string_value(pattern), sub, stream))
			return true;
	}
	return false;
}

/* May the bearer queue jobs of this kind? */
bool
token_allows_job(const Token *token, const char *kind)
{
	const json_t *kinds = json_object_get(token->claims, "pev.enqueue");

	return claim_holds(kinds, kind) || claim_holds(kinds, "*");
}

/* The stream that a pattern with {{sub}} names for the bearer; false: the token has no such sub. */
bool
token_own_stream(const Token *token, const char *pattern, StreamKey *key)
{
	char text[STREAM_KEY_MAX + 1];

	return pattern_expand(pattern, token_subject(token), text, sizeof(text)) &&
		   stream_key_canonical(text, strlen(text), key) == NULL;
}
