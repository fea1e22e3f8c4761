/*
 * catalog.c
 *		The extension's own tables and the catalogue of event types.
 *
 * C code finds the extension's tables by its schema: from the table a trigger
 * fires on, or from the schema of the function that was called.  search_path
 * never matters.
 *
 * Event types are read from pev_event_type on first use and kept, compiled,
 * for the life of the backend.  A row trigger on the catalogue's tables
 * sends a relcache invalidation for the table; when a backend processes it
 * (PostgreSQL does that at every lock and transaction start) the cached types
 * are dropped.  The same callback notices DROP EXTENSION; another one, that a
 * trigger function was replaced.
 *
 * Catalogue rows are read directly, not through SPI: whoever may INSERT an
 * event may have it validated, without rights on the catalogue.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_enum.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "catalog.h"
#include "compat.h"
#include "heads.h"
#include "jsonb_walk.h"
#include "own_table.h"

/* Columns of pev_event_type; the install script declares them in this order. */
enum
{
	TYPE_NAME = 1,
	TYPE_FAMILY,
	TYPE_DESCRIPTION,
	TYPE_SCHEMA,
	TYPE_TERMINAL_WHEN,
	TYPE_DURABLE,
	TYPE_GLOBAL,
	TYPE_PRIORITY,
	TYPE_MAX_BYTES,
	TYPE_BUILTIN
};

#define KIND_BUILTIN 4 /* the column of pev_stream_kind */

/* Finds a type that has been read by its name. */
typedef struct TypeByName
{
	char name[NAMEDATALEN]; /* the hash key */
	const EventType *type;
} TypeByName;

static PevCatalog current;       /* .schema is InvalidOid when not looked up */
static HTAB *event_types = NULL; /* by label, of EventType */
static HTAB *types_by_name;      /* of TypeByName; made and dropped with event_types */
static Oid functions[8];         /* of the extension, found in current.schema */
static int next_function = 0;    /* which of them to replace */
static uint32 trigger_hashes[2]; /* of the trigger functions, in the system cache */
static bool stale = true;        /* an invalidation has come */
static uint64 generation = 0;    /* counts the times the caches were dropped */

PG_FUNCTION_INFO_V1(pev_catalog_check);
PG_FUNCTION_INFO_V1(pev_catalog_own);
PG_FUNCTION_INFO_V1(pev_catalog_changed);

/* One of our tables changed, or everything did.  While they are looked up, any may be ours. */
static void
on_relcache_invalidation(Datum arg, Oid relid)
{
	if (relid == InvalidOid || current.schema == InvalidOid || relid == current.events ||
		relid == current.event_types || relid == current.streams || relid == current.kinds ||
		relid == current.plans || relid == current.approvals)
	{
		stale = true;
		generation++;
	}
}

/* One of our trigger functions changed, or every function did. */
static void
on_function_invalidation(Datum arg, int cacheid, uint32 hash)
{
	if (hash == 0 || hash == trigger_hashes[0] || hash == trigger_hashes[1])
		on_relcache_invalidation(arg, InvalidOid);
}

/* Counts invalidations, for caches elsewhere that hang on the same tables. */
uint64
catalog_generation(void)
{
	return generation;
}

/* Called once, when the library is loaded. */
void
catalog_init(void)
{
	CacheRegisterRelcacheCallback(on_relcache_invalidation, (Datum) 0);
	CacheRegisterSyscacheCallback(PROCOID, on_function_invalidation, (Datum) 0);
}

/* Forget everything that was read. */
static void
forget(void)
{
	if (event_types != NULL)
	{
		HASH_SEQ_STATUS scan;
		EventType *type;

		hash_seq_init(&scan, event_types);
		while ((type = hash_seq_search(&scan)) != NULL)
			MemoryContextDelete(type->context);
		hash_destroy(event_types);
		hash_destroy(types_by_name);
		event_types = NULL;
	}
	memset(functions, 0, sizeof(functions));
	memset(&current, 0, sizeof(current));
}

/* Find a table, and an index on one column of it or, for the events, on two. */
static Oid
look_up_table(const PevCatalog *catalog, const OwnTable *table, int nkeys, const AttrNumber *keys,
			  Oid *index)
{
	Oid relid = own_table_find(catalog->schema, table);
	Relation relation = own_table_open(relid, table, catalog->enum_type, AccessShareLock);

	*index = own_table_index(relation, nkeys, keys);
	table_close(relation, AccessShareLock);
	return relid;
}

