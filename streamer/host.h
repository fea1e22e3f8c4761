/*
 * host.h
 *		The names that the streamer goes by.
 */
#ifndef PEV_HOST_H
#define PEV_HOST_H

#include <stdbool.h>

#include "config.h"

extern bool host_name_is_valid(const char *text);
extern void hosts_start(const Config *config);
extern bool host_is_ours(const char *header);

#endif
