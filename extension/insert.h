/*
 * insert.h
 *		pev_emit()'s short way into the events table.
 */
#ifndef PEV_INSERT_H
#define PEV_INSERT_H

#include "nodes/execnodes.h"

#include "catalog.h"

/* The events table, open for any number of events.  Lives in the caller's memory context. */
typedef struct EventInsert
{
	Relation events;
	EState *estate;
	ResultRelInfo *target;
	TupleTableSlot *slot;
} EventInsert;

extern bool insert_begin(EventInsert *insert, Oid function, bool own);
extern int64 insert_one(EventInsert *insert, Oid function, Oid label, int64 stream, Jsonb *data);
extern void insert_end(EventInsert *insert);

#endif /* PEV_INSERT_H */
