/*
 * emit.c
 *		pev_emit() and its kin: thin ways to INSERT an event.
 *
 * Most events take the short way of insert.c.  The others are INSERTed through
 * SPI with a plan that the session keeps, so that whatever the table's owner
 * has added holds as for any INSERT; the triggers of event.c do the rest.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/uuid.h"

#include "arg.h"
#include "catalog.h"
#include "compat.h"
#include "emit.h"
#include "event.h"
#include "insert.h"
#include "jsonb_walk.h"
#include "stream.h"

/* Turns the first argument of an SQL function into the number of a stream. */
typedef int64 (*StreamArgument)(const PevCatalog *catalog, Datum stream);

/* The saved INSERT, and the table it was made for. */
static SPIPlanPtr insert_plan = NULL;
static Oid insert_table = InvalidOid;

PG_FUNCTION_INFO_V1(pev_emit_bigint);
PG_FUNCTION_INFO_V1(pev_emit_uuid);
PG_FUNCTION_INFO_V1(pev_emit_text);
PG_FUNCTION_INFO_V1(pev_try_emit_bigint);
PG_FUNCTION_INFO_V1(pev_try_emit_uuid);
PG_FUNCTION_INFO_V1(pev_try_emit_text);
PG_FUNCTION_INFO_V1(pev_emit_batch_bigint);
PG_FUNCTION_INFO_V1(pev_emit_batch_uuid);
PG_FUNCTION_INFO_V1(pev_emit_batch_text);

/* A stream given by its number. */
static int64
stream_from_bigint(const PevCatalog *catalog, Datum stream)
{
	return DatumGetInt64(stream);
}

/* A stream given by a UUID. */
static int64
stream_from_uuid(const PevCatalog *catalog, Datum stream)
{
	return stream_create(catalog, DatumGetCString(DirectFunctionCall1(uuid_out, stream)));
}

/* A stream given by a key. */
static int64
stream_from_text(const PevCatalog *catalog, Datum stream)
{
	text *key = DatumGetTextPP(stream);

	return stream_create(catalog, stream_key_canonical(VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key)));
}

/* Make the INSERT's plan, unless the session has it.  SPI is connected. */
static void
prepare_insert(const PevCatalog *catalog)
{
	Oid argtypes[] = {INT8OID, catalog->enum_type, JSONBOID};
	char *sql;

	if (insert_plan != NULL && insert_table == catalog->events)
		return;
	if (insert_plan != NULL)
		SPI_freeplan(insert_plan);
	insert_plan = NULL;
	sql = psprintf("INSERT INTO %s.%s (execution_id, event_type, event_data) VALUES ($1, $2, $3)",
				   catalog->schema_name, EVENTS_TABLE);
	insert_plan = SPI_prepare(sql, 3, argtypes);
	if (insert_plan == NULL || SPI_keepplan(insert_plan) != 0)
		elog(ERROR, "could not prepare the insertion of an event: %s",
			 SPI_result_code_string(SPI_result));
	insert_table = catalog->events;
}

/* INSERT one event; its number, or 0 if it is not stored.  SPI is connected. */
static int64
execute_insert(Oid function, Oid label, Datum stream, bool stream_isnull, Datum data)
{
	const PevCatalog *catalog = pev_catalog_of_function(function);
	EmitFrame frame = {.outer = event_emit_frame};
	Datum values[3];
	char nulls[] = {stream_isnull ? 'n' : ' ', ' ', ' '};
	int result;

	prepare_insert(catalog);
	values[0] = stream;
	frame.stream = DatumGetInt64(stream);
	frame.type = label;
	values[1] = ObjectIdGetDatum(label);
	values[2] = data;
	PG_TRY();
	{
		event_emit_frame = &frame;
		result = SPI_execute_plan(insert_plan, values, nulls, false, 0);
	}
	PG_FINALLY();
	{
		event_emit_frame = frame.outer;
	}
	PG_END_TRY();
	if (result != SPI_OK_INSERT)
		elog(ERROR, "could not insert an event: %s", SPI_result_code_string(result));
	if (frame.seq != 0)
		turn_settle(frame.stream, frame.seq);
	return SPI_processed == 1 ? frame.seq : 0;
}

/*
 * Emit one event, the short way if `insert` is open and the event is stored; its
 * number, or 0 if it is not.
 */
