/*
 * utf8.h
 *		UTF-8, as RFC 3629 has it.
 */
#ifndef PEV_UTF8_H
#define PEV_UTF8_H

#include <stddef.h>

extern size_t utf8_char(const char *text, size_t left);

#endif
