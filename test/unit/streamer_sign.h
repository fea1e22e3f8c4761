/*
 * streamer_sign.h
 *		Tokens made of parts as they are, well-formed or not, with a right signature.
 */
#ifndef STREAMER_SIGN_H
#define STREAMER_SIGN_H

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

#include "token.h"

/* Append bytes in base64url. */
static inline void
put_base64url(char *out, const void *bytes, size_t len)
{
	char *end = out + strlen(out);
	int n = EVP_EncodeBlock((unsigned char *) end, bytes, (int) len);

	for (int i = 0; i < n; i++)
		end[i] = end[i] == '+' ? '-' : end[i] == '/' ? '_' : end[i];
	end[strcspn(end, "=")] = '\0';
}

/* Append the HMAC of the first len bytes of a token, and the dot before it. */
static inline void
put_signature(char *token, size_t len, const char *secret)
{
	unsigned char mac[EVP_MAX_MD_SIZE];
	unsigned int mac_len;

	HMAC(EVP_sha256(), secret, (int) strlen(secret), (unsigned char *) token, len, mac, &mac_len);
	strcat(token, ".");
	put_base64url(token, mac, mac_len);
}

/* Make a token signed with a secret; it holds until the next is made. */
static inline const char *
sign(const char *header, const void *claims, size_t len, const char *secret)
{
	static char token[4 * TOKEN_MAX];

	token[0] = '\0';
	put_base64url(token, header, strlen(header));
	strcat(token, ".");
	put_base64url(token, claims, len);
	put_signature(token, strlen(token), secret);
	return token;
}

#endif
