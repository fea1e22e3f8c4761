/*
 * config.c
 *		The daemon's options: one table drives parsing, checking and help.
 *
 * An option is given on the command line or in the environment; the command
 * line wins.  Whatever is unknown, malformed or out of range is refused with
 * the name under which it was given: a daemon that guesses at what a typing
 * error meant is found out in production.
 *
 * Pure: the environment comes in through a function, errors go out as text.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "composite.h"
#include "config.h"
#include "config_value.h"
#include "forwarded.h"
#include "host.h"
#include "mem.h"
#include "origin.h"

typedef enum OptionType
{
	OPTION_FLAG,
	OPTION_STRING,
	OPTION_NAME,     /* of a cookie */
	OPTION_FILES,    /* may be repeated, as the next */
	OPTION_ORIGINS,  /* see origin.c */
	OPTION_HOSTS,    /* see host.c */
	OPTION_NETWORKS, /* see forwarded.c */
	OPTION_KINDS,    /* of streams */
	OPTION_COUNT,
	OPTION_SIZE,
	OPTION_DURATION,
	OPTION_LEVEL,
	OPTION_LISTEN
} OptionType;

typedef struct Option
{
	const char *flag;
	const char *env; /* NULL: command line only */
	OptionType type;
	const char *fallback; /* in the syntax of the option; NULL: unset */
	int64_t min;
	int64_t max;
	size_t offset; /* in Config */
	const char *arg;
	const char *help;
} Option;

#define AT(field) offsetof(Config, field)

