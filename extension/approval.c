/*
 * approval.c
 *		Actions that wait for a person's approval, and what became of them.
 *
 * tier3_approval_required enters an action into pev_approval, in the same
 * transaction and whichever way the event is emitted; tier3_approval_resolved
 * enters the outcome.  An action has one: the second is refused.  Until its
 * deadline that is what somebody decides, and from then on nothing but the denial
 * by time-out, so a decision cannot win because nobody was there to deny in time.
 * Which side of the deadline an outcome is on its created_at tells, which is taken
 * with the stream's turn.
 *
 * Locks: the stream's turn (turn.c) first, then the row.  Both events of an action
 * are of one stream, so whoever writes its row has that turn, and outcomes that
 * race wait for each other there, and for nothing else.  The row is read as it is
 * committed by now, whatever the transaction's snapshot says, hence a loser learns
 * who has won under REPEATABLE READ, too.  Only two requests of different streams
 * under one action_id wait for each other at the index, the later one with its
 * turn; of those that do so in a circle, PostgreSQL refuses one.
 *
 * Like a plan's row (plan.c) this one is written past the executor: whoever may
 * INSERT events may do so without rights on pev_approval.
 *
 * Events that were stored elsewhere before (restored, replicated) enter nothing:
 * the rows come with them, as pg_dump and replication bring the table itself.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "approval.h"
#include "emit.h"
#include "jsonb_push.h"
#include "jsonb_walk.h"
#include "own_table.h"
#include "stream.h"
#include "wake.h"

#define TIMEOUT_SECS_MAX PG_INT32_MAX

/* approval_decide() has looked at the clock: what is a moment later is in time. */
static bool in_time = false;

/* A member of the event's payload that must be text.  Raises 23514 if it is not. */
static text *
required_text(const EventType *type, const JsonbContainer *payload, const char *key)
{
	text *value = jsonb_object_get_text(payload, key);

	if (value == NULL)
		ereport(ERROR, (errcode(ERRCODE_CHECK_VIOLATION),
						errmsg("\"%s\" of \"%s\" must be a string", key, type->name),
						errdetail("pev_approval needs it, whatever the type's schema allows.")));
	return value;
}

/* The same of a member that must be one of two words. */
static text *
required_word(const EventType *type, const JsonbContainer *payload, const char *key,
			  const char *one, const char *other)
{
	text *value = required_text(type, payload, key);
	const char *word = text_to_cstring(value);

	if (strcmp(word, one) != 0 && strcmp(word, other) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_CHECK_VIOLATION),
				 errmsg("\"%s\" of \"%s\" must be \"%s\" or \"%s\"", key, type->name, one, other),
				 errdetail("pev_approval needs it, whatever the type's schema allows.")));
	return value;
}

/* The one object in the envelope, under this key. */
static const JsonbContainer *
payload_of(const EventType *type, const Jsonb *data, const char *key)
{
	JsonbValue value;

	if (!jsonb_object_get(&data->root, key, &value) || !jsonb_value_is_object(&value))
		ereport(ERROR, (errcode(ERRCODE_CHECK_VIOLATION),
						errmsg("\"%s\" of \"%s\" must be an object", key, type->name),
						errdetail("pev_approval needs it, whatever the type's schema allows.")));
	return value.val.binary.data;
}

/* Until when an action that was asked for at some time can be decided. */
static TimestampTz
deadline_of(const EventType *type, const JsonbContainer *payload, TimestampTz requested_at)
{
	JsonbValue value;
	int64 secs = 0;

	if (jsonb_object_get(payload, "timeout_secs", &value) && value.type == jbvNumeric)
		secs = DatumGetInt64(DirectFunctionCall1(numeric_int8, NumericGetDatum(value.val.numeric)));
	if (secs < 1 || secs > TIMEOUT_SECS_MAX)
		ereport(ERROR, (errcode(ERRCODE_CHECK_VIOLATION),
						errmsg("\"timeout_secs\" of \"%s\" must be from 1 to %d", type->name,
							   TIMEOUT_SECS_MAX)));
	return requested_at + secs * USECS_PER_SEC;
}

