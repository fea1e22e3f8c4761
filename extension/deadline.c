/*
 * deadline.c
 *		What the notifier does at a time: deny actions that nobody has decided.
 *
 * The notifier looks into pev_approval when it starts, when a commit has brought a
 * new deadline (which it says together with the doorbell), and at the next
 * deadline that it knows of; never otherwise.
 *
 * Doorbells must not wait for it.  So it takes a turn only if that is to be had at
 * once: who has it may be about to decide, and is asked again a moment later.  It
 * waits LOCK_TIMEOUT for a table at most, and denies BATCH_MAX actions in a
 * transaction, each in a subtransaction of its own.  What is refused for another
 * reason, as in a stream that has been closed, is said in the server's log, and
 * tried again after REFUSED_RETRY_MS; it holds up nothing else.
 *
 * Denials are emitted as the owner of the events table, in a security-restricted
 * operation: triggers that the owner has added run with no other rights.
 *
 * A subscriber receives its publisher's denials and makes none.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "approval.h"
#include "catalog.h"
#include "deadline.h"
#include "own_table.h"
#include "turn.h"

#define BATCH_MAX        32      /* denials in a transaction */
#define LOCK_TIMEOUT     "100ms" /* for a table */
#define BUSY_RETRY_MS    50      /* after a turn was not to be had */
#define FAILED_RETRY_MS  1000    /* after a look failed as a whole; doubled, */
#define FAILED_DOUBLINGS 12      /* so often at most */
#define REFUSED_RETRY_MS 600000  /* after single denials were refused */

/* An action that waits. */
typedef struct Waiting
{
	text *action_id;
	int64 stream;
	TimestampTz deadline;
} Waiting;

static TimestampTz look_at = DT_NOBEGIN; /* when to look next; at first at once */
static int failures = 0;                 /* looks that failed in a row */
static HTAB *refused = NULL;             /* hashes of actions whose denial was refused, */
static TimestampTz refused_until;        /* and until when they are left alone */

/* Milliseconds until there is something to do; negative: nothing is known of. */
long
deadline_wait(void)
{
	TimestampTz now = GetCurrentTimestamp();

	if (look_at == DT_NOEND)
		return -1;
	return look_at <= now ? 0 : Max(1, TimestampDifferenceMilliseconds(now, look_at));
}

/* Look again after a time, if not before. */
static void
look_after(int64 ms)
{
	look_at = Min(look_at, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms));
}

/* Has the denial of this action been refused a while ago? */
static bool
is_refused(const text *action_id)
{
	uint64 hash = hash_bytes_extended((const unsigned char *) VARDATA_ANY(action_id),
									  VARSIZE_ANY_EXHDR(action_id), 0);

	return refused != NULL && hash_search(refused, &hash, HASH_FIND, NULL) != NULL;
}

/* Leave this action alone for a while. */
static void
note_refused(const text *action_id)
{
	uint64 hash = hash_bytes_extended((const unsigned char *) VARDATA_ANY(action_id),
									  VARSIZE_ANY_EXHDR(action_id), 0);

	if (refused == NULL)
	{
		HASHCTL ctl = {.keysize = sizeof(uint64), .entrysize = sizeof(uint64)};

		refused = hash_create("pev refused denials", 64, &ctl, HASH_ELEM | HASH_BLOBS);
		refused_until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), REFUSED_RETRY_MS);
	}
	(void) hash_search(refused, &hash, HASH_ENTER, NULL);
}

