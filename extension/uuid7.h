/*
 * uuid7.h
 *		Time-ordered identifiers, RFC 9562 version 7.
 */
#ifndef PEV_UUID7_H
#define PEV_UUID7_H

#include "datatype/timestamp.h"

#define UUID_TEXT_LEN 36 /* 8-4-4-4-12, without a terminating null */

extern void uuid7_text(TimestampTz when, char *out);

#endif /* PEV_UUID7_H */
