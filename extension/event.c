/*
 * event.c
 *		The way of an event into its table.
 *
 * The work is in the row triggers, so that a plain INSERT, COPY and pev_emit(),
 * which may do without the triggers (insert.c), are the same.  BEFORE INSERT stamps what the caller left out, validates,
 * takes the stream's turn and numbers the event; AFTER INSERT confirms the
 * number and marks the stream for the doorbell.  The BEFORE trigger fires where
 * events originate; the AFTER trigger is ENABLE ALWAYS, so that a logical
 * replication subscriber rings its own listeners.  So are those on UPDATE and
 * DELETE, which forbid nothing to replication but notice what it changes.
 *
 * An event that means something to its stream's plan changes that first, and may
 * have another event stored before it (plan.c).  One that asks a person for
 * approval, or tells the outcome, is entered with its number (approval.c).
 *
 * A row that comes with a number already is an import, as pg_dump's COPY makes:
 * it is stored as it is.  Only the table's owner may do that.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/xact.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/timestamp.h"

#include "approval.h"
#include "compat.h"
#include "emit.h"
#include "event.h"
#include "jsonb_walk.h"
#include "plan.h"
#include "stream.h"
#include "turn.h"
#include "wake.h"

#define FAULTS_MAX     10 /* named in one error */
#define IMPORT_SEQ_MAX (PG_INT64_MAX / 2)

/* What pev_validate() stamps for a stream's name: a word and a UUID at once. */
#define ANY_STREAM_NAME "00000000-0000-0000-0000-000000000000"

/* The parts of a TriggerEvent that say when and for what a trigger fires. */
#define EVENT_MASK (TRIGGER_EVENT_OPMASK | TRIGGER_EVENT_ROW | TRIGGER_EVENT_TIMINGMASK)
#define BEFORE_ROW (TRIGGER_EVENT_ROW | TRIGGER_EVENT_BEFORE)
#define AFTER_ROW  (TRIGGER_EVENT_ROW | TRIGGER_EVENT_AFTER)

EmitFrame *event_emit_frame = NULL;

/* The stream whose plan is storing its status; no stream has the smallest number. */
static int64 telling = PG_INT64_MIN;

PG_FUNCTION_INFO_V1(pev_before_insert);
PG_FUNCTION_INFO_V1(pev_after_insert);
PG_FUNCTION_INFO_V1(pev_before_update);
PG_FUNCTION_INFO_V1(pev_before_delete);

/*
 * What one of the events table's triggers was called for.  Whoever may create
 * a trigger chooses its table and event, so both are checked before a column
 * is read: what is no events table must not be taken for one.
 */
static TriggerData *
events_trigger(FunctionCallInfo fcinfo, TriggerEvent event, const PevCatalog **catalog)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("function can only be called as a trigger")));
	*catalog = pev_catalog_of_function(fcinfo->flinfo->fn_oid);
	if (RelationGetRelid(trigdata->tg_relation) != (*catalog)->events ||
		(trigdata->tg_event & EVENT_MASK) != event)
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("trigger function of extension pev serves only the trigger that "
							   "the extension made")));
	return trigdata;
}

/* A column of a row; an error as PostgreSQL's own if it is null. */
static Datum
required_column_of(TriggerData *trigdata, HeapTuple row, AttrNumber column)
{
	TupleDesc desc = RelationGetDescr(trigdata->tg_relation);
	bool isnull;
	Datum datum = heap_getattr(row, column, desc, &isnull);

	if (isnull)
		ereport(ERROR, (errcode(ERRCODE_NOT_NULL_VIOLATION),
						errmsg("null value in column \"%s\" of relation \"%s\" violates not-null "
							   "constraint",
							   NameStr(TupleDescAttr(desc, column - 1)->attname),
							   RelationGetRelationName(trigdata->tg_relation)),
						errtablecol(trigdata->tg_relation, column)));
	return datum;
}

