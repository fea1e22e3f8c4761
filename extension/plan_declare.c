/*
 * plan_declare.c
 *		pev_plan(): declaring the phases of a stream.
 *
 * A plan is fixed before the first event that it computes from or computes, and
 * stays as it is: other weights would have the progress go back, and tokens that
 * came before would be missing from the sum.
 *
 * The row is INSERTed with the caller's rights.  Declaring a plan is the
 * orchestrator's, who needs INSERT on pev_plan, where an owner's policies can say
 * more; a pipeline that only emits needs nothing.
 */
#include "postgres.h"

#include <math.h>

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "arg.h"
#include "array.h"
#include "compat.h"
#include "event.h"
#include "jsonb_walk.h"
#include "own_table.h"
#include "plan.h"
#include "stream.h"
#include "turn.h"

#define PHASES_MAX       100            /* of a plan */
#define PHASE_TEXT_MAX   200            /* bytes of a name or a label */
#define WEIGHT_MAX       1e9            /* of a phase; the smallest is 0 */
#define TOKENS_EVERY_MAX USECS_PER_HOUR /* between two statuses for tokens alone */

/* The phases of a plan, ready for their arrays. */
typedef struct Phases
{
	int count;
	Datum names[PHASES_MAX];
	Datum labels[PHASES_MAX];
	Datum weights[PHASES_MAX];
	Datum reached[PHASES_MAX];
} Phases;

PG_FUNCTION_INFO_V1(pev_plan);

/* Refuse phases that are not made as pev_plan() wants them; `number` counts from 1, 0 is all. */
static void
refuse_phases(int number, const char *why)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid phases of a plan"),
					number > 0 ? errdetail("Phase %d: %s", number, why) : errdetail("%s", why),
					errhint("Phases are [{\"name\": …, \"label\": …, \"weight\": …}, …].")));
}

/* A member that is text of some length, or NULL if it is not there. */
static text *
phase_text(const JsonbContainer *phase, int number, const char *key)
{
	JsonbValue value;

	if (!jsonb_object_get(phase, key, &value))
		return NULL;
	if (value.type != jbvString || value.val.string.len == 0 ||
		value.val.string.len > PHASE_TEXT_MAX)
		refuse_phases(number,
					  psprintf("\"%s\" must be a string of 1 to %d bytes.", key, PHASE_TEXT_MAX));
	return cstring_to_text_with_len(value.val.string.val, value.val.string.len);
}

/* The weight of a phase; 1 if it says none. */
static float8
phase_weight(const JsonbContainer *phase, int number)
{
	JsonbValue value;
	float8 weight = 1;

	if (jsonb_object_get(phase, "weight", &value))
	{
		weight = value.type != jbvNumeric
					 ? -1
					 : DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow,
														  NumericGetDatum(value.val.numeric)));
		if (weight < 0 || weight > WEIGHT_MAX)
			refuse_phases(number, "\"weight\" must be a number from 0 to 1000000000.");
	}
	return weight;
}

/* Refuse members of a phase that mean nothing. */
static void
check_members(const JsonbContainer *phase, int number)
{
	JsonbWalk walk = jsonb_walk_from(phase, 0);
	JsonbValue key;

	for (int i = 0; i < (int) JsonContainerSize(phase); i++)
	{
		jsonb_walk_next_key(&walk, &key);
		if (jsonb_key_cmp(key.val.string.val, key.val.string.len, "name", 4) != 0 &&
			jsonb_key_cmp(key.val.string.val, key.val.string.len, "label", 5) != 0 &&
			jsonb_key_cmp(key.val.string.val, key.val.string.len, "weight", 6) != 0)
			refuse_phases(number, "It has members other than \"name\", \"label\" and \"weight\".");
	}
}

/* Read one phase. */
static void
read_phase(const JsonbValue *value, int number, Phases *phases)
{
	const JsonbContainer *phase = value->val.binary.data;
	text *name;
	text *label;

	if (!jsonb_value_is_object(value))
		refuse_phases(number, "It is not an object.");
	check_members(phase, number);
	name = phase_text(phase, number, "name");
	label = phase_text(phase, number, "label");
	if (name == NULL)
		refuse_phases(number, "\"name\" is missing.");
	for (int i = 0; i < number - 1; i++)
		if (plan_same_name(DatumGetTextPP(phases->names[i]), name))
			refuse_phases(number, psprintf("It has the name of phase %d.", i + 1));
	phases->names[number - 1] = PointerGetDatum(name);
	phases->labels[number - 1] = PointerGetDatum(label != NULL ? label : name);
	phases->weights[number - 1] = Float8GetDatum(phase_weight(phase, number));
	phases->reached[number - 1] = Int16GetDatum(0);
}

/* Read all phases. */
static void
read_phases(const Jsonb *array, Phases *phases)
{
	JsonbWalk walk = jsonb_walk_from(&array->root, 0);
	float8 total = 0;

	if (!JB_ROOT_IS_ARRAY(array) || JB_ROOT_IS_SCALAR(array))
		refuse_phases(0, "They are not an array.");
	phases->count = JB_ROOT_COUNT(array);
	if (phases->count < 1 || phases->count > PHASES_MAX)
		refuse_phases(0, psprintf("There must be 1 to %d.", PHASES_MAX));
	for (int number = 1; number <= phases->count; number++)
	{
		JsonbValue value;

		jsonb_walk_next(&walk, &value);
		read_phase(&value, number, phases);
		total += DatumGetFloat8(phases->weights[number - 1]);
	}
	if (total == 0)
		refuse_phases(0, "All weights are zero.");
}

