/*
 * config.h
 *		The daemon's options: one table drives parsing, checking and help.
 */
#ifndef PEV_CONFIG_H
#define PEV_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "log.h"

#define CONFIG_ERROR_MAX 256
#define CONFIG_LIST_MAX  16 /* times that an option may be repeated; config.c says it in words */

#define EMIT_CONNECTIONS_MAX 64

/* What an option that may be repeated was given. */
typedef struct StringList
{
	int count;
	char *items[CONFIG_LIST_MAX];
	bool preset; /* by the environment: the command line replaces it */
} StringList;

/* An address to listen on. */
typedef struct ListenAddress
{
	struct sockaddr_storage addr;
	socklen_t len;
	bool loopback;
	char text[64]; /* as it was given */
} ListenAddress;

/* Durations are in milliseconds, sizes in bytes.  config_free ends it. */
typedef struct Config
{
	ListenAddress listen;
	char *dsn; /* NULL: libpq's own environment variables */
	int64_t heartbeat;
	int64_t retry;
	int64_t poll;
	int64_t stream_backlog_bytes;
	int64_t backlog_bytes;
	int64_t max_clients;
	int64_t max_clients_per_ip; /* 0: as many as all together */
	int64_t max_streams_per_client;
	int64_t send_timeout;
	int64_t idle_timeout; /* of generations; 0: never */
	int64_t drain_timeout;
	char *emit_dsn; /* NULL: dsn */
	int64_t emit_connections;
	int64_t emit_queue;
	int64_t emit_timeout;
	int64_t emit_rate; /* 0: any, as the next */
	int64_t typing_rate;
	int64_t max_body_bytes;
	int64_t bodies_bytes;
	int64_t body_timeout;
	int64_t max_exports;
	int64_t max_exports_per_ip; /* 0: as many as all together */
	StringList secret_files;
	StringList key_files;
	char *audience; /* NULL: not looked at, as the next */
	char *issuer;
	char *token_cookie; /* NULL: no cookie */
	StringList cors_origins;
	StringList allowed_hosts;
	StringList proxies;  /* that are trusted; forwarded.c */
	StringList presence; /* kinds of streams that have it */
	int64_t presence_grace;
	char *tls_cert; /* NULL: no TLS, as the next */
	char *tls_key;
	bool insecure_no_auth;
	char *user; /* NULL: it stays who it is */
	LogLevel log_level;
	bool access_log;
	bool help;
	bool version;
} Config;

typedef const char *(*ConfigGetenv)(const char *name);

extern bool config_parse(Config *config, int argc, char **argv, ConfigGetenv env,
						 char error[CONFIG_ERROR_MAX]);
extern bool config_has_keys(const Config *config);
extern char *config_help(void);
extern void config_free(Config *config);

#endif
