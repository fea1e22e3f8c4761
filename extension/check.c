/*
 * check.c
 *		SQL functions that ask the catalogue about an event without storing it.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "arg.h"
#include "catalog.h"
#include "compat.h"
#include "event.h"

#define FAULTS_LISTED 1000 /* rows of pev_validate() */

PG_FUNCTION_INFO_V1(pev_validate);
PG_FUNCTION_INFO_V1(pev_is_valid);
PG_FUNCTION_INFO_V1(pev_is_terminal);

/* What a call leaves to the next of the same expression, if its type is a constant. */
typedef struct KnownType
{
	uint64 generation; /* the catalogue's */
	const EventType *type;
} KnownType;

/* The type that the first argument names. */
static const EventType *
named_type(FunctionCallInfo fcinfo)
{
	FmgrInfo *flinfo = fcinfo->flinfo;
	KnownType *known = flinfo->fn_extra;
	uint64 generation = catalog_generation();
	const EventType *type;

	if (known != NULL && known->generation == generation)
		return known->type;
	type = event_type_by_name(pev_catalog_of_function(flinfo->fn_oid),
							  text_to_cstring(PG_GETARG_TEXT_PP(0)));
	if (!get_fn_expr_arg_stable(flinfo, 0))
		return type;
	if (known == NULL)
		known = flinfo->fn_extra = MemoryContextAlloc(flinfo->fn_mcxt, sizeof(KnownType));
	*known = (KnownType){generation, type};
	return type;
}

/* Collect what pev_emit() would refuse in an event, stamped as it would be. */
static void
collect_faults(FunctionCallInfo fcinfo, SchemaReport *report)
{
	const EventType *type = named_type(fcinfo);
	Jsonb *data = event_stamp(type, 0, NULL, PG_GETARG_JSONB_P(1));

	event_check(type, data, report);
	if (VARSIZE(data) > (Size) type->max_bytes)
		schema_report_add(report, pstrdup(""), "max_bytes",
						  psprintf("takes %u bytes; the limit of this type is %d bytes",
								   (unsigned) VARSIZE(data), type->max_bytes));
}

/* pev_validate(type text, data jsonb): a row for every fault; 22023 for an unknown type */
Datum
pev_validate(PG_FUNCTION_ARGS)
{
	SchemaReport report = {.limit = FAULTS_LISTED};
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	require_argument(fcinfo, 0, "type");
	require_argument(fcinfo, 1, "data");
	collect_faults(fcinfo, &report);
	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < report.count; i++)
	{
		const SchemaFault *fault = &report.faults[i];
		Datum values[3];
		bool nulls[3] = {false, false, false};

		values[0] = CStringGetTextDatum(fault->path);
		values[1] = CStringGetTextDatum(fault->keyword);
		values[2] = CStringGetTextDatum(fault->message);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* pev_is_valid(type text, data jsonb) */
Datum
pev_is_valid(PG_FUNCTION_ARGS)
{
	const EventType *type = named_type(fcinfo);
	Jsonb *data = event_stamp(type, 0, NULL, PG_GETARG_JSONB_P(1));

	PG_RETURN_BOOL(VARSIZE(data) <= (Size) type->max_bytes && event_conforms(type, data));
}

/* pev_is_terminal(type assistant_event_type, data jsonb): does this event close its stream? */
Datum
pev_is_terminal(PG_FUNCTION_ARGS)
{
	const PevCatalog *catalog = pev_catalog_of_function(fcinfo->flinfo->fn_oid);
	const EventType *type = event_type_by_label(catalog, PG_GETARG_OID(0));

	/* most types never do: spare those the reading of their data */
	PG_RETURN_BOOL(type->terminal != NULL && event_type_closes(type, PG_GETARG_JSONB_P(1)));
}
