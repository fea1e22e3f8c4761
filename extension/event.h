/*
 * event.h
 *		The way of an event into its table.
 */
#ifndef PEV_EVENT_H
#define PEV_EVENT_H

#include "catalog.h"

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

extern EmitFrame *event_emit_frame;

extern Jsonb *event_stamp(const EventType *type, int64 stream, const PevCatalog *catalog,
						  Jsonb *data);
extern void event_check(const EventType *type, const Jsonb *data, SchemaReport *report);

#endif /* PEV_EVENT_H */
