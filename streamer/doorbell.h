/*
 * doorbell.h
 *		The payloads of the notifications that the extension sends.
 */
#ifndef PEV_DOORBELL_H
#define PEV_DOORBELL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum DoorbellToken
{
	DOORBELL_END,
	DOORBELL_STREAM,     /* this stream has events up to seq */
	DOORBELL_EVERYWHERE, /* any stream may have */
	DOORBELL_NEW         /* the extension is: keys may have other ids */
} DoorbellToken;

/* An event that is not stored, as it stands in the payload. */
typedef struct LiveEvent
{
	bool global; /* for every subscriber */
	int64_t stream;
	const char *type;
	size_t type_len;
	const char *data;
} LiveEvent;

extern DoorbellToken doorbell_next(const char **payload, int64_t *stream, int64_t *seq);
extern bool live_parse(const char *payload, LiveEvent *event);

#endif