static int64
emit_one(EventInsert *insert, Oid function, Oid label, Datum stream, bool stream_isnull, Datum data)
{
	const PevCatalog *catalog = pev_catalog_of_function(function);
	int64 seq;

	if (insert != NULL && event_type_by_label(catalog, label)->durable)
		return insert_one(insert, function, label, DatumGetInt64(stream), DatumGetJsonbP(data));
	SPI_connect();
	seq = execute_insert(function, label, stream, stream_isnull, data);
	SPI_finish();
	return seq;
}

/*
 * Emit an event for the extension's function.  `own`: it is pev's own, which asks the
 * caller for no right.  Only where an owner has added to the table is it INSERTed as
 * the caller's: those additions run with no other rights than they do for any event.
 */
void
emit_event(Oid function, const char *type_name, int64 stream, Jsonb *data, bool own)
{
	const PevCatalog *catalog = pev_catalog_of_function(function);
	Oid label = event_type_by_name(catalog, type_name)->label;
	EventInsert insert;
	bool is_short = insert_begin(&insert, function, own);

	(void) emit_one(is_short ? &insert : NULL, function, label, Int64GetDatum(stream), false,
					JsonbPGetDatum(data));
	if (is_short)
		insert_end(&insert);
}

/* The work of pev_emit(); 0 stands for an event that is not stored. */
static int64
emit(FunctionCallInfo fcinfo, StreamArgument stream_argument)
{
	Oid function = fcinfo->flinfo->fn_oid;
	const PevCatalog *catalog;
	const EventType *type;
	EventInsert insert;
	Datum stream = (Datum) 0;
	Oid label;
	bool global;
	bool durable;
	bool is_short;
	int64 seq;

	require_argument(fcinfo, 1, "type");
	catalog = pev_catalog_of_function(function);
	type = event_type_by_name(catalog, text_to_cstring(PG_GETARG_TEXT_PP(1)));
	label = type->label;
	global = type->global;
	durable = type->durable;
	if (!global)
		require_argument(fcinfo, 0, "stream");
	require_argument(fcinfo, 2, "data");
	/* a global event belongs to no stream, so none is made for it */
	if (!global)
		stream = Int64GetDatum(stream_argument(catalog, PG_GETARG_DATUM(0)));
	is_short = durable && insert_begin(&insert, function, false);
	seq = emit_one(is_short ? &insert : NULL, function, label, stream, global, PG_GETARG_DATUM(2));
	if (is_short)
		insert_end(&insert);
	return seq;
}

