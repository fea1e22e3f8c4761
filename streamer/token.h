/*
 * token.h
 *		Tokens: JSON Web Tokens that say which streams their bearer may use.
 */
#ifndef PEV_TOKEN_H
#define PEV_TOKEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cursor.h"

#define TOKEN_MAX          8192 /* bytes of a token */
#define TOKEN_ID_MAX       128  /* bytes of a jti */
#define TOKEN_PATTERNS_MAX 64   /* streams that one claim names */
#define TOKEN_PATTERN_MAX  256  /* bytes of each */
#define TOKEN_KEYS_MAX     32
#define TOKEN_SECRET_MIN   32 /* bytes: a shorter key weakens HMAC-SHA-256 (RFC 7518, section 3.2) */
#define TOKEN_DIGEST_LEN   32

struct json_t;

/* A key verifies one algorithm and no other. */
typedef enum TokenAlg
{
	TOKEN_HS256,
	TOKEN_RS256,
	TOKEN_ES256
} TokenAlg;

typedef struct TokenKey
{
	TokenAlg alg;
	char *kid; /* NULL: it has no name */
	unsigned char *bytes;
	size_t len;
	unsigned char digest[TOKEN_DIGEST_LEN]; /* tells keys apart */
} TokenKey;

/* token_keys_free ends it. */
typedef struct TokenKeys
{
	int count;
	TokenKey keys[TOKEN_KEYS_MAX];
} TokenKeys;

/* What a token is checked against besides the keys; NULL: not looked at. */
typedef struct TokenPolicy
{
	const char *audience;
	const char *issuer;
} TokenPolicy;

typedef enum TokenRight
{
	TOKEN_READ,
	TOKEN_EMIT
} TokenRight;

/* A token that has been found valid.  token_free ends it. */
typedef struct Token
{
	int64_t expires;                            /* seconds of Unix time */
	char id[TOKEN_ID_MAX + 1];                  /* its jti; empty: it has none */
	unsigned char key_digest[TOKEN_DIGEST_LEN]; /* of the key that verifies it */
	struct json_t *claims;
} Token;

/* What can be wrong is said in a sentence that never repeats what was given; NULL is success. */
extern const char *token_keys_add_secret(TokenKeys *keys, const char *kid,
										 const unsigned char *bytes, size_t len);
extern const char *token_keys_add_public(TokenKeys *keys, const char *kid,
										 const unsigned char *bytes, size_t len);
extern void token_keys_free(TokenKeys *keys);
extern const char *token_verify(const TokenKeys *keys, const TokenPolicy *policy, const char *text,
								int64_t now, Token *token);
extern bool token_allows(const Token *token, TokenRight right, const char *stream);
extern bool token_allows_job(const Token *token, const char *kind);
extern bool token_own_stream(const Token *token, const char *pattern, StreamKey *key);
extern const char *token_subject(const Token *token);
extern bool token_user(const Token *token, size_t id_max, size_t name_max, const char **id,
					   const char **name);
extern void token_free(Token *token);

#endif
