/*
 * insert.c
 *		pev_emit()'s short way into the events table.
 *
 * An INSERT through SPI sets up a plan's execution, calls the row triggers
 * through the executor and keeps a queue for those that fire after the row: more
 * work than the row itself.  Where the table is as the install script made it
 * and the statement would do nothing else, its parts are done here one after the
 * other: privilege, identity, what the BEFORE trigger does, heap, indexes, what
 * the AFTER trigger does.  Measured with 32 writers it saves a sixth of
 * pev_emit()'s transaction.
 *
 * Whatever an owner may have added that an INSERT would heed (columns, other
 * triggers, rules, row-level security, constraints), what the session has set
 * (session_replication_role), or a module that watches which tables are written
 * to, sends the event the long way.  Both end in the same functions of event.c.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_trigger.h"
#include "commands/sequence.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "event.h"
#include "insert.h"

#define EVENTS_COLUMNS 6

/* Is this trigger one of the extension's two, and does it fire as it was made to? */
static bool
is_own_trigger(const Trigger *trigger, const PevCatalog *catalog)
{
	int16 row_insert = TRIGGER_TYPE_ROW | TRIGGER_TYPE_INSERT;

	if ((trigger->tgenabled != TRIGGER_FIRES_ON_ORIGIN &&
		 trigger->tgenabled != TRIGGER_FIRES_ALWAYS) ||
		trigger->tgqual != NULL || trigger->tgdeferrable)
		return false;
	if (trigger->tgtype == (row_insert | TRIGGER_TYPE_BEFORE))
		return trigger->tgfoid == catalog->before_insert;
	return trigger->tgtype == row_insert && trigger->tgfoid == catalog->after_insert;
}

/*
 * Does an INSERT fire the extension's two triggers and nothing else?  Foreign keys
 * and deferrable constraints have triggers too.
 */
static bool
has_own_triggers(Relation events, const PevCatalog *catalog)
{
	const TriggerDesc *triggers = events->trigdesc;
	int count = 0;

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		const Trigger *trigger = &triggers->triggers[i];

		if (!TRIGGER_FOR_INSERT(trigger->tgtype))
			continue;
		if (!is_own_trigger(trigger, catalog))
			return false;
		count++;
	}
	/* two of one kind are not one of each */
	return count == 2 && triggers->trig_insert_before_row && triggers->trig_insert_after_row;
}

/* Is the table as the install script made it, as far as an INSERT would care? */
static bool
is_plain(Relation events, const PevCatalog *catalog)
{
	const TupleConstr *constr = RelationGetDescr(events)->constr;

	return OidIsValid(catalog->events_sequence) && events->rd_rules == NULL &&
		   RelationGetNumberOfAttributes(events) == EVENTS_COLUMNS &&
		   !events->rd_rel->relispartition &&
		   (constr == NULL || (constr->num_check == 0 && !constr->has_generated_stored)) &&
		   has_own_triggers(events, catalog);
}

/* The same, found out once for as long as nothing changes.  The table is open and locked. */
static bool
is_plain_now(Relation events, const PevCatalog *catalog)
{
	static Oid judged = InvalidOid; /* the table */
	static uint64 generation;       /* the catalogue's, when it was judged */
	static bool plain;

	if (judged != RelationGetRelid(events) || generation != catalog_generation())
	{
		/* first: what changes while it is judged has it judged again */
		generation = catalog_generation();
		plain = is_plain(events, catalog);
		judged = RelationGetRelid(events);
	}
	return plain;
}

/*
 * May this user, in this session, take the short way?  Who lacks the table's
 * INSERT may still have that of its columns, or is to be told, and policies have
 * to see what is given: the long way.  None of that concerns pev's own events.
 */
