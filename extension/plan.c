/*
 * plan.c
 *		The plan of a stream: phases, from whose local events its status is computed.
 *
 * Pipelines say how far their phase has come (PhaseStatus) and which tokens they
 * used (TokenCount).  Where pev_plan() has declared the phases, pev is the
 * orchestrator that makes one PipelineStatus of them.  A local event changes the
 * plan's row in pev_plan, in the same transaction: what is rolled back, to a
 * savepoint too, has not happened, and a prepared transaction keeps both.
 *
 * Who stores an event has the stream's turn (turn.c), and nobody else touches the
 * row, so it needs no lock of its own and cannot deadlock.  It is read as it is
 * committed by now, as the stream's last event is, whatever the transaction's
 * snapshot says, and is written past the executor: whoever may INSERT events may
 * move the plan, without rights on pev_plan.
 *
 * The PipelineStatus goes before the event that caused it.  Only there can it
 * precede a Result, and a command that inserts many rows gets as many as one that
 * inserts them singly, since the AFTER triggers come when all rows are in.
 *
 * Nothing here goes back: of a phase the furthest progress counts, weights are
 * fixed, tokens add up.  Numbers are kept in hundredths, as PhaseStatus is rounded.
 */
#include "postgres.h"

#include <math.h>

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/int.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "array.h"
#include "compat.h"
#include "jsonb_merge.h"
#include "jsonb_push.h"
#include "jsonb_walk.h"
#include "own_table.h"
#include "plan.h"
#include "stream.h"

#define NO_PHASE 0 /* PhasePlan.phase, before the first PhaseStatus */

/* A row of pev_plan, taken apart. */
typedef struct PhasePlan
{
	HeapTuple row;
	int count; /* of phases; so many are in each array */
	Datum *names;
	Datum *labels;
	Datum *weights;
	Datum *reached; /* the furthest progress of each */
	int64 tokens_every;
	int phase; /* the current one, from 1 */
	text *description;
	int64 tokens;
	int64 told_tokens;   /* as the last PipelineStatus had it */
	TimestampTz told_at; /* when that was; 0: there was none */
} PhasePlan;

/* The setting pev.require_plan. */
static bool require_plan = true;

/*
 * Where this session wrote a plan last.  An index leads to the first of a row's
 * versions, and a transaction that brings many events leaves many.
 */
static int64 written_stream;
static Oid written_file = InvalidOid;
static ItemPointerData written_at;

/* The row that this session wrote last, if it is the stream's and nobody has changed it since. */
static HeapTuple
find_written(Relation plans, int64 stream)
{
	TupleTableSlot *slot;
	HeapTuple row = NULL;

	if (written_stream != stream || written_file != compat_relation_file(plans) ||
		ItemPointerGetBlockNumber(&written_at) >= RelationGetNumberOfBlocks(plans))
		return NULL;
	slot = table_slot_create(plans, NULL);
	if (table_tuple_fetch_row_version(plans, &written_at, SnapshotSelf, slot))
		row = ExecCopySlotHeapTuple(slot);
	ExecDropSingleTupleTableSlot(slot);
	/* its place may be another's by now */
	if (row != NULL &&
		DatumGetInt64(own_table_column(row, RelationGetDescr(plans), PLANS_EXECUTION_ID)) != stream)
		return NULL;
	return row;
}

/* Find the row of a stream's plan as committed by now; NULL if there is none. */
static HeapTuple
find_row(const PevCatalog *catalog, Relation plans, int64 stream)
{
	HeapTuple row = find_written(plans, stream);
	SysScanDesc scan;
	ScanKeyData key;

	if (row != NULL)
		return row;
	ScanKeyInit(&key, PLANS_EXECUTION_ID, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(stream));
	scan = systable_beginscan(plans, catalog->plans_index, true, SnapshotSelf, 1, &key);
	row = systable_getnext(scan);
	row = HeapTupleIsValid(row) ? heap_copytuple(row) : NULL;
	systable_endscan(scan);
	return row;
}

/* Does the stream have a plan? */
bool
plan_exists(const PevCatalog *catalog, int64 stream)
{
	Relation plans = own_table_open(catalog->plans, &own_plans, InvalidOid, AccessShareLock);
	HeapTuple row = find_row(catalog, plans, stream);

	table_close(plans, AccessShareLock);
	return row != NULL;
}