static const Option options[] = {
	{"--listen", "PEV_LISTEN", OPTION_LISTEN, "127.0.0.1:8080", 0, 0, AT(listen), "ADDRESS:PORT",
	 "where to serve HTTP: an IPv4 address, an IPv6 address in brackets, or localhost; port 0 "
	 "takes a free one"},
	{"--dsn", "PEV_DSN", OPTION_STRING, NULL, 0, 0, AT(dsn), "CONNINFO",
	 "connection string or URI of the database; without it libpq's own PG* variables apply"},
	{"--heartbeat", "PEV_HEARTBEAT", OPTION_DURATION, "15s", SEC, HOUR, AT(heartbeat), "DURATION",
	 "how long a client may hear nothing before it is sent a comment"},
	{"--retry", "PEV_RETRY", OPTION_DURATION, "2s", 10, HOUR, AT(retry), "DURATION",
	 "how long clients are told to wait before they reconnect, give or take a quarter"},
	{"--poll", "PEV_POLL", OPTION_DURATION, "5s", 50, HOUR, AT(poll), "DURATION",
	 "how often watched streams are read although no notification came"},
	{"--backlog-bytes", "PEV_BACKLOG_BYTES", OPTION_SIZE, "64MiB", 64 * KIB, 1024 * GIB,
	 AT(backlog_bytes), "SIZE", "memory for recent events of all streams together"},
	{"--stream-backlog-bytes", "PEV_STREAM_BACKLOG_BYTES", OPTION_SIZE, "1MiB", 4 * KIB, 16 * GIB,
	 AT(stream_backlog_bytes), "SIZE", "memory for recent events of one stream"},
	{"--max-clients", "PEV_MAX_CLIENTS", OPTION_COUNT, "10000", 1, 1000000, AT(max_clients),
	 "NUMBER", "clients served at once; those beyond it are told to come back later"},
	{"--max-clients-per-ip", "PEV_MAX_CLIENTS_PER_IP", OPTION_COUNT, "0", 0, 1000000,
	 AT(max_clients_per_ip), "NUMBER",
	 "of those, from one address (IPv6: one /64 network); 0 is no limit of its own. Behind a proxy "
	 "it needs --trusted-proxy"},
	{"--max-streams-per-client", "PEV_MAX_STREAMS_PER_CLIENT", OPTION_COUNT, "32", 1,
	 COMPOSITE_STREAMS_MAX, AT(max_streams_per_client), "NUMBER",
	 "streams that one request may name"},
	{"--send-timeout", "PEV_SEND_TIMEOUT", OPTION_DURATION, "30s", SEC, HOUR, AT(send_timeout),
	 "DURATION",
	 "a client that takes none of what waits for it is closed after this (whole "
	 "seconds)"},
	{"--idle-timeout", "PEV_IDLE_TIMEOUT", OPTION_DURATION, "5min", 0, 24 * HOUR, AT(idle_timeout),
	 "DURATION",
	 "the stream of a generation ends after this long without an event; 0: never. Other streams do "
	 "not"},
	{"--drain-timeout", "PEV_DRAIN_TIMEOUT", OPTION_DURATION, "5s", 0, HOUR, AT(drain_timeout),
	 "DURATION", "how long to wait on SIGTERM until clients have been told to come back"},
	{"--emit-dsn", "PEV_EMIT_DSN", OPTION_STRING, NULL, 0, 0, AT(emit_dsn), "CONNINFO",
	 "connection string or URI to emit by, for a role or server of its own; without it, that of "
	 "--dsn"},
	{"--emit-connections", "PEV_EMIT_CONNECTIONS", OPTION_COUNT, "8", 1, EMIT_CONNECTIONS_MAX,
	 AT(emit_connections), "NUMBER",
	 "connections to emit by, at most; none is made before it is needed"},
	{"--emit-queue", "PEV_EMIT_QUEUE", OPTION_COUNT, "1024", 1, 100000, AT(emit_queue), "NUMBER",
	 "requests that may wait for one of them; those beyond it are told to come back later"},
	{"--emit-timeout", "PEV_EMIT_TIMEOUT", OPTION_DURATION, "10s", 50, HOUR, AT(emit_timeout),
	 "DURATION", "how long they may wait, and then how long the database may take"},
	{"--emit-rate", "PEV_EMIT_RATE", OPTION_COUNT, "0", 0, 1000000, AT(emit_rate), "NUMBER",
	 "requests to emit or to queue a job, a second, by one client: a token's subject, or else an "
	 "address. 0 is no limit. Where proxies are, it needs --trusted-proxy"},
	{"--typing-rate", "PEV_TYPING_RATE", OPTION_COUNT, "10", 0, 1000000, AT(typing_rate), "NUMBER",
	 "events of type typing, a second, by one client, as for --emit-rate; 0 is no limit"},
	{"--max-body-bytes", "PEV_MAX_BODY_BYTES", OPTION_SIZE, "1MiB", KIB, 256 * MIB,
	 AT(max_body_bytes), "SIZE", "largest body of a request"},
	{"--bodies-bytes", "PEV_BODIES_BYTES", OPTION_SIZE, "64MiB", 4 * KIB, 1024 * GIB,
	 AT(bodies_bytes), "SIZE", "memory for the bodies of all requests together"},
	{"--body-timeout", "PEV_BODY_TIMEOUT", OPTION_DURATION, "30s", 50, HOUR, AT(body_timeout),
	 "DURATION",
	 "how long the body of a request may take to come; its header, that much longer than "
	 "--send-timeout"},
	{"--max-exports", "PEV_MAX_EXPORTS", OPTION_COUNT, "4", 1, 1000, AT(max_exports), "NUMBER",
	 "streams that are exported at once; those who want more are told to come back later"},
	{"--max-exports-per-ip", "PEV_MAX_EXPORTS_PER_IP", OPTION_COUNT, "0", 0, 1000,
	 AT(max_exports_per_ip), "NUMBER",
	 "of those, to one address, as for --max-clients-per-ip; 0 is no limit of its own"},
	{"--jwt-secret-file", "PEV_JWT_SECRET_FILE", OPTION_FILES, NULL, 0, 0, AT(secret_files), "FILE",
	 "secret of at least 32 bytes that tokens are signed with (HS256), or KID=FILE; may be "
	 "repeated; "
	 "read again on SIGHUP. With this or the next, whoever brings no valid token is refused"},
	{"--jwt-key-file", "PEV_JWT_KEY_FILE", OPTION_FILES, NULL, 0, 0, AT(key_files), "FILE",
	 "public key in PEM that tokens are verified with, RSA (RS256) or P-256 (ES256), or KID=FILE; "
	 "may be repeated; read again on SIGHUP"},
	{"--jwt-audience", "PEV_JWT_AUDIENCE", OPTION_STRING, NULL, 0, 0, AT(audience), "NAME",
	 "what the claim aud of a token must be, or hold; without this option it is not looked at"},
	{"--jwt-issuer", "PEV_JWT_ISSUER", OPTION_STRING, NULL, 0, 0, AT(issuer), "NAME",
	 "what the claim iss of a token must be; without this option it is not looked at"},
	{"--token-cookie", "PEV_TOKEN_COOKIE", OPTION_NAME, NULL, 0, 0, AT(token_cookie), "NAME",
	 "cookie in which a token may come, besides the header Authorization and the parameter token"},
	{"--cors-origin", "PEV_CORS_ORIGIN", OPTION_ORIGINS, NULL, 0, 0, AT(cors_origins), "ORIGIN",
	 "origin whose pages may read responses, with credentials; may be repeated; * is every origin, "
	 "without credentials"},
	{"--allowed-host", "PEV_ALLOWED_HOST", OPTION_HOSTS, NULL, 0, 0, AT(allowed_hosts), "NAME",
	 "host name that requests may be for, besides localhost and addresses, where everybody is "
	 "served on loopback; may be repeated"},
	{"--tls-cert", "PEV_TLS_CERT", OPTION_STRING, NULL, 0, 0, AT(tls_cert), "FILE",
	 "certificate in PEM, those that vouch for it after it, to serve HTTPS with; read again on "
	 "SIGHUP"},
	{"--tls-key", "PEV_TLS_KEY", OPTION_STRING, NULL, 0, 0, AT(tls_key), "FILE",
	 "the certificate's private key in PEM; read again on SIGHUP"},
	{"--trusted-proxy", "PEV_TRUSTED_PROXY", OPTION_NETWORKS, NULL, 0, 0, AT(proxies), "NETWORK",
	 "address, or network as 10.0.0.0/8, of proxies whose X-Forwarded-For tells who the client is; "
	 "may be repeated"},
	{"--presence", "PEV_PRESENCE", OPTION_KINDS, NULL, 0, 0, AT(presence), "KIND",
	 "kind of streams, as channel, whose clients are told which users listen; may be repeated"},
	{"--presence-grace", "PEV_PRESENCE_GRACE", OPTION_DURATION, "10s", 100, HOUR,
	 AT(presence_grace), "DURATION",
	 "how long a user may be away before others are told that it left; longer than --retry"},
	{"--insecure-no-auth", "PEV_INSECURE_NO_AUTH", OPTION_FLAG, NULL, 0, 0, AT(insecure_no_auth),
	 NULL, "serve everybody, without tokens, on an address that is not loopback"},
	{"--user", "PEV_USER", OPTION_STRING, NULL, 0, 0, AT(user), "NAME",
	 "user to become, when started as root, once it listens and the keys are read"},
	{"--log-level", "PEV_LOG_LEVEL", OPTION_LEVEL, "info", 0, 0, AT(log_level), "LEVEL",
	 "least level logged: debug, info, warning or error"},
	{"--access-log", "PEV_ACCESS_LOG", OPTION_FLAG, NULL, 0, 0, AT(access_log), NULL,
	 "log each request when it ends: address, method, path, status, bytes and seconds"},
	{"--help", NULL, OPTION_FLAG, NULL, 0, 0, AT(help), NULL, "show this and exit"},
	{"--version", NULL, OPTION_FLAG, NULL, 0, 0, AT(version), NULL, "show the version and exit"},
};

