/*
 * deny.c
 *		The denial of an action whose time has run out.
 *
 * The notifier and pev_deny_expired_approvals() do the same, the one without waiting
 * for anybody, the other with the caller's rights.  A stream that has been closed
 * takes no event any more; there the row alone tells the outcome, for else it would
 * wait for ever.  Whether it is closed, its turn keeps as it is.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "approval.h"
#include "arg.h"
#include "deny.h"
#include "own_table.h"
#include "turn.h"

PG_FUNCTION_INFO_V1(pev_deny_late);

/* Is this an action that waits, though its time has run out? */
static bool
is_late(const PevCatalog *catalog, text *action_id, bool has_turn, Approval *approval)
{
	return approval_read(catalog, action_id, has_turn, approval) && approval->decision == NULL &&
		   approval->deadline <= GetCurrentTimestamp();
}

/*
 * Deny an action if its time has run out, with the turn of its stream; false if that
 * is not so.  `own`: without asking the caller for any right.  Raises what emitting does,
 * and 27000 if the event was suppressed.
 */
bool
deny_late(Oid function, const PevCatalog *catalog, text *action_id, bool own)
{
	Approval approval;
	Relation events;
	bool closed;

	if (!is_late(catalog, action_id, false, &approval))
		return false;
	events = table_open(catalog->events, RowExclusiveLock);
	closed = OidIsValid(turn_take(catalog, events, approval.stream, true)->head.closed_by);
	table_close(events, NoLock);
	if (!is_late(catalog, action_id, true, &approval))
		return false;
	if (closed)
		approval_deny_closed(catalog, &approval);
	else
		approval_deny_late(function, &approval, own);
	approval_read_outcome(pev_catalog_of_function(function), action_id, &approval);
	return true;
}

/* Lock the row of an action, if it is there; false if somebody else has locked it. */
static bool
try_lock_row(const PevCatalog *catalog, text *action_id)
{
	Relation approvals =
		own_table_open(catalog->approvals, &own_approvals, InvalidOid, RowExclusiveLock);
	TupleTableSlot *slot = table_slot_create(approvals, NULL);
	TM_FailureData failure;
	Approval approval;
	bool locked = true;

	if (approval_read(catalog, action_id, true, &approval))
		locked = table_tuple_lock(approvals, &approval.row->t_self, GetLatestSnapshot(), slot,
								  GetCurrentCommandId(false), LockTupleNoKeyExclusive, LockWaitSkip,
								  0, &failure) == TM_Ok;
	ExecDropSingleTupleTableSlot(slot);
	table_close(approvals, NoLock);
	return locked;
}

/* The same for the notifier; false if somebody else is at the stream or the row. */
bool
deny_late_at_once(const PevCatalog *catalog, text *action_id, int64 stream)
{
	if (!turn_try(stream) || !try_lock_row(catalog, action_id))
		return false;
	(void) deny_late(catalog->before_insert, catalog, action_id, true);
	return true;
}

/* pev_deny_late(action_id) returns whether it denied.  Raises 22004, 42501, and what pev_emit() does. */
Datum
pev_deny_late(PG_FUNCTION_ARGS)
{
	Oid function = fcinfo->flinfo->fn_oid;
	const PevCatalog *catalog = pev_catalog_of_function(function);

	require_argument(fcinfo, 0, "action_id");
	/* before the turn, which is nobody's who may not emit */
	own_table_check_insert(catalog->events, &own_events);
	PG_RETURN_BOOL(deny_late(function, catalog, PG_GETARG_TEXT_PP(0), false));
}
