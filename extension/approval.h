/*
 * approval.h
 *		Actions that wait for a person's approval, and what became of them.
 */
#ifndef PEV_APPROVAL_H
#define PEV_APPROVAL_H

#include "datatype/timestamp.h"

#include "catalog.h"

/* Columns of pev_approval; the install script declares them in this order. */
enum
{
	APPROVALS_ACTION_ID = 1,
	APPROVALS_EXECUTION_ID,
	APPROVALS_MESSAGE_ID,
	APPROVALS_TOOL_NAME,
	APPROVALS_REASONING,
	APPROVALS_REQUESTED_AT,
	APPROVALS_DEADLINE,
	APPROVALS_DECISION,
	APPROVALS_REASON,
	APPROVALS_DECIDED_BY,
	APPROVALS_DECIDED_AT
};

#define APPROVAL_APPROVED "approved"
#define APPROVAL_DENIED   "denied"
#define REASON_DECISION   "decision"
#define REASON_TIMEOUT    "timeout"

/* A row of pev_approval, taken apart. */
typedef struct Approval
{
	HeapTuple row;
	int64 stream;
	text *action_id;
	text *message_id;
	TimestampTz deadline;
	text *decision;   /* NULL: none yet; then there is none of what follows */
	text *decided_by; /* NULL: nobody, its time ran out */
	TimestampTz decided_at;
} Approval;

extern bool approval_read(const PevCatalog *catalog, text *action_id, bool has_turn,
						  Approval *approval);
extern void approval_read_outcome(const PevCatalog *catalog, text *action_id, Approval *approval);
extern void approval_follow(const PevCatalog *catalog, const EventType *type, int64 stream,
							const Jsonb *data, TimestampTz created_at);
extern void approval_deny_late(Oid function, const Approval *approval, bool own);
extern void approval_deny_closed(const PevCatalog *catalog, const Approval *approval);
extern void approval_decide(Oid function, const Approval *approval, const char *decision,
							const text *by);

#endif /* PEV_APPROVAL_H */