/* pev_emit(): raises what the triggers raise, and 22004 for NULL arguments */
static Datum
emit_or_raise(FunctionCallInfo fcinfo, StreamArgument stream_argument)
{
	int64 seq = emit(fcinfo, stream_argument);

	if (seq == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64(seq);
}

/* Turn an error into a warning that tells as much. */
static void
warn_of(const ErrorData *error)
{
	ereport(WARNING, (errcode(error->sqlerrcode), errmsg("event not stored: %s", error->message),
					  error->detail ? errdetail_internal("%s", error->detail) : 0,
					  error->hint ? errhint("%s", error->hint) : 0));
}

/*
 * pev_try_emit(): as pev_emit(), in a subtransaction of its own, so that a
 * refused event leaves the caller's transaction as it was.  Only a cancelled
 * query goes on as an error: who asked for that meant the whole statement.
 */
static Datum
emit_or_warn(FunctionCallInfo fcinfo, StreamArgument stream_argument)
{
	MemoryContext oldcontext = CurrentMemoryContext;
	ResourceOwner oldowner = CurrentResourceOwner;
	ErrorData *volatile error = NULL;
	volatile int64 seq = 0;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(oldcontext);
	PG_TRY();
	{
		seq = emit(fcinfo, stream_argument);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(oldcontext);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(oldcontext);
	CurrentResourceOwner = oldowner;
	if (error != NULL && error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		ReThrowError(error);
	if (error != NULL)
		warn_of(error);
	if (error != NULL || seq == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64(seq);
}

/* Where in a batch an error came from. */
static void
batch_context(void *arg)
{
	errcontext("event %d of the batch", *(int *) arg);
}

/* Refuse a batch that is not made as pev_emit_batch() wants it. */
static void
refuse_batch(const char *why)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid batch of events"),
			 errdetail("%s", why), errhint("A batch is [{\"type\": …, \"data\": {…}}, …].")));
}

/* Take one element of a batch apart. */
static void
read_batch_item(const JsonbValue *item, char **type_name, Jsonb **data)
{
	JsonbValue type;
	JsonbValue value;

	if (!jsonb_value_is_object(item))
		refuse_batch("An element of the array is not an object.");
	if (!jsonb_object_get(item->val.binary.data, "type", &type) || type.type != jbvString)
		refuse_batch("\"type\" must be a string.");
	if (!jsonb_object_get(item->val.binary.data, "data", &value))
		refuse_batch("\"data\" is missing.");
	if (JsonContainerSize(item->val.binary.data) != 2)
		refuse_batch("An element has members other than \"type\" and \"data\".");
	*type_name = pnstrdup(type.val.string.val, type.val.string.len);
	*data = JsonbValueToJsonb(&value);
}

/* Emit the elements of a batch one after the other; the last number. */
static int64
emit_items(EventInsert *insert, Oid function, int64 stream, const JsonbContainer *items)
{
	MemoryContext item_context =
		AllocSetContextCreate(CurrentMemoryContext, "pev batch item", ALLOCSET_DEFAULT_SIZES);
	JsonbWalk walk = jsonb_walk_from(items, 0);
	int count = JsonContainerSize(items);
	int number = 0;
	ErrorContextCallback callback = {error_context_stack, batch_context, &number};
	int64 last = 0;

	error_context_stack = &callback;
	while (walk.index < count)
	{
		MemoryContext oldcontext = MemoryContextSwitchTo(item_context);
		JsonbValue item;
		char *type_name;
		Jsonb *data;
		Oid label;
		int64 seq;

		CHECK_FOR_INTERRUPTS();
		number++;
		jsonb_walk_next(&walk, &item);
		read_batch_item(&item, &type_name, &data);
		label = event_type_by_name(pev_catalog_of_function(function), type_name)->label;
		seq = emit_one(insert, function, label, Int64GetDatum(stream), false, JsonbPGetDatum(data));
		if (seq != 0)
			last = seq;
		MemoryContextSwitchTo(oldcontext);
		MemoryContextReset(item_context);
	}
	error_context_stack = callback.previous;
	MemoryContextDelete(item_context);
	return last;
}

/*
 * pev_emit_batch(): all events or none; the number of the last one stored, or
 * NULL if none is.  Raises 22023 for what is not a batch, besides what
 * pev_emit() raises.
 */
static Datum
emit_batch(FunctionCallInfo fcinfo, StreamArgument stream_argument)
{
	Oid function = fcinfo->flinfo->fn_oid;
	EventInsert insert;
	Jsonb *events;
	int64 stream;
	int64 last;
	bool is_short;

	require_argument(fcinfo, 0, "stream");
	require_argument(fcinfo, 1, "events");
	events = PG_GETARG_JSONB_P(1);
	if (!JB_ROOT_IS_ARRAY(events) || JB_ROOT_IS_SCALAR(events))
		refuse_batch("It is not an array.");
	if (JB_ROOT_COUNT(events) == 0)
		PG_RETURN_NULL();
	stream = stream_argument(pev_catalog_of_function(function), PG_GETARG_DATUM(0));
	is_short = insert_begin(&insert, function, false);
	last = emit_items(is_short ? &insert : NULL, function, stream, &events->root);
	if (is_short)
		insert_end(&insert);
	if (last == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64(last);
}

/* The SQL functions: three spellings of a stream, three ways to emit. */

Datum
pev_emit_bigint(PG_FUNCTION_ARGS)
{
	return emit_or_raise(fcinfo, stream_from_bigint);
}

Datum
pev_emit_uuid(PG_FUNCTION_ARGS)
{
	return emit_or_raise(fcinfo, stream_from_uuid);
}

Datum
pev_emit_text(PG_FUNCTION_ARGS)
{
	return emit_or_raise(fcinfo, stream_from_text);
}

Datum
pev_try_emit_bigint(PG_FUNCTION_ARGS)
{
	return emit_or_warn(fcinfo, stream_from_bigint);
}

Datum
pev_try_emit_uuid(PG_FUNCTION_ARGS)
{
	return emit_or_warn(fcinfo, stream_from_uuid);
}

Datum
pev_try_emit_text(PG_FUNCTION_ARGS)
{
	return emit_or_warn(fcinfo, stream_from_text);
}

Datum
pev_emit_batch_bigint(PG_FUNCTION_ARGS)
{
	return emit_batch(fcinfo, stream_from_bigint);
}

Datum
pev_emit_batch_uuid(PG_FUNCTION_ARGS)
{
	return emit_batch(fcinfo, stream_from_uuid);
}

Datum
pev_emit_batch_text(PG_FUNCTION_ARGS)
{
	return emit_batch(fcinfo, stream_from_text);
}
