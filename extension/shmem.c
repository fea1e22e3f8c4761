/*
 * shmem.c
 *		Asking for shared memory, for all modules that share something.
 *
 * Possible only while the library is preloaded; otherwise there is none, and
 * each module does without.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "heads.h"
#include "notifier.h"
#include "shmem.h"

static shmem_startup_hook_type previous_startup_hook = NULL;

/* In a hook from 15 on, while the library is loaded before. */
#if PG_VERSION_NUM >= 150000
static shmem_request_hook_type previous_request_hook = NULL;
#endif

/* Ask for what the modules need. */
static void
request(void)
{
#if PG_VERSION_NUM >= 150000
	if (previous_request_hook)
		previous_request_hook();
#endif
	RequestAddinShmemSpace(add_size(heads_shmem_size(), notifier_shmem_size()));
	RequestNamedLWLockTranche(NOTIFIER_TRANCHE, 1);
}

/* Let the modules find or make their share. */
static void
start(void)
{
	if (previous_startup_hook)
		previous_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	heads_shmem_start();
	notifier_shmem_start();
	LWLockRelease(AddinShmemInitLock);
}

/* Called once, while shared_preload_libraries is processed. */
void
shmem_init(void)
{
#if PG_VERSION_NUM >= 150000
	previous_request_hook = shmem_request_hook;
	shmem_request_hook = request;
#else
	request();
#endif
	previous_startup_hook = shmem_startup_hook;
	shmem_startup_hook = start;
}
