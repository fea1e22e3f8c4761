/*
 * streamer_config.c
 *		What options mean, and how those that mean nothing are refused.
 */
#include <arpa/inet.h>
#include <stdlib.h>

#include "config.h"
#include "streamer_tap.h"

static const char *env_name;
static const char *env_value;

/* An environment with one variable. */
static const char *
test_env(const char *name)
{
	return env_name != NULL && strcmp(name, env_name) == 0 ? env_value : NULL;
}

/* Parse two command-line words (NULL for none); the error, or NULL. */
static const char *
parse(Config *config, const char *first, const char *second)
{
	static char error[CONFIG_ERROR_MAX];
	char *argv[] = {(char *) "pev-streamer", (char *) first, (char *) second, NULL};
	int argc = first == NULL ? 1 : second == NULL ? 2 : 3;

	return config_parse(config, argc, argv, test_env, error) ? NULL : error;
}

/* Two words must be refused with this error. */
static void
refused(const char *first, const char *second, const char *want)
{
	Config config;

	is(parse(&config, first, second), want, first);
	config_free(&config);
}

/* The same for an environment variable. */
static void
refused_env(const char *name, const char *value, const char *want)
{
	env_name = name;
	env_value = value;
	refused(NULL, NULL, want);
	env_name = NULL;
}

/* A duration of the heartbeat must parse to so many milliseconds. */
static void
is_duration(const char *text, long long want)
{
	Config config;
	const char *error = parse(&config, "--heartbeat", text);

	is_number(error != NULL ? -1 : config.heartbeat, want, text);
	config_free(&config);
}

/* A size of the backlog must parse to so many bytes. */
static void
is_size(const char *text, long long want)
{
	Config config;
	const char *error = parse(&config, "--backlog-bytes", text);

	is_number(error != NULL ? -1 : config.backlog_bytes, want, text);
	config_free(&config);
}

/* An address must parse to this family and port, or (family 0) be malformed. */
static void
is_listen(const char *text, int family, int port)
{
	Config config;
	char *argv[] = {(char *) "pev-streamer", (char *) "--insecure-no-auth", (char *) "--listen",
					(char *) text, NULL};
	char error[CONFIG_ERROR_MAX];
	bool parsed = config_parse(&config, 4, argv, test_env, error);
	struct sockaddr_in *addr = (struct sockaddr_in *) &config.listen.addr;

	if (family == 0)
		ok(!parsed, text);
	else
		ok(parsed && addr->sin_family == family && ntohs(addr->sin_port) == port, text);
	config_free(&config);
}

static void
test_defaults(void)
{
	Config config;

	is(parse(&config, NULL, NULL), NULL, "no option is needed");
	is_number(ntohs(((struct sockaddr_in *) &config.listen.addr)->sin_port), 8080, "port");
	ok(config.listen.loopback, "loopback by default");
	is(config.dsn, NULL, "no dsn");
	is_number(config.heartbeat, 15000, "heartbeat");
	is_number(config.retry, 2000, "retry");
	is_number(config.poll, 5000, "poll");
	is_number(config.backlog_bytes, 64 << 20, "backlog");
	is_number(config.stream_backlog_bytes, 1 << 20, "backlog of a stream");
	is_number(config.drain_timeout, 5000, "drain timeout");
	is(config.emit_dsn, NULL, "no dsn of its own to emit");
	is_number(config.emit_connections, 8, "connections to emit");
	is_number(config.emit_queue, 1024, "queue before them");
	is_number(config.emit_timeout, 10000, "time to emit");
	is_number(config.emit_rate, 0, "no rate");
	is_number(config.typing_rate, 10, "but of typing");
	is_number(config.presence.count, 0, "no presence");
	is_number(config.presence_grace, 10000, "grace");
	is_number(config.max_body_bytes, 1 << 20, "body");
	is_number(config.bodies_bytes, 64 << 20, "bodies");
	is_number(config.body_timeout, 30000, "time for a body");
	ok(!config.insecure_no_auth && config.log_level == LOG_INFO, "flag and level");
	config_free(&config);
}

static void
test_sources(void)
{
	Config config;

	env_name = "PEV_DSN";
	env_value = "host=a";
	parse(&config, NULL, NULL);
	is(config.dsn, "host=a", "the environment is read");
	config_free(&config);
	parse(&config, "--dsn", "host=b");
	is(config.dsn, "host=b", "the command line wins");
	config_free(&config);
	parse(&config, "--dsn=host=c", NULL);
	is(config.dsn, "host=c", "an equals sign joins name and value");
	config_free(&config);
	env_value = "";
	parse(&config, NULL, NULL);
	is(config.dsn, NULL, "an empty variable is unset");
	config_free(&config);
	env_name = "PEV_INSECURE_NO_AUTH";
	env_value = "1";
	is(parse(&config, "--listen", "0.0.0.0:80"), NULL, "a flag in the environment");
	config_free(&config);
	env_name = NULL;
	ok(parse(&config, "--help", NULL) == NULL && config.help, "--help");
	config_free(&config);
	ok(parse(&config, "--version", NULL) == NULL && config.version, "--version");
	config_free(&config);
}

