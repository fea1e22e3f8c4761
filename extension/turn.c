/*
 * turn.c
 *		A stream's turn: who may add the next event.
 *
 * Numbers without gaps in commit order need one writer at a time on a stream,
 * from giving out a number until the commit that makes it visible or the
 * rollback that takes it back.  The turn is a transaction-scoped advisory lock
 * on the stream.  Its lock class is pev's own: PostgreSQL marks the locks of
 * pg_advisory_lock(bigint) with 1 and those of (int, int) with 2, so an
 * application's locks never meet these.
 *
 * Who has won the turn looks for the stream's last event through the index on
 * (execution_id, seq).  The transaction's snapshot may be older than the
 * predecessor's commit (always so under REPEATABLE READ), hence SnapshotSelf:
 * what is committed by now, and what this transaction wrote itself.  Locks are
 * released after the commit is visible to it, so nothing is missed.
 *
 * After that the transaction remembers the last number and looks up nothing,
 * and as it commits it leaves the last event to the next one (heads.c).  What it
 * remembers follows subtransactions: on a rollback to a savepoint the turns
 * taken since are gone, with their locks, and those touched since must ask the
 * table again.
 *
 * A number is given out in BEFORE INSERT and confirmed in AFTER INSERT.  In
 * between, another trigger or ON CONFLICT may suppress the row.  Within one
 * command that cannot be seen when the next number is given out, so it shows
 * as a hole when that row is confirmed, and is refused; from one command to the
 * next the table is asked.
 *
 * A number is owed if more than its row depends on it: what its event has changed
 * in a plan or an approval is done before the row comes.  Nothing follows in the
 * stream, and no transaction commits, while the row is not there.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relation.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/tuptable.h"
#include "replication/logicalworker.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "turn.h"

#define LOCK_CLASS_STREAM 0x7065 /* locktag_field4 of a stream's turn */
#define TURNS_KEPT        64
#define LOCK_CLASS_KEY    0x7066 /* and of the making of a key */

/* This transaction's. */
static HTAB *turns = NULL;                              /* by stream */
static dlist_head touched = DLIST_STATIC_INIT(touched); /* of StreamTurn, innermost first */
static bool imported = false;                           /* rows changed without a turn */

/* Take one of pev's own locks until the end of the transaction; false if it cannot be had at once. */
static bool
take_lock(uint64 key, uint16 lock_class, bool wait)
{
	LOCKTAG tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) (key >> 32), (uint32) key, lock_class);
	return LockAcquire(&tag, ExclusiveLock, false, !wait) != LOCKACQUIRE_NOT_AVAIL;
}

/* Hold off other makers of keys with this hash. */
void
turn_lock_key(uint64 hash)
{
	(void) take_lock(hash, LOCK_CLASS_KEY, true);
}

/* Is the turn of a stream to be had without waiting?  Then the transaction has it. */
bool
turn_try(int64 stream)
{
	return take_lock((uint64) stream, LOCK_CLASS_STREAM, false);
}

/* Note that the current subtransaction has changed a turn. */
static void
touch(StreamTurn *turn)
{
	turn->touched_in = GetCurrentSubTransactionId();
	dlist_delete(&turn->node);
	dlist_push_head(&touched, &turn->node);
}

/* Position a scan on a stream's last event; NULL if it has none. */
static TupleTableSlot *
fetch_last(Relation index, Relation events, int64 stream)
{
	TupleTableSlot *slot = table_slot_create(events, NULL);
	IndexScanDesc scan = compat_index_beginscan(events, index, SnapshotSelf, 1);
	ScanKeyData key;
	bool found;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(stream));
	index_rescan(scan, &key, 1, NULL, 0);
	found = index_getnext_slot(scan, BackwardScanDirection, slot);
	if (found)
		ExecMaterializeSlot(slot);
	index_endscan(scan);
	if (found)
		return slot;
	ExecDropSingleTupleTableSlot(slot);
	return NULL;
}

