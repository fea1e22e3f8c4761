/*
 * approve.c
 *		pev_approve(): a person's decision about an action.
 *
 * The action is looked up with the caller's rights, and so row-level security hides
 * what the caller may not see; then with the stream's turn, where its row can change
 * no more, it is read as it is committed by now.  So whoever comes second learns
 * what the first has decided, whatever the transaction's isolation level, and is
 * refused nothing.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "approval.h"
#include "arg.h"
#include "own_table.h"
#include "turn.h"

PG_FUNCTION_INFO_V1(pev_approve);

/* What the caller decides.  Raises 22023 for what is no decision. */
static const char *
decision_argument(const text *argument)
{
	const char *decision = text_to_cstring(argument);

	if (strcmp(decision, APPROVAL_APPROVED) != 0 && strcmp(decision, APPROVAL_DENIED) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("decision must be \"%s\" or \"%s\"", APPROVAL_APPROVED, APPROVAL_DENIED)));
	return decision;
}

/* Refuse an action that is not known, or that the caller may not see. */
static void
check_visible(const PevCatalog *catalog, text *action_id)
{
	Oid argtypes[] = {TEXTOID};
	Datum values[] = {PointerGetDatum(action_id)};
	char *sql = psprintf("SELECT FROM %s.pev_approval WHERE action_id = $1", catalog->schema_name);

	SPI_connect();
	if (SPI_execute_with_args(sql, 1, argtypes, values, NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not look up an action");
	if (SPI_processed == 0)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("action \"%s\" is not known", text_to_cstring(action_id)),
						errhint("See the actions in pev_approval.")));
	SPI_finish();
}

/* Read an action that is known to be there. */
static void
read_known(const PevCatalog *catalog, text *action_id, bool has_turn, Approval *approval)
{
	if (!approval_read(catalog, action_id, has_turn, approval))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("action \"%s\" is not known any more", text_to_cstring(action_id)),
						errdetail("Its row of pev_approval has been deleted.")));
}

/* Decide an action unless it has been; whether the caller's decision is the outcome. */
static bool
decide(Oid function, text *action_id, const char *decision, const text *by, Approval *approval)
{
	const PevCatalog *catalog = pev_catalog_of_function(function);
	Relation events;

	read_known(catalog, action_id, false, approval);
	if (approval->decision != NULL)
		return false;
	events = table_open(catalog->events, RowExclusiveLock);
	(void) turn_take(catalog, events, approval->stream, true);
	table_close(events, NoLock);
	read_known(catalog, action_id, true, approval);
	if (approval->decision != NULL)
		return false;
	approval_decide(function, approval, decision, by);
	approval_read_outcome(pev_catalog_of_function(function), action_id, approval);
	return approval->decided_by != NULL;
}

/*
 * pev_approve(action_id, decision, by, OUT outcome, OUT decided_by, OUT decided_at,
 * OUT won).  Raises 22004, 22023 for another decision, 42501, 42704 for an unknown
 * action, and what pev_emit() does.
 */
Datum
pev_approve(PG_FUNCTION_ARGS)
{
	Oid function = fcinfo->flinfo->fn_oid;
	const PevCatalog *catalog = pev_catalog_of_function(function);
	const char *decision;
	Approval approval;
	TupleDesc desc;
	Datum values[4];
	bool nulls[4] = {false};
	bool won;

	require_argument(fcinfo, 0, "action_id");
	require_argument(fcinfo, 1, "decision");
	require_argument(fcinfo, 2, "by");
	decision = decision_argument(PG_GETARG_TEXT_PP(1));
	check_visible(catalog, PG_GETARG_TEXT_PP(0));
	/* before the turn, which is nobody's who may not emit */
	own_table_check_insert(catalog->events, &own_events);
	won = decide(function, PG_GETARG_TEXT_PP(0), decision, PG_GETARG_TEXT_PP(2), &approval);
	values[0] = PointerGetDatum(approval.decision);
	values[1] = PointerGetDatum(approval.decided_by);
	values[2] = TimestampTzGetDatum(approval.decided_at);
	values[3] = BoolGetDatum(won);
	nulls[1] = approval.decided_by == NULL;
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}