/* Refuse a row that pev_plan() cannot have made. */
static void
refuse_row(const PevCatalog *catalog, int64 stream)
{
	ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("the plan of stream %s makes no sense", stream_display(catalog, stream)),
					errdetail("Its row of pev_plan has been changed."),
					errhint("Delete the row, and plan another stream.")));
}

/* The elements of an array column; how many, or -1 if there are nulls. */
static int
read_array(HeapTuple row, TupleDesc desc, AttrNumber column, Datum **elements)
{
	ArrayType *array = DatumGetArrayTypeP(own_table_column(row, desc, column));

	return array_contains_nulls(array) ? -1 : array_elements(array, elements, NULL);
}

/* Are there as many of everything, and is every number one that pev_plan() allows? */
static bool
makes_sense(const PhasePlan *plan)
{
	float8 total = 0;

	for (int i = 0; i < plan->count; i++)
	{
		float8 weight = DatumGetFloat8(plan->weights[i]);
		int16 reached = DatumGetInt16(plan->reached[i]);

		if (!(weight >= 0) || reached < 0 || reached > PLAN_COMPLETE)
			return false;
		total += weight;
	}
	return total > 0 && !isinf(total) && plan->phase >= NO_PHASE && plan->phase <= plan->count;
}

/* Take a row apart. */
static void
read_row(const PevCatalog *catalog, Relation plans, int64 stream, PhasePlan *plan)
{
	TupleDesc desc = RelationGetDescr(plans);
	const Interval *every =
		DatumGetIntervalP(own_table_column(plan->row, desc, PLANS_TOKENS_EVERY));
	bool never_told;
	Datum told_at = heap_getattr(plan->row, PLANS_TOLD_AT, desc, &never_told);

	plan->tokens_every = every->day * USECS_PER_DAY + every->time;
	plan->phase = DatumGetInt32(own_table_column(plan->row, desc, PLANS_PHASE));
	plan->description = DatumGetTextPP(own_table_column(plan->row, desc, PLANS_DESCRIPTION));
	plan->tokens = DatumGetInt64(own_table_column(plan->row, desc, PLANS_TOKENS));
	plan->told_tokens = DatumGetInt64(own_table_column(plan->row, desc, PLANS_TOLD_TOKENS));
	plan->told_at = never_told ? 0 : DatumGetTimestampTz(told_at);
	plan->count = read_array(plan->row, desc, PLANS_NAMES, &plan->names);
	if (plan->count < 1 ||
		plan->count != read_array(plan->row, desc, PLANS_LABELS, &plan->labels) ||
		plan->count != read_array(plan->row, desc, PLANS_WEIGHTS, &plan->weights) ||
		plan->count != read_array(plan->row, desc, PLANS_REACHED, &plan->reached) ||
		!makes_sense(plan))
		refuse_row(catalog, stream);
}

/* Put what has become of a plan into its row. */
static void
write_row(Relation plans, int64 stream, const PhasePlan *plan)
{
	TupleDesc desc = RelationGetDescr(plans);
	int columns[] = {PLANS_REACHED, PLANS_PHASE,       PLANS_DESCRIPTION,
					 PLANS_TOKENS,  PLANS_TOLD_TOKENS, PLANS_TOLD_AT};
	Datum values[6];
	bool nulls[6] = {false, false, false, false, false, plan->told_at == 0};
	TupleTableSlot *slot = MakeSingleTupleTableSlot(desc, &TTSOpsHeapTuple);

	values[0] = PointerGetDatum(array_make(plan->reached, plan->count, INT2OID));
	values[1] = Int32GetDatum(plan->phase);
	values[2] = PointerGetDatum(plan->description);
	values[3] = Int64GetDatum(plan->tokens);
	values[4] = Int64GetDatum(plan->told_tokens);
	values[5] = TimestampTzGetDatum(plan->told_at);
	ExecStoreHeapTuple(heap_modify_tuple_by_cols(plan->row, desc, 6, columns, values, nulls), slot,
					   false);
	own_table_update(plans, &plan->row->t_self, slot);
	written_stream = stream;
	written_file = compat_relation_file(plans);
	written_at = slot->tts_tid;
	ExecDropSingleTupleTableSlot(slot);
}