/* A column of the row that is inserted or deleted, or the old one of an update. */
static Datum
required_column(TriggerData *trigdata, AttrNumber column)
{
	return required_column_of(trigdata, trigdata->tg_trigtuple, column);
}

/* The stream of a column value that cannot be null. */
static int64
required_stream(TriggerData *trigdata)
{
	return DatumGetInt64(required_column(trigdata, EVENTS_EXECUTION_ID));
}

/*
 * Does replication write this row, or who has set session_replication_role as it
 * does?  Then it is what it is elsewhere; the stream's numbering may go on from
 * another row than before.
 */
static bool
is_replicated(int64 stream)
{
	if (SessionReplicationRole != SESSION_REPLICATION_ROLE_REPLICA)
		return false;
	turn_import(stream);
	return true;
}

/* Does the row come with a number of its own? */
static bool
is_import(TriggerData *trigdata)
{
	return !heap_attisnull(trigdata->tg_trigtuple, EVENTS_SEQ,
						   RelationGetDescr(trigdata->tg_relation));
}

/* Only a restore may bring numbers, and only the owner restores. */
static void
check_import(TriggerData *trigdata)
{
	int64 seq = DatumGetInt64(required_column(trigdata, EVENTS_SEQ));
	TimestampTz created_at;

	if (!compat_table_ownercheck(RelationGetRelid(trigdata->tg_relation), GetUserId()))
		ereport(ERROR, (errcode(ERRCODE_GENERATED_ALWAYS),
						errmsg("cannot insert a value into column \"seq\""),
						errdetail("Events are numbered as they arrive."),
						errhint("Leave the column out.")));
	created_at = DatumGetTimestampTz(required_column(trigdata, EVENTS_CREATED_AT));
	/* the numbering and the times go on from these */
	if (seq < 1 || seq > IMPORT_SEQ_MAX || TIMESTAMP_NOT_FINITE(created_at) ||
		created_at > END_TIMESTAMP - USECS_PER_DAY)
		ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
						errmsg("imported event has an impossible seq or created_at"),
						errdetail("seq is " INT64_FORMAT " and must be from 1 to " INT64_FORMAT
								  "; created_at must be before 294276-12-31.",
								  seq, (int64) IMPORT_SEQ_MAX)));
	turn_import(required_stream(trigdata));
}

/* Raise what a report holds against an event. */
static void
raise_faults(const EventType *type, const SchemaReport *report)
{
	ereport(ERROR,
			(errcode(ERRCODE_CHECK_VIOLATION), errmsg("invalid event data for \"%s\"", type->name),
			 errdetail_internal("%s", schema_report_text(report)),
			 errhint("See SELECT schema FROM pev_event_type WHERE name = '%s'.", type->name)));
}

/* Refuse an event beyond its type's size. */
static void
check_size(const EventType *type, const Jsonb *data)
{
	if (VARSIZE(data) > (Size) type->max_bytes)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("event data for \"%s\" is too large", type->name),
				 errdetail("It takes %u bytes; the limit of this type is %d bytes.",
						   (unsigned) VARSIZE(data), type->max_bytes),
				 errhint("Send a reference to large content, or raise max_bytes of this row in "
						 "pev_event_type.")));
}

/*
 * The event with everything its type stamps, for a stream that is known or,
 * without a catalogue, for any.  What is no object comes back as it is;
 * event_check() says so.
 */
Jsonb *
event_stamp(const EventType *type, int64 stream, const PevCatalog *catalog, Jsonb *data)
{
	StampInput input = {.type = type->name, .stream = stream};

	if (!JB_ROOT_IS_OBJECT(data))
		return data;
	if (type->stamps->needs_stream_name)
		input.stream_name = catalog == NULL ? ANY_STREAM_NAME : stream_name(catalog, stream);
	return stamp_apply(type->stamps, data, &input);
}

/* Add every fault of a stamped event to the report. */
void
event_check(const EventType *type, const Jsonb *data, SchemaReport *report)
{
	JsonbValue value;

	jsonb_root_value(data, &value);
	if (!jsonb_value_is_object(&value))
		schema_report_add(report, pstrdup(""), "type", pstrdup("must be of type object"));
	else
		schema_validate(type->schema, &value, report);
}

