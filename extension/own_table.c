/*
 * own_table.c
 *		The extension's own tables, found by schema and checked before they are read.
 *
 * C code reads columns by position and takes them for what the install script
 * made them.  The tables belong to whoever created the extension, superuser or
 * not, and an owner may alter, rename or replace a table.  A column that had
 * become another type would be taken for an address; so the shape of a table is
 * compared each time it is opened, with a lock held that keeps it as it is.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/genam.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_index.h"
#include "catalog/pg_opfamily.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"

#include "compat.h"
#include "own_table.h"

const OwnTable own_events = {"assistant_architect_events",
							 6,
							 {INT8OID, INT8OID, INT8OID, InvalidOid, JSONBOID, TIMESTAMPTZOID}};
const OwnTable own_event_types = {"pev_event_type",
								  10,
								  {TEXTOID, TEXTOID, TEXTOID, JSONBOID, JSONBOID, BOOLOID, BOOLOID,
								   TEXTOID, INT4OID, BOOLOID}};
const OwnTable own_streams = {"pev_stream", 4, {INT8OID, TEXTOID, TEXTOID, TIMESTAMPTZOID}};
const OwnTable own_plans = {"pev_plan",
							11,
							{INT8OID, TEXTARRAYOID, TEXTARRAYOID, FLOAT8ARRAYOID, INTERVALOID,
							 INT2ARRAYOID, INT4OID, TEXTOID, INT8OID, INT8OID, TIMESTAMPTZOID}};
const OwnTable own_approvals = {"pev_approval",
								11,
								{TEXTOID, INT8OID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID,
								 TIMESTAMPTZOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID}};
const OwnTable own_kinds = {"pev_stream_kind", 4, {TEXTOID, TEXTOID, TEXTARRAYOID, BOOLOID}};

/* Find a table of the extension that lives in this schema. */
Oid
own_table_find(Oid schema, const OwnTable *table)
{
	Oid relid = get_relname_relid(table->name, schema);

	if (!OidIsValid(relid))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
						errmsg("table \"%s\" of extension pev does not exist in schema \"%s\"",
							   table->name, get_namespace_name(schema)),
						errhint("Drop the extension and create it again.")));
	return relid;
}

/* Is this the table that the install script made? */
static bool
has_shape(Relation relation, const OwnTable *table, Oid enum_type)
{
	TupleDesc desc = RelationGetDescr(relation);

	if (relation->rd_rel->relkind != RELKIND_RELATION ||
		relation->rd_rel->relam != HEAP_TABLE_AM_OID || desc->natts < table->ncolumns)
		return false;
	for (int i = 0; i < table->ncolumns; i++)
	{
		Form_pg_attribute column = TupleDescAttr(desc, i);
		Oid type = OidIsValid(table->types[i]) ? table->types[i] : enum_type;

		if (column->attisdropped || column->atttypid != type)
			return false;
	}
	return true;
}

/*
 * Open a table, for reading or with a stronger lock.  Raises 55000 if its columns are no longer what
 * they were made; more columns after them are welcome.
 */
Relation
own_table_open(Oid relid, const OwnTable *table, Oid enum_type, LOCKMODE lockmode)
{
	Relation relation = table_open(relid, lockmode);

	if (!has_shape(relation, table, enum_type))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" is not as extension pev made it",
						RelationGetRelationName(relation)),
				 errhint("Undo what was altered in its first %d columns.", table->ncolumns)));
	return relation;
}

/*
 * May the user INSERT?  Any column will do: the INSERT that follows decides.
 * Raises 42501.
 */
void
own_table_check_insert(Oid relid, const OwnTable *table)
{
	if (pg_class_aclcheck(relid, GetUserId(), ACL_INSERT) != ACLCHECK_OK &&
		pg_attribute_aclcheck_all(relid, GetUserId(), ACL_INSERT, ACLMASK_ANY) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, table->name);
}

/* A column of a row.  Raises 23502 if it is null, which the owner may have come to allow. */
Datum
own_table_column(HeapTuple tuple, TupleDesc desc, AttrNumber column)
{
	bool isnull;
	Datum datum = heap_getattr(tuple, column, desc, &isnull);

	if (isnull)
		ereport(ERROR, (errcode(ERRCODE_NOT_NULL_VIOLATION),
						errmsg("column \"%s\" must not be null",
							   NameStr(TupleDescAttr(desc, column - 1)->attname))));
	return datum;
}

/* Enter a row, or the new version of one, into the table's indexes. */
static void
index_row(Relation table, TupleTableSlot *slot, bool summarizing)
{
	EState *estate = CreateExecutorState();
	MemoryContext caller = MemoryContextSwitchTo(estate->es_query_cxt);
	ResultRelInfo *target = makeNode(ResultRelInfo);

	InitResultRelInfo(target, table, 0, NULL, 0);
	ExecOpenIndices(target, false);
	if (target->ri_NumIndices > 0)
		compat_insert_index_tuples(target, slot, estate, summarizing);
	ExecCloseIndices(target);
	MemoryContextSwitchTo(caller);
	FreeExecutorState(estate);
}

/* Insert a row past the executor: nobody's rights are asked, and no trigger fires. */
void
own_table_insert(Relation table, TupleTableSlot *slot)
{
	table_tuple_insert(table, slot, GetCurrentCommandId(true), 0, NULL);
	index_row(table, slot, false);
}

/* Give a row a new version, likewise. */
void
own_table_update(Relation table, ItemPointer row, TupleTableSlot *slot)
{
	bool summarizing;

	if (compat_update_row(table, row, slot, &summarizing))
		index_row(table, slot, summarizing);
}

/* May C code search this index for these columns, ascending and compared bytewise? */
static bool
index_fits(Relation index, int nkeys, const AttrNumber *keys)
{
	Form_pg_index form = index->rd_index;

	if (!form->indisunique || !form->indisvalid || form->indnkeyatts != nkeys ||
		index->rd_rel->relam != BTREE_AM_OID ||
		!heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL))
		return false;
	for (int i = 0; i < nkeys; i++)
	{
		bool is_text = index->rd_opfamily[i] == TEXT_BTREE_FAM_OID;

		if (form->indkey.values[i] != keys[i] || index->rd_indoption[i] != 0 ||
			!(is_text || index->rd_opfamily[i] == INTEGER_BTREE_FAM_OID) ||
			(is_text && index->rd_indcollation[i] != C_COLLATION_OID))
			return false;
	}
	return true;
}

/* Find a unique index on exactly these columns.  Raises 42704 if there is none any more. */
Oid
own_table_index(Relation table, int nkeys, const AttrNumber *keys)
{
	List *indexes = RelationGetIndexList(table);
	Oid found = InvalidOid;
	ListCell *lc;

	foreach (lc, indexes)
	{
		Relation index = index_open(lfirst_oid(lc), AccessShareLock);

		if (!OidIsValid(found) && index_fits(index, nkeys, keys))
			found = lfirst_oid(lc);
		index_close(index, AccessShareLock);
	}
	list_free(indexes);
	if (!OidIsValid(found))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("table \"%s\" has lost the unique index that pev needs",
							   RelationGetRelationName(table))));
	return found;
}
