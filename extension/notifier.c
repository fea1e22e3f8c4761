/*
 * notifier.c
 *		The background worker that rings the doorbell.
 *
 * NOTIFY inside the writing transaction takes a lock that every notifying
 * commit of the whole cluster waits for, and holds it across the flush of the
 * commit record.  With the library preloaded, a commit only puts its streams
 * into a ring in shared memory; the database's notifier merges them and calls
 * NOTIFY in small asynchronous transactions of its own.
 *
 * There is no list of databases.  The first commit that finds no notifier asks
 * for one and rings transactionally meanwhile.  A notifier that has had nothing
 * to do for a while ends; one that dies is replaced in the same way.  It also
 * denies actions whose time has run out (deadline.c), and stays while there are
 * any that wait; for that alone it reads and writes tables, and waits but a moment
 * for their locks.  So it is in nobody's way but that of who wants the database alone: the
 * utility hook ends it before DROP DATABASE and the like.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_database.h"
#include "commands/async.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "deadline.h"
#include "heads.h"
#include "notifier.h"

#define BATCH_MAX        2048  /* doorbells in one transaction */
#define LIVE_BATCH_MAX   256   /* unstored events in one transaction */
#define BUSY_WINDOW_US   10000 /* the load is measured over this long */
#define BUSY_WINDOW_WORK 30    /* and called busy from this many doorbells on */
#define PAUSE_MS         1
#define IDLE_EXIT_MS     300000 /* give the worker slot back after this long without work */

static bool notifier_enabled = true; /* pev.notifier */
static int my_slot = -1;             /* of this session's database, once found */
static ProcessUtility_hook_type previous_utility_hook = NULL;

PG_FUNCTION_INFO_V1(pev_start_notifier);
PGDLLEXPORT void pev_notifier_main(Datum arg);

/* Ask the postmaster for a notifier; the slot is reserved. */
static void
launch(int index)
{
	BackgroundWorker worker = {.bgw_flags =
								   BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION,
							   .bgw_start_time = BgWorkerStart_RecoveryFinished,
							   .bgw_restart_time = BGW_NEVER_RESTART,
							   .bgw_main_arg = Int32GetDatum(index)};

	snprintf(worker.bgw_library_name, sizeof(worker.bgw_library_name), "pev");
	snprintf(worker.bgw_function_name, sizeof(worker.bgw_function_name), "pev_notifier_main");
	snprintf(worker.bgw_name, BGW_MAXLEN, "pev notifier for database %u", MyDatabaseId);
	snprintf(worker.bgw_type, BGW_MAXLEN, "pev notifier");
	/* the reservation lapses, and a later commit tries again */
	if (!RegisterDynamicBackgroundWorker(&worker, NULL))
		ereport(LOG, (errmsg("no background worker is free for the pev notifier of database %u",
							 MyDatabaseId),
					  errdetail("Commits call NOTIFY themselves meanwhile."),
					  errhint("You might need to increase max_worker_processes.")));
}

/*
 * Is there a notifier for this database?  If not, one is asked for.  Called
 * before the commit, where a failure is still the transaction's.
 */
bool
notifier_ready(void)
{
	NotifierSlot *slot = notifier_slot(my_slot);
	int index;

	if (!notifier_enabled)
		return false;
	if (slot == NULL || slot->database != MyDatabaseId)
	{
		my_slot = notifier_find(MyDatabaseId);
		slot = notifier_slot(my_slot);
	}
	if (slot != NULL && slot->state == NOTIFIER_RUNNING)
		return true;
	if (notifier_available() && notifier_reserve(MyDatabaseId, &index))
		launch(index);
	return false;
}

/* pev_start_notifier(): ask for this database's notifier, if it has none; does it run? */
Datum
pev_start_notifier(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(!RecoveryInProgress() && notifier_ready());
}

/* Has the notifier that notifier_ready() found room for a commit's unstored events? */
bool
notifier_live_fits(Size size)
{
	return notifier_live_has_room(notifier_slot(my_slot), size);
}

/* Put the doorbells of a commit that notifier_ready() was asked for.  Cannot fail. */
void
notifier_post(const Doorbell *doorbells, int count, bool everything, bool urgent)
{
	notifier_put(notifier_slot(my_slot), doorbells, count, everything, urgent);
}

/*
 * Say that a commit has brought a deadline, whoever rings for it: a notifier that
 * has just been asked for may have looked before the commit.  Cannot fail.
 */
void
notifier_post_deadline(TimestampTz deadline)
{
	NotifierSlot *slot = notifier_slot(notifier_find(MyDatabaseId));

	if (slot != NULL)
		notifier_put_deadline(slot, deadline);
}

/* Put an unstored event of such a commit.  Cannot fail: without room it is dropped, and counted. */
void
notifier_post_live(const char *payload, int len)
{
	(void) notifier_put_live(notifier_slot(my_slot), payload, len);
}