/* Does a stamped event conform to its type's schema?  Faster than asking for its faults. */
bool
event_conforms(const EventType *type, const Jsonb *data)
{
	JsonbValue value;

	jsonb_root_value(data, &value);
	return jsonb_value_is_object(&value) && schema_is_valid(type->schema, &value);
}

/* Refuse a stamped event that its type does not allow. */
static void
validate(const EventType *type, const Jsonb *data)
{
	SchemaReport report = {.limit = FAULTS_MAX};

	check_size(type, data);
	if (event_conforms(type, data))
		return;
	event_check(type, data, &report);
	raise_faults(type, &report);
}

/* Refuse an event for a stream that has ended, as the turn knows it. */
void
event_check_open(const PevCatalog *catalog, const StreamTurn *turn)
{
	if (OidIsValid(turn->head.closed_by))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("stream %s is closed", stream_display(catalog, turn->stream)),
				 errdetail("Its event " INT64_FORMAT " (\"%s\") ended it.", turn->head.seq,
						   event_type_by_label(catalog, turn->head.closed_by)->name),
				 errhint("Nothing follows the event that ends a stream; use another stream.")));
}

/* Put what the event has been given into its row. */
static HeapTuple
fill_row(TriggerData *trigdata, int64 stream, int64 seq, Jsonb *data, TimestampTz created_at)
{
	int columns[] = {EVENTS_EXECUTION_ID, EVENTS_SEQ, EVENTS_EVENT_DATA, EVENTS_CREATED_AT};
	Datum values[4];
	bool nulls[4] = {false, false, false, false};

	values[0] = Int64GetDatum(stream);
	values[1] = Int64GetDatum(seq);
	values[2] = JsonbPGetDatum(data);
	values[3] = TimestampTzGetDatum(created_at);
	return heap_modify_tuple_by_cols(trigdata->tg_trigtuple,
									 RelationGetDescr(trigdata->tg_relation), 4, columns, values,
									 nulls);
}

/* Tell pev_emit(), if it is what inserts this row, which number the row got. */
static void
report_seq(int64 stream, Oid label, int64 seq)
{
	EmitFrame *frame = event_emit_frame;

	/* another trigger may insert rows of its own before ours comes */
	if (frame != NULL && frame->seq == 0 && frame->stream == stream && frame->type == label)
		frame->seq = seq;
}

/* An event as it will be: stamped, and allowed by its type and its stream's kind. */
static Jsonb *
admit(const PevCatalog *catalog, const EventType *type, int64 stream, Jsonb *data)
{
	if (!type->global)
		stream_check(catalog, stream, type->family);
	data = event_stamp(type, stream, catalog, data);
	validate(type, data);
	return data;
}

/* Store the PipelineStatus of a plan. */
static void
tell_status(Oid function, int64 stream, Jsonb *status)
{
	int64 outer = telling;

	telling = stream;
	PG_TRY();
	{
		emit_event(function, PLAN_STATUS_TYPE, stream, status, true);
	}
	PG_FINALLY();
	{
		telling = outer;
	}
	PG_END_TRY();
}

/*
 * Let an admitted event change its stream's plan, if it has one; the event, with
 * what the plan adds.  The status that it leads to is stored here, before it is.
 * That looks types up anew: what the caller knows of them does not hold any more.
 * `moved`: the plan's row has changed.
 */
static Jsonb *
follow_plan(Oid function, Relation events, const EventType *type, int64 stream, Jsonb *data,
			bool settled, bool *moved)
{
	const PevCatalog *catalog = pev_catalog_of_function(function);
	bool closes = event_type_closes(type, data);
	PlanNews news;

	*moved = false;
	if (type->role == PLAN_NO_ROLE && !closes)
		return data;
	if (type->role == PLAN_STATUS && telling == stream)
		return data;
	event_check_open(catalog, turn_take(catalog, events, stream, settled));
	news = plan_follow(catalog, type, stream, closes, data);
	if (news.data != data)
		validate(type, news.data);
	if (news.status != NULL)
		tell_status(function, stream, news.status);
	*moved = news.moved;
	return news.data;
}

