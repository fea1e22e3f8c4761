/*
 * deadline.c
 *		What the notifier does at a time: deny actions that nobody has decided.
 *
 * Doorbells must not wait for it.  So it does one batch in a turn of the notifier's
 * loop, which rings in between, and goes on after the action that it came to.  It
 * waits for nobody's turn and nobody's row, and LOCK_TIMEOUT for a table, after which
 * it lets LOCKED_RETRY_MS pass.
 *
 * A stream that takes no denial rests, so that none of its actions is asked for: a
 * short while if somebody else is at it or the fault passes, a long one if it has
 * refused REFUSALS_MAX.  Who asks for more wakes nobody: what it brought lies after
 * the last action looked at, or says from where on to look again.  Only every
 * RESCAN_MS are all that wait looked through, for what that misses: streams that
 * find no place to rest, and deadlines that somebody changed.
 *
 * Denials are emitted as the owner of the events table, in a security-restricted
 * operation: triggers that the owner has added run with no other rights, and what
 * they SET does not last.
 *
 * A subscriber receives its publisher's denials and makes none.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "catalog.h"
#include "deadline.h"
#include "deny.h"
#include "own_table.h"
#include "turn.h"

#define BATCH_MAX         32      /* denials in a transaction */
#define READ_MAX          1000    /* actions looked at in one, where streams rest */
#define LOCK_TIMEOUT      "100ms" /* for a table */
#define LOCKED_RETRY_MS   1000    /* after that */
#define FAILED_RETRY_MS   1000    /* after a look failed as a whole; doubled, */
#define FAILED_DOUBLINGS  12      /* so often at most */
#define RESTING_MAX       256     /* streams that rest */
#define REST_MS           50      /* how long at first; doubled, */
#define BUSY_REST_MAX_MS  1000    /* up to this if somebody else is there, */
#define FAULT_REST_MAX_MS 60000   /* and this after what may pass */
#define REFUSED_REST_MS   600000  /* after any other refusal */
#define REFUSALS_MAX      8       /* actions that a stream may refuse until it rests */
#define RESCAN_MS         60000

/* An action that waits. */
typedef struct Waiting
{
	text *action_id;
	int64 stream;
	TimestampTz deadline;
} Waiting;

/* A stream that takes no denial for a while. */
typedef struct Rest
{
	int64 stream;
	TimestampTz first; /* deadline of the first action that was left */
	TimestampTz until; /* DT_NOBEGIN: it is over */
	int64 ms;          /* how long it is */
	int refusals;      /* other than because of a fault that may pass */
	bool whole;        /* none of its actions is tried */
} Rest;

static TimestampTz look_at = DT_NOBEGIN;          /* when to look next; at first at once, */
static TimestampTz not_before = DT_NOBEGIN;       /* but not before this */
static TimestampTz rescan_at = DT_NOBEGIN;        /* when to look through all, if at any */
static bool looking = false;                      /* a look is between two batches */
static bool rescanning = false;                   /* this look does */
static Waiting position = {.deadline = DT_NOEND}; /* the last action looked at */
static int read_max = BATCH_MAX;                  /* to look at next time */
static int failures = 0;                          /* looks that failed in a row */
static int refusals = 0;                          /* in this look, */
static char *refusal = NULL;                      /* and the first of them */
static Rest resting[RESTING_MAX];
static int nresting = 0;

/* Milliseconds until there is something to do; negative: nothing is known of. */
long
deadline_wait(void)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz at = Max(look_at, not_before);

	if (look_at == DT_NOEND)
		return -1;
	return at <= now ? 0 : Max(1, TimestampDifferenceMilliseconds(now, at));
}

/* So many milliseconds from now. */
static TimestampTz
after_ms(int64 ms)
{
	return TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms);
}

/* Go on from this action. */
static void
set_position(TimestampTz deadline, const text *action_id)
{
	text *copy = MemoryContextAlloc(TopMemoryContext, VARSIZE_ANY(action_id));

	memcpy(copy, action_id, VARSIZE_ANY(action_id));
	if (position.action_id != NULL)
		pfree(position.action_id);
	position.action_id = copy;
	position.deadline = deadline;
}