/* The row of an action as a snapshot shows it; NULL if there is none. */
static HeapTuple
find_row(const PevCatalog *catalog, Relation approvals, text *action_id, Snapshot snapshot)
{
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple row;

	ScanKeyInit(&key, APPROVALS_ACTION_ID, BTEqualStrategyNumber, F_TEXTEQ,
				PointerGetDatum(action_id));
	scan = systable_beginscan(approvals, catalog->approvals_index, true, snapshot, 1, &key);
	row = systable_getnext(scan);
	row = HeapTupleIsValid(row) ? heap_copytuple(row) : NULL;
	systable_endscan(scan);
	return row;
}

/* A column that is text; NULL if it is null. */
static text *
text_column(HeapTuple row, TupleDesc desc, AttrNumber column)
{
	bool isnull;
	Datum datum = heap_getattr(row, column, desc, &isnull);

	return isnull ? NULL : DatumGetTextPP(datum);
}

/* Take a row apart. */
static void
read_row(HeapTuple row, TupleDesc desc, Approval *approval)
{
	approval->row = row;
	approval->stream = DatumGetInt64(own_table_column(row, desc, APPROVALS_EXECUTION_ID));
	approval->action_id = DatumGetTextPP(own_table_column(row, desc, APPROVALS_ACTION_ID));
	approval->message_id = DatumGetTextPP(own_table_column(row, desc, APPROVALS_MESSAGE_ID));
	approval->deadline = DatumGetTimestampTz(own_table_column(row, desc, APPROVALS_DEADLINE));
	approval->decision = text_column(row, desc, APPROVALS_DECISION);
	if (approval->decision == NULL)
		return;
	approval->decided_by = text_column(row, desc, APPROVALS_DECIDED_BY);
	approval->decided_at = DatumGetTimestampTz(own_table_column(row, desc, APPROVALS_DECIDED_AT));
}

/*
 * Read where an action stands by now; false if nobody has asked for it.
 *
 * `has_turn`: the caller has the stream's, so that nobody gives the row another
 * version.  SnapshotSelf would else miss both, if the old one is looked at after
 * the new one and the commit comes between.
 */
bool
approval_read(const PevCatalog *catalog, text *action_id, bool has_turn, Approval *approval)
{
	Relation approvals =
		own_table_open(catalog->approvals, &own_approvals, InvalidOid, AccessShareLock);
	Snapshot latest = has_turn ? NULL : RegisterSnapshot(GetLatestSnapshot());
	HeapTuple row = find_row(catalog, approvals, action_id, has_turn ? SnapshotSelf : latest);

	memset(approval, 0, sizeof(*approval));
	if (row != NULL)
		read_row(row, RelationGetDescr(approvals), approval);
	UnregisterSnapshot(latest);
	table_close(approvals, AccessShareLock);
	return row != NULL;
}

/*
 * Read the outcome that has just been emitted, with the stream's turn.  Raises 27000 if
 * there is none, as when a rule on the events table has left it out.
 */
void
approval_read_outcome(const PevCatalog *catalog, text *action_id, Approval *approval)
{
	if (!approval_read(catalog, action_id, true, approval) || approval->decision == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
				 errmsg("the outcome of action \"%s\" was suppressed", text_to_cstring(action_id)),
				 errhint("Neither another trigger nor a rule may leave it out.")));
}

