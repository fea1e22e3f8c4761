/*
 * log.h
 *		Levelled, one-line-per-event logging to standard error.
 */
#ifndef PEV_LOG_H
#define PEV_LOG_H

#include <stdint.h>

typedef enum LogLevel
{
	LOG_DEBUG,
	LOG_INFO,
	LOG_WARNING,
	LOG_ERROR,
	LOG_ACCESS, /* what --access-log asks for, whatever the level */
	LOG_FATAL   /* logged, then the process aborts */
} LogLevel;

extern void log_set_level(LogLevel level);
extern void log_write(LogLevel level, uint64_t client, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* The process's own affairs carry no client id. */
#define log_debug(...)   log_write(LOG_DEBUG, 0, __VA_ARGS__)
#define log_info(...)    log_write(LOG_INFO, 0, __VA_ARGS__)
#define log_warning(...) log_write(LOG_WARNING, 0, __VA_ARGS__)
#define log_error(...)   log_write(LOG_ERROR, 0, __VA_ARGS__)
#define log_fatal(...)   log_write(LOG_FATAL, 0, __VA_ARGS__)

#endif
