/*
 * own_table.h
 *		The extension's own tables, found by schema and checked before they are read.
 */
#ifndef PEV_OWN_TABLE_H
#define PEV_OWN_TABLE_H

#include "access/htup.h"
#include "access/attnum.h"
#include "executor/tuptable.h"
#include "storage/lockdefs.h"
#include "utils/relcache.h"

/* The columns of a table, as the install script declares them, by position. */
typedef struct OwnTable
{
	const char *name;
	int ncolumns;
	Oid types[11]; /* InvalidOid: assistant_event_type */
} OwnTable;

extern const OwnTable own_events;
extern const OwnTable own_event_types;
extern const OwnTable own_streams;
extern const OwnTable own_kinds;
extern const OwnTable own_plans;
extern const OwnTable own_approvals;

extern Oid own_table_find(Oid schema, const OwnTable *table);
extern Relation own_table_open(Oid relid, const OwnTable *table, Oid enum_type, LOCKMODE lockmode);
extern void own_table_check_insert(Oid relid, const OwnTable *table);
extern Datum own_table_column(HeapTuple tuple, TupleDesc desc, AttrNumber column);
extern void own_table_insert(Relation table, TupleTableSlot *slot);
extern void own_table_update(Relation table, ItemPointer row, TupleTableSlot *slot);
extern Oid own_table_index(Relation table, int nkeys, const AttrNumber *keys);

#endif /* PEV_OWN_TABLE_H */