/* A column of an event.  Raises 23502 if it is null, which the owner may have come to allow. */
static Datum
event_column(TupleTableSlot *slot, AttrNumber column)
{
	bool isnull;
	Datum datum = slot_getattr(slot, column, &isnull);

	if (isnull)
		ereport(ERROR, (errcode(ERRCODE_NOT_NULL_VIOLATION),
						errmsg("the last event of the stream lacks its column %d", column)));
	return datum;
}

/* Read a stream's last event from the table. */
static void
read_head(const PevCatalog *catalog, Relation events, int64 stream, StreamHead *head)
{
	Relation index = index_open(catalog->events_index, AccessShareLock);
	TupleTableSlot *slot = fetch_last(index, events, stream);
	const EventType *type;

	index_close(index, AccessShareLock);
	*head = (StreamHead){0};
	if (slot == NULL)
		return;
	type = event_type_by_label(catalog, DatumGetObjectId(event_column(slot, EVENTS_EVENT_TYPE)));
	head->seq = DatumGetInt64(event_column(slot, EVENTS_SEQ));
	head->created_at = DatumGetTimestampTz(event_column(slot, EVENTS_CREATED_AT));
	if (type->terminal != NULL &&
		event_type_closes(type, DatumGetJsonbP(event_column(slot, EVENTS_EVENT_DATA))))
		head->closed_by = type->label;
	ExecDropSingleTupleTableSlot(slot);
}

/*
 * Learn where a stream stands.  `fresh`: this transaction has written nothing
 * to it, so what others left is good enough.
 *
 * The catalogue may have changed while this transaction waited for the turn.  It
 * goes on with what it knew, but nobody else may rely on that from then on.
 */
static void
learn(const PevCatalog *catalog, Relation events, StreamTurn *turn, bool fresh)
{
	turn->learned = heads_now();
	/* in this order: what others heard of before that time is heard of here too */
	AcceptInvalidationMessages();
	turn->file = compat_relation_file(events);
	if (!fresh || !heads_get(events, turn->stream, &turn->head))
		read_head(catalog, events, turn->stream, &turn->head);
	turn->confirmed = turn->head.seq;
	turn->generation = catalog->generation;
	turn->known = true;
}

/* The number of a stream's last event by an index; false if it has none. */
static bool
last_event(Relation index, Relation events, int64 stream, int64 *seq)
{
	TupleTableSlot *slot = fetch_last(index, events, stream);

	if (slot == NULL)
		return false;
	*seq = DatumGetInt64(event_column(slot, EVENTS_SEQ));
	ExecDropSingleTupleTableSlot(slot);
	return true;
}

/* The number of a stream's last event that this transaction can count on; false if it has none. */
bool
turn_last_event(const PevCatalog *catalog, Relation events, int64 stream, int64 *seq)
{
	Relation index = index_open(catalog->events_index, AccessShareLock);
	bool found = last_event(index, events, stream, seq);

	index_close(index, AccessShareLock);
	return found;
}

/* Is the row that a turn owes in the table?  Who has dropped that is owed nothing. */
static bool
is_paid(const StreamTurn *turn)
{
	Relation events = try_relation_open(turn->events, AccessShareLock);
	Relation index = events == NULL ? NULL : try_relation_open(turn->index, AccessShareLock);
	bool paid = true;
	int64 last;

	if (index != NULL)
		paid = last_event(index, events, turn->stream, &last) && last >= turn->owed;
	if (index != NULL)
		relation_close(index, NoLock);
	if (events != NULL)
		relation_close(events, NoLock);
	return paid;
}

/* Raises 27000 if the row that a turn owes, if any, has not come. */
static void
settle(StreamTurn *turn)
{
	if (turn->owed != 0 && !is_paid(turn))
		ereport(ERROR, (errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
						errmsg("event " INT64_FORMAT " of stream " INT64_FORMAT " was suppressed",
							   turn->owed, turn->stream),
						errdetail("It has changed a plan or an approval already."),
						errhint("Neither another trigger on %s nor ON CONFLICT may leave it out.",
								EVENTS_TABLE)));
	turn->owed = 0;
}

/*
 * Must the table be asked before a number is given out?  `settled`: no row that
 * has a number is on its way any more; else those of the current command may be.
 */
