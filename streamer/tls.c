/*
 * tls.c
 *		The certificate that clients are shown, and its key.
 *
 * libmicrohttpd does the talking, GnuTLS the rest; here is what they are given.
 * The files are read again on SIGHUP, which replaces certificate and key together
 * or, if either is unusable, neither.  A handshake takes several turns of the loop
 * and GnuTLS copies nothing, so each connection holds the pair that was there when
 * it came.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <microhttpd.h>

#include "keys.h"
#include "log.h"
#include "mem.h"
#include "tls.h"

#define TLS_CHAIN_MAX 16 /* certificates */
#define TLS_ERROR_MAX 512
#define KEY_ID_MAX    64

struct TlsPair
{
	int holders; /* who hold it: connections, and this module */
	unsigned int count;
	gnutls_pcert_st certs[TLS_CHAIN_MAX]; /* the server's own first */
	gnutls_privkey_t key;
};

static struct
{
	const Config *config;
	TlsPair *pair; /* NULL: no TLS */
} tls;

/* Read a file, or say what is wrong. */
static bool
tls_read(const char *option, const char *path, bool secret, unsigned char bytes[KEY_FILE_MAX],
		 gnutls_datum_t *datum, char error[TLS_ERROR_MAX])
{
	size_t len;
	const char *wrong = keys_read(path, secret ? option : NULL, bytes, &len);

	*datum = (gnutls_datum_t){bytes, (unsigned int) len};
	if (wrong != NULL)
		snprintf(error, TLS_ERROR_MAX, "%s: %.300s: %s", option, path, wrong);
	return wrong == NULL;
}

/* Read the certificates. */
static bool
pair_load_certs(TlsPair *pair, const char *path, char error[TLS_ERROR_MAX])
{
	unsigned char bytes[KEY_FILE_MAX];
	unsigned int count = TLS_CHAIN_MAX;
	gnutls_datum_t pem;
	int code;

	if (!tls_read("--tls-cert", path, false, bytes, &pem, error))
		return false;
	code = gnutls_pcert_list_import_x509_raw(pair->certs, &count, &pem, GNUTLS_X509_FMT_PEM,
											 GNUTLS_X509_CRT_LIST_IMPORT_FAIL_IF_EXCEED);
	if (code < 0 || count == 0)
	{
		snprintf(error, TLS_ERROR_MAX, "--tls-cert: %.300s: not 1 to %d certificates in PEM: %s",
				 path, TLS_CHAIN_MAX, gnutls_strerror(code));
		return false;
	}
	pair->count = count;
	return true;
}

/* Read the key. */
static bool
pair_load_key(TlsPair *pair, const char *path, char error[TLS_ERROR_MAX])
{
	unsigned char bytes[KEY_FILE_MAX];
	gnutls_datum_t pem;
	int code;

	if (!tls_read("--tls-key", path, true, bytes, &pem, error))
		return false;
	code = gnutls_privkey_import_x509_raw(pair->key, &pem, GNUTLS_X509_FMT_PEM, NULL, 0);
	explicit_bzero(bytes, sizeof(bytes));
	if (code < 0)
		snprintf(error, TLS_ERROR_MAX, "--tls-key: %.300s: no unencrypted private key in PEM: %s",
				 path, gnutls_strerror(code));
	return code >= 0;
}

/* Is the key that of the first certificate? */
static bool
pair_matches(const TlsPair *pair)
{
	unsigned char ids[2][KEY_ID_MAX];
	size_t lens[2] = {KEY_ID_MAX, KEY_ID_MAX};
	gnutls_pubkey_t public;
	bool matches;

	if (gnutls_pubkey_init(&public) < 0)
		log_fatal("gnutls_pubkey_init: out of memory");
	matches = gnutls_pubkey_import_privkey(public, pair->key, 0, 0) >= 0 &&
			  gnutls_pubkey_get_key_id(public, GNUTLS_KEYID_USE_SHA256, ids[0], &lens[0]) >= 0 &&
			  gnutls_pubkey_get_key_id(pair->certs[0].pubkey, GNUTLS_KEYID_USE_SHA256, ids[1],
									   &lens[1]) >= 0 &&
			  lens[0] == lens[1] && memcmp(ids[0], ids[1], lens[0]) == 0;
	gnutls_pubkey_deinit(public);
	return matches;
}