/* Look, from this deadline on if that was passed. */
static void
look_from(TimestampTz deadline)
{
	look_at = DT_NOBEGIN;
	if (deadline <= position.deadline)
		set_position(deadline == DT_NOBEGIN ? deadline : deadline - 1, cstring_to_text(""));
	if (deadline != DT_NOBEGIN)
		return;
	rescanning = true;
	rescan_at = after_ms(RESCAN_MS);
}

/* The entry of a stream among those that rest, or have rested; NULL if it has none. */
static Rest *
find_rest(int64 stream)
{
	for (int i = 0; i < nresting; i++)
		if (resting[i].stream == stream)
			return &resting[i];
	return NULL;
}

/* Leave an action's stream alone, longer each time, up to a time. */
static Rest *
rest(const Waiting *action, int64 max_ms)
{
	static Rest nowhere; /* the next look through all comes to it */
	Rest *entry = find_rest(action->stream);

	if (entry == NULL)
	{
		entry = nresting < RESTING_MAX ? &resting[nresting++] : &nowhere;
		*entry = (Rest){.stream = action->stream, .first = DT_NOEND, .ms = REST_MS / 2};
		if (entry == &nowhere)
			rescanning = false;
	}
	entry->ms = Min(entry->ms * 2, max_ms);
	entry->until = after_ms(entry->ms);
	entry->first = Min(entry->first, action->deadline);
	entry->whole = true;
	return entry;
}

/* Does this action's stream rest? */
static bool
rests(const Waiting *action)
{
	Rest *entry = find_rest(action->stream);

	if (entry == NULL || entry->until == DT_NOBEGIN || !entry->whole)
		return false;
	entry->first = Min(entry->first, action->deadline);
	return true;
}

/* Go back to the actions of streams that have rested, but for those that are still taken. */
static void
wake_rested(void)
{
	for (int i = 0; i < nresting; i++)
	{
		Rest *entry = &resting[i];

		if (entry->until == DT_NOBEGIN || entry->until > GetCurrentTimestamp())
			continue;
		if (turn_try(entry->stream))
		{
			look_from(entry->first);
			entry->first = DT_NOEND;
			entry->until = DT_NOBEGIN;
			entry->refusals = 0;
			continue;
		}
		entry->ms = Min(entry->ms * 2, BUSY_REST_MAX_MS);
		entry->until = after_ms(entry->ms);
	}
}

/* The schema that the extension is in; InvalidOid if the database does not have it. */
static Oid
extension_schema(void)
{
	Relation extensions = table_open(ExtensionRelationId, AccessShareLock);
	Oid schema = InvalidOid;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple row;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ,
				CStringGetDatum("pev"));
	scan = systable_beginscan(extensions, ExtensionNameIndexId, true, NULL, 1, &key);
	row = systable_getnext(scan);
	if (HeapTupleIsValid(row))
		schema = ((Form_pg_extension) GETSTRUCT(row))->extnamespace;
	systable_endscan(scan);
	table_close(extensions, AccessShareLock);
	return schema;
}