static bool
must_read(const StreamTurn *turn, bool settled)
{
	if (!turn->known || turn->generation != catalog_generation())
		return true;
	/* a row may have been suppressed, or be in the table without its AFTER trigger having fired */
	return turn->head.seq != turn->confirmed &&
		   (settled || turn->command != GetCurrentCommandId(false));
}

/* The turn of a stream, if this transaction has it. */
static StreamTurn *
find_turn(int64 stream)
{
	return turns == NULL ? NULL : hash_search(turns, &stream, HASH_FIND, NULL);
}

/* A turn just locked. */
static StreamTurn *
new_turn(int64 stream)
{
	StreamTurn *turn;

	if (turns == NULL)
	{
		HASHCTL ctl = {.keysize = sizeof(int64), .entrysize = sizeof(StreamTurn)};

		turns = hash_create("pev turns", TURNS_KEPT, &ctl, HASH_ELEM | HASH_BLOBS);
	}
	turn = hash_search(turns, &stream, HASH_ENTER, NULL);
	turn->known = false;
	turn->owed = 0;
	turn->locked_in = turn->touched_in = GetCurrentSubTransactionId();
	dlist_push_head(&touched, &turn->node);
	return turn;
}

/*
 * Win the turn of a stream, waiting for it if another transaction has it, and
 * learn where the stream stands.  The caller has `events` open and locked.
 * `settled`: it is no command that numbers one row after the other.
 */
StreamTurn *
turn_take(const PevCatalog *catalog, Relation events, int64 stream, bool settled)
{
	StreamTurn *turn = find_turn(stream);
	bool fresh = turn == NULL && !imported;

	if (turn == NULL)
	{
		(void) take_lock((uint64) stream, LOCK_CLASS_STREAM, true);
		turn = new_turn(stream);
	}
	settle(turn);
	if (must_read(turn, settled))
	{
		learn(catalog, events, turn, fresh);
		touch(turn);
	}
	return turn;
}

/*
 * Learn where a stream stands without waiting for its turn: what is committed
 * by now, or what this transaction knows if the turn is its own.
 */
void
turn_peek(const PevCatalog *catalog, Relation events, int64 stream, StreamTurn *turn)
{
	StreamTurn *own = find_turn(stream);

	if (own != NULL && !must_read(own, false))
	{
		*turn = *own;
		return;
	}
	memset(turn, 0, sizeof(*turn));
	turn->stream = stream;
	learn(catalog, events, turn, own == NULL && !imported);
}

/* Rows of this stream come, change or go without its turn: ask the table next time. */
void
turn_import(int64 stream)
{
	StreamTurn *turn = find_turn(stream);

	imported = true;
	if (turn == NULL)
		return;
	turn->known = false;
	touch(turn);
}

/* Give out the next number of a stream, to an event of this type. */
int64
turn_next(StreamTurn *turn, const EventType *type, bool closes)
{
	/* strictly later than its predecessor, so that it sorts as seq does if the clock steps back */
	turn->head.created_at = Max(GetCurrentTimestamp(), turn->head.created_at + 1);
	turn->head.seq++;
	/* counts as used, so that a command within this one gets another id */
	turn->command = GetCurrentCommandId(true);
	if (closes)
		turn->head.closed_by = type->label;
	touch(turn);
	return turn->head.seq;
}

/* The row of the last number must come: its event changes more than the table. */
void
turn_owe(const PevCatalog *catalog, Relation events, StreamTurn *turn)
{
	turn->owed = turn->head.seq;
	turn->events = RelationGetRelid(events);
	turn->index = catalog->events_index;
	turn->owed_in = GetCurrentSubTransactionId();
}

/* The command that this number was given out to is over.  Raises 27000 if its row is owed. */
void
turn_settle(int64 stream, int64 seq)
{
	StreamTurn *turn = find_turn(stream);

	if (turn != NULL && turn->owed == seq)
		settle(turn);
}

/*
 * The row with this number is in the table.  Raises 27000 if the row before it
 * is not, which another trigger on the table must have suppressed.  A row that
 * nobody had the turn for came while the BEFORE trigger was disabled.
 */