/* What one transaction of the notifier sends. */
typedef struct Batch
{
	Doorbell doorbells[BATCH_MAX];
	int count;
	bool everything;
	TimestampTz oldest;
	int live; /* unstored events sent */
} Batch;

/* Keep the last number of each stream; returns how many streams there are. */
static int
merge(Doorbell *doorbells, int count)
{
	HASHCTL ctl = {.keysize = sizeof(int64),
				   .entrysize = sizeof(Doorbell),
				   .hcxt = CurrentMemoryContext};
	HTAB *merged;
	HASH_SEQ_STATUS scan;
	Doorbell *entry;

	if (count < 2)
		return count;
	merged = hash_create("pev batch", count, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	for (int i = 0; i < count; i++)
	{
		bool found;

		entry = hash_search(merged, &doorbells[i].stream, HASH_ENTER, &found);
		entry->seq = found ? Max(entry->seq, doorbells[i].seq) : doorbells[i].seq;
	}
	count = 0;
	hash_seq_init(&scan, merged);
	while ((entry = hash_seq_search(&scan)) != NULL)
		doorbells[count++] = *entry;
	return count;
}

/* Send the unstored events that wait, up to the batch's size. */
static int
send_live(NotifierSlot *slot)
{
	char payload[WAKE_PAYLOAD_MAX + 1];
	int sent = 0;

	while (sent < LIVE_BATCH_MAX && notifier_take_live(slot, payload, sizeof(payload)) >= 0)
	{
		wake_notify_live(payload);
		sent++;
	}
	return sent;
}

/* Doorbells have been taken and not been rung. */
static bool ringing = false;

/* Take what waits and send it in one transaction; how much it was. */
static int
ring_batch(NotifierSlot *slot, Batch *batch)
{
	int notifications;
	int taken =
		notifier_take(slot, batch->doorbells, BATCH_MAX, &batch->everything, &batch->oldest);

	ringing = taken > 0 || batch->everything;
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	pgstat_report_activity(STATE_RUNNING, "ringing");
	batch->live = send_live(slot);
	batch->count = merge(batch->doorbells, taken);
	notifications = wake_notify(batch->doorbells, batch->count, batch->everything) + batch->live;
	CommitTransactionCommand();
	ringing = false;
	compat_process_completed_notifies();
	pgstat_report_activity(STATE_IDLE, NULL);
	if (taken > 0 || batch->everything || batch->live > 0)
		notifier_count(slot, notifications, taken > 0 ? batch->oldest : 0);
	return taken + batch->live + (batch->everything ? 1 : 0);
}

/* Wait for the latch, or for a time-out in milliseconds; what happened. */
static int
wait_latch(long timeout)
{
	int events = WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, timeout,
						   PG_WAIT_EXTENSION);

	if (events & WL_LATCH_SET)
		ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
	return events;
}

/*
 * Give the slot back when the process ends, for whatever reason.  If that is
 * before a batch was sent, as when it is terminated while it waits for NOTIFY's
 * lock, the next notifier rings for all streams.
 */
static void
on_exit_notifier(int code, Datum arg)
{
	NotifierSlot *slot = (NotifierSlot *) DatumGetPointer(arg);

	if (ringing)
		notifier_put(slot, NULL, 0, true, false);
	notifier_release(slot);
}

/*
 * Do doorbells come so often that it pays to let them gather?  While the
 * notifier sleeps each costs the writer a signal, and the notifier a
 * transaction; a pause ends both, but costs every event half of it.
 */
static bool
is_busy(int work)
{
	static TimestampTz window_start = 0;
	static int window_work = 0;
	static bool busy = false;
	TimestampTz now = GetCurrentTimestamp();

	window_work += work;
	if (now < window_start)
	{
		/* the clock was set back */
		window_start = now;
		window_work = 0;
	}
	else if (now - window_start >= BUSY_WINDOW_US)
	{
		busy = (int64) window_work * BUSY_WINDOW_US >= BUSY_WINDOW_WORK * (now - window_start);
		window_start = now;
		window_work = 0;
	}
	return busy;
}

/* Sleep until there is something to do; end if there is nothing for long. */
static void
sleep_or_end(NotifierSlot *slot)
{
	long wait = deadline_wait();
	bool forever = wait < 0;

	if (wait == 0 || !notifier_sleep(slot))
		return;
	wait = forever ? IDLE_EXIT_MS : Min(wait, IDLE_EXIT_MS);
	if ((wait_latch(wait) & WL_TIMEOUT) && forever && notifier_sleep(slot))
		proc_exit(0);
}

/* The notifier's life: ring, pause if there is much to ring, sleep if there is nothing. */
static void
run(NotifierSlot *slot)
{
	Batch *batch = MemoryContextAlloc(TopMemoryContext, sizeof(Batch));

	for (;;)
	{
		TimestampTz deadline;
		bool busy;

		sleep_or_end(slot);
		busy = is_busy(ring_batch(slot, batch));
		deadline = notifier_take_deadline(slot);
		/* what COMMIT PREPARED brings, only the table knows */
		deadline_tend(batch->everything ? DT_NOBEGIN : deadline);
		if (busy)
			(void) wait_latch(PAUSE_MS);
		else
			CHECK_FOR_INTERRUPTS();
	}
}