/* Become the owner of the events table until the transaction ends. */
static void
become_owner(const PevCatalog *catalog)
{
	Relation events =
		own_table_open(catalog->events, &own_events, catalog->enum_type, AccessShareLock);
	Oid user;
	int context;

	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(events->rd_rel->relowner,
						   context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	table_close(events, NoLock);
}

/* The next of the actions that wait, in the order of their deadlines; how many. */
static int
read_waiting(const PevCatalog *catalog, Waiting *waiting)
{
	Oid argtypes[] = {TIMESTAMPTZOID, TEXTOID};
	Datum values[] = {TimestampTzGetDatum(position.deadline), PointerGetDatum(position.action_id)};
	MemoryContext caller = CurrentMemoryContext;
	char *sql = psprintf("SELECT action_id, execution_id, deadline FROM %s.pev_approval"
						 " WHERE decision IS NULL AND (deadline, action_id) > ($1, $2)"
						 " AND NOT EXISTS (SELECT FROM pg_catalog.pg_subscription_rel"
						 " WHERE srrelid = %u)"
						 " ORDER BY deadline, action_id LIMIT %d",
						 catalog->schema_name, catalog->events, read_max);
	int nest = NewGUCNestLevel();
	int count;

	/* policies that are forced on the owner are an error, or they would hide what waits */
	(void) set_config_option("row_security", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
							 true, 0, false);
	SPI_connect();
	if (SPI_execute_with_args(sql, 2, argtypes, values, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not look for actions that wait");
	count = SPI_processed;
	for (int i = 0; i < count; i++)
	{
		HeapTuple row = SPI_tuptable->vals[i];
		TupleDesc desc = SPI_tuptable->tupdesc;
		MemoryContext oldcontext = MemoryContextSwitchTo(caller);

		waiting[i].action_id = DatumGetTextPCopy(own_table_column(row, desc, 1));
		waiting[i].stream = DatumGetInt64(own_table_column(row, desc, 2));
		waiting[i].deadline = DatumGetTimestampTz(own_table_column(row, desc, 3));
		MemoryContextSwitchTo(oldcontext);
	}
	SPI_finish();
	AtEOXact_GUC(false, nest);
	return count;
}

/* May it go well the next time, though nobody does anything about it? */
static bool
may_pass(const ErrorData *error)
{
	switch (ERRCODE_TO_CATEGORY(error->sqlerrcode))
	{
		case ERRCODE_TRANSACTION_ROLLBACK:
		case ERRCODE_INSUFFICIENT_RESOURCES:
		case ERRCODE_OPERATOR_INTERVENTION:
			return true;
		case ERRCODE_TO_CATEGORY(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE):
			return true;
		default:
			return error->sqlerrcode == ERRCODE_INTERNAL_ERROR &&
				   strstr(error->message, "concurrently") != NULL;
	}
}

/* Note that an action could not be denied; false if that ends the look. */
static bool
on_refusal(const Waiting *action, const ErrorData *error)
{
	if (error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
	{
		(void) rest(action, BUSY_REST_MAX_MS);
		not_before = after_ms(LOCKED_RETRY_MS);
		return false;
	}
	if (may_pass(error))
	{
		if (rest(action, FAULT_REST_MAX_MS)->ms < FAULT_REST_MAX_MS)
			return true;
	}
	else
	{
		Rest *entry = rest(action, REFUSED_REST_MS);

		entry->whole = ++entry->refusals >= REFUSALS_MAX;
		entry->ms = REFUSED_REST_MS;
		entry->until = after_ms(entry->ms);
	}
	if (refusals++ == 0)
		refusal = MemoryContextStrdup(TopMemoryContext,
									  psprintf("\"%s\": %s", text_to_cstring(action->action_id),
											   error->message));
	return true;
}

/* Deny an action in a subtransaction; false if no other should be tried now. */
static bool
deny_apart(Oid schema, const Waiting *action)
{
	MemoryContext oldcontext = CurrentMemoryContext;
	ResourceOwner oldowner = CurrentResourceOwner;
	ErrorData *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(oldcontext);
	PG_TRY();
	{
		if (!deny_late_at_once(pev_catalog(schema), action->action_id, action->stream))
			(void) rest(action, BUSY_REST_MAX_MS);
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
	return error == NULL || on_refusal(action, error);
}

/* Say what could not be denied in this look, in one line. */
static void
log_refusals(void)
{
	if (refusals == 0)
		return;
	ereport(LOG,
			(errmsg("pev notifier could not deny %d actions of database \"%s\", such as %s",
					refusals, get_database_name(MyDatabaseId), refusal),
			 errhint("It tries again, at the latest in %d minutes.", REFUSED_REST_MS / 60000)));
	pfree(refusal);
	refusals = 0;
}

/* The look has come to an action that has time, or to the last one: when is the next? */
static void
end_look(TimestampTz next)
{
	int kept = 0;

	log_refusals();
	look_at = next;
	for (int i = 0; i < nresting; i++)
	{
		if (resting[i].until == DT_NOBEGIN)
			continue;
		look_at = Min(look_at, resting[i].until);
		resting[kept++] = resting[i];
	}
	nresting = kept;
	if (!rescanning)
		look_at = Min(look_at, rescan_at);
	looking = rescanning = false;
}

/* Deny the next actions whose time has run out, in this transaction. */
static void
deny_batch(void)
{
	Oid schema = extension_schema();
	const PevCatalog *catalog = OidIsValid(schema) ? pev_catalog(schema) : NULL;
	Waiting *waiting = palloc(sizeof(Waiting) * READ_MAX);
	int tried = 0;
	int count;

	if (catalog == NULL || !OidIsValid(catalog->before_insert))
	{
		end_look(DT_NOEND);
		return;
	}
	become_owner(catalog);
	wake_rested();
	count = read_waiting(catalog, waiting);
	for (int i = 0; i < count && tried < BATCH_MAX; i++)
	{
		if (waiting[i].deadline > GetCurrentTimestamp())
		{
			end_look(waiting[i].deadline);
			return;
		}
		set_position(waiting[i].deadline, waiting[i].action_id);
		if (rests(&waiting[i]))
			continue;
		tried++;
		if (!deny_apart(schema, &waiting[i]))
			return;
	}
	if (count < read_max && tried < BATCH_MAX)
		end_look(DT_NOEND);
	/* where streams rest, read on in larger steps */
	read_max = tried > 0 ? BATCH_MAX : READ_MAX;
}

/* One such transaction.  Who has seen a denial must be able to rely on it: it is flushed. */
static void
run_batch(void)
{
	Oid user;
	int context;
	int nest;

	GetUserIdAndSecContext(&user, &context);
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	ForceSyncCommit();
	nest = NewGUCNestLevel();
	(void) set_config_option("lock_timeout", LOCK_TIMEOUT, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	PushActiveSnapshot(GetTransactionSnapshot());
	pgstat_report_activity(STATE_RUNNING, "denying actions whose time has run out");
	deny_batch();
	PopActiveSnapshot();
	AtEOXact_GUC(false, nest);
	SetUserIdAndSecContext(user, context);
	CommitTransactionCommand();
	pgstat_report_activity(STATE_IDLE, NULL);
	/* a lock's time-out that came just too late ends nothing but this look */
	CHECK_FOR_INTERRUPTS();
}

/* A batch failed as a whole: say why, unless a table was locked, and try again later. */
static void
on_failure(MemoryContext caller)
{
	ErrorData *error;

	MemoryContextSwitchTo(caller);
	error = CopyErrorData();
	FlushErrorState();
	AbortCurrentTransaction();
	MemoryContextSwitchTo(caller);
	pgstat_report_activity(STATE_IDLE, NULL);
	/* what the batch had denied waits again */
	look_from(DT_NOBEGIN);
	not_before = after_ms((int64) FAILED_RETRY_MS << Min(failures, FAILED_DOUBLINGS));
	if (error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
		return;
	failures++;
	ereport(LOG,
			(errcode(error->sqlerrcode),
			 errmsg("pev notifier of database %u could not look for actions whose time has run "
					"out: %s",
					MyDatabaseId, error->message)));
}

/* The same, whatever happens. */
static void
try_batch(MemoryContext context)
{
	PG_TRY();
	{
		run_batch();
		failures = 0;
	}
	PG_CATCH();
	{
		on_failure(context);
	}
	PG_END_TRY();
}

/* Do what is due, one batch.  `earliest`: a deadline that was not known of, or DT_NOEND. */
void
deadline_tend(TimestampTz earliest)
{
	static MemoryContext context = NULL;
	MemoryContext oldcontext;

	if (context == NULL)
		context = AllocSetContextCreate(TopMemoryContext, "pev deadlines", ALLOCSET_DEFAULT_SIZES);
	oldcontext = MemoryContextSwitchTo(context);
	if (earliest != DT_NOEND)
		look_from(earliest);
	if (deadline_wait() == 0)
	{
		if (!looking && GetCurrentTimestamp() >= rescan_at)
			look_from(DT_NOBEGIN);
		look_at = DT_NOBEGIN;
		looking = true;
		try_batch(context);
	}
	MemoryContextSwitchTo(oldcontext);
	MemoryContextReset(context);
}