/* Give an admitted event its number.  `settled`: see turn_take(); `moved`: see follow_plan(). */
static void
number(const PevCatalog *catalog, Relation events, const EventType *type, int64 stream, Jsonb *data,
	   bool settled, bool moved, NumberedEvent *event)
{
	StreamTurn *turn = turn_take(catalog, events, stream, settled);

	event_check_open(catalog, turn);
	event->seq = turn_next(turn, type, event_type_closes(type, data));
	event->data = data;
	event->created_at = turn->head.created_at;
	if (moved || type->approval != APPROVAL_NO_ROLE)
		turn_owe(catalog, events, turn);
	if (type->approval != APPROVAL_NO_ROLE)
		approval_follow(catalog, type, stream, data, event->created_at);
}

/*
 * All that precedes the row of an event that is stored.  Raises what
 * pev_before_insert() does.  Types may have to be looked up anew afterwards.
 */
void
event_number(Oid function, Relation events, Oid label, int64 stream, Jsonb *data,
			 NumberedEvent *event)
{
	const PevCatalog *catalog = pev_catalog_of_function(function);
	const EventType *type = event_type_by_label(catalog, label);
	bool moved;

	/* an INSERT that this is called from may have numbered a row: it is in, or will not come */
	data = follow_plan(function, events, type, stream, admit(catalog, type, stream, data), true,
					   &moved);
	catalog = pev_catalog_of_function(function);
	number(catalog, events, event_type_by_label(catalog, label), stream, data, true, moved, event);
}

/* The row is in the table: all that follows it. */
void
event_stored(int64 stream, int64 seq, bool urgent)
{
	turn_confirm(stream, seq);
	wake_stream(stream, seq, urgent);
}

/* Ring for an event that is not stored. */
static void
deliver(const EventType *type, int64 stream, const Jsonb *data)
{
	wake_live(type->global ? WAKE_GLOBAL : stream, type->name, data);
}

/*
 * Deliver an event that is not stored; NULL suppresses its row.  Where
 * row-level security applies to the caller, its policies have to see the row
 * first: it goes on under a number that no stored event has, and
 * remove_unstored() takes it out again.
 */
static HeapTuple
deliver_or_defer(TriggerData *trigdata, const PevCatalog *catalog, const EventType *type,
				 int64 stream, Jsonb *data)
{
	int64 id = DatumGetInt64(required_column(trigdata, EVENTS_ID));
	StreamTurn turn;

	if (!type->global)
	{
		turn_peek(catalog, trigdata->tg_relation, stream, &turn);
		event_check_open(catalog, &turn);
	}
	if (check_enable_rls(RelationGetRelid(trigdata->tg_relation), InvalidOid, true) == RLS_ENABLED)
		return fill_row(trigdata, stream, -id, data, GetCurrentTimestamp());
	deliver(type, stream, data);
	return NULL;
}

/* Deliver an event that row-level security has passed, and take out its row. */
static void
remove_unstored(TriggerData *trigdata, const EventType *type)
{
	deliver(type, required_stream(trigdata),
			DatumGetJsonbP(required_column(trigdata, EVENTS_EVENT_DATA)));
	/* the row is this very command's: only the next one can delete it */
	CommandCounterIncrement();
	simple_heap_delete(trigdata->tg_relation, &trigdata->tg_trigtuple->t_self);
}

/*
 * BEFORE INSERT on assistant_architect_events.
 *
 * Raises 22023 (unknown type or stream, a family the stream does not carry),
 * 23502 (null), 23514 (invalid data), 54000 (too large), 55000 (closed stream), and
 * what plan_follow() and approval_follow() do.
 */