#define OPTION_NUM (sizeof(options) / sizeof(options[0]))

/* The units an option's value is written in; NULL for those that are not numbers. */
static const Unit *
option_units(const Option *option)
{
	switch (option->type)
	{
		case OPTION_DURATION:
			return duration_units;
		case OPTION_SIZE:
			return size_units;
		case OPTION_COUNT:
			return count_units;
		default:
			return NULL;
	}
}

/* Replace a string. */
static void
string_set(char **field, const char *value)
{
	free(*field);
	*field = mem_string(value);
}

/* Can this be an item of a list of this type? */
static bool
item_is_valid(OptionType type, const char *value)
{
	if (type == OPTION_HOSTS)
		return host_name_is_valid(value);
	if (type == OPTION_NETWORKS)
		return network_is_valid(value);
	if (type == OPTION_KINDS)
		return kind_is_valid(value);
	return type == OPTION_ORIGINS ? origin_is_valid(value) : *value != '\0';
}

/* Say which range a number must be in. */
static bool
option_out_of_range(const Option *option, const char *name, char *error)
{
	char low[32];
	char high[32];
	const Unit *units = option_units(option);

	snprintf(error, CONFIG_ERROR_MAX, "%s must be between %s and %s", name,
			 quantity_format(low, sizeof(low), units, option->min),
			 quantity_format(high, sizeof(high), units, option->max));
	return false;
}

