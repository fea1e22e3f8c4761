/*
 * log.c
 *		Levelled, one-line-per-event logging to standard error.
 *
 * A line is: time in UTC, level, text, and the client's number where one is
 * concerned.  Whatever the text contains, it stays one line of printable bytes,
 * so that nothing a client or a database sends can forge a second line.
 * Callers never pass query strings (they may hold tokens) nor event data.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "log.h"

#define LOG_LINE_MAX 1024

static LogLevel log_level = LOG_INFO;

static const char *const log_names[] = {
	[LOG_DEBUG] = "DEBUG", [LOG_INFO] = "INFO",     [LOG_WARNING] = "WARNING",
	[LOG_ERROR] = "ERROR", [LOG_ACCESS] = "ACCESS", [LOG_FATAL] = "FATAL",
};

/* Lines below this level are not written. */
void
log_set_level(LogLevel level)
{
	log_level = level;
}

/* Turn control characters into spaces and drop those at the end. */
static void
log_flatten(char *text)
{
	char *end = text;

	for (char *p = text; *p != '\0'; p++)
	{
		if ((unsigned char) *p < ' ' || *p == 0x7f)
			*p = ' ';
		if (*p != ' ')
			end = p + 1;
	}
	*end = '\0';
}

/* Write one line; client 0 is none.  LOG_FATAL does not return. */
void
log_write(LogLevel level, uint64_t client, const char *format, ...)
{
	char text[LOG_LINE_MAX];
	char when[32];
	struct timespec now;
	struct tm parts;
	va_list args;

	if (level < log_level)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	log_flatten(text);

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &parts);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &parts);
	if (client != 0)
		fprintf(stderr, "%s.%03ldZ %s %s (client %llu)\n", when, now.tv_nsec / 1000000,
				log_names[level], text, (unsigned long long) client);
	else
		fprintf(stderr, "%s.%03ldZ %s %s\n", when, now.tv_nsec / 1000000, log_names[level], text);
	if (level == LOG_FATAL)
		abort();
}
