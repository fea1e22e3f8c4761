/*
 * jsonb_merge.c
 *		Adding and replacing top-level members of a jsonb object.
 *
 * The general way, a JsonbParseState that takes the object apart and sorts it
 * anew, costs several times the INSERT's own share of an event.  Both sides
 * are sorted already, so the result is written in one pass: keys merged,
 * contents copied as bytes.  Only padding and entry headers change, since
 * numbers and containers are aligned within their parent.
 */
#include "postgres.h"

#include "jsonb_merge.h"
#include "jsonb_walk.h"

/* The object being written. */
typedef struct MergeTarget
{
	JEntry *entries;
	char *base;  /* where contents begin */
	uint32 used; /* bytes of content written */
	int count;   /* entries written */
} MergeTarget;

/* Write the header of the entry whose content ends where the target does. */
static void
finish_entry(MergeTarget *target, uint32 type, uint32 start)
{
	/* as in convertJsonbObject(): every so often an offset instead of a length */
	if (target->count % JB_OFFSET_STRIDE == 0)
		target->entries[target->count] = type | JENTRY_HAS_OFF | target->used;
	else
		target->entries[target->count] = type | (target->used - start);
	target->count++;
}

/* Append one entry. */
static void
append_entry(MergeTarget *target, uint32 type, const void *content, uint32 len, bool aligned)
{
	uint32 start = target->used;

	if (aligned)
	{
		uint32 padded = INTALIGN(start);

		memset(target->base + start, 0, padded - start);
		target->used = padded;
	}
	if (len > 0)
		memcpy(target->base + target->used, content, len);
	target->used += len;
	finish_entry(target, type, start);
}

/* Append any value that jsonb_walk_next() or a member can hold. */
static void
append_value(MergeTarget *target, const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvString:
			append_entry(target, JENTRY_ISSTRING, value->val.string.val, value->val.string.len,
						 false);
			break;
		case jbvNumeric:
			append_entry(target, JENTRY_ISNUMERIC, value->val.numeric,
						 VARSIZE_ANY(value->val.numeric), true);
			break;
		case jbvBinary:
			append_entry(target, JENTRY_ISCONTAINER, value->val.binary.data, value->val.binary.len,
						 true);
			break;
		case jbvBool:
			append_entry(target, value->val.boolean ? JENTRY_ISBOOL_TRUE : JENTRY_ISBOOL_FALSE,
						 NULL, 0, false);
			break;
		case jbvNull:
			append_entry(target, JENTRY_ISNULL, NULL, 0, false);
			break;
		default:
			elog(ERROR, "unexpected jsonb value type %d", (int) value->type);
	}
}

/* Space that the members may take in the result, headers and padding included. */
static Size
members_size(const JsonbMember *members, int nmembers)
{
	Size size = 0;

	for (int i = 0; i < nmembers; i++)
		size += 2 * (sizeof(JEntry) + sizeof(int32)) + members[i].keylen +
				(members[i].value.type == jbvString ? (Size) members[i].value.val.string.len
													: VARSIZE_ANY(members[i].value.val.numeric));
	return size;
}

/*
 * A copy of the object in which each member is set, added or replaced.
 *
 * The members must be sorted as jsonb sorts keys, without duplicates.  Raises
 * 54000 if the result would exceed what one jsonb object can hold.
 */
Jsonb *
jsonb_merge(const Jsonb *object, const JsonbMember *members, int nmembers)
{
	int npairs = JsonContainerSize(&object->root);
	Size size = VARSIZE(object) + members_size(members, nmembers) + npairs * sizeof(int32);
	JsonbWalk keys = jsonb_walk_from(&object->root, 0);
	JsonbWalk values = jsonb_walk_from(&object->root, npairs);
	JsonbValue *merged = palloc(sizeof(JsonbValue) * 2 * (npairs + nmembers));
	Jsonb *result;
	MergeTarget target;
	int count = 0;
	int m = 0;

	if (size > JENTRY_OFFLENMASK)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("event data exceeds the maximum of %d bytes", JENTRY_OFFLENMASK)));
	while (keys.index < npairs || m < nmembers)
	{
		JsonbWalk ahead = keys;
		JsonbValue *key = &merged[2 * count];
		JsonbValue *value = &merged[2 * count + 1];
		int cmp = 1; /* the object is at its end: the member comes next */

		if (keys.index < npairs)
		{
			jsonb_walk_next_key(&ahead, key);
			cmp = m == nmembers ? -1
								: jsonb_key_cmp(key->val.string.val, key->val.string.len,
												members[m].key, members[m].keylen);
		}
		if (cmp <= 0)
		{
			keys = ahead;
			jsonb_walk_next(&values, value);
		}
		if (cmp >= 0)
		{
			key->type = jbvString;
			key->val.string.val = unconstify(char *, members[m].key);
			key->val.string.len = members[m].keylen;
			*value = members[m++].value;
		}
		count++;
	}

	result = palloc(size);
	result->root.header = count | JB_FOBJECT;
	target.entries = result->root.children;
	target.base = (char *) &result->root.children[2 * count];
	target.used = 0;
	target.count = 0;
	for (int i = 0; i < count; i++)
		append_value(&target, &merged[2 * i]);
	for (int i = 0; i < count; i++)
		append_value(&target, &merged[2 * i + 1]);
	SET_VARSIZE(result, target.base + target.used - (char *) result);
	pfree(merged);
	return result;
}
