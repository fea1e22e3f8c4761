/*
 * plan.h
 *		The plan of a stream: phases, from whose local events its status is computed.
 */
#ifndef PEV_PLAN_H
#define PEV_PLAN_H

#include "catalog.h"

#define PLAN_COMPLETE 100 /* the progress of what is complete, in hundredths */

/* Columns of pev_plan; the install script declares them in this order. */
enum
{
	PLANS_EXECUTION_ID = 1,
	PLANS_NAMES,
	PLANS_LABELS,
	PLANS_WEIGHTS,
	PLANS_TOKENS_EVERY,
	PLANS_REACHED,
	PLANS_PHASE,
	PLANS_DESCRIPTION,
	PLANS_TOKENS,
	PLANS_TOLD_TOKENS,
	PLANS_TOLD_AT
};

/* What a plan makes of an event that is about to be stored. */
typedef struct PlanNews
{
	Jsonb *data;   /* of the event, with what the plan adds */
	Jsonb *status; /* of the PipelineStatus that goes before it; NULL: none does */
	bool moved;    /* the plan's row has changed, or gone */
} PlanNews;

/* Do two phases have the same name, bytewise? */
static inline bool
plan_same_name(const text *a, const text *b)
{
	return VARSIZE_ANY_EXHDR(a) == VARSIZE_ANY_EXHDR(b) &&
		   memcmp(VARDATA_ANY(a), VARDATA_ANY(b), VARSIZE_ANY_EXHDR(a)) == 0;
}

extern bool plan_exists(const PevCatalog *catalog, int64 stream);
extern PlanNews plan_follow(const PevCatalog *catalog, const EventType *type, int64 stream,
							bool closes, Jsonb *data);
extern void plan_init(void);

#endif /* PEV_PLAN_H */