Datum
pev_before_insert(PG_FUNCTION_ARGS)
{
	Oid function = fcinfo->flinfo->fn_oid;
	const PevCatalog *catalog;
	TriggerData *trigdata = events_trigger(fcinfo, TRIGGER_EVENT_INSERT | BEFORE_ROW, &catalog);
	const EventType *type;
	NumberedEvent event;
	Jsonb *data;
	int64 stream = 0;
	bool moved;
	Oid label;

	if (is_import(trigdata))
	{
		check_import(trigdata);
		return PointerGetDatum(trigdata->tg_trigtuple);
	}
	label = DatumGetObjectId(required_column(trigdata, EVENTS_EVENT_TYPE));
	type = event_type_by_label(catalog, label);
	if (!type->global)
		stream = required_stream(trigdata);
	data =
		admit(catalog, type, stream, DatumGetJsonbP(required_column(trigdata, EVENTS_EVENT_DATA)));
	data = follow_plan(function, trigdata->tg_relation, type, stream, data, false, &moved);
	catalog = pev_catalog_of_function(function);
	type = event_type_by_label(catalog, label);
	if (!type->durable)
		return PointerGetDatum(deliver_or_defer(trigdata, catalog, type, stream, data));
	number(catalog, trigdata->tg_relation, type, stream, data, false, moved, &event);
	report_seq(stream, label, event.seq);
	return PointerGetDatum(fill_row(trigdata, stream, event.seq, event.data, event.created_at));
}

/* AFTER INSERT on assistant_architect_events, on every node. */
Datum
pev_after_insert(PG_FUNCTION_ARGS)
{
	const PevCatalog *catalog;
	TriggerData *trigdata = events_trigger(fcinfo, TRIGGER_EVENT_INSERT | AFTER_ROW, &catalog);
	int64 stream = required_stream(trigdata);
	int64 seq = DatumGetInt64(required_column(trigdata, EVENTS_SEQ));
	const EventType *type =
		event_type_by_label(catalog,
							DatumGetObjectId(required_column(trigdata, EVENTS_EVENT_TYPE)));

	if (seq < 0)
		remove_unstored(trigdata, type);
	else if (is_replicated(stream))
		wake_stream(stream, seq, type->urgent);
	else
		event_stored(stream, seq, type->urgent);
	return PointerGetDatum(NULL);
}

/* BEFORE UPDATE on assistant_architect_events: refused, 55000, but to replication. */
Datum
pev_before_update(PG_FUNCTION_ARGS)
{
	const PevCatalog *catalog;
	TriggerData *trigdata = events_trigger(fcinfo, TRIGGER_EVENT_UPDATE | BEFORE_ROW, &catalog);

	if (is_replicated(required_stream(trigdata)))
	{
		turn_import(DatumGetInt64(
			required_column_of(trigdata, trigdata->tg_newtuple, EVENTS_EXECUTION_ID)));
		return PointerGetDatum(trigdata->tg_newtuple);
	}
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("events are immutable"),
			 errdetail("Clients may have received the event already."),
			 errhint("Emit a new event instead.")));
	return PointerGetDatum(NULL);
}

/*
 * BEFORE DELETE on assistant_architect_events: the last event of a stream
 * stays, since the numbering goes on from it.  Raises 55000, but not to replication.
 */
Datum
pev_before_delete(PG_FUNCTION_ARGS)
{
	const PevCatalog *catalog;
	TriggerData *trigdata = events_trigger(fcinfo, TRIGGER_EVENT_DELETE | BEFORE_ROW, &catalog);
	int64 stream = required_stream(trigdata);
	int64 last;

	if (is_replicated(stream))
		return PointerGetDatum(trigdata->tg_trigtuple);
	if (turn_last_event(catalog, trigdata->tg_relation, stream, &last) &&
		DatumGetInt64(required_column(trigdata, EVENTS_SEQ)) == last)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("cannot delete the last event of stream %s",
							   stream_display(catalog, stream)),
						errdetail("The numbering of the stream continues from it."),
						errhint("Delete the events before it.")));
	return PointerGetDatum(trigdata->tg_trigtuple);
}