/* A trigger function of the extension, and its hash; InvalidOid if its owner has replaced it. */
static Oid
look_up_function(Oid schema, const char *name, uint32 *hash)
{
	oidvector *no_arguments = buildoidvector(NULL, 0);
	HeapTuple tuple = SearchSysCache3(PROCNAMEARGSNSP, CStringGetDatum(name),
									  PointerGetDatum(no_arguments), ObjectIdGetDatum(schema));
	Form_pg_proc form;
	Oid found;

	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	form = (Form_pg_proc) GETSTRUCT(tuple);
	*hash = GetSysCacheHashValue1(PROCOID, ObjectIdGetDatum(form->oid));
	found = form->prolang == ClanguageId ? form->oid : InvalidOid;
	ReleaseSysCache(tuple);
	return found;
}

/* The sequence that numbers the rows of the events table. */
static Oid
look_up_sequence(Oid events)
{
	Relation relation = table_open(events, AccessShareLock);
	Oid sequence = compat_identity_sequence(relation, EVENTS_ID);

	table_close(relation, AccessShareLock);
	return sequence;
}

/* Look everything up. */
static void
look_up(Oid schema)
{
	static const AttrNumber stream_and_seq[] = {EVENTS_EXECUTION_ID, EVENTS_SEQ};
	static const AttrNumber first[] = {1};
	static const AttrNumber second[] = {2};
	static char schema_name[NAMEDATALEN * 2 + 3];
	PevCatalog found = {.schema = schema, .generation = generation};
	HASHCTL by_label = {.keysize = sizeof(Oid), .entrysize = sizeof(EventType)};
	HASHCTL by_name = {.keysize = NAMEDATALEN, .entrysize = sizeof(TypeByName)};

	found.enum_type = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid,
									  CStringGetDatum(EVENT_TYPE_ENUM), ObjectIdGetDatum(schema));
	if (!OidIsValid(found.enum_type))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("type \"%s\" of extension pev does not exist", EVENT_TYPE_ENUM),
						errhint("Drop the extension and create it again.")));
	found.events = look_up_table(&found, &own_events, 2, stream_and_seq, &found.events_index);
	found.events_sequence = look_up_sequence(found.events);
	found.before_insert = look_up_function(schema, "pev_before_insert", &trigger_hashes[0]);
	found.after_insert = look_up_function(schema, "pev_after_insert", &trigger_hashes[1]);
	found.event_types = look_up_table(&found, &own_event_types, 1, first, &found.event_types_index);
	found.streams = look_up_table(&found, &own_streams, 1, first, &found.streams_id_index);
	(void) look_up_table(&found, &own_streams, 1, second, &found.streams_key_index);
	found.kinds = look_up_table(&found, &own_kinds, 1, first, &found.kinds_index);
	found.plans = look_up_table(&found, &own_plans, 1, first, &found.plans_index);
	found.approvals = look_up_table(&found, &own_approvals, 1, first, &found.approvals_index);
	strlcpy(schema_name, quote_identifier(get_namespace_name(schema)), sizeof(schema_name));
	found.schema_name = schema_name;
	event_types = hash_create("pev event types", 64, &by_label, HASH_ELEM | HASH_BLOBS);
	types_by_name = hash_create("pev event type names", 64, &by_name, HASH_ELEM | HASH_STRINGS);
	current = found;
}

/* The extension's objects, given the schema it is in. */
const PevCatalog *
pev_catalog(Oid schema)
{
	/* a function that was dropped while something still calls it is in no schema */
	if (!OidIsValid(schema))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("extension pev has been dropped")));
	if (stale || current.schema != schema)
	{
		forget();
		/* cleared first: an invalidation that comes while we look must not be lost */
		stale = false;
		heads_distrust();
		look_up(schema);
	}
	return &current;
}

/*
 * The same, given one of the extension's functions.  A function changes its
 * schema with the tables, so those that were found in it once are remembered.
 */
const PevCatalog *
pev_catalog_of_function(Oid function)
{
	const PevCatalog *catalog;

	for (int i = 0; !stale && i < (int) lengthof(functions); i++)
		if (functions[i] == function)
			return &current;
	catalog = pev_catalog(get_func_namespace(function));
	functions[next_function++ % lengthof(functions)] = function;
	return catalog;
}

