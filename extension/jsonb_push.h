/*
 * jsonb_push.h
 *		Building a jsonb object, member by member.
 */
#ifndef PEV_JSONB_PUSH_H
#define PEV_JSONB_PUSH_H

#include "utils/jsonb.h"

/* Add the key of a member, whose value follows. */
static inline void
jsonb_push_key(JsonbParseState **state, const char *key)
{
	JsonbValue item = {.type = jbvString};

	item.val.string.val = unconstify(char *, key);
	item.val.string.len = strlen(key);
	pushJsonbValue(state, WJB_KEY, &item);
}

/* Add a member that is text. */
static inline void
jsonb_push_text(JsonbParseState **state, const char *key, const text *value)
{
	JsonbValue item = {.type = jbvString};

	jsonb_push_key(state, key);
	item.val.string.val = VARDATA_ANY(value);
	item.val.string.len = VARSIZE_ANY_EXHDR(value);
	pushJsonbValue(state, WJB_VALUE, &item);
}

/* Add a member that is a number. */
static inline void
jsonb_push_number(JsonbParseState **state, const char *key, Numeric number)
{
	JsonbValue item = {.type = jbvNumeric};

	jsonb_push_key(state, key);
	item.val.numeric = number;
	pushJsonbValue(state, WJB_VALUE, &item);
}

#endif /* PEV_JSONB_PUSH_H */