/* A member that is a number; refused if it is none. */
static Datum
number_member(const EventType *type, const Jsonb *data, const char *key)
{
	JsonbValue value;

	if (!jsonb_object_get(&data->root, key, &value) || value.type != jbvNumeric)
		ereport(ERROR, (errcode(ERRCODE_CHECK_VIOLATION),
						errmsg("the plan needs \"%s\" of \"%s\" to be a number", key, type->name)));
	return NumericGetDatum(value.val.numeric);
}

/* The place of a phase in the plan, from 1.  Raises 22023 if it has none. */
static int
find_phase(const PevCatalog *catalog, int64 stream, const PhasePlan *plan, const text *name)
{
	for (int i = 0; i < plan->count; i++)
		if (plan_same_name(DatumGetTextPP(plan->names[i]), name))
			return i + 1;
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("phase \"%s\" is not in the plan of stream %s", text_to_cstring(name),
						   stream_display(catalog, stream)),
					errhint("See the phases that pev_plan() was given.")));
	return NO_PHASE;
}

/* A PhaseStatus: its phase is the current one, and no less far than before. */
static void
follow_phase(const PevCatalog *catalog, const EventType *type, int64 stream, PhasePlan *plan,
			 const Jsonb *data)
{
	text *name = jsonb_object_get_text(&data->root, "phase");
	text *description = jsonb_object_get_text(&data->root, "description");
	float8 progress =
		DatumGetFloat8(DirectFunctionCall1(numeric_float8, number_member(type, data, "progress")));
	int phase = find_phase(catalog, stream, plan, name == NULL ? cstring_to_text("") : name);
	int hundredths = (int) rint(Min(Max(progress, 0), 1) * PLAN_COMPLETE);

	if (description != NULL)
		plan->description = description;
	else if (phase != plan->phase)
		plan->description = cstring_to_text("");
	plan->phase = phase;
	plan->reached[phase - 1] =
		Int16GetDatum(Max(DatumGetInt16(plan->reached[phase - 1]), hundredths));
}

/* A TokenCount: its tokens are added.  Raises 22003 beyond bigint. */
static void
follow_tokens(const PevCatalog *catalog, const EventType *type, int64 stream, PhasePlan *plan,
			  const Jsonb *data)
{
	text *phase = jsonb_object_get_text(&data->root, "phase");
	int64 tokens =
		DatumGetInt64(DirectFunctionCall1(numeric_int8, number_member(type, data, "tokenCount")));

	if (phase != NULL)
		(void) find_phase(catalog, stream, plan, phase);
	if (pg_add_s64_overflow(plan->tokens, tokens, &plan->tokens))
		ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
						errmsg("the tokens of stream %s are more than a bigint holds",
							   stream_display(catalog, stream))));
}

/* An Error that does not say its phase happened in the current one, if there is one. */
static Jsonb *
name_phase(const PhasePlan *plan, Jsonb *data)
{
	JsonbMember member = {.key = "phase", .keylen = strlen("phase")};
	JsonbValue given;
	text *name;

	if (plan->phase == NO_PHASE || jsonb_object_get(&data->root, "phase", &given))
		return data;
	name = DatumGetTextPP(plan->names[plan->phase - 1]);
	member.value.type = jbvString;
	member.value.val.string.val = VARDATA_ANY(name);
	member.value.val.string.len = VARSIZE_ANY_EXHDR(name);
	return jsonb_merge(data, &member, 1);
}

/*
 * The progress of the whole in hundredths, by the weights.  It is rounded, but it
 * is complete only when every phase is, those that weigh nothing too.
 */
static int
overall(const PhasePlan *plan)
{
	float8 reached = 0;
	float8 total = 0;
	bool complete = true;

	for (int i = 0; i < plan->count; i++)
	{
		reached += DatumGetFloat8(plan->weights[i]) * DatumGetInt16(plan->reached[i]);
		total += DatumGetFloat8(plan->weights[i]);
		complete = complete && DatumGetInt16(plan->reached[i]) == PLAN_COMPLETE;
	}
	if (complete)
		return PLAN_COMPLETE;
	return Min((int) floor(reached / total + 0.5), PLAN_COMPLETE - 1);
}

