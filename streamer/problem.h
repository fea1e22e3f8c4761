/*
 * problem.h
 *		The bodies of answers that tell what is wrong (RFC 9457).
 */
#ifndef PEV_PROBLEM_H
#define PEV_PROBLEM_H

#include "mem.h"

extern void json_add_string(Buf *out, const char *text);
extern void problem_begin(Buf *out, unsigned int status, const char *detail);
extern void problem_end(Buf *out);

#endif