/* The name of a label of the enum, or NULL. */
static char *
label_name(Oid label)
{
	HeapTuple tuple = SearchSysCache1(ENUMOID, ObjectIdGetDatum(label));
	char *name;

	if (!HeapTupleIsValid(tuple))
		return NULL;
	name = pstrdup(NameStr(((Form_pg_enum) GETSTRUCT(tuple))->enumlabel));
	ReleaseSysCache(tuple);
	return name;
}

/* What events of this name are to a plan. */
static PlanRole
plan_role(const char *name)
{
	static const struct
	{
		const char *name;
		PlanRole role;
	} roles[] = {{"PhaseStatus", PLAN_PHASE},
				 {"TokenCount", PLAN_TOKENS},
				 {"Error", PLAN_ERROR},
				 {PLAN_STATUS_TYPE, PLAN_STATUS}};

	for (int i = 0; i < (int) lengthof(roles); i++)
		if (strcmp(name, roles[i].name) == 0)
			return roles[i].role;
	return PLAN_NO_ROLE;
}

/* And what they are to an approval. */
static ApprovalRole
approval_role(const char *name)
{
	if (strcmp(name, APPROVAL_TYPE) == 0)
		return APPROVAL_REQUEST;
	return strcmp(name, OUTCOME_TYPE) == 0 ? APPROVAL_OUTCOME : APPROVAL_NO_ROLE;
}

/* Compile a catalogue row into the current context, which becomes the type's own. */
static void
compile_type(EventType *type, HeapTuple tuple, TupleDesc desc)
{
	Jsonb *schema = DatumGetJsonbPCopy(own_table_column(tuple, desc, TYPE_SCHEMA));
	bool never;
	Datum terminal = heap_getattr(tuple, TYPE_TERMINAL_WHEN, desc, &never);

	type->context = CurrentMemoryContext;
	type->name = TextDatumGetCString(own_table_column(tuple, desc, TYPE_NAME));
	type->family = TextDatumGetCString(own_table_column(tuple, desc, TYPE_FAMILY));
	type->durable = DatumGetBool(own_table_column(tuple, desc, TYPE_DURABLE));
	type->global = DatumGetBool(own_table_column(tuple, desc, TYPE_GLOBAL));
	type->urgent =
		strcmp(TextDatumGetCString(own_table_column(tuple, desc, TYPE_PRIORITY)), "critical") == 0;
	type->max_bytes = DatumGetInt32(own_table_column(tuple, desc, TYPE_MAX_BYTES));
	type->role = plan_role(type->name);
	type->approval = approval_role(type->name);
	type->schema = schema_compile(schema, CurrentMemoryContext);
	type->stamps = stamp_compile(schema);
	type->terminal = never ? NULL : schema_compile(DatumGetJsonbP(terminal), CurrentMemoryContext);
}

/* Read a type from the catalogue; false if there is no such row. */
static bool
read_type(const PevCatalog *catalog, EventType *type, const char *name)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "pev event type", ALLOCSET_SMALL_SIZES);
	Relation table =
		own_table_open(catalog->event_types, &own_event_types, InvalidOid, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	bool found;

	ScanKeyInit(&key, TYPE_NAME, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(name));
	scan = systable_beginscan(table, catalog->event_types_index, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	found = HeapTupleIsValid(tuple);
	if (found)
	{
		MemoryContext oldcontext = MemoryContextSwitchTo(context);

		compile_type(type, tuple, RelationGetDescr(table));
		MemoryContextSwitchTo(oldcontext);
	}
	systable_endscan(scan);
	table_close(table, AccessShareLock);
	if (found)
		MemoryContextSetParent(context, CacheMemoryContext);
	else
		MemoryContextDelete(context);
	return found;
}

/* Refuse a name that is no event type. */
static void
refuse_type(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown event type \"%s\"", name),
			 errhint("See the names in pev_event_type.")));
}

/* The type of a label of assistant_event_type.  Raises 22023 if the catalogue lacks it. */
const EventType *
event_type_by_label(const PevCatalog *catalog, Oid label)
{
	EventType *entry = hash_search(event_types, &label, HASH_FIND, NULL);
	EventType type = {.label = label};
	char *name;

	if (entry != NULL)
		return entry;
	name = label_name(label);
	if (name == NULL)
		elog(ERROR, "invalid internal value for enum: %u", label);
	if (!read_type(catalog, &type, name))
		refuse_type(name);
	entry = hash_search(event_types, &label, HASH_ENTER, NULL);
	*entry = type;
	return entry;
}