/* Where the plan stands, as a PipelineStatus without its stamps. */
static Jsonb *
make_status(const PhasePlan *plan)
{
	int current = Max(plan->phase, 1) - 1;
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	jsonb_push_key(&state, "phase");
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	jsonb_push_text(&state, "name", DatumGetTextPP(plan->names[current]));
	jsonb_push_text(&state, "label", DatumGetTextPP(plan->labels[current]));
	jsonb_push_text(&state, "description", plan->description);
	pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	jsonb_push_number(&state, "progress", int64_div_fast_to_numeric(overall(plan), 2));
	jsonb_push_number(&state, "tokenCount", int64_to_numeric(plan->tokens));
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/* Have tokens waited long enough to be told?  If the clock steps back, they have. */
static bool
is_due(const PhasePlan *plan)
{
	int64 waited = GetCurrentTimestamp() - plan->told_at;

	return plan->told_at == 0 || waited < 0 || waited >= plan->tokens_every;
}

/* Refuse a PipelineStatus that is not the plan's. */
static void
refuse_status(const PevCatalog *catalog, int64 stream)
{
	ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("stream %s has a plan", stream_display(catalog, stream)),
					errdetail("Its %s events are computed from PhaseStatus and TokenCount.",
							  PLAN_STATUS_TYPE),
					errhint("Emit PhaseStatus instead, or plan another stream.")));
}

/* Refuse a local event that nobody makes a status of. */
static void
refuse_unplanned(const PevCatalog *catalog, const EventType *type, int64 stream)
{
	ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("stream %s has no plan", stream_display(catalog, stream)),
					errdetail("From \"%s\" pev computes the %s of a stream whose phases are "
							  "declared.",
							  type->name, PLAN_STATUS_TYPE),
					errhint("Declare them with pev_plan(), or set pev.require_plan to off if the "
							"application computes the status itself.")));
}

/* What an event changes in its plan; does a PipelineStatus go before it? */
static bool
follow(const PevCatalog *catalog, const EventType *type, int64 stream, PhasePlan *plan,
	   Jsonb **data)
{
	switch (type->role)
	{
		case PLAN_PHASE:
			follow_phase(catalog, type, stream, plan, *data);
			return true;
		case PLAN_TOKENS:
			follow_tokens(catalog, type, stream, plan, *data);
			return is_due(plan);
		case PLAN_STATUS:
			refuse_status(catalog, stream);
			break;
		case PLAN_ERROR:
			*data = name_phase(plan, *data);
			break;
		case PLAN_NO_ROLE:
			break;
	}
	return plan->tokens != plan->told_tokens;
}

/*
 * What the stream's plan makes of an event: one that has a role in plans, or
 * closes the stream and with it the plan.  The caller has the stream's turn.
 *
 * Raises 55000 for a local event without a plan, unless pev.require_plan is off,
 * and for a PipelineStatus with one; 22023 for a phase that is not planned.
 */
PlanNews
plan_follow(const PevCatalog *catalog, const EventType *type, int64 stream, bool closes,
			Jsonb *data)
{
	Relation plans = own_table_open(catalog->plans, &own_plans, InvalidOid, RowExclusiveLock);
	PhasePlan plan = {.row = find_row(catalog, plans, stream)};
	PlanNews news = {.data = data};
	bool tells;

	if (plan.row == NULL)
	{
		if (require_plan && (type->role == PLAN_PHASE || type->role == PLAN_TOKENS))
			refuse_unplanned(catalog, type, stream);
		table_close(plans, NoLock);
		return news;
	}
	read_row(catalog, plans, stream, &plan);
	tells = follow(catalog, type, stream, &plan, &news.data);
	if (tells)
	{
		news.status = make_status(&plan);
		plan.told_tokens = plan.tokens;
		plan.told_at = GetCurrentTimestamp();
	}
	if (closes)
		simple_heap_delete(plans, &plan.row->t_self);
	else if (tells || type->role == PLAN_TOKENS)
		write_row(plans, stream, &plan);
	/* so that the next event of this command can change the row once more */
	CommandCounterIncrement();
	news.moved = closes || tells || type->role == PLAN_TOKENS;
	table_close(plans, NoLock);
	return news;
}

/* Called once, when the library is loaded. */
void
plan_init(void)
{
	DefineCustomBoolVariable("pev.require_plan",
							 "Refuse PhaseStatus and TokenCount in a stream without a plan.",
							 "Turn it off for an application that computes PipelineStatus itself.",
							 &require_plan, true, PGC_USERSET, 0, NULL, NULL, NULL);
}