/* Enter an action that waits.  Columns that an owner has added are null. */
static void
enter_request(const PevCatalog *catalog, const EventType *type, int64 stream, const Jsonb *data,
			  TimestampTz created_at)
{
	const JsonbContainer *payload = payload_of(type, data, "tier3_approval");
	text *action_id = required_text(type, payload, "action_id");
	Relation approvals =
		own_table_open(catalog->approvals, &own_approvals, InvalidOid, RowExclusiveLock);
	TupleTableSlot *slot = table_slot_create(approvals, NULL);
	Datum *values = slot->tts_values;

	if (find_row(catalog, approvals, action_id, SnapshotSelf) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNIQUE_VIOLATION),
				 errmsg("action \"%s\" has been asked for already", text_to_cstring(action_id)),
				 errhint("Give each action an action_id of its own.")));
	ExecClearTuple(slot);
	memset(slot->tts_isnull, true, sizeof(bool) * slot->tts_tupleDescriptor->natts);
	memset(slot->tts_isnull, false, sizeof(bool) * APPROVALS_DEADLINE);
	values[APPROVALS_ACTION_ID - 1] = PointerGetDatum(action_id);
	values[APPROVALS_EXECUTION_ID - 1] = Int64GetDatum(stream);
	values[APPROVALS_MESSAGE_ID - 1] =
		PointerGetDatum(required_text(type, &data->root, "message_id"));
	values[APPROVALS_TOOL_NAME - 1] = PointerGetDatum(required_text(type, payload, "tool_name"));
	values[APPROVALS_REASONING - 1] = PointerGetDatum(required_text(type, payload, "reasoning"));
	values[APPROVALS_REQUESTED_AT - 1] = TimestampTzGetDatum(created_at);
	values[APPROVALS_DEADLINE - 1] = TimestampTzGetDatum(deadline_of(type, payload, created_at));
	ExecStoreVirtualTuple(slot);
	own_table_insert(approvals, slot);
	ExecDropSingleTupleTableSlot(slot);
	table_close(approvals, NoLock);
	wake_deadline(DatumGetTimestampTz(values[APPROVALS_DEADLINE - 1]));
}

/* What has become of an action, in a sentence. */
static const char *
describe(const Approval *approval)
{
	const char *at = timestamptz_to_str(approval->decided_at);

	if (approval->decided_by == NULL)
		return psprintf("It was %s at %s.", text_to_cstring(approval->decision), at);
	return psprintf("It was %s by \"%s\" at %s.", text_to_cstring(approval->decision),
					text_to_cstring(approval->decided_by), at);
}

/* Refuse the outcome of an action that nobody has asked for, or asked for elsewhere. */
static void
check_requested(const PevCatalog *catalog, const Approval *approval, const text *action_id,
				int64 stream, const text *message_id)
{
	if (approval->row == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("action \"%s\" is not known", text_to_cstring(action_id)),
						errdetail("No \"%s\" has asked for its approval.", APPROVAL_TYPE)));
	/* which one, may be hidden from who emits here */
	if (approval->stream != stream)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("action \"%s\" is of another stream than %s",
							   text_to_cstring(action_id), stream_display(catalog, stream))));
	if (strcmp(text_to_cstring(approval->message_id), text_to_cstring(message_id)) != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("action \"%s\" is of another message than \"%s\"",
							   text_to_cstring(action_id), text_to_cstring(message_id))));
}

/* Refuse an outcome that comes second, or on the wrong side of the deadline. */
static void
check_undecided(const Approval *approval, bool timeout, TimestampTz created_at)
{
	const char *action = text_to_cstring(approval->action_id);

	if (approval->decision != NULL)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("action \"%s\" has been decided", action),
						errdetail_internal("%s", describe(approval))));
	if (timeout && created_at < approval->deadline)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("action \"%s\" still has time", action),
				 errdetail("It can be decided until %s.", timestamptz_to_str(approval->deadline))));
	if (!timeout && !in_time && created_at >= approval->deadline)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("action \"%s\" has no time left", action),
				 errdetail("It could be decided until %s.", timestamptz_to_str(approval->deadline)),
				 errhint("pev_approve() denies it now.")));
}

/* Give the row of an action its outcome; `by` is NULL if nobody decided, or it was not said. */
static void
store_outcome(Relation approvals, HeapTuple row, text *decision, text *reason, text *by,
			  TimestampTz at)
{
	TupleDesc desc = RelationGetDescr(approvals);
	int columns[] = {APPROVALS_DECISION, APPROVALS_REASON, APPROVALS_DECIDED_BY,
					 APPROVALS_DECIDED_AT};
	Datum values[] = {PointerGetDatum(decision), PointerGetDatum(reason), PointerGetDatum(by),
					  TimestampTzGetDatum(at)};
	bool nulls[] = {false, false, by == NULL, false};
	TupleTableSlot *slot = MakeSingleTupleTableSlot(desc, &TTSOpsHeapTuple);

	ExecStoreHeapTuple(heap_modify_tuple_by_cols(row, desc, 4, columns, values, nulls), slot,
					   false);
	own_table_update(approvals, &row->t_self, slot);
	ExecDropSingleTupleTableSlot(slot);
}