/* Try what was refused once more when its time has come. */
static void
forgive_refused(void)
{
	if (refused == NULL || GetCurrentTimestamp() < refused_until)
		return;
	hash_destroy(refused);
	refused = NULL;
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

/* The actions that wait, after one of them, in the order of their deadlines; how many. */
static int
read_waiting(const PevCatalog *catalog, const Waiting *after, Waiting *waiting)
{
	Oid argtypes[] = {TIMESTAMPTZOID, TEXTOID};
	Datum values[] = {TimestampTzGetDatum(after->deadline), PointerGetDatum(after->action_id)};
	MemoryContext caller = CurrentMemoryContext;
	char *sql = psprintf("SELECT action_id, execution_id, deadline FROM %s.pev_approval"
						 " WHERE decision IS NULL AND (deadline, action_id) > ($1, $2)"
						 " AND NOT EXISTS (SELECT FROM pg_catalog.pg_subscription_rel"
						 " WHERE srrelid = %u)"
						 " ORDER BY deadline, action_id LIMIT %d",
						 catalog->schema_name, catalog->events, BATCH_MAX);
	int count;

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
	return count;
}

/* Deny an action, unless it has been decided; false if somebody else is at its stream. */
static bool
deny(Oid schema, const Waiting *waiting)
{
	const PevCatalog *catalog = pev_catalog(schema);
	Approval approval;

	if (!turn_try(waiting->stream))
		return false;
	if (approval_read(catalog, waiting->action_id, &approval) && approval.decision == NULL)
		approval_deny_late(catalog->before_insert, &approval);
	return true;
}

/* Say why an action could not be denied, once. */
static void
log_refusal(const Waiting *waiting, const ErrorData *error)
{
	ereport(LOG, (errcode(error->sqlerrcode),
				  errmsg("pev notifier could not deny action \"%s\": %s",
						 text_to_cstring(waiting->action_id), error->message),
				  error->detail ? errdetail_internal("%s", error->detail) : 0,
				  errhint("It is tried again in %d minutes.", REFUSED_RETRY_MS / 60000)));
}

/* The same in a subtransaction: what is refused is noted, and concerns no other action. */
static void
deny_apart(Oid schema, const Waiting *waiting)
{
	MemoryContext oldcontext = CurrentMemoryContext;
	ResourceOwner oldowner = CurrentResourceOwner;
	ErrorData *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(oldcontext);
	PG_TRY();
	{
		if (!deny(schema, waiting))
			look_after(BUSY_RETRY_MS);
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
	if (error == NULL)
		return;
	if (error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
	{
		look_after(FAILED_RETRY_MS);
		return;
	}
	log_refusal(waiting, error);
	note_refused(waiting->action_id);
}

/*
 * Deny the next of the actions whose time has run out, in this transaction; false if
 * there are no more.  `after` becomes the last one looked at, in the caller's memory.
 */
static bool
deny_batch(Waiting *after, MemoryContext caller)
{
	Oid schema = extension_schema();
	Waiting waiting[BATCH_MAX];
	const PevCatalog *catalog;
	int count;

	if (!OidIsValid(schema))
		return false;
	catalog = pev_catalog(schema);
	if (!OidIsValid(catalog->before_insert))
		return false;
	become_owner(catalog);
	count = read_waiting(catalog, after, waiting);
	for (int i = 0; i < count; i++)
	{
		if (waiting[i].deadline > GetCurrentTimestamp())
		{
			look_at = Min(look_at, waiting[i].deadline);
			return false;
		}
		if (!is_refused(waiting[i].action_id))
			deny_apart(schema, &waiting[i]);
	}
	if (count < BATCH_MAX)
		return false;
	*after = waiting[count - 1];
	MemoryContextSwitchTo(caller);
	after->action_id = DatumGetTextPCopy(PointerGetDatum(after->action_id));
	return true;
}

/* One such transaction.  Who has seen a denial must be able to rely on it: it is flushed. */
static bool
run_batch(Waiting *after, MemoryContext caller)
{
	Oid user;
	int context;
	bool more;

	GetUserIdAndSecContext(&user, &context);
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	ForceSyncCommit();
	(void) set_config_option("lock_timeout", LOCK_TIMEOUT, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_LOCAL, true, 0, false);
	PushActiveSnapshot(GetTransactionSnapshot());
	pgstat_report_activity(STATE_RUNNING, "denying actions whose time has run out");
	more = deny_batch(after, caller);
	PopActiveSnapshot();
	SetUserIdAndSecContext(user, context);
	CommitTransactionCommand();
	pgstat_report_activity(STATE_IDLE, NULL);
	/* a lock's time-out that came just too late ends nothing but this look */
	CHECK_FOR_INTERRUPTS();
	return more;
}

/* A look failed as a whole: say why, unless a table was locked, and try again later. */
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
	look_at = DT_NOEND;
	look_after((int64) FAILED_RETRY_MS << Min(failures, FAILED_DOUBLINGS));
	if (error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
		return;
	failures++;
	ereport(LOG, (errcode(error->sqlerrcode),
				  errmsg("pev notifier could not look for actions whose time has run out: %s",
						 error->message)));
}

/* Look through the actions that wait, from the earliest deadline to the first in the future. */
static void
look(MemoryContext context)
{
	Waiting after = {.action_id = cstring_to_text(""), .deadline = DT_NOBEGIN};

	look_at = DT_NOEND;
	PG_TRY();
	{
		while (run_batch(&after, context))
			;
		failures = 0;
	}
	PG_CATCH();
	{
		on_failure(context);
	}
	PG_END_TRY();
	if (refused != NULL)
		look_at = Min(look_at, refused_until);
}

/* Do what is due.  `news`: there may be deadlines that are not known of. */
void
deadline_tend(bool news)
{
	static MemoryContext context = NULL;
	MemoryContext oldcontext;

	if (!news && deadline_wait() != 0)
		return;
	if (context == NULL)
		context = AllocSetContextCreate(TopMemoryContext, "pev deadlines", ALLOCSET_DEFAULT_SIZES);
	oldcontext = MemoryContextSwitchTo(context);
	forgive_refused();
	look(context);
	MemoryContextSwitchTo(oldcontext);
	MemoryContextReset(context);
}