/* The type of a name.  Raises 22023 if there is none. */
const EventType *
event_type_by_name(const PevCatalog *catalog, const char *name)
{
	TypeByName *entry;
	const EventType *type;
	Oid label;

	if (strlen(name) >= NAMEDATALEN)
		refuse_type(name);
	entry = hash_search(types_by_name, name, HASH_FIND, NULL);
	if (entry != NULL)
		return entry->type;
	label = GetSysCacheOid2(ENUMTYPOIDNAME, Anum_pg_enum_oid, ObjectIdGetDatum(catalog->enum_type),
							CStringGetDatum(name));
	if (!OidIsValid(label))
		refuse_type(name);
	type = event_type_by_label(catalog, label);
	entry = hash_search(types_by_name, name, HASH_ENTER, NULL);
	entry->type = type;
	return type;
}

/* Does an event of this type, with this data, close its stream? */
bool
event_type_closes(const EventType *type, const Jsonb *data)
{
	JsonbValue value;

	if (type->terminal == NULL)
		return false;
	jsonb_root_value(data, &value);
	return schema_is_valid(type->terminal, &value);
}

/* Refuse to serve a trigger that is not of the extension's making. */
static void
refuse_trigger(void)
{
	ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
					errmsg("trigger function of extension pev serves only the trigger that the "
						   "extension made")));
}

/*
 * What a trigger of the catalogue's tables was called for.  As in event.c, the
 * table is checked before a column is read.
 */
static TriggerData *
catalog_trigger(FunctionCallInfo fcinfo, const PevCatalog **catalog)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	Oid relid;

	if (!CALLED_AS_TRIGGER(fcinfo))
		refuse_trigger();
	*catalog = pev_catalog_of_function(fcinfo->flinfo->fn_oid);
	relid = RelationGetRelid(trigdata->tg_relation);
	if (relid != (*catalog)->event_types && relid != (*catalog)->kinds &&
		relid != (*catalog)->streams)
		refuse_trigger();
	return trigdata;
}

/* The new row of a BEFORE ROW trigger on INSERT or UPDATE. */
static HeapTuple
new_row(const TriggerData *trigdata)
{
	if (!TRIGGER_FIRED_BEFORE(trigdata->tg_event) || !TRIGGER_FIRED_FOR_ROW(trigdata->tg_event) ||
		TRIGGER_FIRED_BY_DELETE(trigdata->tg_event))
		refuse_trigger();
	return TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event) ? trigdata->tg_newtuple
													   : trigdata->tg_trigtuple;
}

/* Refuse a catalogue row whose name is no label of the enum. */
static void
check_label(const PevCatalog *catalog, const char *name)
{
	if (strlen(name) >= NAMEDATALEN ||
		!SearchSysCacheExists2(ENUMTYPOIDNAME, ObjectIdGetDatum(catalog->enum_type),
							   CStringGetDatum(name)))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("\"%s\" is not a value of %s", name, EVENT_TYPE_ENUM)));
}

/* Refuse to remove a type, or to name it otherwise: there may be events of it. */
static void
refuse_removal(void)
{
	ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("event types can be neither removed nor renamed"),
					errdetail("Events of the type may be stored, and %s keeps its values.",
							  EVENT_TYPE_ENUM)));
}

/*
 * BEFORE INSERT, UPDATE, DELETE or TRUNCATE on pev_event_type: compile the row
 * now, so that a bad schema is refused when it is written and not when the next
 * event comes.
 */
Datum
pev_catalog_check(PG_FUNCTION_ARGS)
{
	const PevCatalog *catalog;
	TriggerData *trigdata = catalog_trigger(fcinfo, &catalog);
	TupleDesc desc = RelationGetDescr(trigdata->tg_relation);
	HeapTuple tuple;
	EventType type;

	if (RelationGetRelid(trigdata->tg_relation) != catalog->event_types)
		refuse_trigger();
	if (TRIGGER_FIRED_BY_DELETE(trigdata->tg_event) ||
		TRIGGER_FIRED_BY_TRUNCATE(trigdata->tg_event))
		refuse_removal();
	tuple = new_row(trigdata);
	compile_type(&type, tuple, desc);
	check_label(catalog, type.name);
	if (TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event) &&
		strcmp(type.name,
			   TextDatumGetCString(own_table_column(trigdata->tg_trigtuple, desc, TYPE_NAME))) != 0)
		refuse_removal();
	return PointerGetDatum(tuple);
}

