/*
 * access_log.h
 *		A line in the log for each request that ends, if --access-log asks for it.
 */
#ifndef PEV_ACCESS_LOG_H
#define PEV_ACCESS_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <netinet/in.h>

/* Bytes as they are logged, NUL included; longer ones are cut.  A key's may be three times 200. */
#define ACCESS_METHOD_MAX 24
#define ACCESS_PATH_MAX   640

/* What is known of a request, and of the connection it came on. */
typedef struct AccessEntry
{
	int64_t begun;    /* by loop_clock; 0: nothing is to be logged */
	char *line;       /* method and path; NULL: its header was not read */
	uint64_t written; /* bytes to the connection, until its last request ended */
} AccessEntry;

extern void access_log_start(bool on);
extern void access_log_begin(AccessEntry *entry);
extern void access_log_header(AccessEntry *entry, const char *method, const char *target);
extern void access_log_end(AccessEntry *entry, uint64_t client, const struct sockaddr_in6 *address,
						   unsigned int status, int fd);
extern void access_path(char *out, size_t size, const char *target);

#endif