static void
test_values(void)
{
	is_duration("1s", 1000);
	is_duration("1500ms", 1500);
	is_duration("2min", 120000);
	is_duration("1h", 3600000);
	is_duration("2h", -1);
	is_duration("15", -1);
	is_duration("0", -1);
	is_duration("1.5s", -1);
	is_duration("-1s", -1);
	is_duration(" 1s", -1);
	is_duration("1 s", -1);
	is_duration("1sec", -1);
	is_duration("", -1);
	is_duration("99999999999999999999h", -1);
	is_duration("9223372036854775807s", -1);
	is_size("1MiB", 1 << 20);
	is_size("1MB", 1 << 20);
	is_size("2048kB", 2 << 20);
	is_size("2097152B", 2 << 20);
	is_size("1GiB", 1LL << 30);
	is_size("1mb", -1);
	is_size("100", -1);
	is_listen("127.0.0.1:0", AF_INET, 0);
	is_listen("0.0.0.0:65535", AF_INET, 65535);
	is_listen("localhost:81", AF_INET, 81);
	is_listen("[::1]:80", AF_INET6, 80);
	is_listen("[::]:80", AF_INET6, 80);
	is_listen("127.0.0.1", 0, 0);
	is_listen("127.0.0.1:", 0, 0);
	is_listen("127.0.0.1:65536", 0, 0);
	is_listen("127.0.0.1:8a", 0, 0);
	is_listen("127.0.0.1:-1", 0, 0);
	is_listen(":8080", 0, 0);
	is_listen("::1:8080", 0, 0);
	is_listen("[127.0.0.1]:80", 0, 0);
	is_listen("[]:80", 0, 0);
	is_listen("example.org:80", 0, 0);
}

static void
test_refusals(void)
{
	Config config;

	refused("--nope", NULL, "unknown option \"--nope\"; --help lists them");
	refused("nope", NULL, "unknown option \"nope\"; --help lists them");
	refused("--hea", "1s", "unknown option \"--hea\"; --help lists them");
	refused("--dsn", NULL, "--dsn needs a value: CONNINFO");
	refused("--insecure-no-auth=1", NULL, "--insecure-no-auth takes no value");
	refused("--max-clients", "0", "--max-clients must be between 1 and 1000000");
	refused("--max-clients", "x", "--max-clients must be a whole number");
	refused("--max-clients", "10s", "--max-clients must be a whole number");
	refused("--heartbeat", "1", "--heartbeat must be a whole number with a unit: ms, s, min or h");
	refused("--heartbeat", "1ms", "--heartbeat must be between 1s and 1h");
	refused("--backlog-bytes", "1B", "--backlog-bytes must be between 64KiB and 1024GiB");
	refused("--log-level", "loud", "--log-level must be debug, info, warning or error");
	refused("--listen", "nowhere",
			"--listen must be an address and a port, as 127.0.0.1:8080 or [::1]:8080");
	refused("--stream-backlog-bytes", "65MiB",
			"--stream-backlog-bytes must not be larger than --backlog-bytes");
	refused("--emit-connections", "0", "--emit-connections must be between 1 and 64");
	refused("--emit-connections", "65", "--emit-connections must be between 1 and 64");
	refused("--max-body-bytes", "512MiB", "--max-body-bytes must be between 1KiB and 256MiB");
	refused("--max-body-bytes", "64MiB",
			"--bodies-bytes must be larger than --max-body-bytes by more than 1KiB");
	refused("--bodies-bytes", "1MiB",
			"--bodies-bytes must be larger than --max-body-bytes by more than 1KiB");
	refused("--listen", "0.0.0.0:8080",
			"--listen: refusing to serve everybody on an address that is not loopback; give "
			"--jwt-secret-file or --jwt-key-file, or --insecure-no-auth if that is meant");
	refused("--listen", "[::]:8080",
			"--listen: refusing to serve everybody on an address that is not loopback; give "
			"--jwt-secret-file or --jwt-key-file, or --insecure-no-auth if that is meant");
	refused_env("PEV_POLL", "often",
				"PEV_POLL must be a whole number with a unit: ms, s, min or h");
	refused_env("PEV_POLL", "1ms", "PEV_POLL must be between 50ms and 1h");
	refused_env("PEV_INSECURE_NO_AUTH", "maybe", "PEV_INSECURE_NO_AUTH must be on or off");
	ok(parse(&config, "--listen", "127.8.9.10:1") == NULL, "all of 127/8 is loopback");
	config_free(&config);
}

/* Parse a whole command line; the error, or NULL. */
static const char *
parse_all(Config *config, int argc, const char *const *argv)
{
	static char error[CONFIG_ERROR_MAX];

	return config_parse(config, argc, (char **) (uintptr_t) argv, test_env, error) ? NULL : error;
}

/* A command line must be refused with this error. */
static void
refused_all(int argc, const char *const *argv, const char *want)
{
	Config config;

	is(parse_all(&config, argc, argv), want, argv[1]);
	config_free(&config);
}