/* Warn of a certificate that clients will refuse. */
static void
pair_check_time(TlsPair *pair, const char *path)
{
	time_t now = time(NULL);
	gnutls_x509_crt_t cert;

	if (gnutls_pcert_export_x509(&pair->certs[0], &cert) < 0)
		return;
	if (gnutls_x509_crt_get_expiration_time(cert) < now)
		log_warning("--tls-cert: the certificate in %s has expired", path);
	else if (gnutls_x509_crt_get_activation_time(cert) > now)
		log_warning("--tls-cert: the certificate in %s is not yet valid", path);
	gnutls_x509_crt_deinit(cert);
}

/* Load a pair, which its holders release; or NULL, and error says why. */
static TlsPair *
pair_load(const Config *config, char error[TLS_ERROR_MAX])
{
	TlsPair *pair = mem_zero(sizeof(TlsPair));

	pair->holders = 1;
	if (gnutls_privkey_init(&pair->key) < 0)
		log_fatal("gnutls_privkey_init: out of memory");
	if (pair_load_certs(pair, config->tls_cert, error) &&
		pair_load_key(pair, config->tls_key, error))
	{
		if (pair_matches(pair))
		{
			pair_check_time(pair, config->tls_cert);
			return pair;
		}
		snprintf(error, TLS_ERROR_MAX,
				 "--tls-key: %.200s is not the key of the certificate in %.200s", config->tls_key,
				 config->tls_cert);
	}
	tls_release(pair);
	return NULL;
}

/* Load certificate and key, if there are any; what is wrong goes to standard error. */
bool
tls_start(const Config *config)
{
	char error[TLS_ERROR_MAX];

	tls.config = config;
	if (config->tls_cert == NULL)
		return true;
	if (MHD_is_feature_supported(MHD_FEATURE_HTTPS_CERT_CALLBACK) != MHD_YES)
		snprintf(error, sizeof(error), "--tls-cert: libmicrohttpd was built without TLS");
	else
		tls.pair = pair_load(config, error);
	if (tls.pair == NULL)
		fprintf(stderr, "pev-streamer: %s\n", error);
	return tls.pair != NULL;
}

/* Is TLS spoken? */
bool
tls_is_on(void)
{
	return tls.pair != NULL;
}

/* Load them anew, for the connections that come from now on. */
void
tls_reload(void)
{
	char error[TLS_ERROR_MAX];
	TlsPair *pair;

	if (tls.pair == NULL)
		return;
	pair = pair_load(tls.config, error);
	if (pair == NULL)
	{
		log_error("SIGHUP: the certificate stays as it was: %s", error);
		return;
	}
	tls_release(tls.pair);
	tls.pair = pair;
	log_info("SIGHUP: the certificate and its key loaded");
}

/* All connections are closed. */
void
tls_stop(void)
{
	if (tls.pair != NULL)
		tls_release(tls.pair);
	tls.pair = NULL;
}

/* A connection comes: the pair that it is to release. */
TlsPair *
tls_hold(gnutls_session_t session)
{
	gnutls_session_set_ptr(session, tls.pair);
	tls.pair->holders++;
	return tls.pair;
}

/* One holder less. */
void
tls_release(TlsPair *pair)
{
	if (--pair->holders > 0)
		return;
	for (unsigned int i = 0; i < pair->count; i++)
		gnutls_pcert_deinit(&pair->certs[i]);
	gnutls_privkey_deinit(pair->key);
	free(pair);
}

/* GnuTLS asks what to show a client: a gnutls_certificate_retrieve_function2. */
int
tls_retrieve(gnutls_session_t session, const gnutls_datum_t *authorities, int count,
			 const gnutls_pk_algorithm_t *algorithms, int algorithm_count, gnutls_pcert_st **certs,
			 unsigned int *cert_count, gnutls_privkey_t *key)
{
	TlsPair *pair = gnutls_session_get_ptr(session);

	(void) authorities, (void) count, (void) algorithms, (void) algorithm_count;
	*certs = pair->certs;
	*cert_count = pair->count;
	*key = pair->key;
	return 0;
}