static bool
is_open_to_caller(Relation events, bool own)
{
	Oid relid = RelationGetRelid(events);

	if (SessionReplicationRole == SESSION_REPLICATION_ROLE_REPLICA ||
		ExecutorCheckPerms_hook != NULL)
		return false;
	return own || (pg_class_aclcheck(relid, GetUserId(), ACL_INSERT) == ACLCHECK_OK &&
				   check_enable_rls(relid, InvalidOid, true) != RLS_ENABLED);
}

/*
 * Open the events table for the extension's function; false if its events have to
 * go the long way.  `own`: they are pev's, not the caller's.
 */
bool
insert_begin(EventInsert *insert, Oid function, bool own)
{
	const PevCatalog *catalog = pev_catalog_of_function(function);
	Relation events = table_open(catalog->events, RowExclusiveLock);
	MemoryContext caller;

	/* an INSERT would hear of changed types, and of a changed table, by now */
	AcceptInvalidationMessages();
	catalog = pev_catalog_of_function(function);
	if (RelationGetRelid(events) != catalog->events || !is_plain_now(events, catalog) ||
		!is_open_to_caller(events, own))
	{
		table_close(events, RowExclusiveLock);
		return false;
	}
	PreventCommandIfReadOnly("INSERT");
	PreventCommandIfParallelMode("INSERT");
	insert->events = events;
	insert->estate = CreateExecutorState();
	caller = MemoryContextSwitchTo(insert->estate->es_query_cxt);
	insert->target = makeNode(ResultRelInfo);
	InitResultRelInfo(insert->target, events, 0, NULL, 0);
	ExecOpenIndices(insert->target, false);
	insert->slot = table_slot_create(events, NULL);
	MemoryContextSwitchTo(caller);
	return true;
}

/* Fill the slot with an event's row. */
static void
fill_slot(EventInsert *insert, const PevCatalog *catalog, Oid label, int64 stream,
		  const NumberedEvent *event)
{
	TupleTableSlot *slot = insert->slot;

	ExecClearTuple(slot);
	memset(slot->tts_isnull, false, sizeof(bool) * EVENTS_COLUMNS);
	slot->tts_values[EVENTS_ID - 1] =
		Int64GetDatum(nextval_internal(catalog->events_sequence, false));
	slot->tts_values[EVENTS_EXECUTION_ID - 1] = Int64GetDatum(stream);
	slot->tts_values[EVENTS_SEQ - 1] = Int64GetDatum(event->seq);
	slot->tts_values[EVENTS_EVENT_TYPE - 1] = ObjectIdGetDatum(label);
	slot->tts_values[EVENTS_EVENT_DATA - 1] = JsonbPGetDatum(event->data);
	slot->tts_values[EVENTS_CREATED_AT - 1] = TimestampTzGetDatum(event->created_at);
	ExecStoreVirtualTuple(slot);
}

/* Insert an event of a type that is stored; its number. */
int64
insert_one(EventInsert *insert, Oid function, Oid label, int64 stream, Jsonb *data)
{
	MemoryContext caller = MemoryContextSwitchTo(GetPerTupleMemoryContext(insert->estate));
	const PevCatalog *catalog;
	NumberedEvent event;
	bool urgent;

	event_number(function, insert->events, label, stream, data, &event);
	catalog = pev_catalog_of_function(function);
	/* known before the row is in: an index's function may have the catalogue read anew */
	urgent = event_type_by_label(catalog, label)->urgent;
	fill_slot(insert, catalog, label, stream, &event);
	table_tuple_insert(insert->events, insert->slot, GetCurrentCommandId(true), 0, NULL);
	if (insert->target->ri_NumIndices > 0)
		compat_insert_index_tuples(insert->target, insert->slot, insert->estate, false);
	event_stored(stream, event.seq, urgent);
	ResetPerTupleExprContext(insert->estate);
	MemoryContextSwitchTo(caller);
	return event.seq;
}

/* All events are in. */
void
insert_end(EventInsert *insert)
{
	ExecDropSingleTupleTableSlot(insert->slot);
	ExecCloseIndices(insert->target);
	FreeExecutorState(insert->estate);
	table_close(insert->events, NoLock);
}