/* The same row, no longer marked as the extension's own. */
static HeapTuple
disown(Relation table, HeapTuple tuple, AttrNumber column)
{
	int columns[] = {column};
	Datum values[] = {BoolGetDatum(false)};
	bool nulls[] = {false};

	return heap_modify_tuple_by_cols(tuple, RelationGetDescr(table), 1, columns, values, nulls);
}

/* Give a built-in row of the same name all values of a new one; false if there is none. */
static bool
replace_builtin(const PevCatalog *catalog, Relation table, HeapTuple tuple)
{
	TupleDesc desc = RelationGetDescr(table);
	Oid *types = palloc(sizeof(Oid) * desc->natts);
	Datum *values = palloc(sizeof(Datum) * desc->natts);
	bool *isnull = palloc(sizeof(bool) * desc->natts);
	char *nulls = palloc0(desc->natts + 1);
	StringInfoData sql;
	bool replaced;

	heap_deform_tuple(tuple, desc, values, isnull);
	initStringInfo(&sql);
	appendStringInfo(&sql, "UPDATE %s.%s SET ", catalog->schema_name,
					 quote_identifier(RelationGetRelationName(table)));
	for (int i = 0; i < desc->natts; i++)
	{
		const FormData_pg_attribute *column = TupleDescAttr(desc, i);

		types[i] = column->attisdropped ? INT4OID : column->atttypid;
		nulls[i] = isnull[i] || column->attisdropped ? 'n' : ' ';
		if (!column->attisdropped)
			appendStringInfo(&sql, "%s%s = $%d", i == 0 ? "" : ", ",
							 quote_identifier(NameStr(column->attname)), i + 1);
	}
	appendStringInfo(&sql, " WHERE builtin AND %s = $1",
					 quote_identifier(NameStr(TupleDescAttr(desc, 0)->attname)));
	SPI_connect();
	if (SPI_execute_with_args(sql.data, desc->natts, types, values, nulls, false, 0) !=
		SPI_OK_UPDATE)
		elog(ERROR, "could not replace a built-in row of %s", RelationGetRelationName(table));
	replaced = SPI_processed > 0;
	SPI_finish();
	return replaced;
}

/*
 * BEFORE INSERT OR UPDATE on pev_event_type and pev_stream_kind: what a user
 * writes is the user's, so that pg_dump saves it.  A new row under the name of
 * a built-in one replaces that, as it does when a dump is restored over a
 * freshly made extension.
 */
Datum
pev_catalog_own(PG_FUNCTION_ARGS)
{
	const PevCatalog *catalog;
	TriggerData *trigdata = catalog_trigger(fcinfo, &catalog);
	Relation table = trigdata->tg_relation;
	HeapTuple tuple = new_row(trigdata);

	if (creating_extension || RelationGetRelid(table) == catalog->streams)
		return PointerGetDatum(tuple);
	tuple = disown(table, tuple,
				   RelationGetRelid(table) == catalog->kinds ? KIND_BUILTIN : TYPE_BUILTIN);
	if (TRIGGER_FIRED_BY_INSERT(trigdata->tg_event) && replace_builtin(catalog, table, tuple))
		return PointerGetDatum(NULL);
	if (TRIGGER_FIRED_BY_INSERT(trigdata->tg_event) &&
		RelationGetRelid(table) == catalog->event_types)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("event types cannot be added in this version"),
						errdetail("pg_dump would not save the new value of %s, and no event of "
								  "the type could be restored.",
								  EVENT_TYPE_ENUM),
						errhint("Change a built-in type with UPDATE.")));
	return PointerGetDatum(tuple);
}

/*
 * AFTER ROW on the catalogue's tables: make every backend, this one
 * included, forget what it has cached of them.
 */
Datum
pev_catalog_changed(PG_FUNCTION_ARGS)
{
	const PevCatalog *catalog;
	TriggerData *trigdata = catalog_trigger(fcinfo, &catalog);

	CacheInvalidateRelcache(trigdata->tg_relation);
	return PointerGetDatum(NULL);
}
