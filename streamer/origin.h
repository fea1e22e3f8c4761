/*
 * origin.h
 *		Origins, as browsers name them.
 */
#ifndef PEV_ORIGIN_H
#define PEV_ORIGIN_H

#include <stdbool.h>

extern bool origin_is_valid(const char *text);

#endif
