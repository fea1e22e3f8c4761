/*
 * wake.h
 *		The doorbell: telling listeners that there is something to read.
 */
#ifndef PEV_WAKE_H
#define PEV_WAKE_H

#include "utils/jsonb.h"

#define WAKE_GLOBAL PG_INT64_MIN /* wake_live(): for every subscriber of every stream */

extern void wake_stream(int64 stream, int64 seq);
extern void wake_live(int64 stream, const char *type, const Jsonb *data);
extern void wake_init(void);

#endif /* PEV_WAKE_H */
