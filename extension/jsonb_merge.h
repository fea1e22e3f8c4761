/*
 * jsonb_merge.h
 *		Adding and replacing top-level members of a jsonb object.
 */
#ifndef PEV_JSONB_MERGE_H
#define PEV_JSONB_MERGE_H

#include "utils/jsonb.h"

/* A member to be set; strings and numbers only. */
typedef struct JsonbMember
{
	const char *key; /* not null-terminated */
	int keylen;
	JsonbValue value; /* jbvString or jbvNumeric */
} JsonbMember;

extern Jsonb *jsonb_merge(const Jsonb *object, const JsonbMember *members, int nmembers);

#endif /* PEV_JSONB_MERGE_H */
