/*
 * event.h
 *		The way of an event into its table.
 */
#ifndef PEV_EVENT_H
#define PEV_EVENT_H

#include "datatype/timestamp.h"

#include "catalog.h"
#include "turn.h"

/*
 * Where pev_emit() learns which number its row got.  RETURNING would need the
 * right to SELECT, which whoever emits need not have.
 */
typedef struct EmitFrame
{
	struct EmitFrame *outer;
	int64 stream; /* what is being emitted where */
	Oid type;
	int64 seq; /* 0: no row yet */
} EmitFrame;

/* An event that has passed, and what it has been given. */
typedef struct NumberedEvent
{
	int64 seq;
	Jsonb *data;
	TimestampTz created_at;
} NumberedEvent;

extern EmitFrame *event_emit_frame;

extern Jsonb *event_stamp(const EventType *type, int64 stream, const PevCatalog *catalog,
						  Jsonb *data);
extern void event_number(Oid function, Relation events, Oid label, int64 stream, Jsonb *data,
						 NumberedEvent *event);
extern void event_stored(int64 stream, int64 seq, bool urgent);
extern void event_check_open(const PevCatalog *catalog, const StreamTurn *turn);
extern bool event_conforms(const EventType *type, const Jsonb *data);
extern void event_check(const EventType *type, const Jsonb *data, SchemaReport *report);

#endif /* PEV_EVENT_H */