/* Say what a value must look like. */
static bool
option_malformed(const Option *option, const char *name, char *error)
{
	static const char *const wanted[] = {
		[OPTION_FLAG] = "on or off",
		[OPTION_NAME] = "a name of letters, digits, _, - and .",
		[OPTION_FILES] = "a file's path, or KID=PATH, and there may be 16",
		[OPTION_ORIGINS] = "an origin as browsers send it, as https://example.org, or *, and there "
						   "may be 16",
		[OPTION_HOSTS] = "a host's name in lower case, without a port, and there may be 16",
		[OPTION_NETWORKS] = "an address or a network, as 127.0.0.1 or 10.0.0.0/8, and there may be "
							"16",
		[OPTION_KINDS] = "the prefix of stream keys, as channel, and there may be 16",
		[OPTION_COUNT] = "a whole number",
		[OPTION_SIZE] = "a whole number with a unit: B, kB (KiB), MB (MiB) or GB (GiB)",
		[OPTION_DURATION] = "a whole number with a unit: ms, s, min or h",
		[OPTION_LEVEL] = "debug, info, warning or error",
		[OPTION_LISTEN] = "an address and a port, as 127.0.0.1:8080 or [::1]:8080",
	};

	snprintf(error, CONFIG_ERROR_MAX, "%s must be %s", name, wanted[option->type]);
	return false;
}

/* Set an option; name is how it was given, for the error. */
static bool
option_set(Config *config, const Option *option, const char *name, const char *value, char *error)
{
	void *field = (char *) config + option->offset;
	bool ok = true;

	switch (option->type)
	{
		case OPTION_FLAG:
			ok = flag_parse(value, field);
			break;
		case OPTION_STRING:
			string_set(field, value);
			break;
		case OPTION_NAME:
			ok = cookie_name_is_valid(value);
			if (ok)
				string_set(field, value);
			break;
		case OPTION_FILES:
		case OPTION_ORIGINS:
		case OPTION_HOSTS:
		case OPTION_NETWORKS:
		case OPTION_KINDS:
			ok = item_is_valid(option->type, value) && list_add(field, value, strlen(value));
			break;
		case OPTION_COUNT:
		case OPTION_SIZE:
		case OPTION_DURATION:
			ok = quantity_parse(value, option_units(option), field);
			if (ok && (*(int64_t *) field < option->min || *(int64_t *) field > option->max))
				return option_out_of_range(option, name, error);
			break;
		case OPTION_LEVEL:
			ok = level_parse(value, field);
			break;
		case OPTION_LISTEN:
			ok = listen_parse(value, field);
			break;
	}
	return ok || option_malformed(option, name, error);
}

/* Is it an option that may be repeated? */
static bool
option_is_list(const Option *option)
{
	return option->type == OPTION_FILES || option->type == OPTION_ORIGINS ||
		   option->type == OPTION_HOSTS || option->type == OPTION_NETWORKS ||
		   option->type == OPTION_KINDS;
}

/* Set an option from its variable, which holds a list's items with spaces between them. */
static bool
option_set_variable(Config *config, const Option *option, const char *value, char *error)
{
	StringList *list = (StringList *) ((char *) config + option->offset);
	char *item;
	bool ok = true;

	if (!option_is_list(option))
		return option_set(config, option, option->env, value, error);
	while (ok && *(value += strspn(value, " ")) != '\0')
	{
		size_t len = strcspn(value, " ");

		item = mem_zero(len + 1);
		memcpy(item, value, len);
		ok = option_set(config, option, option->env, item, error);
		free(item);
		value += len;
	}
	list->preset = true;
	return ok;
}