void
turn_confirm(int64 stream, int64 seq)
{
	StreamTurn *turn = find_turn(stream);

	if (turn == NULL)
		imported = true;
	else if (turn->owed == seq)
		turn->owed = 0;
	if (turn == NULL || !turn->known || seq <= turn->confirmed)
		return;
	if (seq != turn->confirmed + 1)
		ereport(ERROR, (errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
						errmsg("event " INT64_FORMAT " of stream " INT64_FORMAT " was suppressed",
							   turn->confirmed + 1, stream),
						errdetail("The events of a stream are numbered without gaps."),
						errhint("In a command that inserts several rows neither another trigger on "
								"%s nor ON CONFLICT may leave one out.",
								EVENTS_TABLE)));
	turn->confirmed = seq;
	touch(turn);
}

/* No transaction ends well that owes a row. */
static void
settle_all(void)
{
	dlist_iter iter;

	dlist_foreach (iter, &touched)
		settle(dlist_container(StreamTurn, node, iter.cur));
}

/* Empty the table, which is kept for the next transaction unless it has grown. */
static void
forget_turns(void)
{
	imported = false;
	if (turns != NULL && hash_get_num_entries(turns) > TURNS_KEPT)
	{
		hash_destroy(turns);
		turns = NULL;
	}
	else
	{
		dlist_iter iter;

		dlist_foreach (iter, &touched)
			(void) hash_search(turns, &dlist_container(StreamTurn, node, iter.cur)->stream,
							   HASH_REMOVE, NULL);
	}
	dlist_init(&touched);
}

/*
 * May this commit have been that of a prepared transaction, by a replication
 * worker?  It passes no hook; the transaction around it writes nothing itself.
 */
static bool
may_commit_prepared(void)
{
	return IsLogicalWorker() && !TransactionIdIsValid(GetTopTransactionIdIfAny());
}

/* Tell the next who win these turns what this transaction knows.  Nothing here may fail. */
static void
hand_over(bool prepared)
{
	dlist_iter iter;

	dlist_foreach (iter, &touched)
	{
		const StreamTurn *turn = dlist_container(StreamTurn, node, iter.cur);

		if (!prepared && turn->known && turn->generation == catalog_generation() &&
			turn->head.seq == turn->confirmed)
			heads_put(turn->file, turn->stream, turn->learned, &turn->head);
		else
			heads_remove(turn->file, turn->stream);
	}
	if (imported || may_commit_prepared())
		heads_invalidate();
}

/* At the end of the transaction settle and hand over the turns; the locks go with it. */
static void
on_transaction_end(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			settle_all();
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PREPARE:
			hand_over(event == XACT_EVENT_PREPARE);
			forget_turns();
			break;
		case XACT_EVENT_PARALLEL_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PARALLEL_ABORT:
			forget_turns();
			break;
		default:
			break;
	}
}

/* Hand what a subtransaction touched to its parent, or undo it. */
static void
on_subtransaction_end(SubXactEvent event, SubTransactionId subid, SubTransactionId parent,
					  void *arg)
{
	dlist_mutable_iter iter;

	if (turns == NULL || (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB))
		return;
	/* the list is ordered: whatever the innermost subtransaction touched comes first */
	dlist_foreach_modify (iter, &touched)
	{
		StreamTurn *turn = dlist_container(StreamTurn, node, iter.cur);

		if (turn->touched_in != subid)
			break;
		if (event == SUBXACT_EVENT_ABORT_SUB && turn->locked_in == subid)
		{
			dlist_delete(&turn->node);
			(void) hash_search(turns, &turn->stream, HASH_REMOVE, NULL);
			continue;
		}
		if (event == SUBXACT_EVENT_ABORT_SUB)
			turn->known = false;
		if (event == SUBXACT_EVENT_ABORT_SUB && turn->owed_in == subid)
			turn->owed = 0;
		if (turn->owed_in == subid)
			turn->owed_in = parent;
		turn->touched_in = parent;
		if (turn->locked_in == subid)
			turn->locked_in = parent;
	}
}

/* Called once, when the library is loaded. */
void
turn_init(void)
{
	RegisterXactCallback(on_transaction_end, NULL);
	RegisterSubXactCallback(on_subtransaction_end, NULL);
}
