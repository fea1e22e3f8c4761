/*
 * user.h
 *		Ceasing to be root.
 */
#ifndef PEV_USER_H
#define PEV_USER_H

#include <stdbool.h>

extern bool user_check(const char *name);
extern bool user_become(const char *name);

#endif
