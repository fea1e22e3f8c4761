/*
 * main.c
 *		pev-streamer: serve the events of a database as Server-Sent Events.
 *
 * One process, one thread, one loop.  A turn: wait; serve what came from the
 * database, which wakes subscribers; send the database the next query, that it
 * works on while libmicrohttpd sends to those; and if none was due, then perhaps
 * one is now, for sending tells who lacks what.  Nothing needs a lock, and what a
 * turn gathers goes out together.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "access.h"
#include "access_log.h"
#include "config.h"
#include "cors.h"
#include "db.h"
#include "emit_pool.h"
#include "events.h"
#include "export_read.h"
#include "feed.h"
#include "generation.h"
#include "gossip.h"
#include "gossip_link.h"
#include "host.h"
#include "http.h"
#include "hub.h"
#include "log.h"
#include "loop.h"
#include "metrics.h"
#include "notify.h"
#include "page.h"
#include "presence.h"
#include "reader.h"
#include "subscriber.h"
#include "tls.h"
#include "user.h"

#define EXIT_USAGE 2

/* Of --backlog-bytes, pages of history get one part in so many, windows the rest. */
#define PAGE_SHARE 4

/* How long streams stay in memory that nobody watches any more, in milliseconds. */
#define LINGER 30000

typedef enum MainState
{
	MAIN_SERVING,
	MAIN_DRAINING,
	MAIN_DONE
} MainState;

static MainState state = MAIN_SERVING;
static const Config *configuration;
static Watch signal_watch = {.fd = -1};
static Timer drain_timer;

/* The time for draining is over. */
static void
main_on_deadline(void *arg)
{
	(void) arg;
	log_warning("stopping with %zu clients not told to come back, and %zu exports not finished",
				subscriber_count(), export_count());
	state = MAIN_DONE;
}

/* Begin to drain. */
static void
main_drain(const char *signal_name)
{
	if (state != MAIN_SERVING)
		return;
	log_info("draining %zu clients after %s", subscriber_count(), signal_name);
	state = MAIN_DRAINING;
	notify_stopping(configuration->drain_timeout);
	http_drain();
	timer_set(&drain_timer, configuration->drain_timeout, main_on_deadline, NULL);
}

/* Read the files of keys again. */
static void
main_reload(void)
{
	notify_reloading();
	if (!config_has_keys(configuration) && !tls_is_on())
		log_info("SIGHUP: there is nothing to reload");
	access_reload();
	tls_reload();
	notify_ready();
}

static void
main_on_signal(void *arg, uint32_t events)
{
	struct signalfd_siginfo info;

	(void) arg, (void) events;
	while (read(signal_watch.fd, &info, sizeof(info)) == sizeof(info))
	{
		if (info.ssi_signo == SIGHUP)
			main_reload();
		else
			main_drain(info.ssi_signo == SIGTERM ? "SIGTERM" : "SIGINT");
	}
}

/* Take signals through the loop. */
static void
main_watch_signals(void)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		log_fatal("signalfd: %s", strerror(errno));
	loop_watch(&signal_watch, fd, EPOLLIN, main_on_signal, NULL);
}

/* Serve until told to stop, and everybody has an answer. */
static void
main_loop(void)
{
	int64_t since;

	while (state == MAIN_SERVING ||
		   (state == MAIN_DRAINING && (subscriber_count() > 0 || emit_pool_load() > 0 ||
									   export_count() > 0 || gossip_is_leaving())))
	{
		loop_turn(http_patience());
		feed_pump();
		http_run();
		feed_pump();
		gossip_link_pump();
		if (state == MAIN_SERVING)
			notify_status(db_trouble(&since));
	}
}

/* Say what of presence will not work as it may be meant. */
static void
main_check_presence(const Config *config)
{
	if (config->secret_files.count + config->key_files.count == 0)
		log_warning("--presence without a key: nobody can be present, for no token is looked at");
	if (config->presence_grace < config->retry)
		log_warning("--presence-grace is shorter than --retry: whoever is disconnected will seem "
					"to leave");
}

/* Run the daemon; the result is the exit code. */
static int
main_serve(const Config *config)
{
	static const SubscriberHooks hooks = {events_resume, reader_want_tail, reader_want_page,
										  feed_forget, feed_forget_stream};
	size_t pages = (size_t) config->backlog_bytes / PAGE_SHARE;
	int fd;

	configuration = config;
	log_set_level(config->log_level);
	access_log_start(config->access_log);
	metrics_start(PEV_VERSION);
	loop_init();
	main_watch_signals();
	hub_init((size_t) config->stream_backlog_bytes, (size_t) config->backlog_bytes - pages, LINGER);
	subscriber_init(&hooks, config->heartbeat);
	generations_init(config->idle_timeout);
	page_init(pages);
	presence_start(&config->presence, config->presence_grace);
	if (presence_is_on())
	{
		main_check_presence(config);
		gossip_start(config->presence_grace);
	}
	if (!user_check(config->user) || !access_start(config) || !tls_start(config))
		return EXIT_USAGE;
	cors_start(&config->cors_origins);
	hosts_start(config);
	notify_start();
	if (!http_start(config) || !user_become(config->user))
		return EXIT_FAILURE;
	notify_ready();
	feed_start(config->dsn, config->poll);
	if (presence_is_on())
		gossip_link_start(config->dsn);

	main_loop();

	http_stop();
	feed_stop();
	gossip_link_stop();
	gossip_stop();
	presence_stop();
	access_stop();
	tls_stop();
	subscriber_close();
	hub_close();
	timer_clear(&drain_timer);
	notify_stop();
	fd = signal_watch.fd;
	loop_unwatch(&signal_watch);
	close(fd);
	loop_close();
	log_info("stopped");
	return EXIT_SUCCESS;
}

/* Say if it is none that libpq understands, but not what that says: it may quote a password. */
static bool
main_check_dsn(const char *option, const char *dsn)
{
	if (dsn == NULL || db_dsn_is_valid(dsn))
		return true;
	fprintf(stderr, "pev-streamer: %s must be a connection string or URI of libpq\n", option);
	return false;
}

static const char *
main_getenv(const char *name)
{
	return getenv(name);
}

int
main(int argc, char **argv)
{
	Config config;
	char error[CONFIG_ERROR_MAX];
	int code = EXIT_SUCCESS;

	if (!config_parse(&config, argc, argv, main_getenv, error))
	{
		fprintf(stderr, "pev-streamer: %s\n", error);
		code = EXIT_USAGE;
	}
	else if (config.help)
	{
		char *help = config_help();

		fputs(help, stdout);
		free(help);
	}
	else if (config.version)
		puts("pev-streamer " PEV_VERSION);
	else if (!main_check_dsn("--dsn", config.dsn) || !main_check_dsn("--emit-dsn", config.emit_dsn))
		code = EXIT_USAGE;
	else
		code = main_serve(&config);
	config_free(&config);
	return code;
}
