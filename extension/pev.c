/*
 * pev.c
 *		What happens when the library is loaded.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"

#include "catalog.h"
#include "compat.h"
#include "heads.h"
#include "notifier.h"
#include "plan.h"
#include "shmem.h"
#include "stamp.h"
#include "token.h"
#include "turn.h"
#include "wake.h"

PG_MODULE_MAGIC;

void _PG_init(void);

/* Define the settings and hook into transactions. */
void
_PG_init(void)
{
	DefineCustomStringVariable("pev.message_id",
							   "The message that events of this session answer to.",
							   "Stamped as message_id into events of the agent family that come "
							   "without one.",
							   &pev_message_id, "", PGC_USERSET, 0, NULL, NULL, NULL);
	token_init();
	notifier_init();
	plan_init();
	if (process_shared_preload_libraries_in_progress)
	{
		heads_init();
		shmem_init();
	}
	MarkGUCPrefixReserved("pev");
	catalog_init();
	turn_init();
	wake_init();
}
