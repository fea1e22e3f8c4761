/*
 * wake.h
 *		The doorbell: telling listeners that there is something to read.
 */
#ifndef PEV_WAKE_H
#define PEV_WAKE_H

#include "utils/jsonb.h"

#define WAKE_CHANNEL      "pev"
#define WAKE_CHANNEL_LIVE "pev_live"
#define WAKE_CHANNEL_JOB  "pev_job"
#define WAKE_PAYLOAD_MAX  7900 /* bytes; NOTIFY takes less than 8000 */
#define WAKE_LIVE_MAX     7800 /* bytes of an unstored event, its stream and type included */

/* A stream with news. */
typedef struct Doorbell
{
	int64 stream;
	int64 seq; /* its last number */
} Doorbell;

#define WAKE_GLOBAL PG_INT64_MIN /* wake_live(): for every subscriber of every stream */

extern void wake_stream(int64 stream, int64 seq, bool urgent);
extern void wake_deadline(TimestampTz at);
extern void wake_notify_live(const char *payload);
extern int wake_notify(const Doorbell *doorbells, int count, bool everything);
extern void wake_live(int64 stream, const char *type, const Jsonb *data);
extern void wake_init(void);

#endif /* PEV_WAKE_H */
