/*
 * tls.h
 *		The certificate that clients are shown, and its key.
 */
#ifndef PEV_TLS_H
#define PEV_TLS_H

#include <stdbool.h>
#include <gnutls/abstract.h>

#include "config.h"

/*
 * TLS 1.2 and 1.3, and only with keys that are forgotten after the connection.
 */
#define TLS_PRIORITIES "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:-RSA"

/* A certificate, those that vouch for it, and its key. */
typedef struct TlsPair TlsPair;

extern bool tls_start(const Config *config);
extern bool tls_is_on(void);
extern void tls_reload(void);
extern void tls_stop(void);
extern TlsPair *tls_hold(gnutls_session_t session);
extern void tls_release(TlsPair *pair);
extern int tls_retrieve(gnutls_session_t session, const gnutls_datum_t *authorities, int count,
						const gnutls_pk_algorithm_t *algorithms, int algorithm_count,
						gnutls_pcert_st **certs, unsigned int *cert_count, gnutls_privkey_t *key);

#endif