/* Refuse an interval that is not a time up to an hour. */
static void
check_tokens_every(const Interval *every)
{
	if (every->month != 0 || every->day != 0 || every->time < 0 || every->time > TOKENS_EVERY_MAX)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("tokens_every must be between 0 and 1 hour")));
}

/* Does the stream have an event that a plan would compute from, or compute? */
static bool
has_local_events(const PevCatalog *catalog, Relation events, int64 stream)
{
	Relation index = index_open(catalog->events_index, AccessShareLock);
	TupleTableSlot *slot = table_slot_create(events, NULL);
	IndexScanDesc scan = compat_index_beginscan(events, index, SnapshotSelf, 1);
	ScanKeyData key;
	bool found = false;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(stream));
	index_rescan(scan, &key, 1, NULL, 0);
	while (!found && index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		bool isnull;
		Datum label = slot_getattr(slot, EVENTS_EVENT_TYPE, &isnull);
		PlanRole role =
			isnull ? PLAN_NO_ROLE : event_type_by_label(catalog, DatumGetObjectId(label))->role;

		CHECK_FOR_INTERRUPTS();
		found = role == PLAN_PHASE || role == PLAN_TOKENS || role == PLAN_STATUS;
	}
	index_endscan(scan);
	index_close(index, AccessShareLock);
	ExecDropSingleTupleTableSlot(slot);
	return found;
}

/* Refuse a stream that has ended, that has a plan, or that has gone on without one. */
static void
check_unplanned(const PevCatalog *catalog, Relation events, int64 stream)
{
	event_check_open(catalog, turn_take(catalog, events, stream, true));
	if (plan_exists(catalog, stream))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("stream %s already has a plan", stream_display(catalog, stream)),
						errdetail("Other weights would have its progress go back."),
						errhint("Plan another stream.")));
	if (has_local_events(catalog, events, stream))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("stream %s has come too far for a plan", stream_display(catalog, stream)),
				 errdetail("It has a PhaseStatus, TokenCount or PipelineStatus already."),
				 errhint("Plan a stream before its pipelines begin.")));
}

/* INSERT the row of a plan, with the caller's rights. */
static void
insert_plan(const PevCatalog *catalog, int64 stream, Phases *phases, Datum tokens_every)
{
	Oid argtypes[] = {INT8OID,        TEXTARRAYOID, TEXTARRAYOID,
					  FLOAT8ARRAYOID, INTERVALOID,  INT2ARRAYOID};
	Datum values[6];
	char *sql = psprintf("INSERT INTO %s.pev_plan (execution_id, names, labels, weights, "
						 "tokens_every, reached) VALUES ($1, $2, $3, $4, $5, $6)",
						 catalog->schema_name);

	values[0] = Int64GetDatum(stream);
	values[1] = PointerGetDatum(array_make(phases->names, phases->count, TEXTOID));
	values[2] = PointerGetDatum(array_make(phases->labels, phases->count, TEXTOID));
	values[3] = PointerGetDatum(array_make(phases->weights, phases->count, FLOAT8OID));
	values[4] = tokens_every;
	values[5] = PointerGetDatum(array_make(phases->reached, phases->count, INT2OID));
	SPI_connect();
	if (SPI_execute_with_args(sql, 6, argtypes, values, NULL, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not insert into pev_plan");
	/* a trigger or a rule of the owner's may have had its way with the row */
	if (SPI_processed != 1)
		ereport(ERROR, (errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
						errmsg("the row of the plan was suppressed")));
	SPI_finish();
}

/*
 * pev_plan(stream text, phases jsonb, tokens_every interval)
 *
 * Raises 22004 (NULL), 22023 (malformed phases or key, a kind that carries no
 * events of the pipeline family), 22003, 42704 (key), 42501 (no INSERT on
 * pev_plan), 55000 (the stream is closed, planned, or has come too far).
 */
Datum
pev_plan(PG_FUNCTION_ARGS)
{
	const PevCatalog *catalog = pev_catalog_of_function(fcinfo->flinfo->fn_oid);
	Phases *phases = palloc(sizeof(Phases));
	Relation events;
	text *key;
	int64 stream;

	require_argument(fcinfo, 0, "stream");
	require_argument(fcinfo, 1, "phases");
	require_argument(fcinfo, 2, "tokens_every");
	read_phases(PG_GETARG_JSONB_P(1), phases);
	check_tokens_every(PG_GETARG_INTERVAL_P(2));
	key = PG_GETARG_TEXT_PP(0);
	own_table_check_insert(catalog->plans, &own_plans);
	stream = stream_create(catalog, stream_key_canonical(VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key)));
	stream_check(catalog, stream, event_type_by_name(catalog, PLAN_STATUS_TYPE)->family);
	events = table_open(catalog->events, RowExclusiveLock);
	check_unplanned(catalog, events, stream);
	insert_plan(catalog, stream, phases, PG_GETARG_DATUM(2));
	table_close(events, NoLock);
	PG_RETURN_VOID();
}
