/*
 * stamp.h
 *		What pev fills into an event on its way in.
 */
#ifndef PEV_STAMP_H
#define PEV_STAMP_H

#include "datatype/timestamp.h"
#include "utils/jsonb.h"

/* The values that "x-pev-stamp" can name. */
typedef enum StampSource
{
	STAMP_NONE,        /* the property is only rounded */
	STAMP_TIMESTAMP,   /* "timestamp": now, ISO 8601 in UTC with milliseconds */
	STAMP_UNIX_TIME,   /* "unix-time": now, seconds with milliseconds */
	STAMP_UUID7,       /* "uuid-v7": a new identifier */
	STAMP_TYPE,        /* "type": the event type's name */
	STAMP_STREAM_ID,   /* "stream-id": the stream's number */
	STAMP_STREAM_NAME, /* "stream-name": the stream's key without its prefix */
	STAMP_MESSAGE_ID   /* "message-id": the setting pev.message_id, if it is set */
} StampSource;

/* What one property of a type wants. */
typedef struct StampRule
{
	const char *key; /* not null-terminated */
	int keylen;
	StampSource source;
	int round; /* decimals to round a number to; -1: as it is */
} StampRule;

/* The rules of a type, sorted as jsonb sorts keys. */
typedef struct StampPlan
{
	int count;
	bool needs_stream_name; /* a rule asks for STAMP_STREAM_NAME */
	StampRule *rules;
} StampPlan;

/* What the values are taken from. */
typedef struct StampInput
{
	const char *type;
	int64 stream;
	const char *stream_name; /* its key without the prefix; NULL if no rule needs it */
	TimestampTz now;         /* 0: not read yet */
} StampInput;

extern char *pev_message_id;

extern StampPlan *stamp_compile(const Jsonb *schema);
extern Jsonb *stamp_apply(const StampPlan *plan, Jsonb *event, StampInput *input);

#endif /* PEV_STAMP_H */