/* Set an option from the command line; what its variable said of a list is forgotten. */
static bool
option_set_argument(Config *config, const Option *option, const char *value, char *error)
{
	StringList *list = (StringList *) ((char *) config + option->offset);

	if (option_is_list(option) && list->preset)
		list_free(list);
	return option_set(config, option, option->flag, value, error);
}

/* Find the option that a command-line word names, up to its "=". */
static const Option *
option_find(const char *word)
{
	size_t len = strcspn(word, "=");

	for (size_t i = 0; i < OPTION_NUM; i++)
		if (strlen(options[i].flag) == len && strncmp(options[i].flag, word, len) == 0)
			return &options[i];
	return NULL;
}

/* Take one option from the command line; *i moves past its value. */
static bool
config_take_argument(Config *config, int argc, char **argv, int *i, char *error)
{
	const char *word = argv[*i];
	const Option *option = option_find(word);
	const char *equals = strchr(word, '=');
	const char *value = equals != NULL ? equals + 1 : NULL;

	if (option == NULL)
	{
		snprintf(error, CONFIG_ERROR_MAX, "unknown option \"%.60s\"; --help lists them", word);
		return false;
	}
	if (option->type == OPTION_FLAG)
	{
		if (value == NULL)
			return option_set(config, option, option->flag, "on", error);
		snprintf(error, CONFIG_ERROR_MAX, "%s takes no value", option->flag);
		return false;
	}
	if (value == NULL && *i + 1 < argc)
		value = argv[++*i];
	if (value == NULL)
	{
		snprintf(error, CONFIG_ERROR_MAX, "%s needs a value: %s", option->flag, option->arg);
		return false;
	}
	return option_set_argument(config, option, value, error);
}

/* Take defaults, then the environment, which is empty where a variable is. */
static bool
config_take_environment(Config *config, ConfigGetenv env, char *error)
{
	for (size_t i = 0; i < OPTION_NUM; i++)
	{
		const Option *option = &options[i];
		const char *value = option->env != NULL ? env(option->env) : NULL;

		if (option->fallback != NULL &&
			!option_set(config, option, option->flag, option->fallback, error))
			return false;
		if (value != NULL && *value != '\0' && !option_set_variable(config, option, value, error))
			return false;
	}
	return true;
}

/* Are there keys to verify tokens with?  If not, everybody is served. */
bool
config_has_keys(const Config *config)
{
	return config->secret_files.count + config->key_files.count > 0;
}

/* Refuse combinations of options about who may listen. */
static bool
config_check_access(const Config *config, char *error)
{
	const char *why = NULL;
	bool keys = config_has_keys(config);

	if (!config->listen.loopback && !config->insecure_no_auth && !keys)
		why = "--listen: refusing to serve everybody on an address that is not loopback; give "
			  "--jwt-secret-file or --jwt-key-file, or --insecure-no-auth if that is meant";
	else if (config->insecure_no_auth && keys)
		why = "--insecure-no-auth: serving everybody is at odds with the keys given";
	else if (!keys &&
			 (config->audience != NULL || config->issuer != NULL || config->token_cookie != NULL))
		why = "--jwt-audience, --jwt-issuer and --token-cookie mean nothing without "
			  "--jwt-secret-file or --jwt-key-file";
	else if (config->allowed_hosts.count > 0 && (keys || config->insecure_no_auth))
		why = "--allowed-host: with keys, or --insecure-no-auth, requests may be for any host";
	else if ((config->audience != NULL && *config->audience == '\0') ||
			 (config->issuer != NULL && *config->issuer == '\0'))
		why = "--jwt-audience and --jwt-issuer must not be empty";
	if (why != NULL)
		snprintf(error, CONFIG_ERROR_MAX, "%s", why);
	return why == NULL;
}

