/*
 * catalog.h
 *		The extension's own tables and the catalogue of event types.
 */
#ifndef PEV_CATALOG_H
#define PEV_CATALOG_H

#include "utils/jsonb.h"
#include "utils/relcache.h"

#include "schema_program.h"
#include "stamp.h"

#define EVENTS_TABLE     "assistant_architect_events"
#define EVENT_TYPE_ENUM  "assistant_event_type"
#define PLAN_STATUS_TYPE "PipelineStatus" /* the events that a plan computes */
#define APPROVAL_TYPE    "tier3_approval_required"
#define OUTCOME_TYPE     "tier3_approval_resolved"

/* Columns of assistant_architect_events; the install script declares them in this order. */
enum
{
	EVENTS_ID = 1,
	EVENTS_EXECUTION_ID,
	EVENTS_SEQ,
	EVENTS_EVENT_TYPE,
	EVENTS_EVENT_DATA,
	EVENTS_CREATED_AT
};

/* Where the extension lives.  Found by its schema, never by search_path. */
typedef struct PevCatalog
{
	Oid schema;
	const char *schema_name; /* quoted as an identifier */
	Oid events;              /* assistant_architect_events */
	Oid events_index;        /* its unique index on (execution_id, seq) */
	Oid events_sequence;     /* of its column id; InvalidOid if it is no identity any more */
	Oid before_insert;       /* its triggers' functions; InvalidOid if they are not in C any more */
	Oid after_insert;
	Oid event_types; /* pev_event_type */
	Oid event_types_index;
	Oid streams; /* pev_stream */
	Oid streams_id_index;
	Oid streams_key_index;
	Oid kinds; /* pev_stream_kind */
	Oid kinds_index;
	Oid plans; /* pev_plan */
	Oid plans_index;
	Oid approvals; /* pev_approval */
	Oid approvals_index;
	Oid enum_type;     /* assistant_event_type */
	uint64 generation; /* catalog_generation() when this was looked up */
} PevCatalog;

/* What an event is to the plan of its stream: see plan.c. */
typedef enum PlanRole
{
	PLAN_NO_ROLE,
	PLAN_PHASE,  /* PhaseStatus: a phase has come further */
	PLAN_TOKENS, /* TokenCount: tokens were used */
	PLAN_ERROR,  /* Error */
	PLAN_STATUS  /* PipelineStatus: what the plan computes */
} PlanRole;

/* What an event is to an action that waits for a person: see approval.c. */
typedef enum ApprovalRole
{
	APPROVAL_NO_ROLE,
	APPROVAL_REQUEST,
	APPROVAL_OUTCOME
} ApprovalRole;

/* One row of pev_event_type, compiled.  Valid until the next invalidation is processed. */
typedef struct EventType
{
	Oid label;     /* its value of assistant_event_type: the hash key */
	bool durable;  /* false: delivered, never stored */
	bool global;   /* for every subscriber, whatever stream they watch */
	bool urgent;   /* its doorbell is never held back */
	int max_bytes; /* of the event's jsonb */
	PlanRole role;
	ApprovalRole approval;
	const char *name;
	const char *family;
	SchemaProgram *schema;
	SchemaProgram *terminal; /* NULL: never closes its stream */
	StampPlan *stamps;
	MemoryContext context; /* holds all of the above */
} EventType;

extern const PevCatalog *pev_catalog(Oid schema);
extern const PevCatalog *pev_catalog_of_function(Oid function);
extern const EventType *event_type_by_label(const PevCatalog *catalog, Oid label);
extern const EventType *event_type_by_name(const PevCatalog *catalog, const char *name);
extern bool event_type_closes(const EventType *type, const Jsonb *data);
extern uint64 catalog_generation(void);
extern void catalog_init(void);

#endif /* PEV_CATALOG_H */
