/*
 * compat.h
 *		Differences between the supported PostgreSQL releases, 14 to 18.
 *
 * The code is written for the newest API; what older releases call otherwise,
 * or lack, is mapped here and nowhere else.
 */
#ifndef PEV_COMPAT_H
#define PEV_COMPAT_H

#if PG_VERSION_NUM < 140000
#error "pev needs PostgreSQL 14 or newer"
#endif

#include "access/genam.h"
#include "access/tableam.h"
#include "catalog/dependency.h"
#include "catalog/pg_database.h"
#include "commands/async.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"

#if PG_VERSION_NUM >= 160000
#include "catalog/pg_class.h"
#include "varatt.h"
#endif

/* Does this role own this table? */
static inline bool
compat_table_ownercheck(Oid relid, Oid roleid)
{
#if PG_VERSION_NUM >= 160000
	return object_ownercheck(RelationRelationId, relid, roleid);
#else
	return pg_class_ownercheck(relid, roleid);
#endif
}

/* The number of the file that a relation is in. */
static inline Oid
compat_relation_file(Relation relation)
{
#if PG_VERSION_NUM >= 160000
	return relation->rd_locator.relNumber;
#else
	return relation->rd_node.relNode;
#endif
}

/* index_beginscan() takes an instrumentation argument from 18 on. */
static inline IndexScanDesc
compat_index_beginscan(Relation heap, Relation index, Snapshot snapshot, int nkeys)
{
#if PG_VERSION_NUM >= 180000
	return index_beginscan(heap, index, snapshot, NULL, nkeys, 0);
#else
	return index_beginscan(heap, index, snapshot, nkeys, 0);
#endif
}

/*
 * ExecInsertIndexTuples() takes another argument from 16 on: whether only those
 * indexes are meant that summarize ranges of rows.
 */
static inline void
compat_insert_index_tuples(ResultRelInfo *target, TupleTableSlot *slot, EState *estate,
						   bool summarizing)
{
#if PG_VERSION_NUM >= 160000
	(void) ExecInsertIndexTuples(target, slot, estate, false, false, NULL, NIL, summarizing);
#else
	(void) ExecInsertIndexTuples(target, slot, estate, false, false, NULL, NIL);
#endif
}

/*
 * Give a row a new version.  Does that need entries in the indexes, and in 16 and
 * later perhaps only in those that summarize?
 */
static inline bool
compat_update_row(Relation relation, ItemPointer row, TupleTableSlot *slot, bool *summarizing)
{
#if PG_VERSION_NUM >= 160000
	TU_UpdateIndexes update;

	simple_table_tuple_update(relation, row, slot, SnapshotAny, &update);
	*summarizing = update == TU_Summarizing;
	return update != TU_None;
#else
	bool update;

	simple_table_tuple_update(relation, row, slot, SnapshotAny, &update);
	*summarizing = false;
	return update;
#endif
}

/* The sequence of an identity column; InvalidOid if it has none. */
static inline Oid
compat_identity_sequence(Relation relation, AttrNumber column)
{
#if PG_VERSION_NUM >= 170000
	return getIdentitySequence(relation, column, true);
#else
	return getIdentitySequence(RelationGetRelid(relation), column, true);
#endif
}

#if PG_VERSION_NUM < 150000
#define MarkGUCPrefixReserved(prefix) EmitWarningsOnPlaceholders(prefix)

/* Let a set-returning function fill a tuplestore in one call (15 has this in funcapi.h). */
static inline void
InitMaterializedSRF(FunctionCallInfo fcinfo, bits32 flags)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext oldcontext;
	TupleDesc tupdesc;

	if (rsinfo == NULL || !IsA(rsinfo, ReturnSetInfo) ||
		(rsinfo->allowedModes & SFRM_Materialize) == 0)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("set-valued function called in context that cannot accept a set")));
	oldcontext = MemoryContextSwitchTo(rsinfo->econtext->ecxt_per_query_memory);
	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	rsinfo->returnMode = SFRM_Materialize;
	rsinfo->setResult = tuplestore_begin_heap(true, false, work_mem);
	rsinfo->setDesc = tupdesc;
	MemoryContextSwitchTo(oldcontext);
}
#endif

/* Does this role own this database? */
static inline bool
compat_database_ownercheck(Oid database, Oid roleid)
{
#if PG_VERSION_NUM >= 160000
	return object_ownercheck(DatabaseRelationId, database, roleid);
#else
	return pg_database_ownercheck(database, roleid);
#endif
}

/* Before 15 a background worker has to deliver its own notifications after the commit. */
static inline void
compat_process_completed_notifies(void)
{
#if PG_VERSION_NUM < 150000
	ProcessCompletedNotifies();
#endif
}

#endif /* PEV_COMPAT_H */