static void
test_access(void)
{
	static const char *const public_with_key[] = {"", "--listen=0.0.0.0:1", "--jwt-secret-file=s"};
	static const char *const both[] = {"", "--insecure-no-auth", "--jwt-key-file=k"};
	static const char *const any_and_one[] = {"", "--cors-origin=*", "--cors-origin=https://a"};
	static const char *const any_and_cookie[] = {"", "--cors-origin=*", "--jwt-key-file=k",
												 "--token-cookie=c"};
	static const char *const twice[] = {"", "--jwt-secret-file", "a=b/c", "--jwt-secret-file=d"};
	static const char *const empty_issuer[] = {"", "--jwt-secret-file=s", "--jwt-issuer="};
	static const char unused[] =
		"--jwt-audience, --jwt-issuer and --token-cookie mean nothing without --jwt-secret-file or "
		"--jwt-key-file";
	static const char not_alone[] = "--cors-origin: * is without credentials, so neither other "
									"origins nor --token-cookie go with it";
	static const char refused_kind[] =
		"--presence must be the prefix of stream keys, as channel, and there may be 16";
	char too_long[65] = "";
	Config config;

	memset(too_long, 'k', sizeof(too_long) - 1);
	is(parse_all(&config, 3, public_with_key), NULL, "a key allows a public address");
	ok(config_has_keys(&config), "there are keys");
	config_free(&config);
	refused_all(3, both, "--insecure-no-auth: serving everybody is at odds with the keys given");
	refused_all(3, any_and_one, not_alone);
	refused_all(4, any_and_cookie, not_alone);
	refused_all(3, empty_issuer, "--jwt-audience and --jwt-issuer must not be empty");
	refused("--jwt-audience", "a", unused);
	refused("--token-cookie", "c", unused);
	refused("--token-cookie", "a b",
			"--token-cookie must be a name of letters, digits, _, - and .");
	refused("--jwt-secret-file", "",
			"--jwt-secret-file must be a file's path, or KID=PATH, and there may be 16");
	refused(
		"--cors-origin", "example.org",
		"--cors-origin must be an origin as browsers send it, as https://example.org, or *, and "
		"there may be 16");
	refused("--tls-cert", "c", "--tls-cert and --tls-key go together");
	refused("--tls-key", "k", "--tls-cert and --tls-key go together");
	refused(
		"--trusted-proxy", "10.0.0.1/8",
		"--trusted-proxy must be an address or a network, as 127.0.0.1 or 10.0.0.0/8, and there "
		"may be 16");
	refused("--presence", "channel:", refused_kind);
	refused("--presence", "1st", refused_kind);
	refused("--presence", "", refused_kind);
	refused("--presence", too_long, refused_kind);
	refused("--presence-grace", "99ms", "--presence-grace must be between 100ms and 1h");
	is(parse_all(&config, 4, twice), NULL, "an option that is repeated");
	ok(config.secret_files.count == 2 && strcmp(config.secret_files.items[0], "a=b/c") == 0 &&
		   strcmp(config.secret_files.items[1], "d") == 0,
	   "both values, in order");
	config_free(&config);

	env_name = "PEV_TRUSTED_PROXY";
	env_value = "10.0.0.0/8 ::1";
	is(parse(&config, NULL, NULL), NULL, "networks in the environment");
	ok(config.proxies.count == 2 && strcmp(config.proxies.items[1], "::1") == 0, "both");
	config_free(&config);

	env_name = "PEV_PRESENCE";
	env_value = "channel team-2";
	is(parse(&config, NULL, NULL), NULL, "kinds in the environment");
	ok(config.presence.count == 2 && strcmp(config.presence.items[1], "team-2") == 0, "both");
	config_free(&config);

	env_name = "PEV_CORS_ORIGIN";
	env_value = "  https://a https://b ";
	is(parse(&config, NULL, NULL), NULL, "a list in the environment");
	ok(config.cors_origins.count == 2 && strcmp(config.cors_origins.items[1], "https://b") == 0,
	   "with spaces between");
	config_free(&config);
	is(parse(&config, "--cors-origin", "https://c"), NULL, "and on the command line");
	ok(config.cors_origins.count == 1 && strcmp(config.cors_origins.items[0], "https://c") == 0,
	   "which wins");
	config_free(&config);
	refused_env("PEV_CORS_ORIGIN", "https://a nonsense",
				"PEV_CORS_ORIGIN must be an origin as browsers send it, as https://example.org, or "
				"*, and there may be 16");
	env_name = NULL;
}

static void
test_help(void)
{
	char *help = config_help();
	static const char *const flags[] = {
		"--listen",        "--dsn",           "--heartbeat",        "--retry",     "--poll",
		"--backlog-bytes", "--max-clients",   "--send-timeout",     "--log-level", "--help",
		"--version",       "--drain-timeout", "--insecure-no-auth", "PEV_LISTEN"};

	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
		ok(strstr(help, flags[i]) != NULL, flags[i]);
	ok(strstr(help, "[PEV_HEARTBEAT, default 15s] 1s to 1h") != NULL, "default and range");
	free(help);
}

int
main(void)
{
	test_defaults();
	test_sources();
	test_values();
	test_refusals();
	test_access();
	test_help();
	return done();
}