/* Entry point of the background worker; the argument is the number of its slot. */
void
pev_notifier_main(Datum arg)
{
	NotifierSlot *slot = notifier_slot(DatumGetInt32(arg));

	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	if (!notifier_claim(slot))
		proc_exit(0);
	before_shmem_exit(on_exit_notifier, PointerGetDatum(slot));
	BackgroundWorkerInitializeConnectionByOid(slot->database, InvalidOid, 0);
	/* a doorbell says nothing that could be lost: do not wait for the disk */
	SetConfigOption("synchronous_commit", "off", PGC_SUSET, PGC_S_OVERRIDE);
	/* a denial is written, and reads what is committed, whatever the database's defaults */
	SetConfigOption("default_transaction_read_only", "off", PGC_USERSET, PGC_S_OVERRIDE);
	SetConfigOption("default_transaction_isolation", "read committed", PGC_USERSET, PGC_S_OVERRIDE);
	SetConfigOption("application_name", "pev notifier", PGC_USERSET, PGC_S_SESSION);
	notifier_set_running(slot);
	run(slot);
}

/* End a database's notifier and keep it away while somebody wants the database alone. */
static void
stop_notifier(const char *database)
{
	Oid oid = database == NULL ? InvalidOid : get_database_oid(database, true);
	TimestampTz until = GetCurrentTimestamp() + NOTIFIER_HOLD_US;
	pid_t pid;

	/* who may not do it must not be able to silence it either */
	if (!OidIsValid(oid) || !compat_database_ownercheck(oid, GetUserId()))
		return;
	pid = notifier_hold(oid, until);
	if (pid != 0)
		kill(pid, SIGTERM);
	while (pid != 0 && GetCurrentTimestamp() < until)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 10,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		pid = notifier_hold(oid, until);
	}
}

/* The template of a CREATE DATABASE. */
static const char *
template_of(CreatedbStmt *statement)
{
	ListCell *lc;

	foreach (lc, statement->options)
	{
		DefElem *option = lfirst(lc);

		if (strcmp(option->defname, "template") == 0 && option->arg != NULL)
			return defGetString(option);
	}
	return "template1";
}

/* The database that a statement wants alone, or NULL. */
static const char *
wants_database(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_DropdbStmt:
			return ((DropdbStmt *) statement)->dbname;
		case T_CreatedbStmt:
			return template_of((CreatedbStmt *) statement);
		case T_AlterDatabaseStmt:
			return ((AlterDatabaseStmt *) statement)->dbname;
		case T_RenameStmt:
			if (((RenameStmt *) statement)->renameType == OBJECT_DATABASE)
				return ((RenameStmt *) statement)->subname;
			return NULL;
		default:
			return NULL;
	}
}

/* Is this COMMIT PREPARED?  What that transaction wrote, only the table knows. */
static bool
is_commit_prepared(Node *statement)
{
	return IsA(statement, TransactionStmt) &&
		   ((TransactionStmt *) statement)->kind == TRANS_STMT_COMMIT_PREPARED;
}

/* Ring for all streams after COMMIT PREPARED, in a database that has the extension. */
static void
ring_for_prepared(void)
{
	if (!OidIsValid(get_extension_oid("pev", true)))
		return;
	if (notifier_ready())
		notifier_post(NULL, 0, true, false);
	else
		(void) wake_notify(NULL, 0, true);
}

/* Run a utility statement; make room before some, ring after others. */
static void
utility_hook(PlannedStmt *pstmt, const char *query, bool read_only_tree,
			 ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *env,
			 DestReceiver *dest, QueryCompletion *completion)
{
	Node *statement = pstmt->utilityStmt;
	bool prepared = is_commit_prepared(statement);

	stop_notifier(wants_database(statement));
	if (previous_utility_hook)
		previous_utility_hook(pstmt, query, read_only_tree, context, params, env, dest, completion);
	else
		standard_ProcessUtility(pstmt, query, read_only_tree, context, params, env, dest,
								completion);
	if (prepared)
	{
		heads_invalidate();
		ring_for_prepared();
	}
}

/* Called once, when the library is loaded. */
void
notifier_init(void)
{
	DefineCustomBoolVariable("pev.notifier", "Ring the doorbell from a background worker.",
							 "Needs shared_preload_libraries = 'pev'.  When off, commits call "
							 "NOTIFY themselves.",
							 &notifier_enabled, true, PGC_SUSET, 0, NULL, NULL, NULL);
	if (!process_shared_preload_libraries_in_progress)
		return;
	notifier_shmem_init();
	previous_utility_hook = ProcessUtility_hook;
	ProcessUtility_hook = utility_hook;
}