/* Enter an outcome into the row of its action. */
static void
enter_outcome(const PevCatalog *catalog, const EventType *type, int64 stream, const Jsonb *data,
			  TimestampTz created_at)
{
	const JsonbContainer *payload = payload_of(type, data, OUTCOME_TYPE);
	text *action_id = required_text(type, payload, "action_id");
	text *decision = required_word(type, payload, "decision", APPROVAL_APPROVED, APPROVAL_DENIED);
	text *reason = required_word(type, payload, "reason", REASON_DECISION, REASON_TIMEOUT);
	text *by = jsonb_object_get_text(payload, "by");
	text *message_id = required_text(type, &data->root, "message_id");
	bool timeout = strcmp(text_to_cstring(reason), REASON_TIMEOUT) == 0;
	Relation approvals =
		own_table_open(catalog->approvals, &own_approvals, InvalidOid, RowExclusiveLock);
	Approval approval = {.row = find_row(catalog, approvals, action_id, SnapshotSelf)};

	if (approval.row != NULL)
		read_row(approval.row, RelationGetDescr(approvals), &approval);
	check_requested(catalog, &approval, action_id, stream, message_id);
	check_undecided(&approval, timeout, created_at);
	store_outcome(approvals, approval.row, decision, reason, by, created_at);
	table_close(approvals, NoLock);
}

/*
 * Enter what a numbered event says of an action.  The caller has the stream's turn.
 *
 * Raises 23505 for an action that has been asked for already; 42704 for the outcome
 * of one that has not, 22023 if that was in another stream or of another message,
 * 55000 if it has an outcome, or if its deadline says otherwise.
 */
void
approval_follow(const PevCatalog *catalog, const EventType *type, int64 stream, const Jsonb *data,
				TimestampTz created_at)
{
	if (type->approval == APPROVAL_REQUEST)
		enter_request(catalog, type, stream, data, created_at);
	else
		enter_outcome(catalog, type, stream, data, created_at);
	/* so that another event of this command can change the row */
	CommandCounterIncrement();
}

/* The event that tells an outcome, without its stamps; `by` is NULL if nobody decided. */
static Jsonb *
make_outcome(const Approval *approval, const char *decision, const text *by)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	jsonb_push_text(&state, "message_id", approval->message_id);
	jsonb_push_key(&state, OUTCOME_TYPE);
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	jsonb_push_text(&state, "action_id", approval->action_id);
	jsonb_push_text(&state, "decision", cstring_to_text(decision));
	if (by != NULL)
		jsonb_push_text(&state, "by", by);
	jsonb_push_text(&state, "reason",
					cstring_to_text(by == NULL ? REASON_TIMEOUT : REASON_DECISION));
	pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/* Emit the denial of an action whose time has run out; `own`: asking the caller for no right. */
void
approval_deny_late(Oid function, const Approval *approval, bool own)
{
	emit_event(function, OUTCOME_TYPE, approval->stream,
			   make_outcome(approval, APPROVAL_DENIED, NULL), own);
}

/* Enter the same without an event, of which a closed stream takes none. */
void
approval_deny_closed(const PevCatalog *catalog, const Approval *approval)
{
	Relation approvals =
		own_table_open(catalog->approvals, &own_approvals, InvalidOid, RowExclusiveLock);

	store_outcome(approvals, approval->row, cstring_to_text(APPROVAL_DENIED),
				  cstring_to_text(REASON_TIMEOUT), NULL, GetCurrentTimestamp());
	table_close(approvals, NoLock);
	CommandCounterIncrement();
}

/*
 * Emit what the caller decides, with the caller's rights, or the denial if it is too
 * late; the caller has the stream's turn.
 */
void
approval_decide(Oid function, const Approval *approval, const char *decision, const text *by)
{
	bool late = GetCurrentTimestamp() >= approval->deadline;
	Jsonb *outcome =
		late ? make_outcome(approval, APPROVAL_DENIED, NULL) : make_outcome(approval, decision, by);
	bool outer = in_time;

	in_time = !late;
	PG_TRY();
	{
		emit_event(function, OUTCOME_TYPE, approval->stream, outcome, false);
	}
	PG_FINALLY();
	{
		in_time = outer;
	}
	PG_END_TRY();
}