/* Refuse "*" beside what it cannot be combined with. */
static bool
config_check_origins(const Config *config, char *error)
{
	const StringList *origins = &config->cors_origins;
	bool any = false;

	for (int i = 0; i < origins->count; i++)
		any = any || strcmp(origins->items[i], "*") == 0;
	if (!any || (origins->count == 1 && config->token_cookie == NULL))
		return true;
	snprintf(error, CONFIG_ERROR_MAX,
			 "--cors-origin: * is without credentials, so neither other origins nor --token-cookie "
			 "go with it");
	return false;
}

/* Refuse combinations of options that are each right alone. */
static bool
config_check(const Config *config, char *error)
{
	if (!config_check_access(config, error) || !config_check_origins(config, error))
		return false;
	if ((config->tls_cert == NULL) != (config->tls_key == NULL))
	{
		snprintf(error, CONFIG_ERROR_MAX, "--tls-cert and --tls-key go together");
		return false;
	}
	if (config->stream_backlog_bytes > config->backlog_bytes)
	{
		snprintf(error, CONFIG_ERROR_MAX,
				 "--stream-backlog-bytes must not be larger than --backlog-bytes");
		return false;
	}
	if (config->bodies_bytes <= config->max_body_bytes + KIB)
	{
		snprintf(error, CONFIG_ERROR_MAX,
				 "--bodies-bytes must be larger than --max-body-bytes by more than 1KiB");
		return false;
	}
	return true;
}

/*
 * Fill config from the environment and the command line.  On failure error says
 * why.  The caller ends config with config_free in either case.
 */
bool
config_parse(Config *config, int argc, char **argv, ConfigGetenv env, char error[CONFIG_ERROR_MAX])
{
	memset(config, 0, sizeof(*config));
	if (!config_take_environment(config, env, error))
		return false;
	for (int i = 1; i < argc; i++)
		if (!config_take_argument(config, argc, argv, &i, error))
			return false;
	return config->help || config->version || config_check(config, error);
}

/* Add text folded at the width of a terminal, indented. */
static void
help_fold(Buf *out, const char *text)
{
	const size_t width = 70;

	while (*text != '\0')
	{
		size_t len = strlen(text);

		if (len > width)
			for (len = width; len > 0 && text[len] != ' ';)
				len--;
		buf_format(out, "        %.*s\n", (int) len, text);
		text += len + strspn(text + len, " ");
	}
}

/* The text of --help, which the caller frees. */
char *
config_help(void)
{
	Buf out;
	char low[32];
	char high[32];

	buf_init(&out);
	buf_text(&out, "pev-streamer serves the events of a PostgreSQL database with the pev\n"
				   "extension as Server-Sent Events.\n\n"
				   "Usage: pev-streamer [OPTION]...\n\n");
	for (size_t i = 0; i < OPTION_NUM; i++)
	{
		const Option *option = &options[i];
		const Unit *units = option_units(option);

		buf_format(&out, "  %s%s%s", option->flag, option->arg != NULL ? " " : "",
				   option->arg != NULL ? option->arg : "");
		buf_text(&out, "\n");
		help_fold(&out, option->help);
		if (option->env != NULL)
			buf_format(&out, "        [%s%s%s]", option->env,
					   option->fallback != NULL ? ", default " : "",
					   option->fallback != NULL ? option->fallback : "");
		if (units != NULL)
			buf_format(&out, " %s to %s", quantity_format(low, sizeof(low), units, option->min),
					   quantity_format(high, sizeof(high), units, option->max));
		if (option->env != NULL)
			buf_text(&out, "\n");
	}
	buf_text(&out, "\nDurations are written with ms, s, min or h; sizes with B, kB, MB or GB.\n");
	return out.data;
}

/* Release what the options hold. */
void
config_free(Config *config)
{
	char **strings[] = {&config->dsn,      &config->emit_dsn,     &config->audience,
						&config->issuer,   &config->token_cookie, &config->user,
						&config->tls_cert, &config->tls_key};

	for (size_t i = 0; i < sizeof(strings) / sizeof(strings[0]); i++)
	{
		free(*strings[i]);
		*strings[i] = NULL;
	}
	list_free(&config->secret_files);
	list_free(&config->key_files);
	list_free(&config->cors_origins);
	list_free(&config->allowed_hosts);
	list_free(&config->proxies);
	list_free(&config->presence);
}
